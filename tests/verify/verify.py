#!/usr/bin/env python3
"""Checks all that a run published: nothing missing, nothing twice, all in order, nothing open.

usage: verify.py DUMPDIR INPUT TRUTHDIR

DUMPDIR is what `dump.py` wrote; INPUT the source records that were sent, as lines of JSON with
`value`; TRUTHDIR the final rows that `touchline generate` writes. Prints a line per topic and a
summary as JSON at the end; status 3 if anything is wrong. It knows nothing but the published
schemas, the rules of time, and Python's standard library:

- canonical: each record that was sent, once, and those of a source partition in its order;
- late: what the watermarks in the canonical log say, and the truth;
- sessions, checkouts, windows: revisions 0, 1, 2 … up to one final record, and the last ones as in
  the truth;
- live: ends only grow, no slide is missing, channels, stages and touchpoints add up to the total,
  and a window that the other topic has, too, begins with the same figures there;
- alerts: each episode 0, 1, 2 … up to one end, and `alerts.active` is what follows.
"""

import collections
import gc
import json
import os
import sys

SHOWN_MAX = 10
DERIVED = ("journeys.sessions", "checkout.lifecycle", "engagement.channel_stage", "engagement.live",
           "alerts.events")
KINDS = ("lost", "repeated", "out of order", "different")
ALLOWED_LATENESS = 3600 * 1000
# Slide and length of the default windows.
WINDOWS = {"1m": (10_000, 60_000), "5m": (30_000, 300_000), "1h": (60_000, 3_600_000),
           "24h": (600_000, 86_400_000)}
ADDITIVE = ("events sessions engaged_sessions orders checkouts_started checkouts_completed "
            "checkouts_abandoned checkouts_recovered").split()
FIGURES = ADDITIVE + ["customers", "value"]


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

    def close(self, dump):
        """Prints everything; status 3 if anything is wrong."""
        with open(os.path.join(dump, "ends.json"), encoding="utf-8") as file:
            ends = json.load(file)
        still_open = [e for e in ends if e[2] != e[3]]
        for topic, partition, stable, high in still_open:
            print("%s [%d]: last stable offset %d, high watermark %d"
                  % (topic, partition, stable, high), file=sys.stderr)
        totals = {kind: sum(t[kind] for t in self.topics.values()) for kind in KINDS}
        print("%-26s %10s" % ("topic", "checked") + "".join("%14s" % kind for kind in KINDS))
        for name, counts in self.topics.items():
            print("%-26s %10d" % (name, counts["checked"])
                  + "".join("%14d" % counts[kind] for kind in KINDS))
        unchecked = [name for name, counts in self.topics.items() if not counts["checked"]]
        for name in unchecked:
            print("%s: nothing was checked" % name, file=sys.stderr)
        totals["open transactions"] = len(still_open)
        totals["topics without a record"] = len(unchecked)
        wrong = any(totals.values())
        if "touchpoints.canonical" in self.topics:
            totals["canonical"] = self.topics["touchpoints.canonical"]["checked"]
        print(json.dumps(totals))
        return 3 if wrong else 0


def lines(directory, name):
    with open(os.path.join(directory, name + ".jsonl"), encoding="utf-8") as file:
        for line in file:
            yield line.rstrip("\n")


def records(dump, name):
    return (json.loads(line) for line in lines(dump, name))


def canonical(report, dump, source, truth):
    """Each source record once, canonical or rejected, in the order of its partition."""
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
    origins, last, got, late = set(), {}, collections.Counter(), Late()
    for record in records(dump, name):
        value = json.loads(record["value"])
        if is_control(record):
            late.control(record, value)
            continue
        late.touchpoint(record, value)
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
    return late.expected


def is_control(record):
    return any(name == "touchline.control" for name, _ in record["headers"])


