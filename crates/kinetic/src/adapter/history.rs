//! Alert history: an append-only log of records, written in batches, each batch one transaction on disk. One node at a time
//! leads a history; who cannot have it stands by.

mod postgres;
mod postgres_tls;
mod sqlite;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use kinetic_alert::{Compaction, Record, RecordSeq};
use kinetic_wire::Wall;

use crate::adapter::file;

/// Layout of the tables; a history of another one is refused, not guessed at. 1 had no compaction, and becomes 2.
const LAYOUT: i64 = 2;
/// Compacted records are looked at this much longer than replay goes back: clocks of leaders differ.
const CLOCKS_DIFFER: Duration = Duration::from_secs(24 * 3600);

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// It no longer belongs to this node: nothing that this node writes counts from now on.
    #[error("the history belongs to this node no more")]
    Deposed(#[source] anyhow::Error),
    /// It may work when it is tried again.
    #[error("the history cannot be used")]
    Failed(#[source] anyhow::Error),
}

/// A history that this node leads: nobody else writes to it as long as this lives.
pub(crate) trait Store: Send {
    /// Writes records in one transaction; when this returns they are on disk.
    fn append(&mut self, records: &[(RecordSeq, Record)]) -> Result<(), StoreError>;

    /// The records since a time that replay needs, oldest first; the newest of all if there are none.
    fn replay(&mut self, from: Wall) -> Result<Vec<(RecordSeq, Record)>, StoreError>;

    /// Notes what replay will not need. `from` is how far back replay goes.
    fn compact(&mut self, compaction: &Compaction, from: Wall) -> Result<(), StoreError>;

    /// Forgets records before a time, at most so many; returns how many.
    fn prune(&mut self, before: Wall, at_most: u32) -> Result<u64, StoreError>;

    /// Whether this node still leads. Asked now and then while there is nothing to write.
    fn check(&mut self) -> Result<(), StoreError>;

    /// A secret that all nodes of this history have in common: `own` for the first that asks.
    fn common_secret(&mut self, own: &str) -> Result<String, StoreError>;
}

/// Where the history is.
#[derive(Clone, Debug)]
pub(crate) enum Location {
    /// A SQLite file; it leads who holds the lock on the file beside it.
    Sqlite(PathBuf),
    /// A PostgreSQL database; it leads whose session holds the advisory lock.
    Postgres(postgres::Server),
}

impl Location {
    /// Reads what a flag or a setting says: an URL of PostgreSQL, or the path of a SQLite file.
    pub(crate) fn parse(text: &str, password_file: Option<&Path>, folder: &Path) -> Result<Self> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
            anyhow::ensure!(!text.contains("://"), "`{text}` is neither a path nor postgres://…");
            return Ok(Self::Sqlite(folder.join(text)));
        }
        let password = password_file.map(file::read_secret).transpose()?;
        Ok(Self::Postgres(postgres::Server::new(text, password)?))
    }

    /// Opens the history if nobody else leads it; else says who is asked again later.
    pub(crate) fn try_lead(&self) -> Result<Option<Box<dyn Store>>> {
        Ok(match self {
            Self::Sqlite(path) => {
                sqlite::SqliteStore::try_lead(path)?.map(|store| Box::new(store) as Box<dyn Store>)
            }
            Self::Postgres(server) => {
                postgres::PostgresStore::try_lead(server)?.map(|store| Box::new(store) as Box<dyn Store>)
            }
        })
    }
}

fn as_i64(seq: RecordSeq) -> Result<i64> {
    i64::try_from(seq.0).context("record number out of range")
}

fn parse_seq(seq: i64) -> Result<RecordSeq> {
    Ok(RecordSeq(u64::try_from(seq).context("record number out of range")?))
}

fn parse(seq: i64, json: &str) -> Result<(RecordSeq, Record)> {
    let record =
        serde_json::from_str(json).with_context(|| format!("record {seq} of the history is damaged"))?;
    Ok((parse_seq(seq)?, record))
}

/// What is kept beside the JSON, to search by.
fn columns(record: &Record) -> (Wall, &'static str, Option<&str>) {
    match record {
        Record::Event { at, event } => (*at, "event", Some(event.customer.as_str())),
        Record::MailQueued { at, .. } => (*at, "mail_queued", None),
        Record::MailEnded { at, .. } => (*at, "mail_ended", None),
        Record::DigestQueued { at, customer, .. } => (*at, "digest_queued", Some(customer.as_str())),
        Record::Address { at, .. } => (*at, "address", None),
        Record::MailsWait { at, .. } => (*at, "mails_wait", None),
        Record::MailRetried { at, .. } => (*at, "mail_retried", None),
        Record::Tested { at, event } => (*at, "tested", Some(event.customer.as_str())),
        Record::TestMailQueued { at, customer, .. } => (*at, "test_mail_queued", Some(customer.as_str())),
        Record::Stale { at, .. } => (*at, "stale", None),
        Record::Settled { at, .. } => (*at, "settled", None),
        Record::Silenced { at, silence } => (*at, "silenced", Some(silence.customer.as_str())),
        Record::Unsilenced { at, customer, .. } => (*at, "unsilenced", Some(customer.as_str())),
        Record::Acknowledged { at, .. } => (*at, "acknowledged", None),
        Record::Unsubscribed { at, subscription, .. } => {
            (*at, "unsubscribed", Some(subscription.customer.as_str()))
        }
        Record::Subscribed { at, subscription, .. } => {
            (*at, "subscribed", Some(subscription.customer.as_str()))
        }
        Record::NodeKnown { at, .. } => (*at, "node_known", None),
        Record::NodeGone { at, .. } => (*at, "node_gone", None),
        Record::StreamKnown { at, customer } => (*at, "stream_known", Some(customer.as_str())),
        Record::StreamGone { at, customer } => (*at, "stream_gone", Some(customer.as_str())),
    }
}

/// Records after the last compaction and up to this one that replay needs: none is named twice, since numbers have no gaps
/// but those of records that were never written, and those are found by nobody.
fn still_needed(compacted: RecordSeq, compaction: &Compaction) -> Vec<i64> {
    let mut superseded = compaction.superseded.iter().copied().peekable();
    let mut needed = Vec::new();
    for seq in compacted.0 + 1..=compaction.upto.0 {
        while superseded.next_if(|next| next.0 < seq).is_some() {}
        if superseded.peek().is_none_or(|next| next.0 != seq) {
            needed.extend(i64::try_from(seq));
        }
    }
    needed
}

/// Of what is named, the records that an earlier compaction had kept.
fn no_longer_needed(compacted: RecordSeq, compaction: &Compaction) -> Vec<i64> {
    let kept = compaction.superseded.iter().take_while(|seq| **seq <= compacted);
    kept.filter_map(|seq| i64::try_from(seq.0).ok()).collect()
}
