#!/usr/bin/env python3
"""Checks everything that a run published: nothing missing, nothing twice, all in order, nothing open.

usage: verify.py DUMPDIR INPUT TRUTHDIR REPLAYDIR

DUMPDIR is what `dump.py` wrote; INPUT the source records that were sent, as lines of JSON with `value`;
TRUTHDIR the final rows that `touchline generate` writes; REPLAYDIR what `touchline replay` makes of the
dumped canonical topic. Prints a line per topic and a summary as JSON at the end; status 3 if anything
is wrong. It knows nothing but the published schemas and Python's standard library.
"""

import collections
import json
import os
import sys

SHOWN_MAX = 10
DERIVED = ("journeys.sessions", "checkout.lifecycle", "engagement.channel_stage", "engagement.live",
           "alerts.events")
KINDS = ("lost", "repeated", "out of order", "different")


class Report:
    def __init__(self):
        self.topics = collections.OrderedDict()
        self.shown = 0

    def topic(self, name):
        return self.topics.setdefault(name, dict({"checked": 0}, **{k: 0 for k in KINDS}))

    def checked(self, name, count):
        self.topic(name)["checked"] += count

    def add(self, name, kind, text, count=1):
        self.topic(name)[kind] += count
        self.shown += 1
        if self.shown <= SHOWN_MAX:
            print("%s: %s: %s" % (name, kind, text[:600]), file=sys.stderr)


def lines(directory, name):
    with open(os.path.join(directory, name + ".jsonl"), encoding="utf-8") as file:
        for line in file:
            yield line.rstrip("\n")


def records(dump, name):
    return (json.loads(line) for line in lines(dump, name))


def canonical(report, dump, source, truth):
    """Each source record once in the canonical topic or among the rejected, in its partition's order."""
    name = "touchpoints.canonical"
    # What cannot be used is published as it came.
    rejected = collections.Counter(
        json.dumps(record["value"]) for record in records(dump, "touchpoints.rejected"))
    report.checked("touchpoints.rejected", sum(rejected.values()))
    with open(os.path.join(truth, "summary.json"), encoding="utf-8") as file:
        wrong = sum(rejected.values()) - json.load(file)["dead_letter"]
    if wrong:
        report.add("touchpoints.rejected", "repeated" if wrong > 0 else "lost",
                   "%d records more than in the truth" % wrong, abs(wrong))
    sent = collections.Counter()
    with open(source, encoding="utf-8") as file:
        for line in file:
            value = json.loads(line)["value"]
            if rejected[json.dumps(value)] > 0:
                rejected[json.dumps(value)] -= 1
                continue
            try:
                touchpoint = json.loads(value)
                sent[touchpoint["tenant"], touchpoint["id"]] += 1
            except (ValueError, KeyError, TypeError):
                report.add("touchpoints.rejected", "lost", repr(value))
    for value, count in (+rejected).items():
        report.add("touchpoints.rejected", "repeated", value, count)
    origins, last, got = set(), {}, collections.Counter()
    for record in records(dump, name):
        if any(n == "touchline.control" for n, _ in record["headers"]):
            continue
        value = json.loads(record["value"])
        report.checked(name, 1)
        origin = value["origin"]
        place = (origin["source"], origin["partition"], origin["offset"])
        if place in origins:
            report.add(name, "repeated", "%s is there again at %d [%d]"
                       % (place, record["offset"], record["partition"]))
        origins.add(place)
        way = (record["partition"],) + place[:2]
        if last.get(way, -1) > place[2]:
            report.add(name, "out of order", "%s after %d" % (place, last[way]))
        last[way] = place[2]
        got[value.get("tenant", "default"), value["id"]] += 1
    missing, more = sent - got, got - sent
    for key, count in missing.items():
        report.add(name, "lost", "%s" % (key,), count)
    for key, count in more.items():
        report.add(name, "repeated", "%s" % (key,), count)


def too_late(report, dump, replay):
    """The same touchpoints as in the replay, by key in order: what is too late follows from the log."""
    name = "touchpoints.late"

    def touchpoints(records):
        told = {}
        for value in records:
            if "headers" in value and "value" in value:
                value = value["value"]
                value = json.loads(value) if isinstance(value, str) else value
            key = value.get("customer_id") or value.get("anonymous_id") or value["id"]
            told.setdefault(key, []).append(json.dumps([value["tenant"], value["id"]]))
        return told

    got = touchpoints(records(dump, name))
    report.checked(name, sum(map(len, got.values())))
    compare(report, name, got, touchpoints(records(replay, name)))


def key_of(name, value):
    if name == "checkout.lifecycle":
        return value["instance"]
    if name == "journeys.sessions":
        return "%s|%s|%s" % (value["tenant"], value["customer"], value["session_id"])
    if name == "alerts.events":
        return value["fingerprint"]
    dimensions = ",".join("%s=%s" % pair for pair in sorted(value["dimensions"].items()))
    start = "|%d" % value["start"] if name == "engagement.channel_stage" else ""
    return "%s|%s%s|%s" % (value["tenant"], value["window"], start, dimensions)


def by_key(report, name, values):
    told = {}
    for text in values:
        told.setdefault(key_of(name, json.loads(text)), []).append(text)
    return told


