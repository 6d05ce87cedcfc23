//! An analytic's rule in words.

use kinetic_schema::schema::{Analytic, Deviation, Rule, Silent, SilentEach};
use kinetic_wire::Direction;

use crate::render::{Notification, SENTENCE_NAME_MAX};
use crate::words::{self, Matter};
use crate::{breached, escape, format};

impl Notification<'_> {
    /// The rule in words.
    pub(crate) fn rule(&self) -> String {
        if let Some(rule) = breached::rule(self.matter) {
            return rule;
        }
        if let Matter::Nodes(noun) = self.matter {
            return words::watchdog_rule(noun, self.group, self.schema);
        }
        let Some(analytic) = self.analytic else {
            let analytic = self.lead().map_or(&self.group.analytic, |lead| &lead.home.analytic);
            return format!("{analytic} (no longer in the schema)");
        };
        let rule = match &analytic.rule {
            Rule::Deviates(rule) => rule,
            Rule::Silent(rule) => return silent_rule(analytic, rule),
        };
        let side = match rule.direction {
            Direction::Above => "above",
            Direction::Below => "below",
            Direction::Both => "away from",
        };
        let kind = match rule.deviation {
            Deviation::Population => "population",
            Deviation::Sample => "sample",
        };
        let mut words = format!(
            "{}: a feed fires when its {} of {} over {} is more than {} standard deviations ({kind}) {side} the \
             average of its cluster",
            analytic.name,
            analytic.value.as_str(),
            escape::line(&analytic.metric.pattern, SENTENCE_NAME_MAX),
            format::duration(analytic.window),
            format::deviations(rule.deviations),
        );
        if rule.min_effect_relative > 0.0 {
            let percent = format::number(rule.min_effect_relative * 100.0);
            words.push_str(&format!(", and differs from it by at least {percent} %"));
        }
        if rule.min_effect_absolute > 0.0 {
            let least = format::number(rule.min_effect_absolute);
            words.push_str(&format!(", and differs from it by at least {least}"));
        }
        let hysteresis = analytic.hysteresis;
        words.push_str(&format!(
            ", in {} of {}; fewer than {} feeds give no verdict",
            hysteresis.hits,
            format::count(hysteresis.of as usize, "window"),
            rule.min_feeds
        ));
        words
    }
}

/// The rule about silence in words.
fn silent_rule(analytic: &Analytic, rule: &Silent) -> String {
    let who = match rule.each {
        SilentEach::Feed => "a feed fires when",
        SilentEach::Cluster => "a cluster fires when of all its feeds",
    };
    format!(
        "{}: {who} nothing is heard of {} for more than {}",
        analytic.name,
        escape::line(&analytic.metric.pattern, SENTENCE_NAME_MAX),
        format::duration(rule.after),
    )
}
