//! Silences, acknowledgements, working hours and escalation, each at its edges, and each over a restart.

use std::time::Duration;

use insta::assert_snapshot;
use kinetic_alert::AlertConfig;
use kinetic_schema::schema::{self, Escalation, Hours, HoursSpan};
use kinetic_wire::{Acknowledge, AskSilence, Silence, Unsilence, Wall};

use crate::world::{NOON_S, World, alert_block, config, schema};

const GROUP: &str = "acme/slow-host/checkout/frontends";

fn ms(secs: f64) -> i64 {
    NOON_S * 1_000 + (secs * 1_000.0) as i64
}

/// A silence of `origin`, from and until seconds after noon.
pub(crate) fn silence(id: &str, origin: &str, from: f64, until: f64) -> AskSilence {
    let silence = Silence {
        id: id.into(),
        customer: "acme".into(),
        services: Vec::new(),
        clusters: Vec::new(),
        analytics: Vec::new(),
        origins: vec![origin.into()],
        metrics: Vec::new(),
        author: "ann".into(),
        reason: "new disks".into(),
        from_ms: ms(from),
        until_ms: ms(until),
    };
    AskSilence { v: 1, silence }
}

pub(crate) fn acknowledge(until: f64) -> Acknowledge {
    Acknowledge {
        v: 1,
        group: GROUP.into(),
        episode_ms: None,
        author: "ann".into(),
        reason: "on it".into(),
        until_ms: ms(until),
    }
}

