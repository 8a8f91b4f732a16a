#!/usr/bin/env python3
"""A consumer's view of the derived topics: keeps the latest record per key, as the schemas say, and
compares what is left with the truth.

usage: latest.py OUTDIR TRUTHDIR

OUTDIR holds one JSON lines file per derived topic as `touchline replay` writes them (all revisions),
TRUTHDIR the final rows that `touchline generate` writes. Status 1 and one line per problem on a
revision gap, a record after the final one, a key that never became final, or a figure unlike the
truth's. It knows nothing but the published schemas; Python's standard library is all it needs.
"""

import json
import os
import sys

SHOWN_MAX = 20

FIGURES = (
    "events customers sessions engaged_sessions orders value checkouts_started checkouts_completed "
    "checkouts_abandoned checkouts_recovered abandonment"
).split()
SESSION_FIELDS = (
    "end events channels entry_channel stage_reached path path_truncated engaged converted value"
).split()
OUTCOMES = ("completed", "abandoned", "recovered", "expired")
OUTCOME_FIELDS = (
    "at channel step step_name value currency payment_method shipping_method coupon account_type "
    "error_code"
).split()


class Problems:
    def __init__(self):
        self.count = 0

    def add(self, text):
        self.count += 1
        if self.count <= SHOWN_MAX:
            print(text, file=sys.stderr)


