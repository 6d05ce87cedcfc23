//! Queue, disk, relay and clock around one alert machine. What no run may do is asserted here, at every effect:
//! acknowledge what is not on disk, send what is not on disk, send two mails under one id.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use kinetic_alert::{
    Alert, AlertConfig, Attempt, Effect, Email, Failed, Input, MailId, Record, RecordSeq, ReplyToken, Stats,
};
use kinetic_schema::Schema;
use kinetic_schema::schema::{
    self, Analytic, ClusterPath, Customer, Deviates, Deviation, Glob, GroupBy, Hysteresis, Limits, Mail,
    MailTls, Matching, Rule, Severity, ValueKind,
};
use kinetic_wire::{
    AlertEvent, AlertId, AlertState, Direction, Epoch, Feed, Login, Mono, Now, Numbers, TestStage, Token,
    Wall, decode, encode,
};
use uuid::Uuid;

use crate::json_schema;

/// 2026-11-20 12:00:00 UTC.
pub(crate) const NOON_S: i64 = 1_795_176_000;

pub(crate) fn config() -> AlertConfig {
    AlertConfig {
        mail_domain: "mail.example".into(),
        id_key: [7; 32],
        serves_links: true,
        alerts_max: 1_000,
        ids_max: 200_000,
        outbox_max: 100,
        mail_expiry: Duration::from_secs(24 * 3_600),
        stale_after: Duration::from_secs(3_600),
    }
}

pub(crate) fn alert_block(name: &str, to: &[&str]) -> schema::Alert {
    schema::Alert {
        name: name.into(),
        order: 0,
        analytics: vec!["slow-host".into()],
        matching: Matching::default(),
        continues: true,
        webhooks: Vec::new(),
        group_by: GroupBy::Cluster,
        during: Vec::new(),
        except: Vec::new(),
        escalations: Vec::new(),
        to: to.iter().map(|to| (*to).to_owned()).collect(),
        group_wait: Duration::from_secs(1),
        group_interval: Duration::from_secs(10),
        repeat_interval: Duration::from_secs(600),
        send_resolved: true,
    }
}

pub(crate) fn schema(alerts: Vec<schema::Alert>) -> Schema {
    let metric = Glob::parse("checkout.*").unwrap();
    let analytic = Analytic {
        name: "slow-host".into(),
        on: vec![ClusterPath { service: "checkout".into(), cluster: "frontends".into() }],
        metric,
        value: ValueKind::Mean,
        rule: Rule::Deviates(Deviates {
            deviations: 3.0,
            direction: Direction::Above,
            deviation: Deviation::Population,
            min_feeds: 5,
            min_effect_relative: 0.1,
            min_effect_absolute: 0.0,
        }),
        window: Duration::from_secs(10),
        hysteresis: Hysteresis { hits: 2, of: 3 },
        severity: Severity::Warning,
        description: Some("Take the host out of the pool: https://runbook.acme.example/slow-host".into()),
        labels: BTreeMap::new(),
    };
    let customer = Customer {
        name: "acme".into(),
        region: "local".into(),
        disabled: false,
        keys: Vec::new(),
        netblocks: Vec::new(),
        sources: BTreeMap::new(),
        services: BTreeMap::new(),
        analytics: BTreeMap::from([("slow-host".into(), analytic)]),
        alerts: alerts.into_iter().map(|alert| (alert.name.clone(), alert)).collect(),
        certificates: Vec::new(),
        users: Vec::new(),
        limits: Limits { mails_per_hour: 1_000_000, ..Limits::DEFAULT },
        stream_silent_after: None,
        templates: Default::default(),
    };
    let mail = Mail {
        relays: vec![schema::Relay {
            name: "127.0.0.1:25".into(),
            host: "127.0.0.1".into(),
            port: 25,
            tls: MailTls::None,
            username: None,
            password_file: None,
        }],
        from: "Kinetic <alerts@mail.example>".into(),
        dkim: None,
        bounces: None,
        public_url: None,
    };
    Schema { mail: Some(mail), customers: BTreeMap::from([("acme".into(), customer)]), ..Schema::default() }
}

