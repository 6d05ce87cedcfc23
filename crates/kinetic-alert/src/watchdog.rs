//! Nodes that say that they live, and what is made of those that no longer do: alert events of the installation's
//! own, which take the way of all others.
//!
//! A node is known from its first sign of life until it says that it stops. Nobody is called silent who could not have
//! been heard: after a start of this node, and whenever the subscription has come back, everybody has the full time
//! again. And nobody is called silent at the first look: a process that was itself suspended reads what has
//! gathered meanwhile before the second.

use std::collections::BTreeMap;
use std::time::Duration;

use kinetic_schema::schema::{INSTALLATION, INSTALLATION_SERVICE, Silent};
use kinetic_wire::{
    AlertEvent, AlertId, AlertState, Beacon, CustomerName, Direction, Epoch, Feed, Incarnation, NodeId, Role,
    Wall, decode,
};
use uuid::Uuid;

use crate::agenda::Agenda;
use crate::clock::Steady;
use crate::id::GroupKey;
use crate::machine::{Alert, Effect, Record};

/// Nodes watched; further ones are not (counted).
const NODES_MAX: usize = 10_000;
/// Bytes of a node's name.
const NODE_BYTES_MAX: usize = 255;
/// The one message version that is understood.
const VERSION: u32 = 1;
/// Between the look that finds a node silent for too long and the one that believes it.
pub(crate) const SECOND_LOOK: Duration = Duration::from_secs(1);
/// How often it is recorded of a node that goes on living, so that the days of history which are replayed know of it.
pub(crate) const RECORD_EVERY: Duration = Duration::from_secs(12 * 3_600);
/// A node that has been silent for this long is not waited for any more.
pub(crate) const FORGET_AFTER: Duration = Duration::from_secs(7 * 86_400);
/// Repeats of a standing silence within `stale_after`, so that it does not go stale.
const REPEATS_PER_STALE: u32 = 3;
/// Namespace of the ids of these events.
const ID_NAMESPACE: Uuid = Uuid::from_bytes(*b"kinetic-watchdog");

/// Names under which silent nodes stand in events. See also [`INSTALLATION`], the customer.
pub(crate) const ANALYTIC: &str = "silent";
/// The source, and the metric.
const ALIVE: &str = "alive";
/// Who decides.
const DECIDER: &str = "alert";

/// What is known of a silence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Silence {
    /// When the silent one was last heard.
    pub(crate) since: Steady,
    /// When it was last said that it is silent.
    pub(crate) said: Steady,
}

#[derive(Clone, Debug)]
struct Node {
    inc: Incarnation,
    /// When it was last heard by this process.
    heard: Option<Steady>,
    /// When history was last told that it lives.
    recorded: Steady,
    /// When the first of the two looks found it silent.
    doubted: Option<Steady>,
    silence: Option<Silence>,
}

/// A node and what it is; two roles of one process are two nodes.
type Key = (Role, NodeId);

/// All nodes that are known.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    nodes: BTreeMap<Key, Node>,
    /// Since when signs of life can be heard, if they can.
    hearing_since: Option<Steady>,
    /// When nodes may have been silent for too long.
    looks: Agenda<Key>,
    /// When silences are said again.
    repeats: Agenda<Key>,
}

impl Watchdog {
    /// Nodes known, and how many of them are silent.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.nodes.len(), self.nodes.values().filter(|node| node.silence.is_some()).count())
    }

    /// When something may be due.
    pub(crate) fn next(&self) -> Option<Steady> {
        let look = self.hearing_since.and_then(|_| self.looks.next());
        [look, self.repeats.next()].into_iter().flatten().min()
    }

    fn forget(&mut self, key: &Key) -> Option<Node> {
        self.looks.set(key, None);
        self.repeats.set(key, None);
        self.nodes.remove(key)
    }
}

/// Whether a group is about the installation's own nodes. The customer of its name has groups of its own.
pub(crate) fn is_of_nodes(group: &GroupKey) -> bool {
    group.customer.as_str() == INSTALLATION && group.service.as_str() == INSTALLATION_SERVICE
}

