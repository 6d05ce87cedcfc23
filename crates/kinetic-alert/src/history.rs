//! Replay: the records alone rebuild alerts, groups, what each recipient was told, and the mails still to be sent.
//!
//! An event gets its number before it is on disk and enters its group after. A decision made in between has a higher
//! number but did not know of the event. Replay therefore holds events back until a decision says that it had seen
//! them, or until there is nothing more to come.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use kinetic_wire::{AlertEvent, Wall};

use crate::clock::Steady;
use crate::deliver::Outcome;
use crate::id::{AlertKey, GroupKey, StreamKey};
use crate::level;
use crate::machine::{Alert, Email, MailId, Record, RecordSeq, Thread};
use crate::outbox::{Queued, Sent};
use crate::quiet::Acknowledgement;

/// Events held back at most: more than any shell lets wait for the disk at once.
const HELD_MAX: usize = 100_000;

/// Events in the order of their numbers, waiting to enter their groups.
type Held = VecDeque<(RecordSeq, Wall, Box<AlertEvent>)>;

fn keys(texts: &[String]) -> BTreeSet<AlertKey> {
    texts.iter().filter_map(|text| AlertKey::parse(text)).collect()
}

impl Alert {
    /// Takes history in, oldest first. Time is told only afterwards, so all stamps are history's own.
    pub(crate) fn replay(&mut self, history: impl IntoIterator<Item = (RecordSeq, Record)>) {
        let mut held = Held::new();
        for (seq, record) in history {
            self.next_seq = self.next_seq.max(RecordSeq(seq.0 + 1));
            self.replay_record(seq, record, &mut held);
            if held.len() > HELD_MAX
                && let Some((oldest, ..)) = held.front()
            {
                self.replay_events(*oldest, &mut held);
            }
        }
        self.replay_events(RecordSeq(u64::MAX), &mut held);
        for group in self.groups.values_mut() {
            group.after_replay();
        }
        // What replay counted happened to the process before this one.
        self.stats = crate::stats::Stats::default();
    }

    /// Events up to `seen` enter their groups.
    fn replay_events(&mut self, seen: RecordSeq, held: &mut Held) {
        while let Some((seq, at, event)) = held.pop_front_if(|(seq, ..)| *seq <= seen) {
            self.intake.applied = seq;
            self.apply(at.into(), AlertKey::of(&event), &event);
        }
    }

    /// Events that this node has made itself say how it judged.
    fn replay_own_event(&mut self, event: &AlertEvent) {
        self.replay_node_event(event);
        self.replay_stream_event(event);
        self.replay_breach_event(event);
    }

