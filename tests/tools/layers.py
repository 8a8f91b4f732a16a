"""Counts the tests of a `cargo test` log per layer; fails if one failed, was ignored or none ran."""

import re
import sys
from collections import Counter

layers, skipped, failed = Counter(), 0, 0
binary = ""
for line in open(sys.argv[1], encoding="utf-8", errors="replace"):
    found = re.search(r"Running (?:unittests )?(\S+)", line)
    if found:
        binary = found.group(1)
    elif "Doc-tests" in line:
        binary = "doc"
    found = re.match(r"test (.+?)(?: - should panic)? \.\.\. (\S+)", line)
    if not found:
        continue
    name, result = found.groups()
    if binary == "doc":
        layer = "doc"
    elif binary.startswith("tests/"):
        layer = name.split("::")[0]
    else:
        layer = "unit"
    layers[layer] += 1
    skipped += result.startswith("ignored")
    failed += result.startswith("FAILED")
for layer, n in sorted(layers.items()):
    print(f"{layer:16} {n}")
total = sum(layers.values())
print(f"{total - failed - skipped} passed, {failed} failed")
print(f"skipped {skipped}")
sys.exit(0 if total and not failed and not skipped else 1)