class Watermark:
    """That of one canonical partition, from what the source partitions say in it."""

    def __init__(self):
        self.of, self.clocks, self.marks, self.idle = 0, {}, {}, {}
        self.now = None

    def hear(self, place, watermark, clock, idle):
        for known, new in ((self.marks, watermark), (self.clocks, clock)):
            told = [time for time in (known.get(place), new) if time is not None]
            known[place] = max(told, default=None)
        self.idle[place] = idle
        active = [clock for p, clock in self.clocks.items() if not self.idle[p]]
        heard = [mark for mark in self.marks.values() if mark is not None]
        # Each must have spoken; one that is active without data holds back.
        if len(self.idle) >= self.of and None not in active and heard:
            self.now = max(min(heard), self.now or min(heard))


class Late:
    """What the canonical log says is too late: older than the watermark by more than the allowed
    lateness, when it comes first."""

    def __init__(self):
        self.watermarks, self.seen, self.expected = {}, set(), {}

    def control(self, record, value):
        if value["control"] == "mark":
            mark = self.watermarks.setdefault(record["partition"], Watermark())
            mark.of = max(mark.of, value["of"])
            mark.hear((value["source"], value["partition"]), value["watermark"], value["clock"],
                      value["idle"])

    def touchpoint(self, record, value):
        mark = self.watermarks.setdefault(record["partition"], Watermark())
        origin = value["origin"]
        reached = origin["watermark"]
        mark.hear((origin["source"], origin["partition"]), reached, reached, False)
        touchpoint = (value["tenant"], value["source"], value["id"])
        if touchpoint in self.seen:
            return
        self.seen.add(touchpoint)
        if mark.now is not None and value["event_time"] < mark.now - ALLOWED_LATENESS:
            self.expected.setdefault(record["key"], []).append((touchpoint, mark.now))


def too_late(report, dump, expected):
    name, got = "touchpoints.late", {}
    for record in records(dump, name):
        value, headers = json.loads(record["value"]), dict(record["headers"])
        told = ((value["tenant"], value["source"], value["id"]), int(headers["late.watermark"]))
        got.setdefault(record["key"], []).append(told)
    report.checked(name, sum(map(len, got.values())))
    compare(report, name, got, expected)


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
    for key, values in told.items():
        expected, final = 0, False
        for value in values:
            revision = value["revision"]
            if revision != expected:
                kind = "lost" if revision > expected else "repeated"
                report.add(name, kind, "%s: revision %d where %d follows"
                           % (key, revision, expected))
            if final:
                report.add(name, "repeated", "%s: a record after the final one" % key)
            expected, final = revision + 1, value.get("is_final", False)
        if "is_final" in value and not final and value["tenant"] != "closing":
            report.add(name, "lost", "%s never became final" % key)


def dimensions_of(value):
    return ",".join("%s=%s" % pair for pair in sorted(value["dimensions"].items()))


def slides(report, name, told):
    """Each slide of a series once, from when it has something to say to one record of zeros."""
    for key, values in told.items():
        for before, after in zip(values, values[1:] + [None]):
            end, silent = before["end"], not any(before[figure] for figure in FIGURES)
            following = end + WINDOWS[before["window"]][0]
            if after is None:
                if not silent and before["tenant"] != "closing":
                    report.add(name, "lost", "%s: nothing after %d" % (key, end))
            elif after["end"] == end:
                report.add(name, "repeated", "%s: end %d" % (key, end))
            elif after["end"] < end:
                report.add(name, "out of order", "%s: end %d after %d" % (key, after["end"], end))
            elif not silent and after["end"] != following:
                report.add(name, "lost", "%s: end %d after %d" % (key, after["end"], end))
            elif silent and not any(after[figure] for figure in FIGURES):
                report.add(name, "repeated", "%s: zeros at %d and %d" % (key, end, after["end"]))