    fn replay_record(&mut self, seq: RecordSeq, record: Record, held: &mut Held) {
        self.turn_silences(record.at().into());
        match record {
            Record::Event { at, event } => {
                self.remember(event.id);
                self.owner_is_current(&event);
                self.replay_own_event(&event);
                held.push_back((seq, at, event));
            }
            Record::Stale { at, group, alerts, seen } => {
                self.replay_events(seen, held);
                let Some(key) = GroupKey::parse(&group) else { return };
                for alert in keys(&alerts) {
                    self.replay_stale(at.into(), &key, alert);
                }
            }
            Record::MailQueued { at, id, group, email, firing, thread, noticed, seen, .. } => {
                self.replay_events(seen, held);
                let Some(key) = GroupKey::parse(&group) else { return };
                self.storms.told(&key.customer, &email.to, at.into());
                self.replay_queued(seq, at, id, key, email, keys(&firing), thread, noticed);
            }
            Record::DigestQueued { at, id, customer, email, parts, noticed, seen } => {
                self.replay_events(seen, held);
                self.storms.digested(&customer, &email.to.as_str().into(), at.into());
                self.queue_digest(at.into(), seq, id.clone(), customer, email, parts, noticed);
                self.outbox.replay_sent(&id, Sent::Perhaps);
            }
            Record::Address { at, address, refusals, suppressed, detail, mail, .. } => {
                self.suppressions.replay(at, address.clone(), &refusals, suppressed, detail, mail);
                if suppressed == Some(at) {
                    self.tell_of_suppression(at.into(), &address, seq);
                }
            }
            Record::MailEnded { at, id, outcome, detail, seen } => {
                self.replay_events(seen, held);
                let outcome = Outcome::parse(&outcome).unwrap_or(Outcome::Accepted);
                let end = outcome.end();
                if let Some(mail) = self.outbox.remove(&id) {
                    self.undelivered(at.into(), seq, &mail, outcome, &detail);
                    self.close_mail(at.into(), &mail, &id, end);
                }
            }
            Record::MailsWait { ids, .. } => ids.iter().for_each(|id| self.outbox.replay_sent(id, Sent::No)),
            Record::MailRetried { id, .. } => self.outbox.replay_sent(&id, Sent::Perhaps),
            Record::Settled { at, group, alert, to, firing, seen } => {
                self.replay_events(seen, held);
                let Some(key) = GroupKey::parse(&group) else { return };
                let stream = StreamKey { alert: alert.into(), to: to.into() };
                self.replay_settled(at.into(), &key, &stream, &firing);
            }
            Record::Silenced { at, silence } => self.replay_silenced(at, *silence),
            Record::Unsilenced { at, customer, id, .. } => self.replay_unsilenced(at, &(customer, id)),
            Record::Acknowledged { at, group, author, reason, until, seen } => {
                self.replay_events(seen, held);
                let Some(group) = GroupKey::parse(&group).and_then(|key| self.groups.get_mut(&key)) else {
                    return;
                };
                group.acknowledged = Some(Acknowledgement { author, reason, at, until: until.into() });
            }
            Record::Tested { .. } | Record::TestMailQueued { .. } => {}
            Record::Unsubscribed { at, subscription, since } => {
                self.replay_unsubscribed(at, subscription, since);
            }
            Record::Subscribed { subscription, .. } => self.replay_subscribed(&subscription),
            Record::NodeKnown { at, role, node, inc } => self.replay_node_known(at, role, node, inc),
            Record::NodeGone { role, node, .. } => self.replay_node_gone(role, node),
            Record::StreamKnown { at, customer } => self.replay_stream_known(at, customer),
            Record::StreamGone { customer, .. } => self.replay_stream_gone(&customer),
        }
    }

    fn replay_settled(&mut self, at: Steady, key: &GroupKey, stream: &StreamKey, firing: &[String]) {
        let Some(group) = self.groups.get_mut(key) else { return };
        group.settle(stream, keys(firing), at);
        self.count_followed(key);
    }

    fn replay_stale(&mut self, at: Steady, key: &GroupKey, alert: AlertKey) {
        let Some(group) = self.groups.get_mut(key) else { return };
        let ended = group.apply_stale(alert, at) && group.firing() == 0;
        self.count_followed(key);
        self.widen_stale(key, alert, at);
        if ended {
            self.firing_changed(key, false, at);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one record")]
    fn replay_queued(
        &mut self,
        seq: RecordSeq,
        at: Wall,
        id: MailId,
        key: GroupKey,
        email: Box<Email>,
        firing: BTreeSet<AlertKey>,
        thread: Thread,
        noticed: Option<RecordSeq>,
    ) {
        let stream = StreamKey { alert: thread.alert.as_str().into(), to: email.to.as_str().into() };
        let key = self.open_group(key, at.into());
        let Some(group) = self.groups.get_mut(&key) else { return };
        group.mail_queued(stream.clone(), id.clone(), thread, firing, at.into());
        let severity = level::urgency(&self.schema, &key, group);
        let mut mail =
            Queued::new(email, vec![(Arc::clone(&key), stream)], key.customer.clone(), severity, at.into());
        mail.noticed = noticed;
        self.outbox.insert(seq, id.clone(), mail);
        // It may have been sent before the process ended; only `MailsWait` says that it was not.
        self.outbox.replay_sent(&id, Sent::Perhaps);
    }
}
