//! A group: the alerts of one analytic on one cluster, and for each recipient what he has been told of them.

use std::collections::{BTreeMap, BTreeSet};

use kinetic_wire::{AlertEvent, AlertState, Direction, Numbers};

use crate::clock::Steady;
use crate::escape;
use crate::id::{AlertKey, StreamKey};
use crate::machine::{MailId, Thread};
use crate::reason::{self, Standing, Step, Timing};

/// Characters kept of an origin or a metric name; identity is in the key.
const NAME_KEPT_MAX: usize = 200;
/// Alerts per recipient that came and went while a mail waited; further ones no mail will name (counted).
const MISSED_MAX: usize = 200;

/// What is known of one alert.
#[derive(Clone, Debug)]
pub(crate) struct AlertView {
    pub(crate) origin: String,
    pub(crate) metric: String,
    pub(crate) source: String,
    pub(crate) firing: bool,
    /// It ended by `stale_after`, not by its analyzer's word.
    pub(crate) stale: bool,
    pub(crate) since_ms: i64,
    pub(crate) window_start_ms: i64,
    pub(crate) window_end_ms: i64,
    pub(crate) numbers: Option<Numbers>,
    pub(crate) value_kind: String,
    pub(crate) direction: Direction,
    pub(crate) hits: u32,
    pub(crate) of: u32,
    pub(crate) schema: Option<String>,
    /// When it was last heard of.
    pub(crate) heard_at: Steady,
}

impl AlertView {
    fn new(event: &AlertEvent, at: Steady) -> Self {
        let kept = |text: &str| escape::line(text, NAME_KEPT_MAX);
        Self {
            origin: kept(&event.feed.origin),
            metric: kept(&event.feed.metric),
            source: event.source.to_string(),
            firing: event.state == AlertState::Firing,
            stale: false,
            since_ms: event.since_ms,
            window_start_ms: event.window_start_ms,
            window_end_ms: event.window_end_ms,
            numbers: event.numbers,
            value_kind: kept(&event.value_kind),
            direction: event.direction,
            hits: event.hits,
            of: event.of,
            schema: event.schema.as_deref().map(kept),
            heard_at: at,
        }
    }

    /// How far from its peers, for ranking.
    pub(crate) fn distance(&self) -> f64 {
        self.numbers.map_or(0.0, |numbers| numbers.deviations.abs())
    }
}

/// A mail of a stream that has not ended, and what to go back to if it never arrives.
#[derive(Clone, Debug)]
pub(crate) struct Outstanding {
    pub(crate) id: MailId,
    told_before: BTreeSet<AlertKey>,
    told_at_before: Steady,
    /// Of `Stream::missed`, what it names.
    named: BTreeSet<AlertKey>,
}

/// The correspondence with one recipient about one group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    /// How often to speak; `None` once the schema names this recipient no more.
    pub(crate) timing: Option<Timing>,
    /// Alerts that he believes to fire.
    pub(crate) told: BTreeSet<AlertKey>,
    standing: Standing,
    /// Where the correspondence stands; `None` before the first mail.
    pub(crate) thread: Option<Thread>,
    /// The one mail that may be on its way. Changes meanwhile wait, and merge into the next.
    pub(crate) outstanding: Option<Outstanding>,
    /// Alerts that came and went while a mail waited for a relay: a mail would have named them.
    pub(crate) missed: BTreeSet<AlertKey>,
    /// Alerts that are not in `missed` for want of room.
    pub(crate) missed_cut: u64,
    /// What is to be said waits for a digest, or for an address that is good again.
    held: bool,
    /// Since when he could not be told what was to be told.
    pub(crate) unsent_since: Option<Steady>,
}

impl Stream {
    /// Whether a mail about the end of this alert may still be due here.
    fn tells(&self, key: AlertKey) -> bool {
        self.told.contains(&key)
            || self.missed.contains(&key)
            || self.outstanding.as_ref().is_some_and(|outstanding| outstanding.told_before.contains(&key))
    }

    /// One alert has changed its state to `firing`.
    fn alert_changed(&mut self, key: AlertKey, firing: bool, at: Steady) {
        let owed = !firing && self.owes_mail(at);
        let standing = &mut self.standing;
        match (firing, self.told.contains(&key)) {
            (true, true) => standing.gone -= 1,
            (true, false) => {
                standing.fresh += 1;
                self.missed.remove(&key);
            }
            (false, true) => standing.gone += 1,
            (false, false) => {
                standing.fresh -= 1;
                if owed {
                    self.miss(key);
                }
            }
        }
        self.standing.missed = self.missed.len();
        self.mark_change(at);
    }