/// The cluster of a role's nodes, where they are watched.
fn cluster(role: Role) -> Option<&'static str> {
    match role {
        Role::Analyzer => Some("analyzers"),
        Role::Redirector => Some("redirectors"),
        // Of alert nodes one leads, and it cannot miss itself.
        Role::Alert => None,
    }
}

/// The role whose nodes make a cluster.
fn role_of(cluster: &str) -> Option<Role> {
    [Role::Analyzer, Role::Redirector].into_iter().find(|role| self::cluster(*role) == Some(cluster))
}

/// Reads a sign of life, and refuses one whose name could not be shown.
fn read(body: &[u8]) -> Option<Beacon> {
    let beacon: Beacon = decode(body).ok()?;
    let name = beacon.node.as_str();
    let named = !name.is_empty() && name.len() <= NODE_BYTES_MAX && !name.chars().any(char::is_control);
    (beacon.v == VERSION && named).then_some(beacon)
}

/// Who is silent, under the names that stand in an event.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) customer: CustomerName,
    pub(crate) source: &'static str,
    pub(crate) analytic: &'static str,
    pub(crate) service: &'static str,
    pub(crate) cluster: &'static str,
    pub(crate) origin: String,
    pub(crate) metric: &'static str,
    /// It is no silence.
    pub(crate) is_breach: bool,
}

/// The id of one statement.
fn id(of: &Statement, state: AlertState, at: Wall) -> AlertId {
    let Statement { cluster, origin, metric, customer, .. } = of;
    let mut name = match of.is_breach {
        // One source may breach many things, and many customers have sources of one name.
        true => format!("{customer}/{cluster}/{origin}/{metric}/{}/", at.as_ms()),
        false => format!("{cluster}/{origin}/{}/", at.as_ms()),
    }
    .into_bytes();
    name.push(match state {
        AlertState::Firing => b'f',
        AlertState::Resolved => b'r',
    });
    AlertId(Uuid::new_v5(&ID_NAMESPACE, &name))
}

/// The event by which this node says that somebody is silent, or no longer.
pub(crate) fn event(of: Statement, since: Wall, end: Wall, state: AlertState) -> AlertEvent {
    AlertEvent {
        v: VERSION,
        id: id(&of, state, end),
        customer: of.customer,
        source: of.source.into(),
        analytic: of.analytic.into(),
        service: of.service.into(),
        cluster: of.cluster.into(),
        feed: Feed { origin: of.origin, metric: of.metric.to_owned() },
        state,
        window_start_ms: since.as_ms(),
        window_end_ms: end.as_ms(),
        since_ms: since.as_ms(),
        numbers: None,
        value_kind: Silent::VALUE_KIND.to_owned(),
        direction: Direction::default(),
        hits: 1,
        of: 1,
        epoch: Epoch(0),
        node: DECIDER.into(),
        schema: None,
        traceparent: None,
        trail: None,
        breach: None,
    }
}

impl Alert {
    /// The longest silence of a node of this role that is no event; `None` where nobody is to be told.
    fn silent_after(&self, role: Role) -> Option<Duration> {
        let watchdog = self.schema.watchdog.as_ref()?;
        match role {
            Role::Analyzer => Some(watchdog.analyzer_silent_after),
            Role::Redirector => Some(watchdog.redirector_silent_after),
            Role::Alert => None,
        }
    }

    /// A message of `kin.alive`.
    pub(crate) fn beacon(&mut self, at: Steady, body: &[u8], effects: &mut Vec<Effect>) {
        let Some(beacon) = read(body) else {
            self.stats.beacons_malformed += 1;
            return;
        };
        for said in beacon.listens {
            self.listened(at, said, effects);
        }
        for said in beacon.breaches {
            self.breached(at, said, effects);
        }
        if self.silent_after(beacon.role).is_none() {
            return;
        }
        self.stats.beacons += 1;
        let key = (beacon.role, beacon.node);
        if beacon.bye {
            self.says_bye(at, &key, beacon.inc, effects);
            return;
        }
        let Some(node) = self.watchdog.nodes.get_mut(&key) else {
            self.first_heard(at, key, beacon.inc, effects);
            return;
        };
        node.inc = beacon.inc;
        node.heard = Some(at);
        node.doubted = None;
        let silence = node.silence.take();
        let record = at.since(node.recorded) >= RECORD_EVERY;
        if let Some(silence) = silence {
            self.watchdog.repeats.set(&key, None);
            self.watchdog.looks.set(&key, Some(at));
            self.say(at, &key, silence, AlertState::Resolved, effects);
        }
        if record {
            self.record_known(at, &key, beacon.inc, effects);
        }
    }

