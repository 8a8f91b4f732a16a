#!/usr/bin/env python3
"""Compares what a run published with what `touchline replay` makes of the same canonical log.

usage: same.py DUMPDIR REPLAYDIR

Beyond `verify.py`, which knows nothing of Touchline: record for record and byte for byte, key by
key in order. Prints a line per topic; status 3 if anything differs.
"""

import gc
import json
import sys

from verify import DERIVED, Report, compare, key_of, lines, records


def by_key(name, values):
    told = {}
    for text in values:
        told.setdefault(key_of(name, json.loads(text)), []).append(text)
    return told


def main():
    if len(sys.argv) != 3:
        print(__doc__.split("\n\n")[1], file=sys.stderr)
        return 2
    dump, replay = sys.argv[1:]
    report = Report()
    for name in DERIVED:
        got = by_key(name, (r["value"] for r in records(dump, name)))
        report.checked(name, sum(map(len, got.values())))
        compare(report, name, got, by_key(name, lines(replay, name)))
    return report.close(dump)


if __name__ == "__main__":
    # Millions of objects live until the end.
    gc.disable()
    sys.exit(main())
