//! Random runs over all that keeps a mail back, at once: silences, acknowledgements, hours, escalation, two relays that fail,
//! crashes. Once all is quiet everybody knows what fires; and every mail that arrived had something to say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinetic_alert::{AlertConfig, Email, MailId, Record};
use kinetic_schema::schema::{self, Escalation, Hours, HoursSpan, Schema};
use kinetic_wire::{Unsilence, Wall, encode};
use proptest::prelude::*;

use crate::crash::{Fleet, Op, listed, op, perform, quiet_down};
use crate::quiet::{acknowledge, silence};
use crate::world::{Relay, World, alert_block, config, schema};

const REPEAT: Duration = Duration::from_secs(600);
/// Seconds after noon at which the block with hours is closed.
const CLOSED: std::ops::Range<f64> = 600.0..2_400.0;
/// Whom it tells.
const OF_HOURS: [&str; 2] = ["oncall@acme.example", "boss@acme.example"];
/// Everybody.
const TO: [&str; 3] = [OF_HOURS[0], OF_HOURS[1], "board@acme.example"];

#[derive(Clone, Debug)]
enum Deed {
    Op(Op),
    /// The relay behind the first behaves so from now on.
    Second(Relay),
    /// A feed, or all, for so many seconds.
    Silence(Option<u8>, u16),
    EndSilence(u8),
    Acknowledge(u16),
}

fn deed() -> impl Strategy<Value = Deed> {
    let relay = prop_oneof![3 => Just(Relay::Up), 2 => Just(Relay::Down), 1 => Just(Relay::Defers), 1 => Just(Relay::AcceptsUnheard)];
    prop_oneof![
        40 => op().prop_map(Deed::Op),
        1 => relay.clone().prop_map(|relay| Deed::Op(Op::Relay(relay))),
        2 => relay.prop_map(Deed::Second),
        2 => (proptest::option::of(0..4u8), 1..900u16).prop_map(|(feed, secs)| Deed::Silence(feed, secs)),
        1 => (0..8u8).prop_map(Deed::EndSilence),
        1 => (1..900u16).prop_map(Deed::Acknowledge),
    ]
}

fn everything() -> Schema {
    let span = HoursSpan { days: [true; 7], from_min: 730, to_min: 760 };
    let pause = Hours { name: "pause".into(), time_zone: "UTC".into(), spans: vec![span] };
    let escalation = Escalation { after: Duration::from_secs(60), to: vec![OF_HOURS[1].into()] };
    let hours = schema::Alert {
        repeat_interval: REPEAT,
        except: vec![pause],
        escalations: vec![escalation],
        ..alert_block("hours", &OF_HOURS[..1])
    };
    let plain = schema::Alert { repeat_interval: REPEAT, ..alert_block("plain", &TO[2..]) };
    let mut schema = schema(vec![hours, plain]);
    let mail = schema.mail.as_mut().unwrap();
    let second = schema::Relay { name: "second".into(), ..mail.relays[0].clone() };
    mail.relays.push(second);
    schema
}

struct Run {
    world: World,
    fleet: Fleet,
    silences: u8,
}

impl Run {
    fn perform(&mut self, deed: &Deed) {
        let now = World::secs(self.world.now.wall);
        let mut ask = |kind: &str, body: &[u8]| self.world.ask("kinetic", kind, body);
        match deed {
            Deed::Op(op) => perform(&mut self.world, &mut self.fleet, op),
            Deed::Second(relay) => drop(self.world.relays.insert("second".into(), *relay)),
            Deed::Silence(feed, secs) => {
                let origin = feed.map_or("*".into(), |feed| format!("web-{feed}"));
                let id = format!("s{}", self.silences);
                self.silences += 1;
                ask("silence", &encode(&silence(&id, &origin, now, now + f64::from(*secs))));
            }
            Deed::EndSilence(number) => {
                let id = format!("s{number}");
                ask(
                    "unsilence",
                    &encode(&Unsilence { v: 1, customer: "acme".into(), id, author: "bob".into() }),
                );
            }
            Deed::Acknowledge(secs) => {
                ask("acknowledge", &encode(&acknowledge(now + f64::from(*secs))));
            }
        }
    }

