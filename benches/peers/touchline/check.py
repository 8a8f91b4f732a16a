#!/usr/bin/env python3
"""Compares what a run of Touchline published with the filler's answers, and deletes its topics.

usage: check.py BROKERS APP JOB EXPECTDIR

JOB is counts, journeys, all or everything. Of everything, what the answers know: events per channel
and stage and minute (not the money: it sums that of orders), sessions, abandoned checkouts. Status 0
if all is equal. Needs confluent-kafka.
"""

import csv
import json
import os
import sys

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient

MASK = 2 ** 64 - 1


def fnv(text):
    value = 0xcbf29ce484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001b3) & MASK
    return value


def records(brokers, topic):
    """Values of a topic as committed, as objects."""
    consumer = Consumer({
        "bootstrap.servers": brokers, "group.id": "check", "isolation.level": "read_committed",
        "enable.auto.commit": False, "auto.offset.reset": "earliest", "enable.partition.eof": True})
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
    left = set(partitions)
    while left:
        for message in consumer.consume(5000, 0.5):
            if message.error() is None:
                if message.value() is not None:
                    yield json.loads(message.value())
            elif message.error().code() == KafkaError._PARTITION_EOF:
                left.discard(message.partition())
            else:
                raise SystemExit("%s: %s" % (topic, message.error()))
    consumer.close()


def totals(expect, name, of):
    """A line of `summary.tsv`'s neighbours: a header and the row of the rule `all`."""
    with open(os.path.join(expect, name), encoding="ascii") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return rows[0][of[0]], rows[0][of[1]]


def windows(expect, name, money):
    with open(os.path.join(expect, name), encoding="ascii") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            key = (int(row["window_start"]), row["channel"], row["stage"])
            yield key, (int(row["count_all"]), int(row["sum_all"]) if money else 0)


def compare(what, got, expected):
    if got == expected:
        return True
    if isinstance(got, dict):
        wrong = [k for k in sorted(set(got) | set(expected)) if got.get(k) != expected.get(k)]
        print("%s: %d of %d differ, the first %s: %s, expected %s" % (
            what, len(wrong), len(expected), wrong[0], got.get(wrong[0]), expected.get(wrong[0])),
            file=sys.stderr)
    else:
        print("%s: %s, expected %s" % (what, got, expected), file=sys.stderr)
    return False


def counts(brokers, topic, window, money):
    """The last value of each window that is not zero, closing events left out."""
    found = {}
    for row in records(brokers, topic):
        of = row["dimensions"]
        if row["window"] == window and sorted(of) == ["channel", "stage"]:
            if of["channel"] != "other" and row["events"]:
                key = (row["start"], of["channel"], of["stage"])
                found[key] = (row["events"], sum(row["value"].values()) if money else 0)
    return found


def sessions(brokers, topic):
    found = {}
    for row in records(brokers, topic):
        if row["merged_into"]:
            found.pop(row["session_id"], None)
        elif not row["customer"].startswith("close-"):
            found[row["session_id"]] = "%s|%d|%d|%d" % (
                row["customer"], row["start"], row["end"], row["events"])
    return str(len(found)), "%016x" % (sum(map(fnv, found.values())) & MASK)


def abandoned(brokers, topic):
    found = {}
    for row in records(brokers, topic):
        if row["kind"] == "checkout" and row["transition"] == "abandoned":
            found[row["instance"]] = "%s|%d|%d" % (
                row["customer"], row["started_at"], row["last_activity"])
        elif row["transition"] == "retracted":
            found.pop(row["instance"], None)
    return str(len(found)), "%016x" % (sum(map(fnv, found.values())) & MASK)


def main():
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    brokers, app, job, expect = sys.argv[1:]
    right = True
    if job in ("counts", "all", "everything"):
        money = job != "everything"
        got = counts(brokers, app + ".channel_stage", "1m", money)
        right &= compare("1 min", got, dict(windows(expect, "counts_1m.tsv", money)))
    if job in ("counts", "all"):
        got = counts(brokers, app + ".live", "10m", True)
        right &= compare("10 min", got, dict(windows(expect, "counts_10m_10s.tsv", True)))
    if job != "counts":
        want = totals(expect, "sessions.tsv", ("sessions", "checksum"))
        right &= compare("sessions", sessions(brokers, app + ".sessions"), want)
        want = totals(expect, "abandoned.tsv", ("abandoned", "checksum"))
        right &= compare("abandoned", abandoned(brokers, app + ".lifecycle"), want)
    admin = AdminClient({"bootstrap.servers": brokers})
    own = [t for t in admin.list_topics(timeout=30).topics if t.startswith(app + ".")]
    for done in admin.delete_topics(own).values():
        done.result()
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
