//! Deliveries: decoded, told apart from repeats and from former owners, recorded, and only then acknowledged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use kinetic_wire::{AlertEvent, AlertId, Epoch, SourceKey, Token, decode};

use crate::clock::Steady;
use crate::compact::{Picture, Stood};
use crate::group::{AlertView, Applied};
use crate::id::{AlertKey, GroupKey};
use crate::machine::{Alert, Effect, Record, RecordSeq};
use crate::{breach, deadman, level, test_event, watchdog};

/// Sources whose epoch is remembered; further ones are taken without that check (counted).
const EPOCHS_MAX: usize = 100_000;
/// Bytes of a customer's, service's, cluster's or analytic's name; two of them make a routing key of at most 255.
const NAME_BYTES_MAX: usize = 100;
/// The one message version that is understood.
const VERSION: u32 = 1;

/// An accepted event whose record is not known to be safe yet.
#[derive(Debug)]
struct Pending {
    key: AlertKey,
    event: Box<AlertEvent>,
    at: Steady,
    /// Deliveries that wait for it: the first and its repeats.
    tokens: Vec<Token>,
}

/// What has come in, and what of it still waits for the disk.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    ids: BTreeSet<AlertId>,
    ids_by_age: VecDeque<AlertId>,
    pending: BTreeMap<RecordSeq, Pending>,
    pending_ids: BTreeMap<AlertId, RecordSeq>,
    epochs: BTreeMap<SourceKey, Epoch>,
    /// The last event that has entered its group.
    pub(crate) applied: RecordSeq,
}

/// What the dedup window did.
struct Remembered {
    evicted: bool,
}

impl Intake {
    /// Events whose record is not known to be safe.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The connection is gone, and the tokens with it.
    pub(crate) fn void_tokens(&mut self) {
        self.pending.values_mut().for_each(|pending| pending.tokens.clear());
    }

    fn remember(&mut self, id: AlertId, ids_max: usize) -> Remembered {
        if self.ids.insert(id) {
            self.ids_by_age.push_back(id);
        }
        let evicted = self.ids_by_age.len() > ids_max.max(1);
        if evicted && let Some(oldest) = self.ids_by_age.pop_front() {
            self.ids.remove(&oldest);
        }
        Remembered { evicted }
    }
}

/// Reads an event, and refuses one whose names could not stand in a schema: they become parts of other names. Of the
/// installation's own nodes, and of whole customers, nobody speaks but this one.
fn read(body: &[u8]) -> Option<AlertEvent> {
    let event: AlertEvent = decode(body).ok()?;
    let well_formed = |name: &str| {
        !name.is_empty()
            && name.len() <= NAME_BYTES_MAX
            && !name.chars().any(|c| c == '/' || c.is_whitespace() || c.is_control())
    };
    let names = [
        event.customer.as_str(),
        event.source.as_str(),
        event.analytic.as_str(),
        event.service.as_str(),
        event.cluster.as_str(),
    ];
    let group = GroupKey::of(&event);
    let of_a_customer = !watchdog::is_of_nodes(&group)
        && !deadman::is_stream(&group)
        && !breach::is_of_limits(&group)
        && event.breach.is_none();
    let plain = [event.analytic.as_str(), event.service.as_str(), event.cluster.as_str()];
    let of_a_cluster = plain.into_iter().all(level::is_plain);
    (event.v == VERSION && of_a_customer && of_a_cluster && names.into_iter().all(well_formed))
        .then_some(event)
}

impl Alert {
    /// A message of `kin.alerts`.
    ///
    /// An event whose epoch is lower than one already seen of its source comes from a former owner (promise 7). It
    /// is acknowledged, since it must not come again, counted, and kept nowhere: its successor judges the window.
    pub(crate) fn delivery(&mut self, at: Steady, token: Token, body: &[u8], effects: &mut Vec<Effect>) {
        let Some(event) = read(body) else {
            if let Some(test) = test_event::read(body) {
                return self.test_delivery(at, token, test, effects);
            }
            self.stats.malformed += 1;
            effects.push(Effect::Reject { token });
            return;
        };
        if self.intake.ids.contains(&event.id) {
            self.stats.duplicates += 1;
            match self.intake.pending_ids.get(&event.id).and_then(|seq| self.intake.pending.get_mut(seq)) {
                Some(pending) => pending.tokens.push(token),
                None => effects.push(Effect::Ack { token }),
            }
            return;
        }
        if !self.owner_is_current(&event) {
            self.stats.stale_epoch += 1;
            effects.push(Effect::Ack { token });
            return;
        }
        self.accept(at, event, Some(token), effects);
    }

