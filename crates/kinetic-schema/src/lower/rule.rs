//! `rule`.

use kinetic_wire::Direction;

use crate::block::{Node, checked};
use crate::diagnostic::{Problem, Sink};
use crate::limits::{DEVIATIONS_MAX, MIN_FEEDS_DEFAULT, MIN_FEEDS_MAX, SILENT_AFTER};
use crate::notation;
use crate::schema::{Deviates, Deviation, Rule, Silent, SilentEach};
use crate::suggest;
use crate::value::{self, Value};

/// The one `rule` block of an analytic.
pub(super) fn of(sink: &mut Sink<'_>, analytic: Node<'_>) -> Option<Rule> {
    let mut rules = analytic.blocks("rule");
    let (Some(node), second) = (rules.next(), rules.next()) else {
        if analytic.get("rule").is_none() {
            sink.push(
                Problem::error(
                    "missing-block",
                    &analytic.header(),
                    format!("{} has no `rule`", analytic.title()),
                )
                .label("`rule` is missing")
                .help("add rule \"deviates\" { deviations = 3 }"),
            );
        }
        return None;
    };
    if let Some(second) = second {
        let message = "an analytic has one rule".to_owned();
        let problem = Problem::error("duplicate-block", &second.header(), message).label("a second one");
        sink.push(problem.related(&node.header(), "first here").help("write another analytic for it"));
    }
    let named = checked(sink, node)?;
    match named.name {
        "deviates" => deviates(sink, node).map(Rule::Deviates),
        SILENT => silent(sink, node).map(Rule::Silent),
        name => {
            let message = format!("there is no rule named `{name}`");
            let problem = Problem::error("unknown-rule", &node.name_at(), message).label("unknown");
            let help =
                "there are rule \"deviates\" { deviations = 3 } and rule \"silent\" { after = \"5m\" }";
            sink.push(match suggest::closest(name, ["deviates", SILENT]) {
                Some(near) => problem.help(format!("did you mean \"{near}\"?")),
                None => problem.help(help),
            });
            None
        }
    }
}

/// Label of the rule that listens.
const SILENT: &str = "silent";

/// Whether an analytic only listens for silence, also where that rule is not well formed.
pub(super) fn is_silent(analytic: Node<'_>) -> bool {
    let rule = analytic.blocks("rule").next();
    rule.and_then(|rule| rule.block.labels.first()).is_some_and(|label| label.as_str() == SILENT)
}

fn silent(sink: &mut Sink<'_>, node: Node<'_>) -> Option<Silent> {
    let after = node
        .required(sink, "after", "\"5m\"")
        .and_then(|value| value::duration(sink, value, SILENT_AFTER.0..=SILENT_AFTER.1));
    let kinds = [("feed", SilentEach::Feed), ("cluster", SilentEach::Cluster)];
    let each = node.get("each").and_then(|value| value::choice(sink, value, &kinds));
    Some(Silent { after: after?, each: each.unwrap_or_default() })
}

fn deviates(sink: &mut Sink<'_>, node: Node<'_>) -> Option<Deviates> {
    let smallest = 0.001;
    let deviations = node.required(sink, "deviations", "3").and_then(|value| {
        let wanted = format!("a number of standard deviations from {smallest} to {DEVIATIONS_MAX}");
        value::real(sink, value, smallest..=DEVIATIONS_MAX, &wanted)
    });
    let directions = [("above", Direction::Above), ("below", Direction::Below), ("both", Direction::Both)];
    let deviation_kinds = [("population", Deviation::Population), ("sample", Deviation::Sample)];
    let direction = node.get("direction").and_then(|value| value::choice(sink, value, &directions));
    let deviation = node.get("deviation").and_then(|value| value::choice(sink, value, &deviation_kinds));
    let min_feeds = node
        .get("min_feeds")
        .and_then(|value| value::whole(sink, value, 2..=u64::from(MIN_FEEDS_MAX)))
        .and_then(|feeds| u32::try_from(feeds).ok());
    let relative = node.get("min_effect").and_then(|value| share(sink, value));
    let absolute = node.get("min_effect_absolute").and_then(|value| {
        value::real(sink, value, 0.0..=f64::MAX, "a number of 0 or more, in the metric's own unit")
    });
    Some(Deviates {
        deviations: deviations?,
        direction: direction.unwrap_or_default(),
        deviation: deviation.unwrap_or_default(),
        min_feeds: min_feeds.unwrap_or(MIN_FEEDS_DEFAULT),
        min_effect_relative: relative.unwrap_or(0.0),
        min_effect_absolute: absolute.unwrap_or(0.0),
    })
}

/// `min_effect`: a share of the mean.
fn share(sink: &mut Sink<'_>, value: Value<'_>) -> Option<f64> {
    let written = value::text(sink, value, "a share of the mean such as \"5%\"")?;
    let share = notation::share(written);
    if share.is_none() {
        let message = "`min_effect` must be a share of the mean such as \"5%\"";
        let help = "for a difference in the metric's own unit there is min_effect_absolute = 0.5";
        sink.push(value.problem("bad-share", message).label("not a share").help(help));
    }
    share
}
