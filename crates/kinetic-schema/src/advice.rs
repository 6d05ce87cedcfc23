//! What checks say of a schema that is well formed: rules that can never fire, rules that will never be quiet, parts
//! that nothing uses.

mod telling;

use std::collections::BTreeSet;

use crate::block::Node;
use crate::diagnostic::{At, Problem, Sink};
use crate::expectation::{alerts_per_day, attainable, feeds_per_window, smallest_cluster};
use crate::load::{Declared, Parts};
use crate::notation::show_duration;
use crate::schema::{Analytic, Cluster, Customer, Deviates, Deviation, Hysteresis, Rule};
use crate::value::is_literal;

/// Cluster sizes for which figures are given where globs leave the size open.
const SHOWN_SIZES: [u32; 3] = [5, 12, 50];
/// False alerts a day, of one analytic and one metric, from which on its author is told.
const FALSE_ALERTS_A_DAY: f64 = 1.0;
/// What a suggestion must stay under: a tenth, since hysteresis helps less than independent windows promise.
const SUGGESTED_A_DAY: f64 = 0.1;
/// What is suggested, best first: the first that a cluster's size allows and that stays quiet.
const SUGGESTIONS: [(f64, Hysteresis); 8] = [
    (3.0, Hysteresis { hits: 3, of: 5 }),
    (3.0, Hysteresis { hits: 5, of: 10 }),
    (2.5, Hysteresis { hits: 5, of: 6 }),
    (2.0, Hysteresis { hits: 5, of: 6 }),
    (2.0, Hysteresis { hits: 8, of: 10 }),
    (1.5, Hysteresis { hits: 8, of: 10 }),
    (1.5, Hysteresis { hits: 12, of: 15 }),
    (1.2, Hysteresis { hits: 18, of: 20 }),
];

/// Advice on all that a customer has.
pub(crate) fn customer(sink: &mut Sink<'_>, parts: &Parts<'_>, customer: &Customer) {
    for (name, named) in parts.names("analytic") {
        if let Some(analytic) = customer.analytics.get(&(*name).into()) {
            rule(sink, named.node, analytic, customer);
        }
    }
    telling::hours(sink, parts, customer);
    // With an error about, a part may look unused only because of it.
    if sink.failed() {
        return;
    }
    let used: BTreeSet<&str> = customer
        .services
        .values()
        .flat_map(|service| service.clusters.values())
        .map(|cluster| cluster.source.as_str())
        .collect();
    for (name, named) in parts.names("source") {
        if !used.contains(name) {
            let message = format!(
                "no cluster uses source `{name}`: what arrives there is read and compared with nothing"
            );
            let problem = Problem::warning("unused-source", &named.node.header(), message).label("unused");
            sink.push(
                problem.help(format!("add a cluster with source = source.{name}, or remove the source")),
            );
        }
    }
    telling::reach(sink, parts, customer);
    telling::slips(sink, parts, customer);
    telling::unused_hours(sink, parts, customer);
}

/// A customer whose silence is an event that nobody is told of.
fn untold_silence(sink: &mut Sink<'_>, parts: &Parts<'_>) {
    let silent_after = parts.customer.and_then(|named| named.node.get("silent_after"));
    if let Some(silent_after) = silent_after.filter(|_| parts.names("alert").is_empty()) {
        let message = "nobody is told when this customer falls silent";
        let problem =
            Problem::warning("untold-silence", &silent_after.at(), message).label("goes to history only");
        sink.push(
            problem.help("its alerts tell of it, and so does the installation's `watchdog`: it has neither"),
        );
    }
}

/// Advice on the installation as a whole.
pub(crate) fn installation(sink: &mut Sink<'_>, declared: &Declared<'_>) {
    if sink.failed() {
        return;
    }
    if !declared.single.contains_key("watchdog") {
        declared.customers.values().for_each(|parts| untold_silence(sink, parts));
    }
    if declared.single.contains_key("mail") {
        return;
    }
    let mut alerts = declared.customers.values().flat_map(|parts| parts.names("alert").values());
    let first = alerts.find(|named| named.node.get("to").is_some());
    if let Some(named) = first.or_else(|| declared.single.get("watchdog")) {
        let message = "there is no `mail` block, so that alerts are kept in history and nobody is mailed";
        let problem = Problem::warning("no-mail", &named.node.header(), message).label("would be mailed");
        sink.push(problem.help("add mail { … } with relay and from to kinetic.hcl"));
    }
}