/// An event of `origin` about the window that ends `end_s` seconds after noon.
pub(crate) fn event(origin: &str, state: AlertState, end_s: i64) -> AlertEvent {
    event_of("acme", origin, "checkout.latency", state, end_s)
}

pub(crate) fn event_of(
    customer: &str,
    origin: &str,
    metric: &str,
    state: AlertState,
    end_s: i64,
) -> AlertEvent {
    let end_ms = (NOON_S + end_s) * 1_000;
    let firing = state == AlertState::Firing;
    // The feeds of one event differ in how far out they are, by their names.
    let value = if firing { 400.0 + f64::from(origin.bytes().last().unwrap_or(0)) / 4.0 } else { 103.4 };
    let deviations = if firing { value / 125.0 } else { 0.42 };
    let numbers = Numbers {
        value,
        mean: 127.1,
        deviation: 86.02,
        deviations,
        limit: 3.0,
        feeds: 12,
        peers_mean: 101.2,
        peers_min: 98.0,
        peers_max: 104.9,
    };
    let name = format!("{customer} {origin} {metric} {state:?} {end_ms}");
    AlertEvent {
        v: 1,
        id: AlertId(Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())),
        customer: customer.into(),
        source: "web".into(),
        analytic: "slow-host".into(),
        service: "checkout".into(),
        cluster: "frontends".into(),
        feed: Feed { origin: origin.into(), metric: metric.into() },
        state,
        window_start_ms: end_ms - 10_000,
        window_end_ms: end_ms,
        since_ms: NOON_S * 1_000 + 1_000,
        numbers: Some(numbers),
        value_kind: "mean".into(),
        direction: Direction::Above,
        hits: if firing { 2 } else { 1 },
        of: 3,
        epoch: Epoch(4),
        node: "analyzer-1".into(),
        schema: Some("0f3a9c1".into()),
        traceparent: None,
        trail: None,
        breach: None,
    }
}

/// What the relay answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relay {
    Up,
    Down,
    /// Refuses the recipient.
    RefusesRecipient,
    /// Asks for the mail later, because of its recipient.
    Defers,
    Refuses,
    /// Takes the mail, and the connection is lost before it says so.
    AcceptsUnheard,
    /// Asks for two minutes of patience.
    Busy,
}

/// An attempt under way.
pub(crate) struct Attempted {
    ends: Wall,
    relay: String,
    id: MailId,
    email: Email,
}

pub(crate) struct World {
    pub(crate) config: AlertConfig,
    pub(crate) schema: Arc<Schema>,
    pub(crate) alert: Alert,
    pub(crate) now: Now,
    pub(crate) disk: Vec<(RecordSeq, Record)>,
    /// Events and mails among what is on disk.
    events_on_disk: BTreeSet<AlertId>,
    mails_on_disk: BTreeMap<MailId, Email>,
    pub(crate) unwritten: Vec<(RecordSeq, Record)>,
    pub(crate) queue: VecDeque<Vec<u8>>,
    pub(crate) unacked: BTreeMap<Token, Vec<u8>>,
    next_token: u64,
    pub(crate) relay: Relay,
    /// Relays that behave otherwise, by name.
    pub(crate) relays: BTreeMap<String, Relay>,
    /// How long an attempt takes.
    pub(crate) latency: Duration,
    pub(crate) in_flight: VecDeque<Attempted>,
    /// Which relay took each mail of the inbox.
    pub(crate) taken_by: Vec<String>,
    /// What is done with mail to these, whatever the relay does.
    pub(crate) mailboxes: BTreeMap<String, Relay>,
    /// Every attempt, by when it began.
    pub(crate) tried: Vec<(Wall, MailId, Email)>,
    /// All mails that the relay took, repeats too.
    pub(crate) inbox: Vec<(Wall, Email)>,
    pub(crate) rejected: usize,
    pub(crate) acked: usize,
    pub(crate) announced: Vec<(String, serde_json::Value)>,
    /// What was said of tests.
    pub(crate) traced: Vec<TestStage>,
    /// Answers to requests that have not been looked at.
    pub(crate) replies: BTreeMap<ReplyToken, serde_json::Value>,
    last_request: u64,
    pub(crate) effects_seen: u64,
    /// Crash once this many effects have been performed.
    pub(crate) crash_at: Option<u64>,
    /// How many of the records on their way to the disk get there at that crash.
    pub(crate) crash_survive: usize,
    pub(crate) crashes: u32,
}

