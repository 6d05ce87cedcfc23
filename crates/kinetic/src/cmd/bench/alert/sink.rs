//! The mailbox of the measurement: when a mail about which group arrived first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use kinetic_wire::Mono;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::load::PREFIX;
use crate::adapter::clock;
use crate::adapter::smtp_sink::Received;

/// How often it is looked into.
const LOOK: Duration = Duration::from_millis(2);

#[derive(Debug, Default)]
struct Arrived {
    count: usize,
    first_about: BTreeMap<String, Mono>,
}

/// What has arrived.
pub(super) struct Inbox {
    arrived: Arc<Mutex<Arrived>>,
    _reading: JoinSet<()>,
}

impl Inbox {
    pub(super) fn start(mut mails: mpsc::Receiver<Received>) -> Self {
        let arrived = Arc::new(Mutex::new(Arrived::default()));
        let (writes, mut reading) = (Arc::clone(&arrived), JoinSet::new());
        reading.spawn(async move {
            while let Some(mail) = mails.recv().await {
                let at = clock::now().mono;
                let about = subject_group(&mail.message);
                let mut arrived = writes.lock().unwrap_or_else(PoisonError::into_inner);
                arrived.count += 1;
                if let Some(group) = about {
                    arrived.first_about.entry(group).or_insert(at);
                }
            }
        });
        Self { arrived, _reading: reading }
    }

    fn look<T>(&self, at: impl FnOnce(&Arrived) -> T) -> T {
        at(&self.arrived.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn count(&self) -> usize {
        self.look(|arrived| arrived.count)
    }

    /// When the first mail about a group arrived.
    pub(super) fn arrival(&self, group: &str) -> Option<Mono> {
        self.look(|arrived| arrived.first_about.get(group).copied())
    }

    pub(super) async fn wait_for(&self, count: usize, timeout: Duration) -> Result<()> {
        let waiting = async {
            while self.count() < count {
                tokio::time::sleep(LOOK).await;
            }
        };
        let had = || format!("{} of {count} mails came", self.count());
        tokio::time::timeout(timeout, waiting).await.with_context(had)
    }

    pub(super) async fn wait_about(&self, group: &str, timeout: Duration) -> Result<Mono> {
        let waiting = async {
            loop {
                if let Some(at) = self.arrival(group) {
                    return at;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(timeout, waiting).await.with_context(|| format!("no mail about {group} came"))
    }
}

/// The group that a mail names: groups of this load have names that stand nowhere else.
fn subject_group(message: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(message).ok()?;
    let from = text.find(PREFIX)?;
    let name = &text[from..];
    let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(name.len());
    Some(name[..end].to_owned())
}

/// Keeps a `select!` complete.
pub(super) async fn never() -> anyhow::Error {
    std::future::pending().await
}
