//! What both histories keep: the same tests on each.

use kinetic_alert::{Compaction, MailId, Record, RecordSeq};
use kinetic_tests::needs::{Need, all_here};
use kinetic_tests::postgres::Postgres;
use kinetic_wire::Wall;
use tempfile::TempDir;

use super::{Location, Store, StoreError};

fn ended(at_ms: i64) -> Record {
    Record::MailEnded {
        at: Wall::from_ms(at_ms),
        id: MailId("m".into()),
        outcome: "accepted".into(),
        detail: "250 ok, \u{1F600} \0".into(),
        seen: RecordSeq(0),
    }
}

fn records(seqs: std::ops::RangeInclusive<u64>) -> Vec<(RecordSeq, Record)> {
    seqs.map(|seq| (RecordSeq(seq), ended(seq as i64 * 10))).collect()
}

/// A place for a history, and what it needs to be there.
struct Place {
    location: Location,
    _dir: TempDir,
}

impl Place {
    fn sqlite() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let location = Location::Sqlite(dir.path().join("history.sqlite"));
        Self { location, _dir: dir }
    }

    fn postgres() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let server = Postgres::shared();
        let password = server.password_file(dir.path());
        let location = Location::parse(&server.database(), Some(password.as_ref()), dir.path());
        Self { location: location.expect("an URL"), _dir: dir }
    }

    fn lead(&self) -> Box<dyn Store> {
        self.location.try_lead().expect("opens").expect("nobody leads")
    }
}

fn seqs(store: &mut dyn Store, from_ms: i64) -> Vec<u64> {
    let replayed = store.replay(Wall::from_ms(from_ms)).expect("replays");
    replayed.iter().map(|(seq, _)| seq.0).collect()
}

fn compaction(upto: u64, superseded: &[u64]) -> Compaction {
    Compaction { upto: RecordSeq(upto), superseded: superseded.iter().copied().map(RecordSeq).collect() }
}

fn records_come_back_in_order_after_reopening(place: &Place) {
    let mut store = place.lead();
    store.append(&records(1..=2)).expect("append");
    store.append(&records(3..=3)).expect("append");
    drop(store);
    let mut store = place.lead();
    assert_eq!(store.replay(Wall::from_ms(0)).expect("replays"), records(1..=3));
    assert_eq!(seqs(&mut *store, 20), [2, 3]);
    assert_eq!(seqs(&mut *store, 99), [3], "numbers go on where they were");
    assert_eq!(store.prune(Wall::from_ms(30), 1).expect("prune"), 1);
    assert_eq!(store.prune(Wall::from_ms(30), 9).expect("prune"), 1);
    assert_eq!(seqs(&mut *store, 0), [3]);
}

fn a_number_is_never_written_twice_and_the_batch_is_whole(place: &Place) {
    let mut store = place.lead();
    store.append(&records(1..=1)).expect("append");
    let twice = [(RecordSeq(2), ended(2)), (RecordSeq(1), ended(3))];
    let refused = store.append(&twice).expect_err("number 1 is taken");
    assert!(matches!(refused, StoreError::Failed(_)), "{refused:?}");
    assert_eq!(seqs(&mut *store, 0), [1], "the batch must leave nothing behind");
}

fn what_was_superseded_is_not_replayed(place: &Place) {
    let mut store = place.lead();
    let from = Wall::from_ms(0);
    store.append(&records(1..=20)).expect("append");
    store.compact(&compaction(10, &[2, 3, 9, 10]), from).expect("compacts");
    let left = [1, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20];
    assert_eq!(seqs(&mut *store, 0), left);
    store.compact(&compaction(15, &[5, 12, 13]), from).expect("compacts");
    let left = [1, 4, 6, 7, 8, 11, 14, 15, 16, 17, 18, 19, 20];
    assert_eq!(seqs(&mut *store, 0), left);
    // A machine that has just begun may not know how far the last one had come.
    store.compact(&compaction(7, &[6]), from).expect("compacts");
    drop(store);
    let mut store = place.lead();
    let left = [1, 4, 7, 8, 11, 14, 15, 16, 17, 18, 19, 20];
    assert_eq!(seqs(&mut *store, 0), left);
    assert_eq!(seqs(&mut *store, 80), left[3..], "kept or not, what is too old is not replayed");
    assert_eq!(store.prune(Wall::from_ms(45), 100).expect("prune"), 4);
    assert_eq!(seqs(&mut *store, 0), left[2..], "what was pruned is gone from what is kept");
}

