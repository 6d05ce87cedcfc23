//! Keeps the history, in a thread of its own: waits for the lead, reads what the machine is to remember, and writes batches
//! until the process stops or the lead is lost. Databases are asked in no other thread.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result};
use kinetic_alert::{Compaction, Record, RecordSeq};
use tokio::sync::mpsc;

use crate::adapter::clock;
use crate::adapter::history::{Location, Store, StoreError};

/// How long history is kept.
const KEEP: Duration = Duration::from_secs(400 * 24 * 3600);
/// Records forgotten with one compaction, so that forgetting never holds up writing.
const PRUNED_AT_ONCE: u32 = 20_000;
/// Pause before a failed write is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often a standby asks for the lead.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How often a leader without anything to write makes sure that it still leads.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// News that wait for the loop; the thread waits when there are more.
const NEWS_MAX: usize = 4;

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) records: Vec<(RecordSeq, Record)>,
    pub(super) compaction: Option<Compaction>,
    /// How far back replay goes.
    pub(super) replay: Duration,
}

/// What the thread says.
pub(super) enum News {
    /// Another node leads.
    Standby,
    /// This node leads; what is remembered, and the secret that all nodes have in common.
    Leading { replayed: Vec<(RecordSeq, Record)>, secret: String },
    /// All records up to this one are on disk.
    Appended(RecordSeq),
    /// The history cannot be opened, or a write has failed; it is tried again.
    Failing(String),
    /// The lead is lost. Nothing follows.
    Deposed(String),
}

/// The thread, from outside.
pub(super) struct Keeper {
    batches: SyncSender<Batch>,
    pub(super) news: mpsc::Receiver<News>,
    /// A batch is on its way: the next one waits.
    writing: bool,
}

impl Keeper {
    /// Starts the thread. `replay` says how far back to read, at the moment of reading.
    pub(super) fn start(
        location: Location,
        own_secret: String,
        replay: impl Fn() -> Duration + Send + 'static,
    ) -> Result<Self> {
        let (batches, asked) = sync_channel(1);
        let (say, news) = mpsc::channel(NEWS_MAX);
        std::thread::Builder::new()
            .name("history".into())
            .spawn(move || keep(&location, &own_secret, replay, &asked, &say))
            .context("cannot start a thread for the history")?;
        Ok(Self { batches, news, writing: false })
    }

    /// Whether the next batch can be given.
    pub(super) fn is_free(&self) -> bool {
        !self.writing
    }

    /// Gives a batch, whose end is told as [`News::Appended`]. If the thread has ended, its news say why.
    pub(super) fn write(&mut self, batch: Batch) {
        self.writing = self.batches.try_send(batch).is_ok();
    }

    /// The batch that was given is written.
    pub(super) fn written(&mut self) {
        self.writing = false;
    }

    /// Lets the thread end, and waits until the history is closed.
    pub(super) async fn close(self) {
        let Self { batches, mut news, .. } = self;
        drop(batches);
        while news.recv().await.is_some() {}
    }
}

fn keep(
    location: &Location,
    own_secret: &str,
    replay: impl Fn() -> Duration,
    asked: &Receiver<Batch>,
    say: &mpsc::Sender<News>,
) {
    let Some(mut store) = wait_for_lead(location, asked, say) else { return };
    match begin(&mut *store, own_secret, replay()) {
        Ok(leading) => {
            say.blocking_send(leading).ok();
        }
        Err(error) => {
            say.blocking_send(News::Deposed(format!("{error:#}"))).ok();
            return;
        }
    }
    if let Err(deposed) = serve(&mut *store, asked, say) {
        say.blocking_send(News::Deposed(format!("{:#}", anyhow::Error::from(deposed)))).ok();
    }
}

/// Asks for the lead until it is had; `None` if nobody waits for it any more.
fn wait_for_lead(
    location: &Location,
    asked: &Receiver<Batch>,
    say: &mpsc::Sender<News>,
) -> Option<Box<dyn Store>> {
    loop {
        let news = match location.try_lead() {
            Ok(Some(store)) => return Some(store),
            Ok(None) => News::Standby,
            Err(error) => News::Failing(format!("{error:#}")),
        };
        say.blocking_send(news).ok()?;
        if matches!(asked.recv_timeout(ASK_AGAIN), Err(RecvTimeoutError::Disconnected)) {
            return None;
        }
    }
}

fn begin(store: &mut dyn Store, own_secret: &str, replay: Duration) -> Result<News> {
    let started = clock::now();
    let secret = store.common_secret(own_secret)?;
    let replayed = store.replay(started.wall - replay)?;
    let took = clock::now().mono.since(started.mono);
    tracing::info!(records = replayed.len(), ms = took.as_millis(), "leading: alert history read");
    Ok(News::Leading { replayed, secret })
}

/// Writes what comes. Ends well when nobody gives batches any more.
fn serve(store: &mut dyn Store, asked: &Receiver<Batch>, say: &mpsc::Sender<News>) -> Result<(), StoreError> {
    loop {
        match asked.recv_timeout(CHECK_EVERY) {
            Ok(batch) => {
                if let Some((last, _)) = batch.records.last() {
                    append(store, &batch.records, say)?;
                    say.blocking_send(News::Appended(*last)).ok();
                }
                // After the word that frees the deliveries: nobody waits for this.
                if let Some(compaction) = &batch.compaction {
                    tidy(store, compaction, batch.replay)?;
                }
            }
            Err(RecvTimeoutError::Timeout) => only_deposed(store.check(), "check")?,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Until it is on disk nothing is acknowledged, so the only way on is to try again.
fn append(
    store: &mut dyn Store,
    records: &[(RecordSeq, Record)],
    say: &mpsc::Sender<News>,
) -> Result<(), StoreError> {
    loop {
        match store.append(records) {
            Err(StoreError::Failed(error)) => {
                let error = format!("{error:#}");
                tracing::error!(error, "cannot write the alert history; trying again");
                if say.blocking_send(News::Failing(error)).is_err() {
                    return Ok(());
                }
                std::thread::sleep(RETRY);
            }
            outcome => return outcome,
        }
    }
}

/// What makes the next start faster and the disk emptier; where it fails, both are as they were.
fn tidy(store: &mut dyn Store, compaction: &Compaction, replay: Duration) -> Result<(), StoreError> {
    let now = clock::now().wall;
    only_deposed(store.compact(compaction, now - replay), "compaction")?;
    only_deposed(store.prune(now - KEEP, PRUNED_AT_ONCE).map(drop), "pruning")
}

fn only_deposed(outcome: Result<(), StoreError>, what: &str) -> Result<(), StoreError> {
    if let Err(StoreError::Failed(error)) = &outcome {
        tracing::warn!(what, error = format!("{error:#}"), "the alert history was not tidied");
        return Ok(());
    }
    outcome
}
