//! A group: the alerts of one analytic on one cluster, or all that an alert block tells of at a coarser level, and for
//! each recipient what he has been told of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use kinetic_wire::{AlertEvent, AlertState, Breached, Direction, Numbers, ServiceName};

use crate::clock::Steady;
use crate::escape;
use crate::id::{AlertKey, GroupKey, StreamKey};
use crate::machine::{MailId, RecordSeq, Thread};
use crate::quiet::Acknowledgement;
use crate::reason::Fold;
use crate::route::Routes;
use crate::stream::{Outstanding, Stream};
use crate::trail::Trails;
use crate::words::Matter;

/// Characters kept of an origin or a metric name; identity is in the key.
const NAME_KEPT_MAX: usize = 200;

/// What is known of one alert.
#[derive(Clone, Debug)]
pub(crate) struct AlertView {
    /// The group of its cluster: whose, by which analytic, of which cluster.
    pub(crate) home: Arc<GroupKey>,
    pub(crate) origin: String,
    pub(crate) metric: String,
    pub(crate) source: String,
    pub(crate) firing: bool,
    /// It ended by `stale_after`, not by its analyzer's word.
    pub(crate) stale: bool,
    /// A silence means it: what becomes of it is no news to anybody.
    pub(crate) silenced: bool,
    pub(crate) since_ms: i64,
    pub(crate) window_start_ms: i64,
    pub(crate) window_end_ms: i64,
    pub(crate) numbers: Option<Numbers>,
    pub(crate) value_kind: String,
    pub(crate) breach: Option<Box<Breached>>,
    pub(crate) direction: Direction,
    pub(crate) hits: u32,
    pub(crate) of: u32,
    pub(crate) schema: Option<String>,
    /// When it was last heard of.
    pub(crate) heard_at: Steady,
    /// The record of the refresh that it stands at, if replay can do without it once a newer one is there.
    pub(crate) refresh: Option<RecordSeq>,
    /// Refreshes before that one, oldest first, which are left for the windows of its picture alone.
    pub(crate) drawn: VecDeque<RecordSeq>,
    /// When it was last heard of in a record that replay cannot do without.
    pub(crate) needed_at: Steady,
}

impl AlertView {
    pub(crate) fn new(event: &AlertEvent, home: &Arc<GroupKey>, at: Steady, silenced: bool) -> Self {
        let kept = Self::kept;
        Self {
            home: Arc::clone(home),
            origin: kept(&event.feed.origin),
            metric: kept(&event.feed.metric),
            source: event.source.to_string(),
            firing: event.state == AlertState::Firing,
            stale: false,
            silenced,
            since_ms: event.since_ms,
            window_start_ms: event.window_start_ms,
            window_end_ms: event.window_end_ms,
            numbers: event.numbers,
            value_kind: kept(&event.value_kind),
            breach: event.breach.clone().map(Box::new),
            direction: event.direction,
            hits: event.hits,
            of: event.of,
            schema: event.schema.as_deref().map(kept),
            heard_at: at,
            refresh: None,
            drawn: VecDeque::new(),
            needed_at: at,
        }
    }

    /// Its cluster, as people name it.
    pub(crate) fn place(&self) -> String {
        format!("{}/{}", self.home.service, self.home.cluster)
    }

    /// What it is about.
    pub(crate) fn matter(&self) -> Matter {
        Matter::of(&self.home, Some(self))
    }

    /// A name as it is kept.
    pub(crate) fn kept(text: &str) -> String {
        escape::line(text, NAME_KEPT_MAX)
    }

    /// How far from its peers, for ranking.
    pub(crate) fn distance(&self) -> f64 {
        self.numbers.map_or(0.0, |numbers| numbers.deviations.abs())
    }
}

