//! Why a mail was sent, in its subject and in its words.

use std::time::Duration;

use kinetic_wire::ServiceName;

use crate::format;
use crate::reason::{NotifyReason, Timing};
use crate::render::{Notification, is_are};
use crate::words::Matter;

impl Notification<'_> {
    /// Subject: the state in front, the episode's own words behind.
    pub(crate) fn subject(&self) -> String {
        let state = match self.reason {
            NotifyReason::Resolved => "RESOLVED",
            NotifyReason::DeliveryResumed if self.state() == "resolved" => "RESOLVED",
            NotifyReason::RepeatIntervalElapsed | NotifyReason::DependencyRecovered => "STILL FIRING",
            NotifyReason::Escalated => "ESCALATED",
            _ => "FIRING",
        };
        match self.firing.len() {
            0 | 1 => format!("[{state}] {}", self.thread.subject),
            n => format!("[{state} {n}] {}", self.thread.subject),
        }
    }

    /// Why this mail was sent.
    pub(crate) fn why(&self) -> String {
        let timing = |pick: fn(&Timing) -> Duration| {
            self.timing.as_ref().map_or_else(|| "the agreed time".to_owned(), |t| format::duration(pick(t)))
        };
        let (noun, out) = (self.matter.noun(), self.matter.out());
        match self.reason {
            NotifyReason::FirstFiring => {
                format!("something is {out} that you were not told of: {}", format::count(self.fresh, noun))
            }
            NotifyReason::Escalated => format!(
                "{} {out}, others were told of it, and nobody has acknowledged it",
                is_are(self.firing.len(), noun)
            ),
            NotifyReason::MoreFiring => {
                let new = format::count(self.fresh, &format!("new {noun}"));
                format!("more is {out} than you were told of: {new}")
            }
            NotifyReason::FewerFiring => format!(
                "less is {out} than you were told of: {} back, {} left",
                format::count(self.resolved.len(), noun),
                self.firing.len()
            ),
            NotifyReason::Resolved => {
                let or = match self.matter {
                    _ if self.resolved.iter().all(|alert| !alert.stale) => "",
                    Matter::Deviation | Matter::Limits | Matter::Security => "",
                    Matter::Silence => ", or no analyzer speaks of it any more",
                    Matter::Nodes(_) => ", or not waited for any more",
                };
                format!("all that you were told of is {}{or}", self.matter.back())
            }
            NotifyReason::DeliveryResumed => {
                "mail to you had to wait for a relay, and what it said has changed meanwhile".to_owned()
            }
            NotifyReason::RepeatIntervalElapsed => format!(
                "nothing has changed for {} (repeat_interval), and it still fires",
                timing(|t| t.repeat_interval)
            ),
            NotifyReason::DependencyRecovered => {
                let other = self.recovered.map_or("a service", ServiceName::as_str);
                format!(
                    "{other}, which {} depends on, has recovered, and this still fires",
                    self.group.service
                )
            }
        }
    }
}