def rows(directory, name):
    """The records of one file, in order; where key and headers are said as well, the values."""
    with open(os.path.join(directory, name), encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            row = json.loads(line)
            if "headers" in row and "value" in row:
                row = row["value"]
                if isinstance(row, str):
                    row = json.loads(row)
            yield "%s:%d" % (name, number), row


def series(dimensions):
    return ",".join("%s=%s" % pair for pair in sorted(dimensions.items()))


def in_sequence(problems, place, what, known, revision):
    """Revisions are 0, 1, 2, … for each key."""
    expected = known + 1
    if revision != expected:
        problems.add("%s: %s has revision %d where %d follows" % (place, what, revision, expected))


def latest(problems, directory, name, key_of):
    """The last record of every key of a topic that has revisions and an end."""
    last = {}
    for place, row in rows(directory, name):
        key = key_of(row)
        known = last.get(key)
        in_sequence(problems, place, key, known["revision"] if known else -1, row["revision"])
        if known and known["is_final"]:
            problems.add("%s: %s has a record after its final one" % (place, key))
        last[key] = row
    for key, row in last.items():
        if not row["is_final"]:
            problems.add("%s: %s never became final" % (name, key))
    return last


def compare(problems, name, got, expected, fields):
    """Both by key: the same keys, and the same in all fields."""
    for key, row in got.items():
        true = expected.get(key)
        if true is None:
            problems.add("%s: %s is not in the truth" % (name, key))
            continue
        for field in fields:
            if row.get(field) != true.get(field):
                problems.add(
                    "%s: %s has %s %s, the truth %s"
                    % (name, key, field, json.dumps(row.get(field)), json.dumps(true.get(field)))
                )
    for key in expected.keys() - got.keys():
        problems.add("%s: %s of the truth is missing" % (name, key))


def is_zero(row):
    figures = [row[f] for f in FIGURES if f not in ("value", "abandonment")]
    figures += row["value"].values()
    figures += [v for f, v in row["abandonment"].items() if f != "mature"]
    return not any(figures)


def windows(problems, out, truth):
    name = "engagement.channel_stage.jsonl"

    def key(row):
        return "%s|%s|%d|%s" % (
            row["tenant"], row["window"], row["start"], series(row["dimensions"]))

    last = latest(problems, out, name, key)
    got = {k: row for k, row in last.items() if not is_zero(row)}
    expected = {key(row): row for _, row in rows(truth, name)}
    compare(problems, name, got, expected, ["end"] + FIGURES)
    # The channels of a window add up to its total.
    sums, totals = {}, {}
    for row in got.values():
        window = (row["tenant"], row["window"], row["start"])
        if list(row["dimensions"]) == ["channel"]:
            sums[window] = sums.get(window, 0) + row["events"]
        elif not row["dimensions"]:
            totals[window] = row["events"]
    for window, total in totals.items():
        if sums.get(window, 0) != total:
            problems.add("%s: channels of %s add up to %d of %d events"
                         % (name, window, sums.get(window, 0), total))


def sessions(problems, out, truth):
    name = "journeys.sessions.jsonl"
    last = latest(problems, out, name, lambda r: "%s|%s|%s" % (
        r["tenant"], r["customer"], r["session_id"]))
    by_start = lambda r: (r["tenant"], r["customer"], r["start"])
    for row in last.values():
        row["channels"] = sorted(row["channels"])
    for key, row in last.items():
        into = "%s|%s|%s" % (row["tenant"], row["customer"], row["merged_into"])
        if row["status"] == "merged" and into not in last:
            problems.add("%s: %s was merged into nobody known" % (name, key))
    got = {by_start(r): r for r in last.values() if r["status"] != "merged"}
    expected = {by_start(r): r for _, r in rows(truth, name)}
    compare(problems, name, got, expected, SESSION_FIELDS)


def checkouts(problems, out, truth):
    name = "checkout.lifecycle.jsonl"
    instances = {}
    for place, row in rows(out, name):
        told = instances.setdefault(row["instance"], [])
        in_sequence(problems, place, row["instance"], len(told) - 1, row["revision"])
        told.append(row)
    got, abandoned = {}, 0
    for told in instances.values():
        outcomes, steps, started = {}, {}, None
        for row in told:
            transition = row["transition"]
            if row["kind"] == "checkout":
                abandoned += (transition == "abandoned") - (transition == "retracted")
            if transition == "retracted":
                outcomes = {}
            elif transition in OUTCOMES:
                # The last outcome stands; a recovery leaves its abandonment.
                left = ["abandoned", transition] if transition == "recovered" else [transition]
                outcomes = {t: r for t, r in outcomes.items() if t in left}
                outcomes[transition] = row
            elif transition == "started":
                started = row
            elif transition not in steps or row["at"] >= steps[transition]["at"]:
                steps[transition] = row
        last = told[-1]
        if last["merged_into"]:
            if last["merged_into"] not in instances:
                problems.add("%s: %s was merged into nobody known" % (name, last["instance"]))
            continue
        kept = dict(steps, **outcomes)
        if started:
            kept["started"] = started
        for transition, row in kept.items():
            key = (row["tenant"], row["customer"], row["kind"], last["started_at"], transition)
            got[key] = row
    expected = {
        (r["tenant"], r["customer"], r["kind"], r["started_at"], r["transition"]): r
        for _, r in rows(truth, name)
    }
    split = lambda rows, of: {k: r for k, r in rows.items() if k[4] in of}
    compare(problems, name, split(got, OUTCOMES), split(expected, OUTCOMES), OUTCOME_FIELDS)
    ended = ("abandoned", "expired")
    compare(problems, name, split(got, ended), split(expected, ended), ["last_activity"])
    compare(problems, name, split(got, ["started"]), split(expected, ["started"]), ["at", "channel"])
    for transition, fields in (("step", ["step", "step_name"]), ("payment_failed", ["error_code"])):
        compare(problems, name, split(got, [transition]), split(expected, [transition]),
                ["at", "channel"] + fields)
    with open(os.path.join(truth, "summary.json"), encoding="utf-8") as file:
        true = json.load(file)["checkouts"]["abandoned"]
    if abandoned != true:
        problems.add("%s: %d abandoned less retracted, the truth has %d" % (name, abandoned, true))


def live(problems, out):
    """Each slide's value once: ends only grow."""
    name, ends = "engagement.live.jsonl", {}
    if not os.path.exists(os.path.join(out, name)):
        return
    for place, row in rows(out, name):
        key = "%s|%s|%s" % (row["tenant"], row["window"], series(row["dimensions"]))
        if row["end"] <= ends.get(key, row["end"] - 1):
            problems.add("%s: %s says its end %d again" % (place, key, row["end"]))
        ends[key] = row["end"]


def late(problems, out, truth):
    name = "touchpoints.late.jsonl"
    key = lambda r: (r.get("tenant", "default"), r["id"], r["event_time"])
    got = sorted(key(r) for _, r in rows(out, name))
    expected = sorted(key(r) for _, r in rows(truth, name))
    if got != expected:
        problems.add("%s: %d records unlike the truth's %d" % (name, len(got), len(expected)))


def main():
    if len(sys.argv) != 3:
        print(__doc__.split("\n\n")[1], file=sys.stderr)
        return 2
    out, truth = sys.argv[1:]
    problems = Problems()
    windows(problems, out, truth)
    sessions(problems, out, truth)
    checkouts(problems, out, truth)
    late(problems, out, truth)
    live(problems, out)
    if problems.count:
        print("%d problems" % problems.count, file=sys.stderr)
        return 1
    print("everything is as in the truth")
    return 0


if __name__ == "__main__":
    sys.exit(main())
