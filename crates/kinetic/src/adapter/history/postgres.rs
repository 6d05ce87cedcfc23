//! History in PostgreSQL, for alert nodes on several hosts. The advisory lock that makes a leader is held by the very session
//! that writes: a node whose session has ended can write nothing, whatever it believes.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kinetic_alert::{Compaction, Record, RecordSeq};
use kinetic_amqp::Secret;
use kinetic_wire::Wall;
use postgres::config::{Host, SslMode};
use postgres::{Client, Config, NoTls};

use super::postgres_tls::Tls;
use super::{
    CLOCKS_DIFFER, LAYOUT, Store, StoreError, as_i64, columns, no_longer_needed, parse, still_needed,
};

/// The advisory lock of the leader: one a database, so one installation a database.
const LEADER_LOCK: i64 = i64::from_be_bytes(*b"kinalert");
/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An unanswered packet ends the session after this long, on both sides: a host that has vanished leads no longer.
const LINK_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence on the connection after which each side asks whether the other is there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(3);

/// What every session is told. A server that is set to acknowledge before it has written must not.
const SESSION: &str = "
    SET application_name = 'kinetic alert';
    SET synchronous_commit = on;
    SET tcp_keepalives_idle = 3;
    SET tcp_keepalives_interval = 2;
    SET tcp_keepalives_count = 3;
    SET tcp_user_timeout = 10000;
    SET client_min_messages = warning;";

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS record (
      seq BIGINT PRIMARY KEY,
      at_ms BIGINT NOT NULL,
      kind TEXT NOT NULL,
      customer TEXT,
      json TEXT NOT NULL
    );
    CREATE INDEX IF NOT EXISTS record_at ON record (at_ms);
    CREATE INDEX IF NOT EXISTS record_customer ON record (customer, at_ms);
    CREATE TABLE IF NOT EXISTS kept (seq BIGINT PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS mark (name TEXT PRIMARY KEY, value TEXT NOT NULL);";

/// Names of what is noted beside the records.
const LAYOUT_MARK: &str = "layout";
const COMPACTED: &str = "compacted";
const SECRET: &str = "mail-id-key";

/// How to reach the database.
#[derive(Clone)]
pub(crate) struct Server(Box<Config>);

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({} {:?})", self.0.get_dbname().unwrap_or_default(), self.0.get_hosts())
    }
}

impl Server {
    /// Reads an URL: `postgres://LOGIN@HOST[:PORT]/DATABASE[?sslmode=require]`.
    pub(super) fn new(url: &str, password: Option<Secret>) -> Result<Self> {
        // Not with the parser's words, which may repeat the password.
        let mut config: Config = url
            .parse()
            .ok()
            .context("the history is not postgres://LOGIN@HOST[:PORT]/DATABASE[?sslmode=require]")?;
        ensure!(
            config.get_password().is_none(),
            "a password stands in the URL of the history, where everyone on this machine may read it: put it into a file of mode \
             600 for --history-password-file (history.password_file)"
        );
        if let Some(password) = password {
            config.password(password.expose());
        }
        // Over a network only with TLS, unless the URL says something else.
        if !url.contains("sslmode=") && !config.get_hosts().iter().all(is_here) {
            config.ssl_mode(SslMode::Require);
        }
        ensure!(config.get_dbname().is_some(), "the URL of the history names no database");
        config
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(LINK_TIMEOUT)
            .keepalives_idle(KEEPALIVE_AFTER)
            .keepalives_interval(Duration::from_secs(2))
            .keepalives_retries(3);
        Ok(Self(Box::new(config)))
    }

    fn connect(&self) -> Result<Client> {
        let connected = match self.0.get_ssl_mode() {
            SslMode::Disable => self.0.connect(NoTls),
            // Preferred, as by default: without anything to verify by it goes without.
            SslMode::Prefer => match Tls::new() {
                Ok(tls) => self.0.connect(tls),
                Err(_) => self.0.connect(NoTls),
            },
            _ => self.0.connect(Tls::new()?),
        };
        connected.with_context(|| format!("cannot reach the history {self:?}"))
    }
}