/// What happens in a story.
#[derive(Clone, Debug)]
enum Deed {
    Fire(&'static str),
    Resolve(&'static str),
    Silence(AskSilence),
    Unsilence(&'static str),
    Acknowledge(Acknowledge),
}

struct Story {
    block: schema::Alert,
    /// Deeds at seconds after noon.
    deeds: Vec<(f64, Deed)>,
    end: f64,
}

impl Story {
    /// The mails of the story; with a restart at that second.
    fn tell(&self, restart: Option<f64>) -> World {
        let config = AlertConfig { stale_after: Duration::from_secs(400 * 86_400), ..config() };
        let mut world = World::with(config, schema(vec![self.block.clone()]));
        let mut restart = restart;
        for (at, deed) in &self.deeds {
            restart_before(&mut world, &mut restart, *at);
            world.run_until(*at);
            match deed {
                Deed::Fire(origin) => world.fire(*at, origin),
                Deed::Resolve(origin) => world.resolve(*at, origin),
                Deed::Silence(asked) => granted(&world.request("silence", asked)),
                Deed::Unsilence(id) => {
                    let asked =
                        Unsilence { v: 1, customer: "acme".into(), id: (*id).into(), author: "bob".into() };
                    granted(&world.request("unsilence", &asked));
                }
                Deed::Acknowledge(asked) => granted(&world.request("acknowledge", asked)),
            }
        }
        restart_before(&mut world, &mut restart, self.end);
        world.run_until(self.end);
        world.assert_ids_name_one_mail();
        world
    }

    /// The same mails whenever the process is restarted: tried at moments with nothing due in the seconds after which
    /// a restarted process first listens.
    fn survives_restarts(&self, moments: &[f64]) {
        let told = self.tell(None).mails();
        for moment in moments {
            assert_eq!(self.tell(Some(*moment)).mails(), told, "restarted at {moment}");
        }
    }
}

fn restart_before(world: &mut World, restart: &mut Option<f64>, at: f64) {
    if let Some(moment) = restart.take_if(|moment| *moment < at) {
        world.run_until(moment);
        world.crash(usize::MAX);
    }
}

fn granted(reply: &serde_json::Value) {
    assert_eq!(reply["ok"], true, "{reply}");
}

fn team() -> schema::Alert {
    alert_block("team", &["oncall@acme.example"])
}

fn escalating() -> schema::Alert {
    let escalations = vec![
        Escalation { after: Duration::from_secs(100), to: vec!["lead@acme.example".into()] },
        Escalation { after: Duration::from_secs(1_000), to: vec!["boss@acme.example".into()] },
    ];
    schema::Alert { escalations, ..team() }
}

/// Every day, from and to minutes of the day.
fn daily(time_zone: &str, from_min: u16, to_min: u16) -> Vec<Hours> {
    let span = HoursSpan { days: [true; 7], from_min, to_min };
    vec![Hours { name: "office".into(), time_zone: time_zone.into(), spans: vec![span] }]
}

#[test]
fn what_still_fires_when_its_silence_ends_is_news() {
    let story = Story {
        block: team(),
        deeds: vec![
            (1.0, Deed::Silence(silence("s1", "web-*", 0.0, 300.0))),
            (10.0, Deed::Fire("web-7")),
            (20.0, Deed::Fire("web-8")),
            (30.0, Deed::Resolve("web-8")),
            (40.0, Deed::Fire("db-1")),
        ],
        end: 400.0,
    };
    assert_snapshot!(story.tell(None).mails(), @r#"
    41 oncall first_firing firing=1 resolved=0 seq=1
    301 oncall more_firing firing=2 resolved=0 seq=2
    "#);
    story.survives_restarts(&[5.0, 15.0, 25.0, 35.0, 60.0, 290.0, 350.0]);
}

#[test]
fn what_was_told_and_ends_under_a_silence_is_said_when_that_ends() {
    let story = Story {
        block: team(),
        deeds: vec![
            (1.0, Deed::Fire("web-7")),
            (60.0, Deed::Silence(silence("s1", "web-7", 0.0, 900.0))),
            (100.0, Deed::Resolve("web-7")),
        ],
        end: 2_000.0,
    };
    let world = story.tell(None);
    assert_snapshot!(world.mails(), @r#"
    2 oncall first_firing firing=1 resolved=0 seq=1
    901 oncall resolved firing=0 resolved=1 seq=2
    "#);
    let (_, email) = &world.inbox[1];
    assert!(email.text.contains("12:01:40 UTC"), "its true time: {}", email.text);
    assert_eq!((world.stats().alerts, world.stats().groups, world.stats().silences), (0, 0, 0));
    story.survives_restarts(&[30.0, 80.0, 110.0, 800.0, 950.0]);
}

#[test]
fn what_was_told_and_is_silenced_is_not_repeated_until_that_ends() {
    let story = Story {
        block: team(),
        deeds: vec![(1.0, Deed::Fire("web-7")), (60.0, Deed::Silence(silence("s1", "*", 0.0, 1_500.0)))],
        end: 1_600.0,
    };
    assert_snapshot!(story.tell(None).mails(), @r#"
    2 oncall first_firing firing=1 resolved=0 seq=1
    1500 oncall repeat_interval_elapsed firing=1 resolved=0 seq=2
    "#);
    story.survives_restarts(&[30.0, 100.0, 700.0, 1_490.0, 1_550.0]);
}

#[test]
fn the_end_of_all_but_what_is_silenced_is_not_called_resolved() {
    let story = Story {
        block: team(),
        deeds: vec![
            (1.0, Deed::Fire("web-7")),
            (1.5, Deed::Fire("web-8")),
            (60.0, Deed::Silence(silence("s1", "web-8", 0.0, 900.0))),
            (100.0, Deed::Resolve("web-7")),
        ],
        end: 300.0,
    };
    let world = story.tell(None);
    // Of the one that fires he was told before.
    assert_snapshot!(world.mails(), @r#"
    2 oncall first_firing firing=2 resolved=0 seq=1
    101 oncall fewer_firing firing=1 resolved=1 seq=2
    "#);
    let (_, email) = &world.inbox[1];
    assert!(email.text.contains("1 feed is left out"), "{}", email.text);
    assert!(!email.subject.contains("RESOLVED"), "{}", email.subject);
    assert!(!email.text.contains("web-8"), "{}", email.text);
    story.survives_restarts(&[50.0, 70.0, 150.0]);
}

#[test]
fn a_silence_begins_at_its_time_and_ends_when_it_is_ended() {
    let story = Story {
        block: team(),
        deeds: vec![
            (1.0, Deed::Silence(silence("s1", "*", 100.0, 900.0))),
            (50.0, Deed::Fire("web-7")),
            (120.0, Deed::Fire("web-8")),
            (200.0, Deed::Unsilence("s1")),
        ],
        end: 300.0,
    };
    assert_snapshot!(story.tell(None).mails(), @r#"
    51 oncall first_firing firing=1 resolved=0 seq=1
    201 oncall more_firing firing=2 resolved=0 seq=2
    "#);
    story.survives_restarts(&[10.0, 60.0, 110.0, 150.0, 250.0]);
}

#[test]
fn of_two_silences_the_last_to_end_counts() {
    let story = Story {
        block: team(),
        deeds: vec![
            (1.0, Deed::Silence(silence("s1", "web-7", 0.0, 100.0))),
            (2.0, Deed::Silence(silence("s2", "web-*", 0.0, 200.0))),
            (10.0, Deed::Fire("web-7")),
        ],
        end: 300.0,
    };
    assert_snapshot!(story.tell(None).mails(), @"201 oncall first_firing firing=1 resolved=0 seq=1");
    story.survives_restarts(&[5.0, 50.0, 150.0, 250.0]);
}

#[test]
fn what_is_acknowledged_is_not_repeated_and_new_feeds_are_mailed() {
    let story = Story {
        block: team(),
        deeds: vec![
            (1.0, Deed::Fire("web-7")),
            (100.0, Deed::Acknowledge(acknowledge(2_000.0))),
            (700.0, Deed::Fire("web-8")),
        ],
        end: 2_100.0,
    };
    assert_snapshot!(story.tell(None).mails(), @r#"
    2 oncall first_firing firing=1 resolved=0 seq=1
    701 oncall more_firing firing=2 resolved=0 seq=2
    2000 oncall repeat_interval_elapsed firing=2 resolved=0 seq=3
    "#);
    story.survives_restarts(&[50.0, 150.0, 690.0, 710.0, 1_990.0, 2_050.0]);
}

#[test]
fn an_acknowledgement_ends_with_its_episode_and_lasts_through_flapping() {
    let story = Story {
        block: team(),
        deeds: vec![
            (1.0, Deed::Fire("web-7")),
            (100.0, Deed::Acknowledge(acknowledge(90_000.0))),
            (200.0, Deed::Resolve("web-7")),
            (200.5, Deed::Fire("web-7")),
            (900.0, Deed::Resolve("web-7")),
            (1_000.0, Deed::Fire("web-7")),
        ],
        end: 1_700.0,
    };
    assert_snapshot!(story.tell(None).mails(), @r#"
    2 oncall first_firing firing=1 resolved=0 seq=1
    901 oncall resolved firing=0 resolved=1 seq=2
    1001 oncall first_firing firing=1 resolved=0 seq=1
    1601 oncall repeat_interval_elapsed firing=1 resolved=0 seq=2
    "#);
    story.survives_restarts(&[50.0, 150.0, 300.0, 890.0, 950.0, 1_100.0]);
}

#[test]
fn nobody_acknowledges_and_more_are_told_who_then_follow() {
    let story = Story {
        block: escalating(),
        deeds: vec![
            (1.0, Deed::Fire("web-7")),
            // Its recipients believe it to fire all the time.
            (50.0, Deed::Resolve("web-7")),
            (50.5, Deed::Fire("web-7")),
            (300.0, Deed::Fire("web-8")),
            (400.0, Deed::Resolve("web-7")),
            (410.0, Deed::Resolve("web-8")),
        ],
        end: 3_000.0,
    };
    let world = story.tell(None);
    assert_snapshot!(world.mails(), @r#"
    2 oncall first_firing firing=1 resolved=0 seq=1
    102 lead escalated firing=1 resolved=0 seq=1
    301 oncall more_firing firing=2 resolved=0 seq=2
    301 lead more_firing firing=2 resolved=0 seq=2
    401 oncall fewer_firing firing=1 resolved=1 seq=3
    401 lead fewer_firing firing=1 resolved=1 seq=3
    411 oncall resolved firing=0 resolved=1 seq=4
    411 lead resolved firing=0 resolved=1 seq=4
    "#);
    assert!(world.inbox[1].1.subject.starts_with("[ESCALATED] "), "{}", world.inbox[1].1.subject);
    // Sentences are broken into lines.
    let said: Vec<&str> = world.inbox[1].1.text.split_whitespace().collect();
    assert!(said.join(" ").contains("nobody has acknowledged"), "{}", world.inbox[1].1.text);
    story.survives_restarts(&[30.0, 70.0, 150.0, 350.0, 405.0, 500.0]);
}

#[test]
fn an_acknowledgement_holds_the_escalation_back_until_it_ends() {
    let story = Story {
        block: escalating(),
        deeds: vec![(1.0, Deed::Fire("web-7")), (50.0, Deed::Acknowledge(acknowledge(500.0)))],
        end: 1_050.0,
    };
    assert_snapshot!(story.tell(None).mails(), @r#"
    2 oncall first_firing firing=1 resolved=0 seq=1
    500 lead escalated firing=1 resolved=0 seq=1
    602 oncall repeat_interval_elapsed firing=1 resolved=0 seq=2
    1002 boss escalated firing=1 resolved=0 seq=1
    "#);
    story.survives_restarts(&[30.0, 60.0, 490.0, 550.0, 900.0]);
    // What ends meanwhile reaches nobody else.
    let ends = (200.0, Deed::Resolve("web-7"));
    let story = Story { deeds: [story.deeds, vec![ends]].concat(), ..story };
    assert_snapshot!(story.tell(None).mails(), @r#"
    2 oncall first_firing firing=1 resolved=0 seq=1
    201 oncall resolved firing=0 resolved=1 seq=2
    "#);
}

#[test]
fn outside_its_hours_a_block_waits_and_says_what_then_is() {
    // It is noon; open from 13:00 to 14:00.
    let story = Story {
        block: schema::Alert { during: daily("UTC", 780, 840), ..team() },
        deeds: vec![
            (1.0, Deed::Fire("web-7")),
            (10.0, Deed::Fire("web-8")),
            (20.0, Deed::Resolve("web-8")),
            // Closed again: the end waits for the next day, and the repeats do as well.
            (7_300.0, Deed::Fire("web-9")),
            (7_400.0, Deed::Resolve("web-9")),
            (7_500.0, Deed::Resolve("web-7")),
        ],
        end: 100_000.0,
    };
    assert_snapshot!(story.tell(None).mails(), @r#"
    3600 oncall first_firing firing=1 resolved=0 seq=1
    4200 oncall repeat_interval_elapsed firing=1 resolved=0 seq=2
    4800 oncall repeat_interval_elapsed firing=1 resolved=0 seq=3
    5400 oncall repeat_interval_elapsed firing=1 resolved=0 seq=4
    6000 oncall repeat_interval_elapsed firing=1 resolved=0 seq=5
    6600 oncall repeat_interval_elapsed firing=1 resolved=0 seq=6
    90000 oncall resolved firing=0 resolved=1 seq=7
    "#);
    story.survives_restarts(&[5.0, 3_000.0, 4_000.0, 7_350.0, 8_000.0, 89_000.0]);
}

#[test]
fn a_mail_that_came_back_late_does_not_speak_outside_the_hours() {
    // Open until 12:01:00. The mail that is on its way holds back what is due until then.
    let group_interval = Duration::from_secs(1);
    let block = schema::Alert { except: daily("UTC", 721, 780), group_interval, ..team() };
    let config = AlertConfig { stale_after: Duration::from_secs(86_400), ..config() };
    let mut world = World::with(config, schema(vec![block]));
    world.fire(1.0, "web-7");
    world.relay = crate::world::Relay::Down;
    world.run_until(10.0);
    world.fire(11.0, "web-8");
    world.relay = crate::world::Relay::Up;
    world.run_until(55.0);
    assert_snapshot!(world.mails(), @"17 oncall delivery_resumed firing=2 resolved=0 seq=2");
    world.relay = crate::world::Relay::Down;
    world.fire(56.0, "web-9");
    world.run_until(58.0);
    world.fire(58.0, "web-5");
    world.run_until(59.0);
    world.relay = crate::world::Relay::Up;
    world.run_until(3_500.0);
    // The one that was decided upon in time goes; what came after waits for 13:00.
    assert_snapshot!(world.mails().lines().last().unwrap(), @"60 oncall more_firing firing=3 resolved=0 seq=3");
    world.run_until(3_700.0);
    assert_snapshot!(world.mails().lines().last().unwrap(), @"3600 oncall more_firing firing=4 resolved=0 seq=4");
}

#[test]
fn an_escalation_waits_for_the_hours_too() {
    // Open until 12:01:00, and from 13:00.
    let story = Story {
        block: schema::Alert { except: daily("UTC", 721, 780), ..escalating() },
        deeds: vec![(1.0, Deed::Fire("web-7"))],
        end: 3_700.0,
    };
    assert_snapshot!(story.tell(None).mails(), @r#"
    2 oncall first_firing firing=1 resolved=0 seq=1
    3600 boss escalated firing=1 resolved=0 seq=1
    3600 lead escalated firing=1 resolved=0 seq=1
    3600 oncall repeat_interval_elapsed firing=1 resolved=0 seq=2
    "#);
    // What begins while it is closed escalates so long after it was said.
    let story = Story { deeds: vec![(70.0, Deed::Fire("web-7"))], ..story };
    assert_snapshot!(story.tell(None).mails(), @r#"
    3600 oncall first_firing firing=1 resolved=0 seq=1
    3700 lead escalated firing=1 resolved=0 seq=1
    "#);
    story.survives_restarts(&[80.0, 1_000.0, 3_500.0, 3_650.0]);
}

/// Seconds from the noon at which worlds begin to a moment.
fn at(utc: &str) -> f64 {
    let at: jiff::Timestamp = utc.parse().unwrap();
    (at.as_second() - NOON_S) as f64
}

#[test]
fn a_change_of_the_clock_inside_the_hours_moves_what_waits() {
    // Berlin, 22:00 to 06:00. Forward in the night to 2027-03-28, back in that to 2027-10-31.
    let nights = schema::Alert { during: daily("Europe/Berlin", 1_320, 360), ..team() };
    let mails = |fires: &'static str, ends: &'static str| {
        let story = Story {
            block: schema::Alert { repeat_interval: Duration::from_secs(86_400 * 9), ..nights.clone() },
            deeds: vec![(at(fires), Deed::Fire("web-7")), (at(ends), Deed::Resolve("web-7"))],
            end: at(ends) + 86_400.0,
        };
        let world = story.tell(None);
        let stamp = |wall: Wall| jiff::Timestamp::from_second(wall.as_secs()).unwrap().to_string();
        world.inbox.iter().map(|(at, _)| stamp(*at)).collect::<Vec<_>>().join(" ")
    };
    // The night is seven hours long: 04:00 UTC is past its end.
    assert_eq!(
        mails("2027-03-27T20:00:00Z", "2027-03-28T03:59:00Z"),
        "2027-03-27T21:00:00Z 2027-03-28T03:59:01Z"
    );
    assert_eq!(
        mails("2027-03-27T20:00:00Z", "2027-03-28T04:00:00Z"),
        "2027-03-27T21:00:00Z 2027-03-28T20:00:00Z"
    );
    // It is nine hours long: 04:59 UTC is within.
    assert_eq!(
        mails("2027-10-30T19:00:00Z", "2027-10-31T04:59:00Z"),
        "2027-10-30T20:00:00Z 2027-10-31T04:59:01Z"
    );
    assert_eq!(
        mails("2027-10-30T19:00:00Z", "2027-10-31T05:00:00Z"),
        "2027-10-30T20:00:00Z 2027-10-31T21:00:00Z"
    );
}

#[test]
fn a_silence_outlives_the_days_of_history_that_are_replayed() {
    let mut world = World::new(vec![team()]);
    granted(&world.request("silence", &silence("s1", "*", 0.0, 10.0 * 86_400.0)));
    world.run_until(5.0 * 86_400.0);
    // Only the last two days are replayed.
    let begin = Wall::from_ms(ms(3.0 * 86_400.0));
    world.disk.retain(|(_, record)| record.at() >= begin);
    world.crash(0);
    world.fire(5.0 * 86_400.0 + 10.0, "web-7");
    world.run_until(5.0 * 86_400.0 + 100.0);
    assert_snapshot!(world.mails(), @"");
    assert_eq!(world.stats().silences, 1);
}