fn one_leads_at_a_time(place: &Place) {
    let mut first = place.lead();
    assert!(place.location.try_lead().expect("asks").is_none(), "two lead");
    first.check().expect("leads");
    first.append(&records(1..=1)).expect("append");
    assert_eq!(first.common_secret("aa").expect("secret"), "aa");
    drop(first);
    let mut second = place.lead();
    assert_eq!(seqs(&mut *second, 0), [1]);
}

macro_rules! on_both {
    ($($test:ident),* $(,)?) => {$(
        mod $test {
            use super::*;

            #[test]
            fn sqlite() {
                super::$test(&Place::sqlite());
            }

            #[test]
            fn postgres() {
                if all_here(concat!(module_path!(), "::postgres"), &[Need::Postgres]) {
                    super::$test(&Place::postgres());
                }
            }
        }
    )*};
}

on_both!(
    records_come_back_in_order_after_reopening,
    a_number_is_never_written_twice_and_the_batch_is_whole,
    what_was_superseded_is_not_replayed,
    one_leads_at_a_time,
);

#[test]
fn a_session_that_has_ended_writes_nothing() {
    if !all_here(concat!(module_path!(), "::a_session_that_has_ended_writes_nothing"), &[Need::Postgres]) {
        return;
    }
    let place = Place::postgres();
    let mut first = place.lead();
    assert_eq!(first.common_secret("aa").expect("secret"), "aa");
    first.append(&records(1..=1)).expect("append");
    let Location::Postgres(server) = &place.location else { unreachable!("made above") };
    let name = format!("{server:?}");
    let name = name.split(['(', ' ']).nth(1).expect("the database's name");
    let server = Postgres::shared();
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory'
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(server.sql(&format!("x/{name}"), end), "1");
    let mut second = kinetic_tests::eventually("another node leads", || match place.location.try_lead() {
        Ok(Some(store)) => Ok(store),
        _ => Err("not yet"),
    });
    assert_eq!(second.common_secret("bb").expect("secret"), "aa", "all nodes have one secret");
    let refused = first.append(&records(2..=2)).expect_err("the session has ended");
    assert!(matches!(refused, StoreError::Deposed(_)), "{refused:?}");
    assert!(matches!(first.check(), Err(StoreError::Deposed(_))));
    assert_eq!(seqs(&mut *second, 0), [1]);
}

#[test]
fn another_layout_is_refused_and_the_first_one_is_taken_over() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("h.sqlite");
    let old = rusqlite::Connection::open(&path).expect("open");
    old.execute_batch(
        "CREATE TABLE record (seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, kind TEXT NOT NULL,
           customer TEXT, json TEXT NOT NULL) STRICT;
         PRAGMA user_version = 1;",
    )
    .expect("the first layout");
    let json = serde_json::to_string(&ended(10)).expect("json");
    old.execute("INSERT INTO record VALUES (1, 10, 'mail_ended', NULL, ?)", [json]).expect("a record");
    let location = Location::Sqlite(path);
    let mut store = location.try_lead().expect("opens").expect("leads");
    assert_eq!(store.replay(Wall::from_ms(0)).expect("replays"), records(1..=1));
    store.append(&records(2..=2)).expect("append");
    drop(store);
    old.pragma_update(None, "user_version", 99).expect("pragma");
    let error = location.try_lead().map(drop).expect_err("refused").to_string();
    assert!(error.contains("layout 99"), "{error}");
}

#[test]
fn no_error_shows_a_password() {
    let here = std::path::Path::new(".");
    for url in ["postgres://kinetic:s3cret@127.0.0.1:1/x", "postgres://kinetic:s3cret@h:notaport/x"] {
        let error = format!("{:#}", Location::parse(url, None, here).expect_err("refused"));
        assert!(!error.contains("s3cret"), "{error}");
    }
    let error = Location::parse("mysql://x", None, here).expect_err("refused").to_string();
    assert!(error.contains("postgres://"), "{error}");
}