    /// Whether a further mail would have been sent by now, if the one on its way had arrived.
    fn owes_mail(&self, at: Steady) -> bool {
        let (Some(timing), Some(changed_since)) = (&self.timing, self.standing.changed_since) else {
            return false;
        };
        let due = (changed_since + timing.group_wait).max(self.standing.decided_at + timing.group_interval);
        self.outstanding.is_some() && due <= at
    }

    fn miss(&mut self, key: AlertKey) {
        if self.missed.len() < MISSED_MAX {
            self.missed.insert(key);
        } else {
            self.missed_cut += 1;
        }
        self.standing.missed = self.missed.len();
    }

    /// Whether a mail that is on its way says what is no longer so, or leaves out what it should say.
    pub(crate) fn outdates(&self, id: &MailId) -> bool {
        let Some(outstanding) = self.outstanding.as_ref().filter(|outstanding| outstanding.id == *id) else {
            return false;
        };
        self.standing.changed_since.is_some() || !self.missed.is_subset(&outstanding.named)
    }

    fn mark_change(&mut self, at: Steady) {
        let standing = &mut self.standing;
        let differs = standing.fresh > 0 || standing.gone > 0;
        standing.changed_since = differs.then(|| standing.changed_since.unwrap_or(at));
    }

    /// Counts anew after `told` has been replaced.
    fn recount(&mut self, alerts: &BTreeMap<AlertKey, AlertView>, at: Steady) {
        let fires = |key: &AlertKey| alerts.get(key).is_some_and(|alert| alert.firing);
        let firing = alerts.values().filter(|alert| alert.firing).count();
        let known = self.told.iter().filter(|key| fires(key)).count();
        self.standing.told = self.told.len();
        self.standing.gone = self.told.len() - known;
        self.standing.fresh = firing - known;
        self.standing.changed_since = None;
        self.mark_change(at);
    }

    /// What is due for this recipient, and when.
    pub(crate) fn next_step(&self) -> Option<(Steady, Step)> {
        if self.outstanding.is_some() || self.held {
            return None;
        }
        reason::next_step(&self.standing, self.timing.as_ref()?)
    }
}

/// The group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    pub(crate) alerts: BTreeMap<AlertKey, AlertView>,
    pub(crate) streams: BTreeMap<StreamKey, Stream>,
    firing: usize,
    /// When it last went from nothing firing to firing.
    episode: Steady,
}

/// What an event did to its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It fires now, and did not before.
    Fired,
    /// It fired before; numbers are newer now.
    Refreshed,
    /// It no longer fires.
    Ended,
    /// It ended an alert that nobody follows.
    Nothing,
    /// Older than what is known.
    OutOfOrder,
    /// There is no room for another alert.
    NoRoom,
}

impl Group {
    /// Takes an event in. `room` says whether another alert may be followed.
    pub(crate) fn apply(&mut self, key: AlertKey, event: &AlertEvent, at: Steady, room: bool) -> Applied {
        let known = self.alerts.get(&key);
        if known.is_some_and(|known| event.window_end_ms < known.window_end_ms) {
            return Applied::OutOfOrder;
        }
        let fired = known.is_some_and(|known| known.firing);
        let view = AlertView::new(event, at);
        match (fired, view.firing) {
            (false, true) if known.is_none() && !room => return Applied::NoRoom,
            (false, false) if !self.tells(key) => return Applied::Nothing,
            _ => {}
        }
        let firing = view.firing;
        self.alerts.insert(key, view);
        match (fired, firing) {
            (true, true) => Applied::Refreshed,
            (false, true) => {
                if self.firing == 0 {
                    self.episode = at;
                }
                self.firing += 1;
                self.streams.values_mut().for_each(|stream| stream.alert_changed(key, true, at));
                Applied::Fired
            }
            (true, false) => {
                self.ended(key, at);
                Applied::Ended
            }
            (false, false) => Applied::Nothing,
        }
    }

    /// Takes an alert as resolved because nothing is heard of it.
    pub(crate) fn apply_stale(&mut self, key: AlertKey, at: Steady) -> bool {
        let Some(alert) = self.alerts.get_mut(&key).filter(|alert| alert.firing) else { return false };
        alert.firing = false;
        alert.stale = true;
        self.ended(key, at);
        true
    }

