//! Replay: the records alone rebuild alerts, groups, what each recipient was told, and the mails still to be sent.

use std::collections::BTreeSet;
use std::sync::Arc;

use kinetic_wire::Wall;

use crate::clock::Steady;
use crate::flush::Outcome;
use crate::group::{Group, MailEnd};
use crate::id::{AlertKey, GroupKey, StreamKey};
use crate::machine::{Alert, Email, MailId, Record, RecordSeq, Thread};
use crate::route;

fn keys(texts: &[String]) -> BTreeSet<AlertKey> {
    texts.iter().filter_map(|text| AlertKey::parse(text)).collect()
}

impl Alert {
    /// Takes history in, oldest first. Time is told only afterwards, so all stamps are history's own.
    pub(crate) fn replay(&mut self, history: impl IntoIterator<Item = (RecordSeq, Record)>) {
        for (seq, record) in history {
            self.next_seq = self.next_seq.max(RecordSeq(seq.0 + 1));
            self.replay_record(seq, record);
        }
        for group in self.groups.values_mut() {
            group.after_replay();
        }
        // What replay counted happened to the process before this one.
        self.stats = crate::stats::Stats::default();
    }

    fn replay_record(&mut self, seq: RecordSeq, record: Record) {
        match record {
            Record::Event { at, event } => {
                self.remember(event.id);
                self.owner_is_current(&event);
                self.apply(at.into(), &event);
            }
            Record::Stale { at, group, alerts } => {
                let Some(key) = GroupKey::parse(&group) else { return };
                for alert in keys(&alerts) {
                    self.replay_stale(at.into(), &key, alert);
                }
            }
            Record::MailQueued { at, id, group, email, firing, thread, .. } => {
                let Some(key) = GroupKey::parse(&group) else { return };
                self.replay_queued(seq, at, id, key, email, keys(&firing), thread);
            }
            Record::MailEnded { at, id, outcome, .. } => {
                let end = Outcome::parse(&outcome).map_or(MailEnd::Told, Outcome::end);
                if let Some(mail) = self.outbox.remove(&id) {
                    self.close_mail(at.into(), &mail.group, &mail.stream, &id, end);
                }
            }
            Record::Settled { at, group, alert, to, firing } => {
                let Some(key) = GroupKey::parse(&group) else { return };
                let stream = StreamKey { alert: alert.into(), to: to.into() };
                let Some(group) = self.groups.get_mut(&key) else { return };
                let before = group.alerts.len();
                group.settle(&stream, keys(&firing), at.into());
                let after = group.alerts.len();
                self.count_followed(&key, before, after);
            }
        }
    }

    fn replay_stale(&mut self, at: Steady, key: &GroupKey, alert: AlertKey) {
        let Some(group) = self.groups.get_mut(key) else { return };
        let before = group.alerts.len();
        group.apply_stale(alert, at);
        let after = group.alerts.len();
        self.count_followed(key, before, after);
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
    ) {
        let stream = StreamKey { alert: thread.alert.as_str().into(), to: email.to.as_str().into() };
        let key = Arc::new(key);
        let schema = &self.schema;
        let group = self.groups.entry(Arc::clone(&key)).or_insert_with_key(|key| {
            let mut group = Group::default();
            group.set_routes(route::routes(schema, key), at.into());
            group
        });
        group.mail_queued(stream.clone(), id.clone(), thread, firing, at.into());
        self.outbox.insert(seq, id, email, key, stream, at.into());
    }
}