impl World {
    pub(crate) fn new(alerts: Vec<schema::Alert>) -> Self {
        Self::with(config(), schema(alerts))
    }

    pub(crate) fn with(config: AlertConfig, schema: Schema) -> Self {
        let schema = Arc::new(schema);
        Self {
            alert: Alert::new(config.clone(), Arc::clone(&schema), []),
            config,
            schema,
            now: Now { mono: Mono(1_000_000_000), wall: Wall::from_secs(NOON_S) },
            disk: Vec::new(),
            events_on_disk: BTreeSet::new(),
            mails_on_disk: BTreeMap::new(),
            unwritten: Vec::new(),
            queue: VecDeque::new(),
            unacked: BTreeMap::new(),
            next_token: 0,
            relay: Relay::Up,
            relays: BTreeMap::new(),
            latency: Duration::ZERO,
            in_flight: VecDeque::new(),
            taken_by: Vec::new(),
            mailboxes: BTreeMap::new(),
            tried: Vec::new(),
            inbox: Vec::new(),
            rejected: 0,
            acked: 0,
            announced: Vec::new(),
            traced: Vec::new(),
            replies: BTreeMap::new(),
            last_request: 0,
            effects_seen: 0,
            crash_at: None,
            crash_survive: 0,
            crashes: 0,
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.alert.stats()
    }

    /// Records that wait for the disk.
    pub(crate) fn unwritten(&self) -> usize {
        self.unwritten.len()
    }

    fn write_down(&mut self, count: usize) {
        for (seq, record) in self.unwritten.drain(..count) {
            match &record {
                Record::Event { event, .. } | Record::Tested { event, .. } => {
                    assert!(self.events_on_disk.insert(event.id), "recorded twice: {event:?}");
                }
                Record::MailQueued { id, email, .. }
                | Record::DigestQueued { id, email, .. }
                | Record::TestMailQueued { id, email, .. } => {
                    let before = self.mails_on_disk.insert(id.clone(), Email::clone(email));
                    assert_eq!(before, None, "two mails were given one id");
                }
                _ => {}
            }
            self.disk.push((seq, record));
        }
    }

    /// Tells the machine one thing and does what it asks. Returns whether the process still lives.
    pub(crate) fn input(&mut self, input: Input<'_>) -> bool {
        let mut effects = Vec::new();
        self.alert.handle(self.now, input, &mut effects);
        for effect in effects {
            self.perform(effect);
            self.effects_seen += 1;
            if self.crash_at == Some(self.effects_seen) {
                self.crash(self.crash_survive);
                return false;
            }
        }
        true
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Append { seq, record } => {
                let last = self.unwritten.last().or(self.disk.last()).map(|(seq, _)| *seq);
                assert!(last.is_none_or(|last| last < seq), "{seq:?} after {last:?}");
                self.unwritten.push((seq, record));
            }
            Effect::Ack { token } => {
                let body = self.unacked.remove(&token).expect("a token is settled once");
                let event: AlertEvent = decode(&body).unwrap();
                let recorded = self.events_on_disk.contains(&event.id);
                assert!(event.epoch < Epoch(4) || recorded, "acknowledged, not on disk: {event:?}");
                self.acked += 1;
            }
            Effect::Reject { token } => {
                self.unacked.remove(&token).expect("a token is settled once");
                self.rejected += 1;
            }
            Effect::Send { id, relay, email } => {
                assert_eq!(self.mails_on_disk.get(&id), Some(&*email), "sent, not on disk as it is: {id:?}");
                let ends = self.now.wall + self.latency;
                self.tried.push((self.now.wall, id.clone(), Email::clone(&email)));
                self.in_flight.push_back(Attempted { ends, relay: relay.to_string(), id, email: *email });
            }
            Effect::Reply { token, body } => {
                self.replies.insert(token, serde_json::from_slice(&body).unwrap());
            }
            Effect::Trace(stage) => self.traced.push(*stage),
            Effect::Announce { routing_key, body } => {
                let told = serde_json::from_slice(&body).unwrap();
                assert_eq!(json_schema::problems(json_schema::NOTIFICATION, &told), [""; 0]);
                self.announced.push((routing_key, told));
            }
        }
    }