    fn first_heard(&mut self, at: Steady, key: Key, inc: Incarnation, effects: &mut Vec<Effect>) {
        if self.watchdog.nodes.len() >= NODES_MAX {
            self.stats.beacons_refused += 1;
            return;
        }
        let node = Node { inc, heard: Some(at), recorded: at, doubted: None, silence: None };
        self.watchdog.looks.set(&key, Some(at));
        self.watchdog.nodes.insert(key.clone(), node);
        self.record_known(at, &key, inc, effects);
    }

    fn record_known(&mut self, at: Steady, key: &Key, inc: Incarnation, effects: &mut Vec<Effect>) {
        if let Some(node) = self.watchdog.nodes.get_mut(key) {
            node.recorded = at;
        }
        let record = Record::NodeKnown { at: at.wall(), role: key.0, node: key.1.clone(), inc };
        self.append(record, effects);
    }

    /// A node stops in good order. The word of an older process of that name, which a newer one has replaced, says
    /// nothing about the newer one.
    fn says_bye(&mut self, at: Steady, key: &Key, inc: Incarnation, effects: &mut Vec<Effect>) {
        if self.watchdog.nodes.get(key).is_none_or(|node| inc < node.inc) {
            return;
        }
        let silence = self.watchdog.forget(key).and_then(|node| node.silence);
        if let Some(silence) = silence {
            self.say(at, key, silence, AlertState::Resolved, effects);
        }
        self.record_gone(at, key, effects);
    }

    fn record_gone(&mut self, at: Steady, key: &Key, effects: &mut Vec<Effect>) {
        let record = Record::NodeGone { at: at.wall(), role: key.0, node: key.1.clone() };
        self.append(record, effects);
    }

    /// Signs of life can be heard from now on, or no longer.
    pub(crate) fn hearing_beacons(&mut self, since: Option<Steady>) {
        self.watchdog.hearing_since = since;
    }

    /// Since when signs of life can be heard, if they can.
    pub(crate) fn beacons_heard_since(&self) -> Option<Steady> {
        self.watchdog.hearing_since
    }

    /// Makes the table follow the schema: without a `watchdog` block nobody is watched, and what is known is of no use
    /// later, since nodes may come and go unheard meanwhile.
    pub(crate) fn follow_watchdog(&mut self, at: Steady, effects: &mut Vec<Effect>) {
        let keys: Vec<Key> = self.watchdog.nodes.keys().cloned().collect();
        for key in keys {
            if self.silent_after(key.0).is_some() {
                // Whether it is due by the present schema, the look will find out.
                self.watchdog.looks.set(&key, Some(at));
            } else {
                // Its alert, if there is one, goes stale.
                self.watchdog.forget(&key);
                self.record_gone(at, &key, effects);
            }
        }
    }

    /// Time is told for the first time: stamps of history meet the clock.
    pub(crate) fn boot_watchdog(&mut self, at: Steady, effects: &mut Vec<Effect>) {
        let repeat = at + self.repeat_after();
        for (key, node) in &mut self.watchdog.nodes {
            node.recorded = node.recorded.min(at);
            if let Some(silence) = &mut node.silence {
                silence.since = silence.since.min(at);
                self.watchdog.repeats.set(key, Some(repeat));
            }
        }
        self.follow_watchdog(at, effects);
    }

    pub(crate) fn repeat_after(&self) -> Duration {
        self.config.stale_after / REPEATS_PER_STALE
    }

    /// Nodes that have been silent for too long are called so, and silences that stand are said again.
    pub(crate) fn watch_nodes(&mut self, now: Steady, effects: &mut Vec<Effect>) {
        if let Some(hearing_since) = self.watchdog.hearing_since {
            while let Some(key) = self.watchdog.looks.take_due(now) {
                self.look(now, &key, hearing_since, effects);
            }
        }
        while let Some(key) = self.watchdog.repeats.take_due(now) {
            self.repeat(now, &key, effects);
        }
    }

