# SPDX-License-Identifier: MIT
# work.py: a JSON, regular expression and sorting script, for python3 with PYTHONMALLOC=malloc, so that every object is a malloc of its own.
import hashlib
import json
import random
import re
import sys
import threading

random.seed(2024)
WORDS = "chunk bin arena top trim heap break page fault block free merge split batch magazine inbox".split()


def record(number):
    return {
        "id": number,
        "name": " ".join(random.choice(WORDS) for _ in range(random.randint(1, 6))),
        "size": random.randint(1, 1 << random.randint(4, 20)),
        "tags": [random.choice(WORDS) for _ in range(random.randint(0, 8))],
        "nested": {"depth": {"value": random.random(), "text": "x" * random.randint(0, 300)}},
    }


def json_round_trip():
    records = [record(i) for i in range(12000)]
    text = json.dumps(records, sort_keys=True)
    again = json.loads(text)
    assert again == records
    print("json", len(text), hashlib.sha256(text.encode()).hexdigest())
    return records, text


def expressions(text):
    words = re.findall(r'"name": "([a-z ]+)"', text)
    changed = re.sub(r"\b(chunk|heap)\b", lambda match: match.group(1).upper() + "!", text)
    numbers = [int(n) for n in re.findall(r'"size": (\d+)', changed)]
    split = re.split(r"[{},:\[\]]", changed)
    print("regex", len(words), len(changed), sum(numbers), len(split), hashlib.sha256(changed.encode()).hexdigest())


def sorting(records):
    by_name = sorted(records, key=lambda r: (r["name"], -r["size"], r["id"]))
    table = {}
    for r in by_name:
        for tag in r["tags"]:
            table.setdefault(tag, []).append(r["id"])
    for ids in table.values():
        ids.sort(reverse=True)
    numbers = [random.random() for _ in range(200000)]
    numbers.sort()
    print("sort", by_name[0]["id"], by_name[-1]["id"], sum(i * n for i, n in enumerate(numbers[:1000])), {k: len(v) for k, v in sorted(table.items())})


def threads():
    results = [None] * 4

    def run(slot):
        part = {}
        for i in range(20000):
            part[str(i * 7 % 5003)] = [i] * (i % 17)
        results[slot] = sum(len(v) for v in part.values())

    all_threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for t in all_threads:
        t.start()
    for t in all_threads:
        t.join()
    print("threads", results)


def growth():
    data = bytearray()
    text = ""
    lists = []
    for i in range(3000):
        data += bytes([i & 255]) * (i % 700)
        text += str(i)
        lists.append(list(range(i % 100)))
        if i % 3 == 0:
            lists[i // 2] = None
    print("growth", len(data), hashlib.sha256(data).hexdigest(), len(text), sum(len(x) for x in lists if x))


made, serial = json_round_trip()
expressions(serial)
sorting(made)
threads()
growth()
sys.stdout.flush()