/// Whether what is said to a host stays on this machine.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
        }
    }
}

/// A session that holds the lock.
pub(crate) struct PostgresStore {
    client: Client,
    compacted: RecordSeq,
}

impl PostgresStore {
    /// Connects, and leads if nobody else does.
    pub(super) fn try_lead(server: &Server) -> Result<Option<Self>> {
        let mut client = server.connect()?;
        client.batch_execute(SESSION).context("the history takes no settings")?;
        let leads: bool = client.query_one("SELECT pg_try_advisory_lock($1)", &[&LEADER_LOCK])?.try_get(0)?;
        if !leads {
            return Ok(None);
        }
        client.batch_execute(TABLES).context("cannot make the tables of the history")?;
        let mut store = Self { client, compacted: RecordSeq(0) };
        let layout = store.mark_or(LAYOUT_MARK, &LAYOUT.to_string())?;
        ensure!(
            layout == LAYOUT.to_string(),
            "the history was written by another version of Kinetic (layout {layout}, this one reads {LAYOUT})"
        );
        store.compacted = RecordSeq(store.mark_or(COMPACTED, "0")?.parse().context("a damaged mark")?);
        Ok(Some(store))
    }

    /// What is noted under a name; `value` from now on if nothing is.
    fn mark_or(&mut self, name: &str, value: &str) -> Result<String> {
        self.client.execute("INSERT INTO mark VALUES ($1, $2) ON CONFLICT DO NOTHING", &[&name, &value])?;
        Ok(self.client.query_one("SELECT value FROM mark WHERE name = $1", &[&name])?.try_get(0)?)
    }

    fn write(&mut self, records: &[(RecordSeq, Record)]) -> Result<()> {
        let mut seqs = Vec::with_capacity(records.len());
        let mut times = Vec::with_capacity(records.len());
        let mut kinds = Vec::with_capacity(records.len());
        let mut customers = Vec::with_capacity(records.len());
        let mut jsons = Vec::with_capacity(records.len());
        for (seq, record) in records {
            let (at, kind, customer) = columns(record);
            seqs.push(as_i64(*seq)?);
            times.push(at.as_ms());
            kinds.push(kind);
            customers.push(customer);
            jsons.push(serde_json::to_string(record)?);
        }
        self.client.execute(
            "INSERT INTO record (seq, at_ms, kind, customer, json)
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[])",
            &[&seqs, &times, &kinds, &customers, &jsons],
        )?;
        Ok(())
    }

    fn read(&mut self, from: Wall) -> Result<Vec<(RecordSeq, Record)>> {
        let compacted = as_i64(self.compacted)?;
        let sqls = [
            "SELECT seq, json FROM kept JOIN record USING (seq) WHERE seq <= $1 AND at_ms >= $2 ORDER BY seq",
            "SELECT seq, json FROM record WHERE seq > $1 AND at_ms >= $2 ORDER BY seq",
        ];
        let mut records = Vec::new();
        for sql in sqls {
            for row in self.client.query(sql, &[&compacted, &from.as_ms()])? {
                records.push(parse(row.try_get(0)?, row.try_get(1)?)?);
            }
        }
        if records.is_empty() {
            // Record numbers go on growing even when all that is known is older than what is replayed.
            let last =
                self.client.query_opt("SELECT seq, json FROM record ORDER BY seq DESC LIMIT 1", &[])?;
            if let Some(row) = last {
                records.push(parse(row.try_get(0)?, row.try_get(1)?)?);
            }
        }
        Ok(records)
    }

    fn note(&mut self, compaction: &Compaction, from: Wall) -> Result<()> {
        let before = self.first_compaction(compaction, from)?;
        let upto = compaction.upto.max(self.compacted);
        let mut transaction = self.client.transaction()?;
        transaction
            .execute("DELETE FROM kept WHERE seq = ANY($1)", &[&no_longer_needed(before, compaction)])?;
        transaction.execute(
            "INSERT INTO kept SELECT unnest($1::bigint[]) ON CONFLICT DO NOTHING",
            &[&still_needed(before, compaction)],
        )?;
        transaction.execute(
            "DELETE FROM kept WHERE seq < (SELECT seq FROM record WHERE at_ms >= $1 ORDER BY at_ms LIMIT 1)",
            &[&(from - CLOCKS_DIFFER).as_ms()],
        )?;
        transaction
            .execute("UPDATE mark SET value = $2 WHERE name = $1", &[&COMPACTED, &upto.0.to_string()])?;
        transaction.commit()?;
        self.compacted = upto;
        Ok(())
    }

    /// Where the last compaction has ended; before the first, just before what is replayed.
    fn first_compaction(&mut self, compaction: &Compaction, from: Wall) -> Result<RecordSeq> {
        if self.compacted > RecordSeq(0) {
            return Ok(self.compacted);
        }
        let row = self.client.query_one("SELECT min(seq) FROM record WHERE at_ms >= $1", &[&from.as_ms()])?;
        let first: Option<i64> = row.try_get(0)?;
        let first = first.map_or(compaction.upto.0, i64::unsigned_abs);
        Ok(RecordSeq(first.saturating_sub(1)))
    }

    /// A failure with which the session has ended is the end of the lead.
    fn judge<T>(&self, outcome: Result<T>) -> Result<T, StoreError> {
        outcome.map_err(|error| {
            if self.client.is_closed() { StoreError::Deposed(error) } else { StoreError::Failed(error) }
        })
    }
}