    fn look(&mut self, now: Steady, key: &Key, hearing_since: Steady, effects: &mut Vec<Effect>) {
        let Some(silent_after) = self.silent_after(key.0) else { return };
        let repeat = now + self.repeat_after();
        let Watchdog { nodes, looks, repeats, .. } = &mut self.watchdog;
        let Some(node) = nodes.get_mut(key).filter(|node| node.silence.is_none()) else { return };
        let heard = node.heard.unwrap_or(hearing_since);
        let due = heard.max(hearing_since) + silent_after;
        let believed = node.doubted.map(|doubted| doubted + SECOND_LOOK);
        match believed {
            _ if due > now => {
                node.doubted = None;
                looks.set(key, Some(due));
            }
            Some(believed) if believed <= now => {
                let silence = Silence { since: heard, said: now };
                node.silence = Some(silence);
                node.doubted = None;
                repeats.set(key, Some(repeat));
                self.say(now, key, silence, AlertState::Firing, effects);
            }
            Some(believed) => looks.set(key, Some(believed)),
            None => {
                node.doubted = Some(now);
                looks.set(key, Some(now + SECOND_LOOK));
            }
        }
    }

    fn repeat(&mut self, now: Steady, key: &Key, effects: &mut Vec<Effect>) {
        let next = now + self.repeat_after();
        let Some(node) = self.watchdog.nodes.get_mut(key) else { return };
        let Some(silence) = &mut node.silence else { return };
        if now.since(silence.since) >= FORGET_AFTER {
            // It is not said again, and so goes stale.
            self.watchdog.forget(key);
            self.stats.nodes_forgotten += 1;
            self.record_gone(now, key, effects);
            return;
        }
        silence.said = silence.said.max(now);
        let silence = *silence;
        self.watchdog.repeats.set(key, Some(next));
        self.say(now, key, silence, AlertState::Firing, effects);
    }

    /// Makes an event of it.
    fn say(&mut self, at: Steady, key: &Key, silence: Silence, state: AlertState, effects: &mut Vec<Effect>) {
        let Some(cluster) = cluster(key.0) else { return };
        // Also where the clock has been set back over a restart, the end of a silence comes after its beginning.
        let end = at.max(silence.said).wall();
        let statement = Statement {
            customer: INSTALLATION.into(),
            source: ALIVE,
            analytic: ANALYTIC,
            service: INSTALLATION_SERVICE,
            cluster,
            origin: key.1.to_string(),
            metric: ALIVE,
            is_breach: false,
        };
        let event = event(statement, silence.since.wall(), end, state);
        self.accept(at, event, None, effects);
    }

    /// History says that a node lived.
    pub(crate) fn replay_node_known(&mut self, at: Wall, role: Role, node: NodeId, inc: Incarnation) {
        if self.watchdog.nodes.len() < NODES_MAX {
            let known = Node { inc, heard: None, recorded: at.into(), doubted: None, silence: None };
            self.watchdog.nodes.insert((role, node), known);
        }
    }

    /// History says that a node is no longer waited for.
    pub(crate) fn replay_node_gone(&mut self, role: Role, node: NodeId) {
        self.watchdog.nodes.remove(&(role, node));
    }

    /// History says that a node was silent, or no longer.
    pub(crate) fn replay_node_event(&mut self, event: &AlertEvent) {
        let ours = is_of_nodes(&GroupKey::of(event)) && event.analytic.as_str() == ANALYTIC;
        let Some(role) = role_of(event.cluster.as_str()).filter(|_| ours) else { return };
        let key = (role, NodeId::new(&event.feed.origin));
        let said = Steady::from(Wall::from_ms(event.window_end_ms));
        let since = Steady::from(Wall::from_ms(event.since_ms));
        let firing = event.state == AlertState::Firing;
        // What was recorded of it when it was first heard may be older than the days that are replayed.
        if firing && !self.watchdog.nodes.contains_key(&key) {
            self.replay_node_known(
                Wall::from_ms(event.since_ms),
                role,
                key.1.clone(),
                Incarnation::default(),
            );
        }
        if let Some(node) = self.watchdog.nodes.get_mut(&key) {
            node.silence = firing.then_some(Silence { since, said });
        }
    }
}