/// A cluster that an analytic looks at, with its size where its members are all literal.
struct Judged<'s> {
    name: String,
    size: Option<u32>,
    cluster: &'s Cluster,
}

fn rule(sink: &mut Sink<'_>, node: Node<'_>, analytic: &Analytic, customer: &Customer) {
    // Of silence there is nothing to say beforehand: how often feeds report is nowhere written.
    let Rule::Deviates(deviates) = analytic.rule else { return };
    let Some(rule) = node.blocks("rule").next() else { return };
    let at = rule.get("deviations").map_or_else(|| rule.header(), |value| value.at());
    let judged: Vec<Judged<'_>> = analytic
        .on
        .iter()
        .filter_map(|path| {
            let cluster = customer.services.get(&path.service)?.clusters.get(&path.cluster)?;
            // A list that could not be read says nothing about the cluster's size.
            let literal =
                !cluster.members.is_empty() && cluster.members.iter().all(|glob| is_literal(&glob.pattern));
            let distinct: BTreeSet<&str> = cluster.members.iter().map(|glob| glob.pattern.as_str()).collect();
            let size = u32::try_from(distinct.len()).ok().filter(|_| literal);
            Some(Judged { name: format!("{}.{}", path.service, path.cluster), size, cluster })
        })
        .collect();
    let dead = never_fires(sink, rule, &at, &deviates, &judged);
    if judged.iter().any(|judged| judged.size.is_none() && !judged.cluster.members.is_empty()) {
        small_clusters(sink, &at, &deviates);
    }
    if !dead {
        false_alerts(sink, &at, analytic, &deviates, &judged);
    }
}

