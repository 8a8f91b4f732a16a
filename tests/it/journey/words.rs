//! Touchpoints whose words the decoder has numbered are counted as those without a number.

use super::{feed, parse, settings};
use touchline::codec::canonical::{CANONICAL_SCHEMA, Decoded, Schemas, decode_avro, encode_avro};
use touchline::engine::{Fold, Output};
use touchline::journey::{Input, Journey, Settings};
use touchline::model::dimension::Dimension;
use touchline::model::ids::Offset;
use touchline::model::touchpoint::Touchpoint;

/// Folds `events` as they come from the topic.
fn decoded(settings: Settings, events: &[Touchpoint]) -> Vec<Output> {
    let mut schemas = Schemas::new();
    schemas.insert(1, CANONICAL_SCHEMA).unwrap();
    let payloads: Vec<Vec<u8>> = events
        .iter()
        .map(|event| {
            let mut payload = Vec::new();
            encode_avro(1, None, event, &mut payload);
            payload
        })
        .collect();
    let mut journey = Journey::new(settings);
    let mut out = Vec::new();
    for (offset, payload) in (0..).map(Offset::new).zip(&payloads) {
        let Ok(Decoded::Touchpoint { origin, touchpoint }) = decode_avro(&schemas, payload) else {
            panic!("it was written as a touchpoint");
        };
        assert!(touchpoint.words.number().is_some(), "{touchpoint:?}");
        let (touchpoint, key, value) = (&touchpoint, &b"key"[..], &b"value"[..]);
        journey.fold(Input::Touchpoint { offset, origin, touchpoint, key, value }, &mut out);
    }
    journey.fold(Input::Close, &mut out);
    out
}

fn check(settings: &Settings) {
    let mut events = Vec::new();
    // Each combination comes again, of each tenant and country.
    for _ in 0..2 {
        for tenant in ["default", "acme", "bolt"] {
            for channel in ["web", "app", "pigeon"] {
                for pair in ["page.view", "product.view", "checkout.start", "dance.begin"] {
                    let number = events.len();
                    let line = format!("{number} {pair} tenant={tenant} ch={channel} c=c{number}");
                    let mut event = parse(number, &line);
                    event.country = Some(["DE", "FR"][number % 2].into());
                    event.stage = (number % 3 == 0).then(|| "service".into());
                    events.push(event);
                }
            }
        }
    }
    let mut journey = Journey::new(settings.clone());
    let mut plain = feed(&mut journey, 0, &events);
    journey.fold(Input::Close, &mut plain);
    assert_eq!(decoded(settings.clone(), &events), plain);
}

#[test]
fn numbered_words_are_counted_as_others() {
    check(&settings());
    let by_country = vec![vec![Dimension::Channel], vec![Dimension::Country]];
    check(&Settings { dimension_sets: by_country, ..settings() });
    check(&Settings { dimension_cap: 2, ..settings() });
}