    fn quiet_down(&mut self) {
        self.world.relays.clear();
        quiet_down(&mut self.world, 5_000.0);
    }
}

struct Mail {
    at: Wall,
    ended: Wall,
    reason: String,
    email: Email,
    /// Keys of what its recipient believes to fire from then on.
    firing: BTreeSet<String>,
}

/// The mails that arrived, by recipient.
fn letters(world: &World) -> BTreeMap<String, Vec<Mail>> {
    let mut queued: BTreeMap<&MailId, &Record> = BTreeMap::new();
    let mut letters: BTreeMap<String, Vec<Mail>> = BTreeMap::new();
    for (_, record) in &world.disk {
        match record {
            Record::MailQueued { id, .. } => drop(queued.insert(id, record)),
            Record::MailEnded { at: ended, id, outcome, .. } => {
                let record = queued.remove(id).expect("a mail ends once");
                let Record::MailQueued { at, reason, email, firing, .. } = record else { unreachable!() };
                assert!(outcome == "accepted" || outcome == "superseded", "{outcome}");
                if outcome == "accepted" {
                    letters.entry(email.to.clone()).or_default().push(Mail {
                        at: *at,
                        ended: *ended,
                        reason: reason.clone(),
                        email: Email::clone(email),
                        firing: firing.iter().cloned().collect(),
                    });
                }
            }
            _ => {}
        }
    }
    assert!(queued.is_empty(), "a mail was forgotten");
    letters
}

/// Whether a mail says what its reason says, to somebody who was told `before` last.
fn has_reason(mail: &Mail, before: Option<&Mail>) -> bool {
    let nothing = BTreeSet::new();
    let (knew, knows) = (before.map_or(&nothing, |mail| &mail.firing), &mail.firing);
    let names_what_is_back = mail.email.text.contains("\nResolved (");
    match mail.reason.as_str() {
        "first_firing" | "escalated" => knew.is_empty() && !knows.is_empty(),
        "more_firing" => !knew.is_empty() && !knows.is_subset(knew),
        "fewer_firing" => knows.is_subset(knew) && knows != knew && !knows.is_empty(),
        // What is silenced goes on being believed.
        "resolved" => knows.is_subset(knew) && knows != knew,
        "repeat_interval_elapsed" => {
            knows == knew && before.is_some_and(|before| mail.at.since(before.ended) >= REPEAT)
        }
        "delivery_resumed" => knows != knew || names_what_is_back,
        _ => false,
    }
}

fn check(run: &Run) {
    let Run { world, fleet, .. } = run;
    world.assert_ids_name_one_mail();
    assert_eq!(world.stats().outbox, 0, "{}", world.story());
    assert_eq!(world.stats().alerts, fleet.firing.len() as u64, "{}", world.story());
    let letters = letters(world);
    for to in TO {
        let mails = letters.get(to).map_or(&[][..], Vec::as_slice);
        // What was silenced stands in the repeats since.
        let believed = mails.last().map(|mail| listed(&mail.email)).unwrap_or_default();
        assert_eq!(believed, fleet.firing, "{to} believes something else:\n{}", world.story());
        let mut before = None;
        for mail in mails {
            assert!(
                has_reason(mail, before),
                "{to}: {} at {}\n{}",
                mail.reason,
                World::secs(mail.at),
                world.story()
            );
            let is_closed = OF_HOURS.contains(&to) && CLOSED.contains(&World::secs(mail.at));
            assert!(!is_closed, "{to} is told outside the hours:\n{}", world.story());
            before = Some(mail);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_keeps_mail_back_everybody_is_told_what_fires_and_nothing_else(
        deeds in proptest::collection::vec(deed(), 1..150),
    ) {
        let config = AlertConfig { stale_after: Duration::from_secs(1_000_000), ..config() };
        let mut run = Run { world: World::with(config, everything()), fleet: Fleet::default(), silences: 0 };
        deeds.iter().for_each(|deed| run.perform(deed));
        run.quiet_down();
        check(&run);
        // History alone says the same.
        run.world.crash(0);
        run.quiet_down();
        check(&run);
    }
}