    /// The process dies; of what it was writing, the first `survive` records have reached the disk. A new one starts.
    pub(crate) fn crash(&mut self, survive: usize) {
        self.crashes += 1;
        let kept = survive.min(self.unwritten.len());
        self.write_down(kept);
        self.unwritten.clear();
        self.in_flight.clear();
        for (_, body) in std::mem::take(&mut self.unacked).into_iter().rev() {
            self.queue.push_front(body);
        }
        self.alert = Alert::new(self.config.clone(), Arc::clone(&self.schema), self.disk.iter().cloned());
        self.now.mono = Mono(self.now.mono.0 % 1_000_000_007);
    }

    /// The connection to the broker is lost; it comes back when the next delivery does.
    pub(crate) fn lose_subscription(&mut self) {
        for (_, body) in std::mem::take(&mut self.unacked).into_iter().rev() {
            self.queue.push_front(body);
        }
        self.input(Input::SubscriptionLost);
    }

    pub(crate) fn push(&mut self, event: &AlertEvent) {
        self.queue.push_back(encode(event));
    }

    pub(crate) fn deliver_one(&mut self) -> bool {
        let Some(body) = self.queue.pop_front() else { return false };
        self.next_token += 1;
        let token = Token(self.next_token);
        self.unacked.insert(token, body.clone());
        self.input(Input::Delivery { token, body: &body });
        true
    }

    pub(crate) fn write(&mut self, records: usize) -> bool {
        let count = records.min(self.unwritten.len());
        if count == 0 {
            return false;
        }
        self.write_down(count);
        let seq = self.disk.last().expect("just extended").0;
        self.input(Input::Appended { seq });
        true
    }

    pub(crate) fn attempt_one(&mut self) -> bool {
        let now = self.now.wall;
        let Some(attempted) = self.in_flight.pop_front_if(|attempted| attempted.ends <= now) else {
            return false;
        };
        let Attempted { relay, id, email, .. } = attempted;
        let manner = self.mailboxes.get(&email.to).or(self.relays.get(&relay)).copied().unwrap_or(self.relay);
        if matches!(manner, Relay::Up | Relay::AcceptsUnheard) {
            self.inbox.push((self.now.wall, email));
            self.taken_by.push(relay);
        }
        let detail = format!("{manner:?}");
        let attempt = match manner {
            Relay::Up => Attempt::Accepted { detail },
            Relay::Down => Attempt::Retry { failed: Failed::Relay, detail },
            Relay::RefusesRecipient => Attempt::Refused { failed: Failed::Recipient, detail },
            Relay::Defers => Attempt::Retry { failed: Failed::Recipient, detail },
            Relay::AcceptsUnheard => Attempt::MaybeAccepted { detail },
            Relay::Refuses => Attempt::Refused { failed: Failed::Message, detail },
            Relay::Busy => Attempt::Busy { after: Duration::from_secs(120), detail },
        };
        self.input(Input::MailAttempted { id, attempt });
        true
    }

