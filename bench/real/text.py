# SPDX-License-Identifier: MIT
# text.py: JSON, regular expressions and sorting in python3, whose small objects come from malloc here (PYTHONMALLOC=malloc).
import json
import random
import re
import sys

scale = int(sys.argv[1])
random.seed(11)
words = ["w%x" % random.getrandbits(16) for _ in range(3000)]
records = [
    {"id": i, "name": " ".join(random.choices(words, k=5)), "tags": random.choices(words, k=i % 9), "nested": {"v": [random.random() for _ in range(i % 5)]}}
    for i in range(4000 * scale)
]
text = json.dumps(records, sort_keys=True)
again = json.loads(text)
found = re.findall(r'"name": "(w[0-9a-f]+)', text)
changed = re.sub(r"\bw([0-9a-f]{2})", lambda m: m.group(1).upper(), text)
index = {}
for record in again:
    for word in record["name"].split():
        index.setdefault(word, []).append(record["id"])
order = sorted(again, key=lambda r: (r["name"], r["id"]))
print(len(text), len(found), len(changed), len(index), order[0]["id"], order[-1]["id"])
