//! History in SQLite: one file, and a lock on the file beside it.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kinetic_alert::{Compaction, Record, RecordSeq};
use kinetic_wire::Wall;
use rusqlite::{Connection, Transaction, params};

use super::{
    CLOCKS_DIFFER, LAYOUT, Store, StoreError, as_i64, columns, no_longer_needed, parse, still_needed,
};

/// Name under which the last compaction is noted.
const COMPACTED: &str = "compacted";
/// The write-ahead log goes back into the database every so many pages of 4 KiB: rarely, since pages that are written
/// again and again are moved once.
const CHECKPOINT_PAGES: u32 = 8_000;
/// Memory for pages, KiB.
const CACHE_KIB: i64 = 32 * 1024;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS record (
      seq INTEGER PRIMARY KEY,
      at_ms INTEGER NOT NULL,
      kind TEXT NOT NULL,
      customer TEXT,
      json TEXT NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS record_at ON record (at_ms);
    CREATE INDEX IF NOT EXISTS record_customer ON record (customer, at_ms);
    CREATE TABLE IF NOT EXISTS kept (seq INTEGER PRIMARY KEY) STRICT;
    CREATE TABLE IF NOT EXISTS mark (name TEXT PRIMARY KEY, seq INTEGER NOT NULL) STRICT;
    PRAGMA user_version = 2;";

/// The open database.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    connection: Connection,
    compacted: RecordSeq,
    /// Held as long as this lives; the system lets go of it when the process ends, however it does.
    _lock: File,
}

impl SqliteStore {
    /// Opens the database, making it if it is not there; `None` while another process has it.
    pub(super) fn try_lead(path: &Path) -> Result<Option<Self>> {
        let beside = path.with_added_extension("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&beside)
            .with_context(|| format!("cannot write {}", beside.display()))?;
        match lock.try_lock() {
            Ok(()) => Self::open(path, lock).map(Some),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", beside.display()))
            }
        }
    }

    fn open(path: &Path, lock: File) -> Result<Self> {
        let connection = Connection::open(path)
            .with_context(|| format!("cannot open the alert history {}", path.display()))?;
        // WAL with synchronous = FULL: a committed record survives a power cut.
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        let layout: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        ensure!(
            (0..=LAYOUT).contains(&layout),
            "{} was written by another version of Kinetic (layout {layout}, this one reads {LAYOUT})",
            path.display()
        );
        if layout < LAYOUT {
            connection.execute_batch(&format!("BEGIN;{TABLES}COMMIT;"))?;
        }
        let compacted = connection
            .query_row("SELECT coalesce(max(seq), 0) FROM mark WHERE name = ?", [COMPACTED], |row| {
                row.get::<_, i64>(0)
            })?
            .unsigned_abs();
        Ok(Self { connection, compacted: RecordSeq(compacted), _lock: lock })
    }

    fn write(&mut self, records: &[(RecordSeq, Record)]) -> Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO record (seq, at_ms, kind, customer, json) VALUES (?, ?, ?, ?, ?)",
            )?;
            let mut json = Vec::new();
            for (seq, record) in records {
                let (at, kind, customer) = columns(record);
                json.clear();
                serde_json::to_writer(&mut json, record)?;
                let text = std::str::from_utf8(&json).context("JSON is text")?;
                insert.execute(params![as_i64(*seq)?, at.as_ms(), kind, customer, text])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn read(&self, from: Wall) -> Result<Vec<(RecordSeq, Record)>> {
        let mut records = Vec::new();
        let mut read = |sql: &str, compacted: RecordSeq| -> Result<()> {
            let mut select = self.connection.prepare(sql)?;
            let mut rows = select.query(params![as_i64(compacted)?, from.as_ms()])?;
            while let Some(row) = rows.next()? {
                records.push(parse(row.get(0)?, row.get_ref(1)?.as_str()?)?);
            }
            Ok(())
        };
        read(
            "SELECT seq, json FROM kept JOIN record USING (seq) WHERE seq <= ? AND at_ms >= ? ORDER BY seq",
            self.compacted,
        )?;
        read("SELECT seq, json FROM record WHERE seq > ? AND at_ms >= ? ORDER BY seq", self.compacted)?;
        if records.is_empty() {
            // Record numbers go on growing even when all that is known is older than what is replayed.
            let mut last =
                self.connection.prepare("SELECT seq, json FROM record ORDER BY seq DESC LIMIT 1")?;
            let mut rows = last.query([])?;
            if let Some(row) = rows.next()? {
                records.push(parse(row.get(0)?, row.get_ref(1)?.as_str()?)?);
            }
        }
        Ok(records)
    }

    fn note(&mut self, compaction: &Compaction, from: Wall) -> Result<()> {
        let before = self.first_compaction(compaction, from)?;
        let upto = compaction.upto.max(self.compacted);
        let transaction = self.connection.transaction()?;
        each(&transaction, "DELETE FROM kept WHERE seq = ?", &no_longer_needed(before, compaction))?;
        each(&transaction, "INSERT OR IGNORE INTO kept (seq) VALUES (?)", &still_needed(before, compaction))?;
        transaction.execute(
            "DELETE FROM kept WHERE seq < (SELECT seq FROM record WHERE at_ms >= ? ORDER BY at_ms LIMIT 1)",
            [(from - CLOCKS_DIFFER).as_ms()],
        )?;
        transaction
            .execute("INSERT OR REPLACE INTO mark VALUES (?, ?)", params![COMPACTED, as_i64(upto)?])?;
        transaction.commit()?;
        self.compacted = upto;
        Ok(())
    }

    /// Where the last compaction has ended; before the first, just before what is replayed.
    fn first_compaction(&self, compaction: &Compaction, from: Wall) -> Result<RecordSeq> {
        if self.compacted > RecordSeq(0) {
            return Ok(self.compacted);
        }
        let first: Option<i64> = self.connection.query_row(
            "SELECT min(seq) FROM record WHERE at_ms >= ?",
            [from.as_ms()],
            |row| row.get(0),
        )?;
        let first = first.map_or(compaction.upto.0, i64::unsigned_abs);
        Ok(RecordSeq(first.saturating_sub(1)))
    }
}

fn each(transaction: &Transaction<'_>, sql: &str, seqs: &[i64]) -> Result<()> {
    let mut statement = transaction.prepare_cached(sql)?;
    for seq in seqs {
        statement.execute([seq])?;
    }
    Ok(())
}

impl Store for SqliteStore {
    fn append(&mut self, records: &[(RecordSeq, Record)]) -> Result<(), StoreError> {
        self.write(records).map_err(StoreError::Failed)
    }

    fn replay(&mut self, from: Wall) -> Result<Vec<(RecordSeq, Record)>, StoreError> {
        self.read(from).map_err(StoreError::Failed)
    }

    fn compact(&mut self, compaction: &Compaction, from: Wall) -> Result<(), StoreError> {
        self.note(compaction, from).map_err(StoreError::Failed)
    }

    fn prune(&mut self, before: Wall, at_most: u32) -> Result<u64, StoreError> {
        let pruned = self.connection.execute(
            "DELETE FROM record WHERE seq IN
               (SELECT seq FROM record WHERE at_ms < ? ORDER BY at_ms LIMIT ?)",
            params![before.as_ms(), at_most],
        );
        pruned.map(|pruned| pruned as u64).map_err(|error| StoreError::Failed(error.into()))
    }

    fn check(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn common_secret(&mut self, own: &str) -> Result<String, StoreError> {
        Ok(own.to_owned())
    }
}