impl Store for PostgresStore {
    fn append(&mut self, records: &[(RecordSeq, Record)]) -> Result<(), StoreError> {
        let outcome = self.write(records);
        self.judge(outcome)
    }

    fn replay(&mut self, from: Wall) -> Result<Vec<(RecordSeq, Record)>, StoreError> {
        let outcome = self.read(from);
        self.judge(outcome)
    }

    fn compact(&mut self, compaction: &Compaction, from: Wall) -> Result<(), StoreError> {
        let outcome = self.note(compaction, from);
        self.judge(outcome)
    }

    fn prune(&mut self, before: Wall, at_most: u32) -> Result<u64, StoreError> {
        let outcome = self.client.execute(
            "DELETE FROM record WHERE seq IN
               (SELECT seq FROM record WHERE at_ms < $1 ORDER BY at_ms LIMIT $2)",
            &[&before.as_ms(), &i64::from(at_most)],
        );
        self.judge(outcome.map_err(Into::into))
    }

    fn check(&mut self) -> Result<(), StoreError> {
        // Not `is_valid`: an answer that does not come is as bad as an error, and the link's own time-out makes it one.
        let outcome = self.client.simple_query("SELECT 1").map(drop);
        self.judge(outcome.map_err(Into::into))
    }

    fn common_secret(&mut self, own: &str) -> Result<String, StoreError> {
        let outcome = self.mark_or(SECRET, own);
        self.judge(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_required_over_a_network() {
        let mode = |url: &str| Server::new(url, None).expect("an address").0.get_ssl_mode();
        for here in ["127.0.0.1", "localhost", "[::1]", "%2Frun%2Fpostgresql"] {
            assert_eq!(mode(&format!("postgres://me@{here}/x")), SslMode::Prefer, "{here}");
        }
        for far in ["db.example", "10.0.0.1", "127.0.0.1,db.example"] {
            assert_eq!(mode(&format!("postgres://me@{far}/x")), SslMode::Require, "{far}");
        }
        assert_eq!(mode("postgres://me@db.example/x?sslmode=disable"), SslMode::Disable);
        let error = Server::new("postgres://me:s3cret@db.example/x", None).expect_err("refused").to_string();
        assert!(error.contains("--history-password-file") && !error.contains("s3cret"), "{error}");
    }
}
