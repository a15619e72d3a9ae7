#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The manual agrees with the code: its table of settings is that of src/conf/conf.h; seemalloc.3 names every
function and constant of include/seemalloc.h; docs/descriptor.md lists every field; and both pages name the version that is being built."""
import os
import re
import subprocess
import sys

source = os.environ["SOURCE_DIR"]
errors = []


def read(path):
    with open(os.path.join(source, path), encoding="utf-8") as file:
        return file.read()


manual = read("docs/man/seemalloc.3")
if subprocess.run([os.path.join(source, "scripts/manual-settings"), "--check"]).returncode != 0:
    errors.append("the table of settings is stale")

if subprocess.run([os.path.join(source, "scripts/descriptor-page"), "--check"]).returncode != 0:
    errors.append("docs/descriptor.md is stale")

header = read("include/seemalloc.h")
functions = sorted(set(re.findall(r"\b(seemalloc_\w+)\([^;{]*\);", header)))
if "seemalloc_version" not in functions or "seemalloc_walk" not in functions:
    errors.append("this test cannot read include/seemalloc.h any more")
for function in functions:
    if not re.search(r"^\.(Fn|Fo) .*\b%s\b" % function, manual, flags=re.M):
        errors.append("seemalloc.3 does not describe %s" % function)
for constant in re.findall(r"^\s+(SEEMALLOC_\w+),", header, flags=re.M):
    if not constant.endswith("_COUNT") and not re.search(r"\b%s\b" % constant, manual):
        errors.append("seemalloc.3 does not name %s" % constant)

version = ".".join(re.findall(r"^#define SEEMALLOC_VERSION_\w+ (\d+)$", header, flags=re.M))
for page in ("docs/man/seemalloc.1", "docs/man/seemalloc.3"):
    if "seemalloc " + version not in read(page):
        errors.append("%s does not name version %s" % (page, version))

for error in errors:
    print(error)
sys.exit(1 if errors else 0)