def compare(report, name, got, expected):
    """Record for record and byte for byte, key by key."""
    for key in expected.keys() | got.keys():
        mine, true = got.get(key, []), expected.get(key, [])
        if mine == true:
            continue
        have, want = collections.Counter(mine), collections.Counter(true)
        lost, more = want - have, have - want
        for text, count in lost.items():
            report.add(name, "lost", text, count)
        for text, count in more.items():
            kind = "repeated" if want[text] else "different"
            report.add(name, kind, text, count)
        if not lost and not more:
            at = next(i for i, (a, b) in enumerate(zip(mine, true)) if a != b)
            report.add(name, "out of order", "%s from record %d on" % (key, at))


def revisions(report, name, told):
    """0, 1, 2 and so on, and one final record, the last."""
    for key, texts in told.items():
        expected, final = 0, False
        for text in texts:
            value = json.loads(text)
            revision = value["revision"]
            if revision != expected:
                kind = "lost" if revision > expected else "repeated"
                report.add(name, kind, "%s: revision %d where %d follows" % (key, revision, expected))
            if final:
                report.add(name, "repeated", "%s: a record after the final one" % key)
            expected, final = revision + 1, value.get("is_final", False)
        if "is_final" in value and not final and value["tenant"] != "closing":
            report.add(name, "lost", "%s never became final" % key)


def slides(report, name, told):
    for key, texts in told.items():
        ends = [json.loads(text)["end"] for text in texts]
        for before, after in zip(ends, ends[1:]):
            if before == after:
                report.add(name, "repeated", "%s: end %d" % (key, after))
            elif before > after:
                report.add(name, "out of order", "%s: end %d after %d" % (key, after, before))


def alerts(report, name, told, dump):
    active = {}
    for fingerprint, texts in told.items():
        following, over, fired = {}, {}, {}
        for text in texts:
            value = json.loads(text)
            episode, sequence = value["episode"], value["sequence"]
            if over.get(episode):
                report.add(name, "repeated", "%s: a record after resolved" % episode)
            expected = following.get(episode, 0)
            if sequence != expected:
                kind = "lost" if sequence > expected else "repeated"
                report.add(name, kind, "%s: %d where %d follows" % (episode, sequence, expected))
            following[episode] = sequence + 1
            transition = value["transition"]
            fired[episode] = fired.get(episode) or transition == "firing"
            over[episode] = transition == "resolved"
        for episode, has in fired.items():
            if has and not over[episode] and value["tenant"] != "closing":
                report.add(name, "lost", "%s fired and was never resolved" % episode)
        active[fingerprint] = any(has and not over[e] for e, has in fired.items())
    name, last = "alerts.active", {}
    for record in records(dump, name):
        report.checked(name, 1)
        last[record["key"]] = record["value"]
    for fingerprint, is_active in active.items():
        if is_active != (last.get(fingerprint) is not None):
            report.add(name, "different", "%s: active %s" % (fingerprint, is_active))


def with_truth(report, dump, truth):
    """The last records of the tenant of the truth against it, by a consumer of the same schemas."""
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../consumer"))
    import latest

    latest.Problems.add = lambda self, text: (
        setattr(self, "count", self.count + 1), report.add("truth", "different", text))
    view = os.path.join(dump, "view")
    os.makedirs(view, exist_ok=True)
    names = DERIVED[:4] + ("touchpoints.late",)
    for name in names:
        with open(os.path.join(view, name + ".jsonl"), "w", encoding="utf-8") as file:
            for record in records(dump, name):
                value = json.loads(record["value"])
                if value["tenant"] == "default":
                    file.write(record["value"] + "\n")
    problems = latest.Problems()
    latest.windows(problems, view, truth)
    latest.sessions(problems, view, truth)
    latest.checkouts(problems, view, truth)
    latest.late(problems, view, truth)
    for name in names:
        if os.path.exists(os.path.join(truth, name + ".jsonl")):
            report.checked("truth", sum(1 for _ in lines(truth, name)))


def main():
    if len(sys.argv) != 5:
        print(__doc__.split("\n\n")[1], file=sys.stderr)
        return 2
    dump, source, truth, replay = sys.argv[1:]
    report = Report()
    canonical(report, dump, source, truth)
    too_late(report, dump, replay)
    for name in DERIVED:
        got = by_key(report, name, (r["value"] for r in records(dump, name)))
        report.checked(name, sum(map(len, got.values())))
        compare(report, name, got, by_key(report, name, lines(replay, name)))
        if name == "alerts.events":
            alerts(report, name, got, dump)
        elif name == "engagement.live":
            slides(report, name, got)
        else:
            revisions(report, name, got)
    with_truth(report, dump, truth)
    with open(os.path.join(dump, "ends.json"), encoding="utf-8") as file:
        ends = json.load(file)
    still_open = [e for e in ends if e[2] != e[3]]
    for topic, partition, stable, high in still_open:
        print("%s [%d]: last stable offset %d, high watermark %d" % (topic, partition, stable, high),
              file=sys.stderr)
    totals = {kind: sum(t[kind] for t in report.topics.values()) for kind in KINDS}
    print("%-26s %10s" % ("topic", "checked") + "".join("%14s" % kind for kind in KINDS))
    for name, counts in report.topics.items():
        print("%-26s %10d" % (name, counts["checked"])
              + "".join("%14d" % counts[kind] for kind in KINDS))
    unchecked = [name for name, counts in report.topics.items() if not counts["checked"]]
    for name in unchecked:
        print("%s: nothing was checked" % name, file=sys.stderr)
    totals["open transactions"] = len(still_open)
    totals["topics without a record"] = len(unchecked)
    totals["canonical"] = report.topics["touchpoints.canonical"]["checked"]
    print(json.dumps(totals))
    return 3 if any(v for k, v in totals.items() if k != "canonical") else 0


if __name__ == "__main__":
    sys.exit(main())
