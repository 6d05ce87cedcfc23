//! What becomes due: alerts that went stale, groups that have something to say.

use std::collections::BTreeSet;
use std::sync::Arc;

use kinetic_wire::CustomerName;

use crate::announce;
use crate::clock::Steady;
use crate::id::{AlertKey, GroupKey, MailNames, StreamKey};
use crate::level;
use crate::links::Links;
use crate::machine::{Alert, Effect, Record};
use crate::outbox::Queued;
use crate::reason::{NotifyReason, Step};
use crate::render::{self, Context, Notification};
use crate::{route, webhook};

/// Keys as history writes them.
fn texts(keys: impl IntoIterator<Item = AlertKey>) -> Vec<String> {
    keys.into_iter().map(|key| key.to_string()).collect()
}

impl Alert {
    /// Puts a group on the agenda for what it has to say next, or forgets it when it has nothing to remember.
    pub(crate) fn schedule(&mut self, key: &GroupKey) {
        let Some((key, group)) = self.groups.get_key_value(key) else { return };
        let key = Arc::clone(key);
        if group.is_idle() {
            self.flushes.set(&key, None);
            self.blocked.remove(&key);
            self.groups.remove(&key);
            self.services.leave(&key);
            return;
        }
        let may_speak = !self.blocked.contains(&key);
        let due = || group.due(self.now.max(self.quiet_until), |stream| self.has_way(stream));
        let due = may_speak.then(due).flatten();
        self.flushes.set(&key, due);
    }

    /// `schedule`, unless history is being replayed: what it leads to is put on the agenda at its end.
    pub(crate) fn schedule_live(&mut self, key: &GroupKey) {
        if self.clock.is_set() {
            self.schedule(key);
        }
    }

    /// `schedule` for a cluster's group and those of blocks that hold its alerts too.
    pub(crate) fn schedule_all(&mut self, home: &GroupKey) {
        let wider = self.groups.get(home).map(|group| group.wider.clone()).unwrap_or_default();
        self.schedule(home);
        wider.iter().for_each(|key| self.schedule(key));
    }

    /// Makes every group follow the schema as it is now.
    pub(crate) fn reroute(&mut self, at: Steady, effects: &mut Vec<Effect>) {
        let keys: Vec<Arc<GroupKey>> = self.groups.keys().cloned().collect();
        for key in &keys {
            let routes = route::routes(&self.schema, &self.left, key);
            if let Some(group) = self.groups.get_mut(key) {
                group.set_routes(routes, at);
            }
        }
        self.refill(at);
        self.rebuild_services();
        let customers: BTreeSet<CustomerName> = keys.iter().map(|key| key.customer.clone()).collect();
        customers.iter().for_each(|customer| self.refold(customer, at));
        let keys: Vec<Arc<GroupKey>> = self.groups.keys().cloned().collect();
        for key in &keys {
            self.drop_unrouted(at, key, effects);
            self.schedule(key);
        }
    }

    /// Takes leave of the recipients that the schema names no more, once no mail to them is on its way.
    pub(crate) fn drop_unrouted(&mut self, at: Steady, key: &Arc<GroupKey>, effects: &mut Vec<Effect>) {
        let Some(group) = self.groups.get_mut(key) else { return };
        let believers = group.drop_unrouted(at);
        self.count_followed(key);
        for stream in believers {
            self.record_settled(at, key, &stream, Vec::new(), effects);
        }
    }

    pub(crate) fn record_settled(
        &mut self,
        at: Steady,
        key: &GroupKey,
        stream: &StreamKey,
        firing: Vec<String>,
        effects: &mut Vec<Effect>,
    ) {
        self.stats.settled += 1;
        let record = Record::Settled {
            at: at.wall(),
            group: key.to_string(),
            alert: stream.alert.to_string(),
            to: stream.to.to_string(),
            firing,
            seen: self.intake.applied,
        };
        self.append(record, effects);
    }

