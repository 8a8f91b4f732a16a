#!/usr/bin/env python3
"""Reads topics to their ends as a consumer with read_committed does, and writes what it saw.

usage: dump.py BOOTSTRAP OUTDIR TOPIC...

Per topic one file `TOPIC.jsonl`: a line per record, partition by partition and in order, with
topic, partition, offset, timestamp, key, headers and value as text (base64 where it is no text).
For every topic of the cluster, internal ones too, `ends.json` has [topic, partition, last stable
offset, high watermark]. Needs confluent-kafka; knows nothing of Touchline.
"""

import base64
import json
import os
import sys

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka import IsolationLevel
from confluent_kafka.admin import AdminClient, OffsetSpec


def text(data):
    if data is None:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}


def dump(bootstrap, out, topic, ends):
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": "verify", "isolation.level": "read_committed",
        "enable.auto.commit": False, "auto.offset.reset": "error", "enable.partition.eof": True,
        "allow.auto.create.topics": False,
    })
    partitions = sorted(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
    count = 0
    with open(os.path.join(out, topic + ".jsonl"), "w", encoding="utf-8") as file:
        for partition in partitions:
            place = TopicPartition(topic, partition)
            low, _ = consumer.get_watermark_offsets(place, timeout=30)
            end = ends[partition]
            consumer.assign([TopicPartition(topic, partition, low)])
            while True:
                ended = False
                for message in consumer.consume(2000, 0.2):
                    error = message.error()
                    if error and error.code() == KafkaError._PARTITION_EOF:
                        # A leader that has just been elected knows less for a moment.
                        ended = message.partition() == partition and message.offset() >= end
                        continue
                    if error:
                        raise SystemExit("%s [%d]: %s" % (topic, partition, error))
                    file.write(json.dumps({
                        "topic": topic, "partition": partition, "offset": message.offset(),
                        "timestamp": message.timestamp()[1], "key": text(message.key()),
                        "headers": [[n, text(v)] for n, v in message.headers() or []],
                        "value": text(message.value()),
                    }, ensure_ascii=False, separators=(",", ":")) + "\n")
                    count += 1
                if ended:
                    break
    consumer.close()
    return count


def all_ends(bootstrap):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    topics = admin.list_topics(timeout=30).topics
    asked = {TopicPartition(t, p): OffsetSpec.latest()
             for t, about in topics.items() for p in about.partitions}

    def offsets(level):
        found = admin.list_offsets(asked, isolation_level=level, request_timeout=60)
        return {(place.topic, place.partition): f.result().offset for place, f in found.items()}

    stable = offsets(IsolationLevel.READ_COMMITTED)
    high = offsets(IsolationLevel.READ_UNCOMMITTED)
    return [[t, p, stable[t, p], high[t, p]] for t, p in sorted(high)]


def main():
    if len(sys.argv) < 4:
        print(__doc__.split("\n\n")[1], file=sys.stderr)
        return 2
    bootstrap, out, topics = sys.argv[1], sys.argv[2], sys.argv[3:]
    os.makedirs(out, exist_ok=True)
    ends = all_ends(bootstrap)
    with open(os.path.join(out, "ends.json"), "w", encoding="utf-8") as file:
        json.dump(ends, file)
    for topic in topics:
        stable = {p: offset for t, p, offset, _ in ends if t == topic}
        print("%s: %d records" % (topic, dump(bootstrap, out, topic, stable)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
