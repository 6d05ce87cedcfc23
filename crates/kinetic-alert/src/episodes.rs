//! What fires, as operators are shown it.

use std::ops::Bound::{Excluded, Included, Unbounded};

use kinetic_wire::{
    AcknowledgementState, EpisodeState, EpisodesQuestion, EpisodesReply, Feed, FiringFeed, RpcCode, ToldState,
};

use crate::clock::Steady;
use crate::doors::Refusal;
use crate::group::{AlertView, Group};
use crate::id::{GroupKey, StreamKey};
use crate::machine::Alert;
use crate::reason::{Fold, Step};
use crate::render;

/// Episodes on one page.
const PAGE_MAX: usize = 100;
/// Feeds shown of one episode.
const FEEDS_SHOWN: usize = 5;

impl Alert {
    /// One page of what fires.
    pub(crate) fn episodes(&self, at: Steady, question: &EpisodesQuestion) -> Result<EpisodesReply, Refusal> {
        let limit = question.limit.map_or(PAGE_MAX, |limit| (limit as usize).clamp(1, PAGE_MAX));
        let begin = match (&question.after, &question.customer) {
            (Some(after), _) => {
                let no_group = || Refusal(RpcCode::Invalid, format!("`{after}` is no group"));
                Excluded(GroupKey::parse(after).ok_or_else(no_group)?)
            }
            (None, Some(customer)) => Included(GroupKey::first_of(customer)),
            (None, None) => Unbounded,
        };
        let wanted = |key: &GroupKey| question.customer.as_ref().is_none_or(|c| *c == key.customer);
        let goes_on = |group: &Group| {
            group.firing() > 0 || group.streams.values().any(|stream| !stream.told.is_empty())
        };
        let groups = self.groups.range::<GroupKey, _>((begin.as_ref(), Unbounded));
        let mut found = groups.take_while(|(key, _)| wanted(key)).filter(|(_, group)| goes_on(group));
        let episodes: Vec<EpisodeState> =
            found.by_ref().take(limit).map(|(key, _)| self.episode(at, key)).collect();
        let more = found.next().is_some();
        let next = episodes.last().filter(|_| more).map(|episode| episode.group.clone());
        Ok(EpisodesReply { ok: true, episodes, next, now_ms: at.wall().as_ms() })
    }

    /// One group, as it stands.
    pub(crate) fn episode(&self, at: Steady, key: &GroupKey) -> EpisodeState {
        let none = Group::default();
        let group = self.groups.get(key).unwrap_or(&none);
        let firing = render::ranked(group.alerts.values().filter(|alert| alert.firing));
        let acknowledged = group.acknowledged.as_ref().filter(|acknowledged| acknowledged.until > at);
        EpisodeState {
            group: key.to_string(),
            customer: key.customer.clone(),
            analytic: key.analytic.clone(),
            service: key.service.clone(),
            cluster: key.cluster.clone(),
            since_ms: group.episode.wall().as_ms(),
            firing: group.firing() as u64,
            silenced: group.silenced() as u64,
            feeds: firing.into_iter().take(FEEDS_SHOWN).map(feed).collect(),
            acknowledged: acknowledged.map(|acknowledged| AcknowledgementState {
                author: acknowledged.author.clone(),
                reason: acknowledged.reason.clone(),
                at_ms: acknowledged.at.as_ms(),
                until_ms: acknowledged.until.wall().as_ms(),
            }),
            told: self.told(at, key, group),
        }
    }

    fn told(&self, at: Steady, of: &GroupKey, group: &Group) -> Vec<ToldState> {
        // What explains it to this recipient, the first by name.
        let under = |key: &StreamKey| {
            let failing = self.failing_below(of, &key.to, at).into_iter().find(|failing| failing.told);
            failing.map(|failing| failing.service.to_string())
        };
        let named = group.streams.iter().filter(|(_, stream)| stream.timing.is_some());
        let told = named.map(|(key, stream)| {
            let next = match group.next_step(key, stream, at.max(self.quiet_until)) {
                Some((at, Step::Mail(reason))) => Some((at, reason)),
                Some((_, Step::Settle)) | None => None,
            };
            ToldState {
                alert: key.alert.to_string(),
                to: key.to.to_string(),
                escalation: stream.timing.as_ref().is_some_and(|timing| timing.escalate_after.is_some()),
                told: stream.told.len() as u64,
                mailed_ms: stream.thread.as_ref().map(|_| stream.standing.decided_at.wall().as_ms()),
                on_its_way: stream.outstanding.is_some(),
                next_reason: next.map(|(_, reason)| reason.to_string()),
                next_ms: next.map(|(at, _)| at.wall().as_ms()),
                folded_under: if stream.standing.fold == Fold::Folded { under(key) } else { None },
            }
        });
        told.collect()
    }
}

fn feed(alert: &AlertView) -> FiringFeed {
    FiringFeed {
        feed: Feed { origin: alert.origin.clone(), metric: alert.metric.clone() },
        since_ms: alert.since_ms,
        deviations: alert.numbers.map(|numbers| numbers.deviations),
        silenced: alert.silenced,
    }
}