    /// An event that is news: it is recorded, and enters its group once that is safe. `token` is the delivery that waits
    /// for it, where it came as one.
    pub(crate) fn accept(
        &mut self,
        at: Steady,
        event: AlertEvent,
        token: Option<Token>,
        effects: &mut Vec<Effect>,
    ) {
        self.stats.events += 1;
        self.remember(event.id);
        // What is heard now must not go stale while its record is on the way to the disk.
        let key = AlertKey::of(&event);
        if let Some(alert) =
            self.groups.get_mut(&GroupKey::of(&event)).and_then(|group| group.alerts.get_mut(&key))
        {
            alert.heard_at = at;
        }
        let event = Box::new(event);
        let seq = self.append(Record::Event { at: at.wall(), event: event.clone() }, effects);
        self.intake.pending_ids.insert(event.id, seq);
        self.intake.pending.insert(seq, Pending { key, event, at, tokens: token.into_iter().collect() });
    }

    /// All records up to `seq` are safe: events enter their groups and are acknowledged, mails may go.
    pub(crate) fn appended(&mut self, at: Steady, seq: RecordSeq, effects: &mut Vec<Effect>) {
        while let Some(first) = self.intake.pending.first_entry().filter(|first| *first.key() <= seq) {
            self.intake.applied = *first.key();
            let Pending { key, event, at: heard_at, tokens } = first.remove();
            self.intake.pending_ids.remove(&event.id);
            self.apply(heard_at, key, &event);
            effects.extend(tokens.into_iter().map(|token| Effect::Ack { token }));
            self.schedule_all(&GroupKey::of(&event));
        }
        self.outbox.appended(seq, at, self.config.mail_expiry);
        self.tests_appended(at, seq, effects);
        self.answer_recorded(seq, effects);
    }

    pub(crate) fn remember(&mut self, id: AlertId) {
        if self.intake.remember(id, self.config.ids_max).evicted {
            self.stats.ids_evicted += 1;
        }
    }

    /// Whether an event comes from the highest epoch seen of its source; remembers that epoch.
    pub(crate) fn owner_is_current(&mut self, event: &AlertEvent) -> bool {
        let source = SourceKey { customer: event.customer.clone(), source: event.source.clone(), part: 0 };
        let room = self.intake.epochs.len() < EPOCHS_MAX;
        match self.intake.epochs.get_mut(&source) {
            Some(epoch) if event.epoch < *epoch => return false,
            Some(epoch) => *epoch = event.epoch,
            None if room => {
                self.intake.epochs.insert(source, event.epoch);
            }
            None => self.stats.epochs_refused += 1,
        }
        true
    }

    /// A recorded event enters its cluster's group, and those of the blocks that hold it too.
    pub(crate) fn apply(&mut self, at: Steady, key: AlertKey, event: &AlertEvent) {
        let home = self.open_group(GroupKey::of(event), at);
        let room = match self.followed.get(&event.customer) {
            Some(followed) => followed.len() < self.config.alerts_max || followed.contains_key(&key),
            None => self.config.alerts_max > 0,
        };
        let silenced = self.silences.silence(event);
        let Some(group) = self.groups.get_mut(&home) else { return };
        let fired = group.firing() > 0;
        let stood = group.alerts.get_mut(&key).map(Stood::of);
        let applied = group.apply(key, AlertView::new(event, &home, at, silenced), at, room);
        group.take_windows(key, event);
        self.superseded.recorded(self.intake.applied, self.config.ids_max);
        let picture = if group.trails.has(key) { Picture::Kept } else { Picture::None };
        let alert = group.alerts.get_mut(&key);
        self.superseded.note(applied, stood, (self.intake.applied, event), alert, picture);
        let fires = group.firing() > 0;
        self.count_followed(&home);
        match applied {
            Applied::Fired => {
                if self.schema.mail.is_none() {
                    self.stats.mail_absent += 1;
                }
                self.staleness.set(&(Arc::clone(&home), key), Some(at + self.config.stale_after));
            }
            Applied::Ended => self.staleness.set(&(Arc::clone(&home), key), None),
            Applied::OutOfOrder => self.stats.out_of_order += 1,
            Applied::NoRoom => self.stats.alerts_refused += 1,
            Applied::Refreshed | Applied::Nothing => {}
        }
        if matches!(applied, Applied::Fired | Applied::Refreshed | Applied::Ended) {
            self.widen(&home, key, event, at);
        }
        if fired != fires {
            self.firing_changed(&home, fires, at);
        }
    }
}