    /// Alerts of which nothing has been heard for `stale_after` end.
    pub(crate) fn take_stale(&mut self, now: Steady, effects: &mut Vec<Effect>) {
        if !self.subscribed {
            return;
        }
        while let Some((group_key, key)) = self.staleness.take_due(now) {
            let Some(group) = self.groups.get_mut(&group_key) else { continue };
            let Some(alert) = group.alerts.get(&key).filter(|alert| alert.firing) else { continue };
            let stale_at = alert.heard_at.max(self.hearing_since) + self.config.stale_after;
            if stale_at > now {
                self.staleness.set(&(group_key, key), Some(stale_at));
                continue;
            }
            group.apply_stale(key, now);
            let silent = group.firing() == 0;
            self.count_followed(&group_key);
            self.widen_stale(&group_key, key, now);
            if silent {
                self.firing_changed(&group_key, false, now);
            }
            self.stats.alerts_stale += 1;
            let record = Record::Stale {
                at: now.wall(),
                group: group_key.to_string(),
                alerts: texts([key]),
                seen: self.intake.applied,
            };
            self.append(record, effects);
            self.schedule(&group_key);
        }
    }

    /// Groups whose moment has come say what they have to say.
    pub(crate) fn flush_due(&mut self, now: Steady, effects: &mut Vec<Effect>) {
        while let Some(key) = self.flushes.take_due(now) {
            self.flush(now, &key, effects);
            self.schedule(&key);
        }
    }

    fn due_steps(&self, now: Steady, key: &GroupKey) -> Vec<(StreamKey, Step)> {
        let Some(group) = self.groups.get(key) else { return Vec::new() };
        let due = |(stream, state)| {
            let (_, step) = group.next_step(stream, state, now).filter(|(at, _)| *at <= now)?;
            Some((stream.clone(), step))
        };
        group.streams.iter().filter(|(stream, _)| self.has_way(stream)).filter_map(due).collect()
    }

    /// What is due for one recipient.
    pub(crate) fn step_due(&self, key: &GroupKey, stream: &StreamKey, now: Steady) -> Option<Step> {
        let group = self.groups.get(key)?;
        let (due, step) = group.next_step(stream, group.streams.get(stream)?, now)?;
        (due <= now).then_some(step)
    }

    fn flush(&mut self, now: Steady, key: &Arc<GroupKey>, effects: &mut Vec<Effect>) {
        let mut steps = self.due_steps(now, key);
        let mut folded = false;
        for (stream, step) in &steps {
            let Step::Mail(reason) = step else { continue };
            folded |= reason.folds() && self.folds(key, stream, now);
        }
        // Whose step waits for another's does not have one any more, either.
        if folded {
            steps = self.due_steps(now, key);
        }
        let mut announced: Vec<(Arc<str>, NotifyReason)> = Vec::new();
        for (stream, step) in steps {
            match step {
                Step::Settle => self.settle(now, key, &stream, effects),
                Step::Mail(_) if self.suppressions.holds(&stream.to) => {
                    self.withhold(now, key, &stream, effects)
                }
                Step::Mail(_) if !webhook::is_webhook(&stream.to) && self.storms(key, now) => {
                    self.hold(now, key, &stream)
                }
                Step::Mail(_) if !self.outbox.room(&key.customer, self.config.outbox_max) => {
                    let severity = self.urgency(key);
                    if self.blocked.insert(key, severity, now) {
                        self.stats.outbox_full += 1;
                    }
                }
                Step::Mail(reason) => {
                    let said = (Arc::clone(&stream.alert), reason);
                    let announce = !announced.contains(&said);
                    if announce {
                        announced.push(said);
                    }
                    self.notify(now, key, stream, reason, announce.then_some(Announce), effects);
                }
            }
        }
    }

