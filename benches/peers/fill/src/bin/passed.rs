//! When each partition of a topic passed which event time: a line of partition, event time and
//! broker's timestamp (ms) for every record that is later by 5 ms or more than the line before.

use anyhow::Result;
use clap::Parser;
use fill::avro::head;
use fill::kafka::{self, T10};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};
use std::io::{BufWriter, Write};

#[derive(Parser)]
struct Args {
    #[arg(long, default_value = "127.0.0.1:19092")]
    brokers: String,
    #[arg(long)]
    topic: String,
}

fn main() -> Result<()> {
    let a = Args::parse();
    let ends = kafka::ends(&a.brokers, &a.topic)?;
    let mut left: i64 = ends.iter().map(|(low, high)| high - low).sum();
    let consumer: BaseConsumer =
        kafka::config(&a.brokers).set("group.id", "passed").set("enable.auto.commit", "false").create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..ends.len() as i32 {
        list.add_partition_offset(&a.topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let mut latest = vec![i64::MIN; ends.len()];
    let mut out = BufWriter::new(std::io::stdout().lock());
    while left > 0 {
        let Some(record) = consumer.poll(T10) else { continue };
        let record = record?;
        left -= 1;
        let Some(time) = record.payload().and_then(head).map(|head| head.time) else { continue };
        let latest = &mut latest[record.partition() as usize];
        if time >= latest.saturating_add(5) {
            *latest = time;
            let at = record.timestamp().to_millis().unwrap_or(0);
            writeln!(out, "{}\t{time}\t{at}", record.partition())?;
        }
    }
    Ok(())
}
