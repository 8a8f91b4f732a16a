//! `touchline schemas show`: what stands in our topics, enough to write a consumer from.

use super::Failure;
use clap::{Args, Subcommand};

#[derive(Args, Debug)]
pub(super) struct Schemas {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Prints the Avro schemas, with what each field means.
    Show {
        /// Only that topic's, by its default name (`engagement.live`).
        topic: Option<String>,
    },
}

impl Schemas {
    pub(super) fn run(self) -> Result<(), Failure> {
        let What::Show { topic } = self.what;
        let all = crate::codec::schemas::schemas();
        if let Some(name) = &topic
            && !all.iter().any(|(known, _)| known == name)
        {
            let known: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
            return Err(Failure::Usage(format!(
                "there is no schema for {name}; there are some for {}",
                known.join(", ")
            )));
        }
        for (name, schema) in all {
            match &topic {
                None => super::say(&format!("# {name}\n{}\n\n", schema.trim())),
                Some(wanted) if wanted == name => super::say(&format!("{}\n", schema.trim())),
                Some(_) => {}
            }
        }
        Ok(())
    }
}