    fn settle(&mut self, now: Steady, key: &Arc<GroupKey>, stream: &StreamKey, effects: &mut Vec<Effect>) {
        let Some(group) = self.groups.get_mut(key) else { return };
        let firing: BTreeSet<AlertKey> = group.streams.get(stream).map_or_else(Default::default, |state| {
            let fires =
                |key: &AlertKey| group.alerts.get(key).is_some_and(|alert| alert.firing || alert.silenced);
            state.told.iter().copied().filter(fires).collect()
        });
        group.settle(stream, firing.clone(), now);
        self.count_followed(key);
        self.record_settled(now, key, stream, texts(firing), effects);
    }

    /// Nothing is sent to a suppressed address; once it is good again, its recipient is told what fires then.
    fn withhold(&mut self, now: Steady, key: &Arc<GroupKey>, stream: &StreamKey, effects: &mut Vec<Effect>) {
        let Some(group) = self.groups.get_mut(key) else { return };
        group.withhold(stream, now);
        self.count_followed(key);
        self.stats.mails_suppressed += 1;
        self.record_settled(now, key, stream, Vec::new(), effects);
    }

    /// Decides upon one mail: it is rendered, recorded, and sent once its record is safe.
    fn notify(
        &mut self,
        now: Steady,
        key: &Arc<GroupKey>,
        stream: StreamKey,
        reason: NotifyReason,
        announce: Option<Announce>,
        effects: &mut Vec<Effect>,
    ) {
        let context = Context {
            failing: self.failing_below(key, &stream.to, now),
            folded: self.folded_above(key, &stream.to),
        };
        let Some(group) = self.groups.get_mut(key) else { return };
        let Some(state) = group.streams.get(&stream) else { return };
        let names = MailNames { key: &self.config.id_key, domain: &self.config.mail_domain };
        let firing = group.to_tell(&state.told);
        let resolved = group.to_resolve(state, &firing);
        let thread = group.next_thread(&stream, || render::subject(key, group));
        let mut notification =
            Notification::new(key, group, state, reason, &thread, now.wall(), &self.schema);
        notification.context = context;
        // A link is its recipient's own, and a program follows none.
        let mail = self.schema.mail.as_ref().filter(|_| !webhook::is_webhook(&stream.to));
        let link = |mail| Links::of(&self.config, mail, key, &stream, thread.episode, now.wall());
        notification.links = mail.and_then(link);
        let notices = self.notices.of(&(key.customer.clone(), Arc::clone(&stream.to)));
        let (noticed, notices) = notices.map_or((None, Vec::new()), |(last, lines)| (Some(last), lines));
        notification.notices = notices;
        let id = names.mail(key, &thread, &stream.to);
        let severity = level::urgency(&self.schema, key, group);
        let Some(render::Rendered { email, rows_cut, templates_failed }) =
            render::message(&notification, &names, &id, &stream.to)
        else {
            return;
        };
        self.stats.rows_cut += rows_cut as u64;
        self.stats.templates_failed += templates_failed as u64;
        if announce.is_some() {
            effects.push(announce::effect(&notification));
        }
        let email = Box::new(email);
        let record = Record::MailQueued {
            at: now.wall(),
            id: id.clone(),
            group: key.to_string(),
            reason: reason.to_string(),
            email: email.clone(),
            firing: texts(firing.iter().copied()),
            resolved: texts(resolved),
            thread: thread.clone(),
            noticed,
            seen: self.intake.applied,
        };
        group.mail_queued(stream.clone(), id.clone(), thread, firing, now);
        *if webhook::is_webhook(&stream.to) {
            &mut self.stats.posts_queued
        } else {
            &mut self.stats.mails_queued
        } += 1;
        self.storms.told(&key.customer, &stream.to, now);
        let seq = self.append(record, effects);
        let parts = vec![(Arc::clone(key), stream)];
        let mut queued = Queued::new(email, parts, key.customer.clone(), severity, now);
        queued.noticed = noticed;
        self.outbox.insert(seq, id, queued);
    }
}

/// Marks the first of several like mails: it is also announced on `kin.notifications`.
struct Announce;