def sums(report, name, told):
    """At each end, the series of each set of dimensions add up to the total."""
    sets, by_end = set(), {}
    for values in told.values():
        for value in values:
            dimensions = tuple(sorted(value["dimensions"]))
            sets.add((value["tenant"], dimensions))
            sum_of = by_end.setdefault((value["tenant"], value["window"], value["end"]), {})
            figures = sum_of.setdefault(dimensions, [0] * len(ADDITIVE))
            for at, figure in enumerate(ADDITIVE):
                figures[at] += value[figure]
    nothing = [0] * len(ADDITIVE)
    for place, sum_of in by_end.items():
        total = sum_of.get((), nothing)
        for tenant, dimensions in sets:
            if tenant == place[0] and sum_of.get(dimensions, nothing) != total:
                kind = "lost" if sum_of.get(dimensions, nothing) < total else "different"
                report.add(name, kind, "%s: %s add up to %s, the total is %s"
                           % (place, dimensions, sum_of.get(dimensions), total))


def beginnings(report, live, windows):
    """A window's revision 0 is what was known at its end, and so is the live one of that end."""
    name, slides_of = "engagement.live", {}
    for values in live.values():
        for value in values:
            if value["end"] % WINDOWS[value["window"]][1] == 0:
                key = (value["tenant"], value["window"], value["end"], dimensions_of(value))
                slides_of[key] = [value[figure] for figure in FIGURES]
    for value, *_ in windows.values():
        key = (value["tenant"], value["window"], value["end"], dimensions_of(value))
        figures = slides_of.pop(key, None)
        # What came into being later has none.
        if figures is not None and figures != [value[figure] for figure in FIGURES]:
            report.add(name, "different", "%s has %s, its window begins otherwise" % (key, figures))
    for key, figures in slides_of.items():
        if any(figures):
            report.add("engagement.channel_stage", "lost", "%s: only its slide is there" % (key,))


def alerts(report, name, told, dump):
    """Numbered within each episode, which ends once; what fires still is in `alerts.active`."""
    active = {}
    for fingerprint, values in told.items():
        following, over, fired = {}, {}, {}
        for value in values:
            episode, sequence = value["episode"], value["sequence"]
            expected = following.get(episode, 0)
            if over.get(episode):
                report.add(name, "repeated", "%s: a record after its end" % episode)
            elif sequence != expected:
                kind = "lost" if sequence > expected else "repeated"
                report.add(name, kind, "%s: %d where %d follows" % (episode, sequence, expected))
            following[episode] = sequence + 1
            transition = value["transition"]
            fired[episode] = fired.get(episode) or transition == "firing"
            over[episode] = transition in ("resolved", "suppressed")
        for episode, ended in over.items():
            # Without data nothing is resolved: the last one may fire still, and is active then.
            if not ended and not (fired[episode] and episode == value["episode"]):
                report.add(name, "lost", "%s never ended" % episode)
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

    def add(problems, text):
        problems.count += 1
        name = text.split(".jsonl")[0]
        report.add(name, "lost" if text.endswith("is missing") else "different", text)

    latest.Problems.add = add
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
    if len(sys.argv) != 4:
        print(__doc__.split("\n\n")[1], file=sys.stderr)
        return 2
    dump, source, truth = sys.argv[1:]
    report = Report()
    too_late(report, dump, canonical(report, dump, source, truth))
    told = {}
    for name in DERIVED:
        told[name] = {}
        for record in records(dump, name):
            value = json.loads(record["value"])
            told[name].setdefault(key_of(name, value), []).append(value)
            report.checked(name, 1)
    for name in DERIVED[:3]:
        revisions(report, name, told[name])
    live = told["engagement.live"]
    slides(report, "engagement.live", live)
    sums(report, "engagement.live", live)
    beginnings(report, live, told["engagement.channel_stage"])
    alerts(report, "alerts.events", told["alerts.events"], dump)
    with_truth(report, dump, truth)
    return report.close(dump)


if __name__ == "__main__":
    # Millions of objects live until the end.
    gc.disable()
    sys.exit(main())