    fn ended(&mut self, key: AlertKey, at: Steady) {
        self.firing -= 1;
        self.streams.values_mut().for_each(|stream| stream.alert_changed(key, false, at));
        self.forget(&[key]);
    }

    fn tells(&self, key: AlertKey) -> bool {
        self.streams.values().any(|stream| stream.tells(key))
    }

    /// Drops those of `keys` that neither fire nor are needed for a mail about their end.
    fn forget(&mut self, keys: &[AlertKey]) {
        for key in keys {
            if self.alerts.get(key).is_some_and(|alert| !alert.firing) && !self.tells(*key) {
                self.alerts.remove(key);
            }
        }
    }

    /// Keys of the alerts that fire.
    pub(crate) fn firing_keys(&self) -> BTreeSet<AlertKey> {
        self.alerts.iter().filter(|(_, alert)| alert.firing).map(|(key, _)| *key).collect()
    }

    /// Alerts that no mail will name for want of room.
    pub(crate) fn missed_cut(&self) -> u64 {
        self.streams.values().map(|stream| stream.missed_cut).sum()
    }

    /// How many alerts fire.
    pub(crate) fn firing(&self) -> usize {
        self.firing
    }

    /// Makes the streams be those that the schema names. Those it names no more stay without timing until
    /// `drop_unrouted`.
    pub(crate) fn set_routes(&mut self, routes: Vec<(StreamKey, Timing)>, at: Steady) {
        self.streams.values_mut().for_each(|stream| stream.timing = None);
        for (key, timing) in routes {
            self.stream_mut(key, at).timing = Some(timing);
        }
    }

    fn stream_mut(&mut self, key: StreamKey, at: Steady) -> &mut Stream {
        let Self { alerts, streams, .. } = self;
        streams.entry(key).or_insert_with(|| {
            let mut stream = Stream::default();
            stream.recount(alerts, at);
            stream
        })
    }

    /// Takes leave of the recipients that the schema names no more and to whom no mail is on its way: they count as
    /// told of nothing. Returns those who believed something to fire. Their threads stay as long as the group does,
    /// so that one who comes back within the episode is mailed under new ids.
    pub(crate) fn drop_unrouted(&mut self, at: Steady) -> Vec<StreamKey> {
        let Self { alerts, streams, .. } = self;
        streams.retain(|_, stream| stream.timing.is_some() || stream.thread.is_some());
        let mut told = BTreeSet::new();
        let mut believers = Vec::new();
        for (key, stream) in streams {
            let leaves = stream.timing.is_none() && stream.outstanding.is_none();
            if leaves && !(stream.told.is_empty() && stream.missed.is_empty()) {
                told.append(&mut stream.told);
                told.append(&mut stream.missed);
                stream.standing.missed = 0;
                stream.recount(alerts, at);
                believers.push(key.clone());
            }
        }
        self.forget(&told.into_iter().collect::<Vec<_>>());
        believers
    }

    /// Where the next mail of a stream stands in its correspondence. `subject` is used where an episode begins.
    pub(crate) fn next_thread(&self, key: &StreamKey, subject: impl FnOnce() -> String) -> Thread {
        let stream = self.streams.get(key);
        let last = stream.and_then(|stream| stream.thread.clone());
        let begins = stream.is_none_or(|stream| stream.told.is_empty());
        match last {
            Some(last) if !begins || last.episode >= self.episode.wall() => {
                Thread { seq: last.seq + 1, ..last }
            }
            _ => Thread {
                alert: key.alert.to_string(),
                episode: self.episode.wall(),
                seq: 1,
                subject: subject(),
            },
        }
    }

