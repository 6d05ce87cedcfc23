//! Alert history in SQLite: an append-only log of records, written in batches, each batch one transaction on disk.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use kinetic_alert::machine::{Record, RecordSeq};
use kinetic_wire::Wall;
use rusqlite::{Connection, params};

/// Layout of the database; a file of another one is refused, not guessed at.
const LAYOUT: i64 = 1;

/// The open database.
#[derive(Debug)]
pub(crate) struct HistoryDb {
    connection: Connection,
}

impl HistoryDb {
    /// Opens the database, making it if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let connection = Connection::open(path)
            .with_context(|| format!("cannot open the alert history {}", path.display()))?;
        // WAL with synchronous = FULL: a committed record survives a power cut.
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        let layout: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        ensure!(
            layout == 0 || layout == LAYOUT,
            "{} was written by another version of Kinetic (layout {layout}, this one reads {LAYOUT})",
            path.display()
        );
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS record (
               seq INTEGER PRIMARY KEY,
               at_ms INTEGER NOT NULL,
               kind TEXT NOT NULL,
               customer TEXT,
               json TEXT NOT NULL
             ) STRICT;
             CREATE INDEX IF NOT EXISTS record_at ON record (at_ms);
             CREATE INDEX IF NOT EXISTS record_customer ON record (customer, at_ms);
             PRAGMA user_version = 1;",
        )?;
        Ok(Self { connection })
    }

    /// Writes records in one transaction; when this returns they are on disk.
    pub(crate) fn append(&mut self, records: &[(RecordSeq, Record)]) -> Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO record (seq, at_ms, kind, customer, json) VALUES (?, ?, ?, ?, ?)",
            )?;
            for (seq, record) in records {
                let (at, kind, customer) = columns(record);
                let seq = i64::try_from(seq.0).context("record number out of range")?;
                insert.execute(params![seq, at.as_ms(), kind, customer, serde_json::to_string(record)?])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// All records since a time, oldest first.
    pub(crate) fn since(&self, from: Wall) -> Result<Vec<(RecordSeq, Record)>> {
        let mut select =
            self.connection.prepare("SELECT seq, json FROM record WHERE at_ms >= ? ORDER BY seq")?;
        let rows =
            select.query_map([from.as_ms()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
        rows.map(|row| {
            let (seq, json) = row?;
            Ok((parse_seq(seq)?, parse(seq, &json)?))
        })
        .collect()
    }

    /// The newest record.
    pub(crate) fn last(&self) -> Result<Option<(RecordSeq, Record)>> {
        let at: Option<i64> =
            self.connection.query_row("SELECT max(seq) FROM record", [], |row| row.get(0))?;
        let Some(seq) = at else { return Ok(None) };
        let json: String =
            self.connection.query_row("SELECT json FROM record WHERE seq = ?", [seq], |row| row.get(0))?;
        Ok(Some((parse_seq(seq)?, parse(seq, &json)?)))
    }

    /// Forgets records before a time; returns how many.
    pub(crate) fn prune(&mut self, before: Wall) -> Result<usize> {
        Ok(self.connection.execute("DELETE FROM record WHERE at_ms < ?", [before.as_ms()])?)
    }
}

fn parse_seq(seq: i64) -> Result<RecordSeq> {
    Ok(RecordSeq(u64::try_from(seq).context("record number out of range")?))
}

fn parse(seq: i64, json: &str) -> Result<Record> {
    serde_json::from_str(json).with_context(|| format!("record {seq} of the history is damaged"))
}

/// What is kept beside the JSON, to search by.
fn columns(record: &Record) -> (Wall, &'static str, Option<&str>) {
    match record {
        Record::Event { at, event } => (*at, "event", Some(event.customer.as_str())),
        Record::MailQueued { at, .. } => (*at, "mail_queued", None),
        Record::MailEnded { at, .. } => (*at, "mail_ended", None),
        Record::Stale { at, .. } => (*at, "stale", None),
        Record::Settled { at, .. } => (*at, "settled", None),
        Record::Silenced { at, silence } => (*at, "silenced", Some(silence.customer.as_str())),
        Record::Unsilenced { at, customer, .. } => (*at, "unsilenced", Some(customer.as_str())),
        Record::Acknowledged { at, .. } => (*at, "acknowledged", None),
        Record::NodeKnown { at, .. } => (*at, "node_known", None),
        Record::NodeGone { at, .. } => (*at, "node_gone", None),
        Record::StreamKnown { at, customer } => (*at, "stream_known", Some(customer.as_str())),
        Record::StreamGone { at, customer } => (*at, "stream_gone", Some(customer.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinetic_alert::machine::MailId;

    fn ended(at_ms: i64) -> Record {
        Record::MailEnded {
            at: Wall::from_ms(at_ms),
            id: MailId("m".into()),
            outcome: "accepted".into(),
            detail: "250 ok".into(),
        }
    }

    #[test]
    fn records_come_back_in_order_after_reopening() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("history.sqlite");
        let mut db = HistoryDb::open(&path).expect("open");
        db.append(&[(RecordSeq(1), ended(10)), (RecordSeq(2), ended(20))]).expect("append");
        db.append(&[(RecordSeq(3), ended(30))]).expect("append");
        drop(db);
        let mut db = HistoryDb::open(&path).expect("reopen");
        let seqs = |db: &HistoryDb, from| -> Vec<u64> {
            db.since(Wall::from_ms(from)).expect("since").iter().map(|(seq, _)| seq.0).collect()
        };
        assert_eq!(seqs(&db, 0), [1, 2, 3]);
        assert_eq!(seqs(&db, 20), [2, 3]);
        assert_eq!(db.last().expect("last"), Some((RecordSeq(3), ended(30))));
        assert_eq!(db.prune(Wall::from_ms(30)).expect("prune"), 2);
        assert_eq!(seqs(&db, 0), [3]);
    }

    #[test]
    fn a_number_is_never_written_twice_and_the_batch_is_whole() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut db = HistoryDb::open(&dir.path().join("h.sqlite")).expect("open");
        db.append(&[(RecordSeq(1), ended(1))]).expect("append");
        db.append(&[(RecordSeq(2), ended(2)), (RecordSeq(1), ended(3))]).expect_err("number 1 is taken");
        assert_eq!(
            db.last().expect("last"),
            Some((RecordSeq(1), ended(1))),
            "the batch must leave nothing behind"
        );
    }

    #[test]
    fn another_layout_is_refused() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("h.sqlite");
        Connection::open(&path).expect("open").pragma_update(None, "user_version", 99).expect("pragma");
        let error = HistoryDb::open(&path).expect_err("refused").to_string();
        assert!(error.contains("layout 99"), "{error}");
    }
}