/// An error where a cluster is too small for its rule, whatever its feeds do.
fn never_fires(
    sink: &mut Sink<'_>,
    rule: Node<'_>,
    at: &At,
    deviates: &Deviates,
    judged: &[Judged<'_>],
) -> bool {
    let k = deviates.deviations;
    let mut dead = false;
    for Judged { name, size, .. } in judged {
        let Some(n) = *size else { continue };
        let feeds = if n == 1 { "1 feed".to_owned() } else { format!("{n} feeds") };
        if !attainable(deviates, n) {
            let bound = match deviates.deviation {
                Deviation::Population => format!("sqrt(n - 1) = {:.2}", (f64::from(n) - 1.0).sqrt()),
                Deviation::Sample => {
                    format!("(n - 1) / sqrt(n) = {:.2}", (f64::from(n) - 1.0) / f64::from(n).sqrt())
                }
            };
            let message = format!(
                "this rule can never fire on cluster `{name}`: of {feeds}, none can be more than {k} standard deviations from the mean that it is part of"
            );
            let help = format!(
                "the farthest that one of n feeds can be is {bound}; deviations = {k} needs at least {} members",
                smallest_cluster(deviates)
            );
            sink.push(
                Problem::error("never-fires", at, message)
                    .label(format!("out of reach for {feeds}"))
                    .help(help),
            );
            dead = true;
        } else if n < deviates.min_feeds {
            let min = deviates.min_feeds;
            let message = format!(
                "this rule can never fire on cluster `{name}`: it has {feeds}, and `min_feeds` is {min}"
            );
            let at = rule.get("min_feeds").map_or_else(|| at.clone(), |value| value.at());
            let problem = Problem::error("never-fires", &at, message).label("more than there are");
            sink.push(problem.help(format!("add members, or set min_feeds to {n} or less")));
            dead = true;
        }
    }
    dead
}

/// A warning where globs may give a cluster that is too small for the rule but passes `min_feeds`.
fn small_clusters(sink: &mut Sink<'_>, at: &At, deviates: &Deviates) {
    let (needed, min) = (smallest_cluster(deviates), deviates.min_feeds);
    if needed <= min {
        return;
    }
    let k = deviates.deviations;
    let sizes = if needed - 1 == min { min.to_string() } else { format!("{min} to {}", needed - 1) };
    let message = format!(
        "this rule needs at least {needed} feeds: on {sizes} it can never fire, and nothing would say so"
    );
    let problem = Problem::warning("needs-more-feeds", at, message)
        .label(format!("{k} is out of reach for fewer than {needed}"));
    sink.push(problem.help(format!(
        "set min_feeds = {needed}, so that a smaller cluster is reported as too small to judge"
    )));
}

/// A warning where a healthy cluster would be alerted on more than once a day.
fn false_alerts(
    sink: &mut Sink<'_>,
    at: &At,
    analytic: &Analytic,
    deviates: &Deviates,
    judged: &[Judged<'_>],
) {
    let windows_per_day = 86_400.0 / analytic.window.as_secs_f64();
    let per_day = |n: u32| alerts_per_day(deviates, analytic.hysteresis, n, windows_per_day);
    let literal = judged.iter().filter_map(|judged| Some((judged.size?, judged)));
    let worst = literal.max_by(|(a, _), (b, _)| per_day(*a).total_cmp(&per_day(*b)));
    let mut sizes: Vec<u32> = judged.iter().filter_map(|judged| judged.size).collect();
    let open = judged.iter().any(|judged| judged.size.is_none() && !judged.cluster.members.is_empty());
    if open {
        sizes.extend(SHOWN_SIZES);
    }
    let most = sizes.iter().map(|n| per_day(*n)).fold(0.0, f64::max);
    if most <= FALSE_ALERTS_A_DAY {
        return;
    }
    let mut message = match worst.filter(|(n, _)| !open || per_day(*n) >= most) {
        Some((n, judged)) => format!(
            "expects about {} false alerts a day on the {n} healthy feeds of `{}`: {} of them out of line in each {} window",
            figure(per_day(n)),
            judged.name,
            figure(feeds_per_window(deviates, n)),
            show_duration(analytic.window)
        ),
        None => {
            let shown: Vec<String> = SHOWN_SIZES
                .iter()
                .map(|n| match per_day(*n) {
                    0.0 => format!("none on {n}"),
                    alerts => format!("about {} on {n}", figure(alerts)),
                })
                .collect();
            format!("expects false alerts on healthy feeds, each day {}", shown.join(", "))
        }
    };
    if !is_literal(&analytic.metric.pattern) {
        message.push_str(", for each metric");
    }
    let problem = Problem::warning("false-alerts", at, message).label(format!(
        "beyond {} in {} of {} windows",
        deviates.deviations, analytic.hysteresis.hits, analytic.hysteresis.of
    ));
    sink.push(problem.help(false_alert_help(deviates, &sizes, open, windows_per_day)));
}

fn false_alert_help(deviates: &Deviates, sizes: &[u32], open: bool, windows_per_day: f64) -> String {
    let quiet = SUGGESTIONS.iter().find(|(k, hysteresis)| {
        let rule = Deviates { deviations: *k, ..*deviates };
        sizes.iter().all(|n| {
            // Where globs leave the size open, a rule that asks for more feeds is a fair suggestion.
            (open || attainable(&rule, *n))
                && alerts_per_day(&rule, *hysteresis, *n, windows_per_day) <= SUGGESTED_A_DAY
        })
    });
    let mut help = String::new();
    if let Some((k, Hysteresis { hits, of })) = quiet {
        let rule = Deviates { deviations: *k, ..*deviates };
        help.push_str(&format!("try deviations = {k} with for = \"{hits} of {of}\""));
        let needed = smallest_cluster(&rule);
        if open && needed > deviates.min_feeds {
            help.push_str(&format!(" and min_feeds = {needed}"));
        }
        let asks_effect = deviates.min_effect_relative == 0.0 && deviates.min_effect_absolute == 0.0;
        help.push_str(if asks_effect { ", and a min_effect such as \"5%\"; " } else { "; " });
    }
    help.push_str(
        "the figures take values as normally distributed and windows as independent, which is optimistic",
    );
    if deviates.min_effect_relative > 0.0 || deviates.min_effect_absolute > 0.0 {
        help.push_str("; min_effect, which they leave out, lowers them");
    }
    help
}

/// Three significant digits, thousands set apart: 17,700; 2.05; 0.048.
fn figure(number: f64) -> String {
    if number < 100.0 {
        let digits = if number >= 10.0 {
            0
        } else if number >= 1.0 {
            1
        } else {
            2
        };
        return format!("{number:.digits$}");
    }
    let scale = 10f64.powf(number.log10().floor() - 2.0);
    let whole = format!("{:.0}", (number / scale).round() * scale);
    let mut shown = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::figure;

    #[test]
    fn figures_are_for_people() {
        assert_eq!(figure(17_738.2), "17,700");
        assert_eq!(figure(1_234_567.0), "1,230,000");
        assert_eq!(figure(999.6), "1,000");
        assert_eq!(figure(2.0535), "2.1");
        assert_eq!(figure(42.4), "42");
        assert_eq!(figure(0.048), "0.05");
    }
}
