#!/usr/bin/env python3
"""How long after the record that completes them alerts and checkouts can be read, as committed.

usage: latency.py BROKERS APP SECONDS PASSED [--partitions N] [--bound MS] [--skip S]

Reads APP.alerts and APP.lifecycle as they come for SECONDS, then what the program PASSED (a command)
prints of the input: partition, event time, broker's timestamp. An alert at the step T is completed by
the last partition to reach T plus the bound for disorder, a record of a checkout by the customer's
own partition. Prints a line of JSON per topic: number and milliseconds. Needs confluent-kafka.
"""

import argparse
import bisect
import json
import shlex
import subprocess
import time

from confluent_kafka import Consumer, TopicPartition


def murmur2(data):
    """As Java's default partitioner has it."""
    m, mask = 0x5bd1e995, 0xffffffff
    h = 0x9747b28c ^ len(data)
    whole = len(data) // 4 * 4
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i:i + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    if len(data) > whole:
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def arrivals(brokers, topics, seconds):
    """(topic, ms of arrival, record) of all that comes."""
    consumer = Consumer({
        "bootstrap.servers": brokers, "group.id": "latency", "isolation.level": "read_committed",
        "enable.auto.commit": False, "fetch.wait.max.ms": 10})
    consumer.assign([TopicPartition(topic, p, 0) for topic in topics
                     for p in consumer.list_topics(topic, timeout=30).topics[topic].partitions])
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        batch = consumer.consume(1000, 0.005)
        now = time.time() * 1000
        for message in batch:
            if message.error() is None and message.value() is not None:
                yield message.topic(), now, json.loads(message.value())
    consumer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("brokers")
    parser.add_argument("app")
    parser.add_argument("seconds", type=float)
    parser.add_argument("passed")
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--bound", type=int, default=30_000)
    parser.add_argument("--skip", type=float, default=15, help="seconds of event time at the start")
    options = parser.parse_args()
    alerts, lifecycle = options.app + ".alerts", options.app + ".lifecycle"
    seen = {alerts: [], lifecycle: []}
    for topic, now, record in arrivals(options.brokers, list(seen), options.seconds):
        seen[topic].append((now, record["at"], record.get("customer")))
    times = [[] for _ in range(options.partitions)]
    stamps = [[] for _ in range(options.partitions)]
    told = subprocess.run(shlex.split(options.passed), stdout=subprocess.PIPE, text=True, check=True)
    for line in told.stdout.splitlines():
        partition, at, stamp = map(int, line.split())
        times[partition].append(at)
        stamps[partition].append(stamp)
    first = min(at[0] for at in times) + options.skip * 1000

    def reached(partition, at):
        place = bisect.bisect_left(times[partition], at)
        return stamps[partition][place] if place < len(times[partition]) else None

    for topic, records in seen.items():
        took = []
        for now, at, customer in records:
            if at < first:
                continue
            if customer is None:
                all_of = [reached(p, at + options.bound) for p in range(options.partitions)]
            else:
                own = (murmur2(customer.encode()) & 0x7fffffff) % options.partitions
                all_of = [reached(own, at + options.bound + 1)]
            if None not in all_of:
                took.append(now - max(all_of))
        took.sort()
        of = {"p%g" % q: took[min(len(took) - 1, int(len(took) * q / 100))]
              for q in (50, 99, 99.9, 100)} if took else {}
        print(json.dumps({"topic": topic.rsplit(".", 1)[1], "n": len(took), **of}))


if __name__ == "__main__":
    main()