/// The group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    pub(crate) alerts: BTreeMap<AlertKey, AlertView>,
    pub(crate) streams: BTreeMap<StreamKey, Stream>,
    /// Groups of blocks that hold a copy of its alerts.
    pub(crate) wider: Vec<GroupKey>,
    /// Who is told of it, here or there.
    pub(crate) readers: Vec<Arc<str>>,
    /// Alerts that it has begun (`true`) or ceased to hold, for the count of those followed.
    pub(crate) moves: Vec<(AlertKey, bool)>,
    /// The last windows of those that may lead a mail.
    pub(crate) trails: Trails,
    firing: usize,
    /// When it last went from nothing firing to firing.
    pub(crate) episode: Steady,
    /// Somebody takes care of what fires.
    pub(crate) acknowledged: Option<Acknowledgement>,
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
    /// Takes in an alert as an event says it is. `room` says whether another one may be followed.
    pub(crate) fn apply(&mut self, key: AlertKey, view: AlertView, at: Steady, room: bool) -> Applied {
        let known = self.alerts.get(&key);
        if known.is_some_and(|known| view.window_end_ms < known.window_end_ms) {
            return Applied::OutOfOrder;
        }
        if known.is_none() && !room && view.firing {
            return Applied::NoRoom;
        }
        self.take(key, view, at)
    }

    /// Takes in the windows that an event tells of, for the picture, where its alert is followed.
    pub(crate) fn take_windows(&mut self, key: AlertKey, event: &AlertEvent) {
        if self.alerts.contains_key(&key) {
            self.trails.take(key, event);
        }
    }

    /// Takes an alert in as it is now.
    pub(crate) fn take(&mut self, key: AlertKey, view: AlertView, at: Steady) -> Applied {
        let fired = self.fires(key);
        let firing = view.firing;
        if !fired && !firing && !self.tells(key) {
            return Applied::Nothing;
        }
        if self.alerts.insert(key, view).is_none() {
            self.moves.push((key, true));
        }
        match (fired, firing) {
            (true, true) => Applied::Refreshed,
            (false, true) => {
                if self.firing == 0 {
                    self.episode = at;
                }
                self.firing += 1;
                self.tell_streams(key, true, at);
                Applied::Fired
            }
            (true, false) => {
                self.ended(key, at);
                Applied::Ended
            }
            (false, false) => Applied::Nothing,
        }
    }

    /// Whether this alert fires.
    pub(crate) fn fires(&self, key: AlertKey) -> bool {
        self.alerts.get(&key).is_some_and(|alert| alert.firing)
    }

    /// Lets go of alerts that belong here no more. Nobody is told anything of them: they have not ended.
    pub(crate) fn leave(&mut self, keys: &BTreeSet<AlertKey>, at: Steady) {
        if keys.is_empty() {
            return;
        }
        for key in keys {
            if let Some(alert) = self.alerts.remove(key) {
                self.firing -= usize::from(alert.firing);
                self.moves.push((*key, false));
            }
        }
        let Self { alerts, streams, .. } = self;
        for stream in streams.values_mut() {
            stream.told.retain(|key| !keys.contains(key));
            stream.missed.retain(|key| !keys.contains(key));
            if let Some(outstanding) = &mut stream.outstanding {
                outstanding.told_before.retain(|key| !keys.contains(key));
                outstanding.named.retain(|key| !keys.contains(key));
            }
            let changed_since = stream.standing.changed_since;
            stream.recount(alerts, changed_since.unwrap_or(at));
        }
        self.end_acknowledged();
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
        self.tell_streams(key, false, at);
        self.forget(&[key]);
        self.end_acknowledged();
    }

    /// An alert has changed its state, which is nobody's business while it is silenced.
    fn tell_streams(&mut self, key: AlertKey, firing: bool, at: Steady) {
        let Self { alerts, streams, .. } = self;
        if alerts.get(&key).is_some_and(|alert| !alert.silenced) {
            streams.values_mut().for_each(|stream| stream.alert_changed(key, firing, alerts, at));
        }
    }

    fn tells(&self, key: AlertKey) -> bool {
        self.streams.values().any(|stream| stream.tells(key))
    }

    /// Drops those of `keys` that neither fire nor are needed for a mail about their end.
    fn forget(&mut self, keys: &[AlertKey]) {
        for key in keys {
            if self.alerts.get(key).is_some_and(|alert| !alert.firing) && !self.tells(*key) {
                self.alerts.remove(key);
                self.moves.push((*key, false));
                self.trails.forget(*key);
            }
        }
    }

    /// What a recipient who is now told of this group believes to fire from then on: what does, but of what is silenced
    /// what he believed before.
    pub(crate) fn to_tell(&self, told: &BTreeSet<AlertKey>) -> BTreeSet<AlertKey> {
        let fires = |(key, alert): &(&AlertKey, &AlertView)| {
            if alert.silenced { told.contains(key) } else { alert.firing }
        };
        self.alerts.iter().filter(fires).map(|(key, _)| *key).collect()
    }

    /// What a mail that is decided upon now says is back, where `firing` is what it says fires.
    pub(crate) fn to_resolve(&self, stream: &Stream, firing: &BTreeSet<AlertKey>) -> Vec<AlertKey> {
        let ended = stream.told.iter().filter(|key| !firing.contains(key)).copied();
        ended.chain(stream.countable(&self.alerts)).collect()
    }

    /// How many of the alerts that fire are silenced.
    pub(crate) fn silenced(&self) -> usize {
        self.alerts.values().filter(|alert| alert.firing && alert.silenced).count()
    }

    /// Alerts that no mail will name for want of room.
    pub(crate) fn missed_cut(&self) -> u64 {
        self.streams.values().map(|stream| stream.missed_cut).sum()
    }

    /// How many alerts fire.
    pub(crate) fn firing(&self) -> usize {
        self.firing
    }

    /// Since when something fires here, by the oldest alert that does.
    pub(crate) fn firing_since_ms(&self) -> Option<i64> {
        self.alerts.values().filter(|alert| alert.firing).map(|alert| alert.since_ms).min()
    }

    /// The correspondences with this recipient.
    pub(crate) fn streams_to(&self, reader: &str) -> impl Iterator<Item = (&StreamKey, &Stream)> {
        self.streams.iter().filter(move |(key, _)| *key.to == *reader)
    }

    /// Makes the streams be those that the schema names. Those it names no more stay without timing until
    /// `drop_unrouted`.
    pub(crate) fn set_routes(&mut self, routes: Routes, at: Steady) {
        self.streams.values_mut().for_each(|stream| stream.timing = None);
        for (key, timing) in routes.streams {
            self.stream_mut(key, at).timing = Some(timing);
        }
        self.wider = routes.wider;
        self.readers = routes.readers;
    }

    /// A service that this one depends on explains what fires here, and this recipient is told of it.
    pub(crate) fn fold(&mut self, key: &StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.standing.fold = Fold::Folded;
        stream.recovered = None;
        // What came and went unsaid before stays so, like what comes and goes from now on.
        let missed: Vec<AlertKey> = std::mem::take(&mut stream.missed).into_iter().collect();
        stream.standing.missed = 0;
        self.forget(&missed);
    }

    /// No such service fails any more. `told` is the last, if this recipient had been told of it. Returns whether that
    /// changes anything.
    pub(crate) fn unfold(&mut self, reader: &str, told: Option<&ServiceName>, at: Steady) -> bool {
        let mut changed = false;
        for stream in self.streams.iter_mut().filter(|(key, _)| *key.to == *reader).map(|(_, stream)| stream)
        {
            let folded = stream.standing.fold == Fold::Folded || told.is_some();
            if folded && stream.standing.heard() > 0 {
                stream.standing.fold = Fold::Unfolded { at, told: told.is_some() };
                stream.recovered = told.cloned();
                changed = true;
            }
        }
        changed
    }

    /// Recipients whose correspondence is or was folded, and who have not been mailed since.
    pub(crate) fn folded(&self) -> impl Iterator<Item = &StreamKey> {
        self.streams.iter().filter(|(_, stream)| stream.standing.fold != Fold::Open).map(|(key, _)| key)
    }

    /// Looks again at whether a correspondence is folded: `below` is what its service depends on by now. Returns
    /// whether that changes anything.
    pub(crate) fn refold(
        &mut self,
        key: &StreamKey,
        covered: bool,
        below: &[ServiceName],
        at: Steady,
    ) -> bool {
        let Some(stream) = self.streams.get_mut(key) else { return false };
        let knows = stream.recovered.as_ref().is_some_and(|service| below.contains(service));
        match stream.standing.fold {
            Fold::Folded if !covered => {}
            Fold::Unfolded { told: true, .. } if !knows => {}
            _ => return false,
        }
        stream.standing.fold = Fold::Unfolded { at, told: false };
        stream.recovered = None;
        true
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
        if told_before.is_empty() && stream.standing.held.is_none() {
            stream.standing.began_at = at;
        }
        let fold_before = std::mem::take(&mut stream.standing.fold);
        let named = stream.countable(alerts).collect();
        stream.outstanding = Some(Outstanding { id, told_before, told_at_before, fold_before, named });
        stream.standing.held = None;
        stream.thread = Some(thread);
        stream.standing.decided_at = at;
        stream.standing.told_at = at;
        stream.recount(alerts, at);
        self.end_acknowledged();
    }

    /// What is gone counts as told without a mail.
    pub(crate) fn settle(&mut self, key: &StreamKey, firing: BTreeSet<AlertKey>, at: Steady) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let before: Vec<AlertKey> = std::mem::replace(&mut stream.told, firing).into_iter().collect();
        stream.recount(&self.alerts, at);
        self.forget(&before);
        self.end_acknowledged();
    }

    /// A mail has ended. One that expired or was superseded has told nobody anything: the stream goes back to what stood
    /// before. What replaces a superseded one also names what came and went.
    pub(crate) fn mail_ended(&mut self, key: &StreamKey, id: &MailId, end: MailEnd, at: Steady) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Some(outstanding) = stream.outstanding.take_if(|outstanding| outstanding.id == *id) else {
            return;
        };
        let Outstanding { told_before, told_at_before, fold_before, mut named, .. } = outstanding;
        if end == MailEnd::Superseded {
            named.clear();
        }
        stream.missed.retain(|key| !named.contains(key));
        let mut before: Vec<AlertKey> = named.into_iter().collect();
        if end == MailEnd::Told {
            stream.standing.told_at = at;
            stream.unsent_since = None;
            before.extend(told_before);
            stream.recount_missed(&self.alerts);
        } else {
            stream.unsent_since.get_or_insert(stream.standing.decided_at);
            let unsaid = std::mem::replace(&mut stream.told, told_before);
            stream.standing.told_at = told_at_before;
            if stream.standing.fold == Fold::Open {
                stream.standing.fold = fold_before;
            }
            if end == MailEnd::Superseded {
                stream.standing.held = Some(at);
                let folded = stream.standing.fold == Fold::Folded;
                for key in unsaid.difference(&stream.told.clone()).filter(|_| !folded) {
                    if self.alerts.get(key).is_some_and(|alert| !alert.firing) {
                        stream.miss(*key);
                    }
                }
            }
            before.extend(unsaid);
            stream.recount(&self.alerts, at);
        }
        self.forget(&before);
    }

    /// After a replay: forgets alerts of which history no longer tells, and stamps that lie in the future.
    pub(crate) fn after_replay(&mut self) {
        let Self { alerts, streams, .. } = self;
        for stream in streams.values_mut() {
            let changed_since = stream.standing.changed_since;
            stream.told.retain(|key| alerts.contains_key(key));
            stream.missed.retain(|key| alerts.contains_key(key));
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
            standing.began_at = standing.began_at.min(now);
            standing.decided_at = standing.decided_at.min(now);
            standing.told_at = standing.told_at.min(now);
            standing.changed_since = standing.changed_since.map(|at| at.min(now));
            if let Fold::Unfolded { at, .. } = &mut standing.fold {
                *at = (*at).min(now);
            }
            standing.held = standing.held.map(|at| at.min(now));
            stream.unsent_since = stream.unsent_since.map(|at| at.min(now));
        }
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