    /// What is to be said to a recipient waits.
    pub(crate) fn hold(&mut self, key: &StreamKey) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.held = true;
        }
    }

    /// It waits no longer.
    pub(crate) fn release(&mut self, key: &StreamKey) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.held = false;
        }
    }

    /// Nothing can be said to a recipient: he counts as told of nothing, and is not spoken to until `release`.
    pub(crate) fn withhold(&mut self, key: &StreamKey, at: Steady) {
        self.hold(key);
        let missed = self.streams.get_mut(key).map(|stream| {
            stream.standing.missed = 0;
            std::mem::take(&mut stream.missed)
        });
        self.settle(key, BTreeSet::new(), at);
        self.forget(&missed.unwrap_or_default().into_iter().collect::<Vec<_>>());
    }

    /// A mail has been decided upon: its recipient counts as told that `firing` fire.
    pub(crate) fn mail_queued(
        &mut self,
        key: StreamKey,
        id: MailId,
        thread: Thread,
        firing: BTreeSet<AlertKey>,
        at: Steady,
    ) {
        self.stream_mut(key.clone(), at);
        let Self { alerts, streams, .. } = self;
        let stream = streams.get_mut(&key).expect("the stream was made above");
        let told_before = std::mem::replace(&mut stream.told, firing);
        let told_at_before = stream.standing.told_at;
        let named = stream.missed.clone();
        stream.outstanding = Some(Outstanding { id, told_before, told_at_before, named });
        stream.standing.held = None;
        stream.thread = Some(thread);
        stream.standing.decided_at = at;
        stream.standing.told_at = at;
        stream.recount(alerts, at);
    }

    /// What is gone counts as told without a mail.
    pub(crate) fn settle(&mut self, key: &StreamKey, firing: BTreeSet<AlertKey>, at: Steady) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let before: Vec<AlertKey> = std::mem::replace(&mut stream.told, firing).into_iter().collect();
        stream.recount(&self.alerts, at);
        self.forget(&before);
    }

    /// A mail has ended. One that expired or was superseded has told nobody anything: the stream goes back to what stood
    /// before. What replaces a superseded one also names what came and went.
    pub(crate) fn mail_ended(&mut self, key: &StreamKey, id: &MailId, end: MailEnd, at: Steady) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Some(outstanding) = stream.outstanding.take_if(|outstanding| outstanding.id == *id) else {
            return;
        };
        let Outstanding { told_before, told_at_before, mut named, .. } = outstanding;
        if end == MailEnd::Superseded {
            named.clear();
        }
        stream.missed.retain(|key| !named.contains(key));
        let mut before: Vec<AlertKey> = named.into_iter().collect();
        if end == MailEnd::Told {
            stream.standing.told_at = at;
            stream.unsent_since = None;
            before.extend(told_before);
        } else {
            stream.unsent_since.get_or_insert(stream.standing.decided_at);
            let unsaid = std::mem::replace(&mut stream.told, told_before);
            stream.standing.told_at = told_at_before;
            if end == MailEnd::Superseded {
                stream.standing.held = Some(at);
                for key in unsaid.difference(&stream.told.clone()) {
                    if self.alerts.get(key).is_some_and(|alert| !alert.firing) {
                        stream.miss(*key);
                    }
                }
            }
            before.extend(unsaid);
            stream.recount(&self.alerts, at);
        }
        stream.standing.missed = stream.missed.len();
        self.forget(&before);
    }

    /// After a replay: forgets alerts of which history no longer tells, and stamps that lie in the future.
    pub(crate) fn after_replay(&mut self) {
        let Self { alerts, streams, .. } = self;
        for stream in streams.values_mut() {
            let changed_since = stream.standing.changed_since;
            stream.told.retain(|key| alerts.contains_key(key));
            stream.missed.retain(|key| alerts.contains_key(key));
            stream.standing.missed = stream.missed.len();
            if let Some(outstanding) = &mut stream.outstanding {
                outstanding.told_before.retain(|key| alerts.contains_key(key));
            }
            stream.recount(alerts, changed_since.unwrap_or_default());
        }
    }

    /// Brings stamps of the future, from a clock that ran ahead, back to `now`.
    pub(crate) fn clamp(&mut self, now: Steady) {
        for stream in self.streams.values_mut() {
            let standing = &mut stream.standing;
            standing.decided_at = standing.decided_at.min(now);
            standing.told_at = standing.told_at.min(now);
            standing.changed_since = standing.changed_since.map(|at| at.min(now));
            standing.held = standing.held.map(|at| at.min(now));
            stream.unsent_since = stream.unsent_since.map(|at| at.min(now));
        }
    }

    /// When something is due for any recipient.
    pub(crate) fn due(&self) -> Option<Steady> {
        self.streams.values().filter_map(|stream| stream.next_step().map(|(at, _)| at)).min()
    }

    /// Whether there is nothing left to remember.
    pub(crate) fn is_idle(&self) -> bool {
        self.alerts.is_empty()
            && self.streams.values().all(|stream| stream.told.is_empty() && stream.outstanding.is_none())
    }
}

/// Whether a mail that has ended counts as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MailEnd {
    /// The relay took it, or says that the address never will: it is not said again.
    Told,
    /// It was given up.
    Expired,
    /// It waited until it was no longer so; another mail takes its place.
    Superseded,
}