    /// All that can happen now happens.
    pub(crate) fn settle(&mut self) {
        while self.deliver_one() || self.write(usize::MAX) || self.attempt_one() {}
    }

    /// A request of an operator, handed in; its token.
    pub(crate) fn ask(&mut self, login: &str, kind: &str, body: &[u8]) -> ReplyToken {
        self.last_request += 1;
        let token = ReplyToken(self.last_request);
        let login = Login::new(login);
        self.input(Input::Request { token, kind, login: Some(&login), body });
        token
    }

    /// A request of an operator, and the answer to it.
    pub(crate) fn request<T: serde::Serialize>(&mut self, kind: &str, message: &T) -> serde_json::Value {
        let token = self.ask("kinetic", kind, &encode(message));
        self.settle();
        self.replies.remove(&token).expect("it is answered")
    }

    /// Moves time on to `secs` after noon, waking the machine when it asks for it.
    pub(crate) fn run_until(&mut self, secs: f64) {
        let target = Wall::from_ms(NOON_S * 1_000 + (secs * 1_000.0) as i64);
        self.settle();
        let mut woken_at = (self.now, 0);
        loop {
            let wakeup = self.alert.next_wakeup().map(|wakeup| wakeup.since(self.now.mono));
            let attempted = self.in_flight.front().map(|attempted| attempted.ends.since(self.now.wall));
            let Some(pause) = wakeup.into_iter().chain(attempted).min() else { break };
            if self.now.wall + pause > target {
                break;
            }
            self.now = self.now + pause;
            woken_at = if woken_at.0 == self.now { (self.now, woken_at.1 + 1) } else { (self.now, 0) };
            assert!(woken_at.1 < 1_000, "the machine spins at {:?}", self.now);
            self.input(Input::Tick);
            self.settle();
        }
        self.now = self.now + target.since(self.now.wall);
        self.input(Input::Tick);
        self.settle();
    }

    pub(crate) fn push_at(&mut self, secs: f64, event: &AlertEvent) {
        self.run_until(secs);
        self.push(event);
        self.settle();
    }

    pub(crate) fn fire(&mut self, secs: f64, origin: &str) {
        self.push_at(secs, &event(origin, AlertState::Firing, secs as i64));
    }

    pub(crate) fn resolve(&mut self, secs: f64, origin: &str) {
        self.push_at(secs, &event(origin, AlertState::Resolved, secs as i64));
    }

    /// States as history has them, without repeats, and the second of each.
    pub(crate) fn said(&self) -> Vec<(AlertState, u64)> {
        let events = self.disk.iter().filter_map(|(_, record)| match record {
            Record::Event { at, event } => Some((event.state, Self::secs(*at) as u64)),
            _ => None,
        });
        let mut said: Vec<_> = events.collect();
        said.dedup_by_key(|(state, _)| *state);
        said
    }

    pub(crate) fn secs(wall: Wall) -> f64 {
        (wall.as_ms() - NOON_S * 1_000) as f64 / 1_000.0
    }

    /// One line per mail that arrived: when, to whom, why, which feeds fire and which are back.
    pub(crate) fn mails(&self) -> String {
        let mut lines = String::new();
        for (at, email) in &self.inbox {
            let (reason, firing, resolved) = self.queued(email);
            writeln!(
                lines,
                "{} {} {reason} firing={firing} resolved={resolved} seq={}",
                Self::secs(*at),
                email.to.split('@').next().unwrap_or_default(),
                header(email, "X-Kinetic-Seq"),
            )
            .unwrap();
        }
        lines
    }

