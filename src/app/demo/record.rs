//! Records what passes through the topics, as recorded lines, one file a topic.

use crate::codec::recorded::{RecordedLine, write_line};
use crate::config::Settings;
use crate::kafka::client::Connection;
use crate::kafka::reader::{Go, Tail, Tailed};
use crate::kafka::{Source, Start};
use crate::model::topic::Topic;
use anyhow::{Context as _, bail};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

type Files = BTreeMap<String, BufWriter<File>>;

pub(super) struct Recording {
    tail: Tail,
    files: Arc<Mutex<(Files, Option<std::io::Error>)>>,
}

impl Recording {
    pub(super) fn start(
        settings: &Settings,
        connection: &Connection,
        source: &str,
        dir: &Path,
    ) -> anyhow::Result<Recording> {
        std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        let own = Topic::ALL.iter().filter(|t| **t != Topic::Rollup).map(|t| settings.topic(*t));
        let mut files = Files::new();
        for topic in own.chain([source]) {
            let path = dir.join(format!("{topic}.jsonl"));
            let file =
                File::create(&path).with_context(|| format!("creating {}", path.display()))?;
            files.insert(topic.to_owned(), BufWriter::new(file));
        }
        let sources: Vec<Source> =
            files.keys().map(|topic| Source::new(topic, Start::Earliest)).collect();
        let files = Arc::new(Mutex::new((files, None)));
        let writing = files.clone();
        let tail = Tail::start("demo-recording", connection, &sources, move |tailed| {
            if let Tailed::Record(record) = tailed {
                let mut line = Vec::new();
                let recorded = RecordedLine {
                    topic: record.topic.to_owned(),
                    partition: record.partition,
                    offset: record.offset,
                    timestamp: record.timestamp,
                    key: record.key.map(<[u8]>::to_vec),
                    headers: record
                        .headers
                        .iter()
                        .map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)))
                        .collect(),
                    value: record.value.map(<[u8]>::to_vec),
                };
                write_line(&recorded, &mut line);
                let mut writing = writing.lock().unwrap_or_else(|e| e.into_inner());
                let (files, error) = &mut *writing;
                if let Some(file) = files.get_mut(record.topic)
                    && let Err(e) = file.write_all(&line)
                {
                    error.get_or_insert(e);
                }
            }
            Go::On
        })?;
        Ok(Recording { tail, files })
    }

    pub(super) fn end(self) -> anyhow::Result<()> {
        drop(self.tail);
        let mut files = self.files.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(error) = files.1.take() {
            bail!("recording failed: {error}");
        }
        for file in files.0.values_mut() {
            file.flush()?;
        }
        Ok(())
    }
}
