//! Sends planned alerts to every Alertmanager instance, never through a load balancer.

use super::push::Postable;
use std::time::Duration;

/// How long one instance may take to answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Where alerts are sent.
pub struct Alertmanagers {
    urls: Vec<String>,
    client: reqwest::Client,
}

/// What became of one push to one instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// Taken.
    Ok,
    /// Refused or unreachable: why.
    Failed(String),
}

impl Alertmanagers {
    /// Makes a sender for the instances at `urls` (for instance `http://127.0.0.1:9093`).
    ///
    /// # Errors
    /// If the HTTP client cannot be set up.
    pub fn new(urls: Vec<String>) -> Result<Alertmanagers, reqwest::Error> {
        let client = reqwest::Client::builder().timeout(ANSWER_WITHIN).build()?;
        Ok(Alertmanagers { urls, client })
    }

    /// True if there is nobody to send to.
    pub fn is_empty(&self) -> bool {
        self.urls.is_empty()
    }

    /// Sends `alerts` to all instances; one that fails does not keep the others from hearing it.
    /// What failed is sent again with the next push.
    pub async fn send(&self, alerts: &[Postable]) -> Vec<(String, Delivery)> {
        let mut deliveries = Vec::with_capacity(self.urls.len());
        for url in &self.urls {
            let at = format!("{}/api/v2/alerts", url.trim_end_matches('/'));
            let delivery = match self.client.post(&at).json(alerts).send().await {
                Ok(answer) if answer.status().is_success() => Delivery::Ok,
                Ok(answer) => {
                    let status = answer.status();
                    Delivery::Failed(format!(
                        "{status}: {}",
                        answer.text().await.unwrap_or_default()
                    ))
                }
                Err(error) => Delivery::Failed(error.to_string()),
            };
            deliveries.push((url.clone(), delivery));
        }
        deliveries
    }
}