    /// What the disk holds, one line per record: for the message of a failed assertion.
    pub(crate) fn story(&self) -> String {
        let short = |key: &String| key[..4].to_owned();
        let mut lines = String::new();
        for (seq, record) in &self.disk {
            let line = match record {
                Record::Event { at, event } => {
                    format!("{} event {} {:?}", Self::secs(*at), event.feed.origin, event.state)
                }
                Record::MailQueued { at, id, reason, firing, .. } => {
                    let firing: Vec<String> = firing.iter().map(short).collect();
                    format!("{} queued {} {reason} {firing:?}", Self::secs(*at), id.0)
                }
                Record::MailEnded { at, id, outcome, .. } => {
                    format!("{} ended {} {outcome}", Self::secs(*at), id.0)
                }
                Record::DigestQueued { at, id, parts, .. } => {
                    format!("{} digest {} of {}", Self::secs(*at), id.0, parts.len())
                }
                Record::Address { at, address, refusals, suppressed, .. } => {
                    format!("{} {address} refused {}, {suppressed:?}", Self::secs(*at), refusals.len())
                }
                Record::MailsWait { at, ids } => format!("{} wait {ids:?}", Self::secs(*at)),
                Record::MailRetried { at, id } => format!("{} retried {}", Self::secs(*at), id.0),
                Record::Stale { at, alerts, .. } => format!("{} stale {alerts:?}", Self::secs(*at)),
                Record::Settled { at, to, firing, .. } => {
                    let firing: Vec<String> = firing.iter().map(short).collect();
                    format!("{} settled {to} {firing:?}", Self::secs(*at))
                }
                Record::Silenced { at, silence } => format!("{} silenced {}", Self::secs(*at), silence.id),
                Record::Unsilenced { at, id, .. } => format!("{} unsilenced {id}", Self::secs(*at)),
                Record::Acknowledged { at, group, author, .. } => {
                    format!("{} acknowledged {group} by {author}", Self::secs(*at))
                }
                Record::Unsubscribed { at, subscription, .. } => {
                    format!("{} unsubscribed {}", Self::secs(*at), subscription.to)
                }
                Record::Subscribed { at, subscription, author } => {
                    format!("{} subscribed {} by {author}", Self::secs(*at), subscription.to)
                }
                Record::NodeKnown { at, node, .. } => format!("{} known {node}", Self::secs(*at)),
                Record::Tested { at, .. } => format!("{} tested", Self::secs(*at)),
                Record::TestMailQueued { at, id, .. } => format!("{} test {}", Self::secs(*at), id.0),
                Record::NodeGone { at, node, .. } => format!("{} gone {node}", Self::secs(*at)),
                Record::StreamKnown { at, customer } => format!("{} flows {customer}", Self::secs(*at)),
                Record::StreamGone { at, customer } => format!("{} unwatched {customer}", Self::secs(*at)),
            };
            writeln!(lines, "{} {line}", seq.0).unwrap();
        }
        lines
    }

    fn queued(&self, email: &Email) -> (String, usize, usize) {
        let found = self.disk.iter().find_map(|(_, record)| match record {
            Record::MailQueued { email: e, reason, firing, resolved, .. }
                if e.message_id == email.message_id =>
            {
                Some((reason.clone(), firing.len(), resolved.len()))
            }
            Record::DigestQueued { email: e, parts, .. } if e.message_id == email.message_id => {
                let [firing, resolved] = [
                    parts.iter().map(|part| part.firing.len()).sum(),
                    parts.iter().map(|part| part.resolved.len()).sum(),
                ];
                Some((format!("digest of {}", parts.len()), firing, resolved))
            }
            _ => None,
        });
        found.expect("a mail that was sent is on disk")
    }

    /// Every mail seen under one Message-ID is the same mail.
    pub(crate) fn assert_ids_name_one_mail(&self) {
        let mut by_id: BTreeMap<&str, &Email> = BTreeMap::new();
        for (_, email) in &self.inbox {
            let first = by_id.entry(&email.message_id).or_insert(email);
            assert_eq!(*first, email);
        }
    }
}

pub(crate) fn header<'e>(email: &'e Email, name: &str) -> &'e str {
    email.headers.iter().find(|(header, _)| header == name).map_or("", |(_, value)| value)
}
