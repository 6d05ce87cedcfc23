//! `kinetic test-event`: does the line work, from a customer's first byte to an accepted mail?

use std::time::Duration;

use anyhow::{Context, Result, bail};
use kinetic_schema::Schema;
use kinetic_schema::schema::matching_key;
use kinetic_wire::{CustomerName, Progress, SourceName};

use crate::adapter::file;
use crate::tracer::{self, Ending, Report, Step, Stopped, Test};
use crate::{cli, exit, node, schema_files, term, topology};

/// Shortest and longest time for a test; the longest is also the alert node's bound.
pub(crate) const TIMEOUT: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(2)..=Duration::from_secs(600);

/// `kinetic test-event`
pub(crate) async fn run(args: cli::TestEvent) -> Result<u8> {
    if !TIMEOUT.contains(&args.timeout) {
        bail!("--timeout is from {:?} to {:?}", TIMEOUT.start(), TIMEOUT.end());
    }
    let place = args.schema.clone();
    let schema = tokio::task::spawn_blocking(move || schema_files::load(&place)).await??;
    let test = planned(&args, &schema)?;
    let is_shown = !args.json;
    if is_shown {
        let what = format!("test event of {}, source {}", test.customer, test.source);
        term::say(&format!("{}\n", term::Style::stdout().bold(&what)));
    }
    let mut say = |step: &Step| {
        if is_shown {
            term::say(&row(step, term::Style::stdout()));
        }
    };
    let report = tracer::run(&test, &mut say).await;
    if args.json {
        term::say(&format!("{}\n", json(&test, &report)));
    } else {
        term::say(&concluded(&report, term::Style::stdout()));
    }
    Ok(if matches!(report.ending, Ending::Accepted { .. }) { 0 } else { exit::NO })
}

/// What is to be tested, by the schema.
pub(crate) fn planned(args: &cli::TestEvent, schema: &Schema) -> Result<Test> {
    let name = CustomerName::new(&args.customer);
    let Some(customer) = schema.customers.get(&name) else {
        let known: Vec<&str> = schema.customers.keys().map(CustomerName::as_str).collect();
        bail!("the schema in {} knows no customer {name}; there are: {}", args.schema, known.join(", "));
    };
    let wanted = args.source.as_deref().map(SourceName::new);
    let source = match &wanted {
        Some(wanted) => customer.sources.get(wanted),
        None => customer.sources.values().next(),
    };
    let Some(source) = source else {
        let known: Vec<&str> = customer.sources.keys().map(SourceName::as_str).collect();
        bail!("{name} has no such source; there are: {}", known.join(", "));
    };
    let region =
        schema.regions.get(&customer.region).context("a checked schema has its customers' regions")?;
    let control = node::address(&args.broker, "kinetic test-event")?;
    let mut ingress = topology::region_address(&control, region);
    if let (Some(login), Some(path)) = (&args.login, &args.login_password_file) {
        ingress.login.clone_from(login);
        ingress.password = file::read_secret(path)?;
    }
    let pattern = source.routing.first().context("a checked source has a routing pattern")?;
    Ok(Test {
        control,
        ingress,
        as_customer: args.login.is_some(),
        customer: name,
        source: source.name.clone(),
        partitions: source.partitions,
        routing_key: matching_key(pattern),
        region: customer.region.clone(),
        to: args.to.clone(),
        wait: args.timeout,
    })
}

/// Text of others (relays' words, names) must not steer the terminal.
fn safe(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// One stage, in a line.
fn row(step: &Step, style: term::Style) -> String {
    let mark = match step.progress {
        Progress::Passed => style.green("ok"),
        Progress::Waits => "..".to_owned(),
        Progress::Failed => style.red("no"),
    };
    let who = match (&step.node, &step.to) {
        (Some(node), _) => {
            format!("{node}{}: ", step.epoch.map(|epoch| format!(" (epoch {epoch})")).unwrap_or_default())
        }
        (None, Some(to)) => format!("{to}: "),
        (None, None) => String::new(),
    };
    let by = step.relay.as_ref().map(|relay| format!(" [{relay}]")).unwrap_or_default();
    let text = safe(&format!("{who}{}{by}", step.detail));
    format!("{:>7} ms  {mark} {:<9}  {text}\n", step.after_ms, step.stage.as_str())
}

/// All of it as plain text, for a mail.
pub(crate) fn page(report: &Report) -> String {
    let style = term::Style { fancy: false };
    let rows: String = report.steps.iter().map(|step| row(step, style)).collect();
    rows + &concluded(report, style)
}

/// The last lines.
fn concluded(report: &Report, style: term::Style) -> String {
    match &report.ending {
        Ending::Accepted { mails } => {
            let mails = if *mails == 1 { "the mail is".to_owned() } else { format!("{mails} mails are") };
            let ids: String =
                message_ids(report).map(|id| format!("  Message-ID <{}>\n", safe(id))).collect();
            format!(
                "{} {mails} with the relay after {} ms\n{ids}",
                style.green("The line works:"),
                report.took_ms
            )
        }
        Ending::Stopped(Stopped { at, passed, why, awaited, look }) => {
            let passed =
                passed.map_or_else(String::new, |passed| format!(" (got as far as: {})", passed.as_str()));
            format!(
                "{} at {}{passed}: {}\n  awaited from {}\n  look at: {}\n  trace {}\n",
                style.red("Stopped"),
                at.as_str(),
                safe(why),
                safe(awaited),
                safe(look),
                report.trace
            )
        }
    }
}

fn message_ids(report: &Report) -> impl Iterator<Item = &str> {
    let accepted =
        |step: &&Step| step.stage == kinetic_wire::Stage::Accepted && step.progress == Progress::Passed;
    report.steps.iter().filter(accepted).filter_map(|step| step.message_id.as_deref())
}

/// All of it, for a script.
pub(crate) fn json(test: &Test, report: &Report) -> serde_json::Value {
    let steps = report.steps.iter().map(|step| {
        serde_json::json!({
            "after_ms": step.after_ms, "stage": step.stage, "progress": step.progress, "detail": step.detail,
            "node": step.node, "epoch": step.epoch, "to": step.to, "relay": step.relay, "message_id": step.message_id,
        })
    });
    let stopped = match &report.ending {
        Ending::Accepted { .. } => None,
        Ending::Stopped(Stopped { at, passed, why, awaited, look }) => Some(serde_json::json!({
            "at": at, "passed": passed, "why": why, "awaited": awaited, "look": look,
        })),
    };
    serde_json::json!({
        "ok": stopped.is_none(), "trace": report.trace, "customer": test.customer, "source": test.source,
        "took_ms": report.took_ms, "stages": steps.collect::<Vec<_>>(), "stopped": stopped,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use kinetic_wire::Stage;

    use super::*;
    use crate::cmd::schema_repo;

    fn args(more: &[&str]) -> cli::TestEvent {
        let words = ["kinetic", "test-event", "acme", "--amqp", "amqp://kinetic@127.0.0.1/kinetic"];
        let cli = cli::Cli::try_parse_from(words.iter().chain(more)).expect("parses");
        match cli.command {
            cli::Command::TestEvent(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn starter() -> Schema {
        let files = schema_repo::starter("acme", &schema_repo::salted_sha256("secret"));
        kinetic_schema::load(&files).schema.expect("the starter checks")
    }

    #[test]
    fn the_schema_says_what_is_tested() {
        let test =
            planned(&args(&["--timeout", "5s", "--to", "me@acme.example"]), &starter()).expect("a plan");
        assert_eq!(
            (test.customer.as_str(), test.source.as_str(), test.routing_key.as_str()),
            ("acme", "statsd", "statsd")
        );
        assert_eq!((test.control.vhost.as_str(), test.ingress.vhost.as_str()), ("kinetic", "local"));
        assert_eq!((test.as_customer, test.wait), (false, Duration::from_secs(5)));
        let unknown = planned(&args(&["--source", "nowhere"]), &starter()).expect_err("no such source");
        assert!(unknown.to_string().ends_with("there are: statsd"), "{unknown}");
        let other = cli::TestEvent { customer: "umbrella".into(), ..args(&[]) };
        let unknown = planned(&other, &starter()).expect_err("no such customer");
        assert!(unknown.to_string().ends_with("there are: acme, kinetic"), "{unknown}");
    }

    #[test]
    fn a_stage_is_a_line_that_cannot_steer_the_terminal() {
        let step = Step {
            after_ms: 1_204,
            stage: Stage::Accepted,
            progress: Progress::Waits,
            detail: "450 come\x1b[2Jback".into(),
            node: None,
            epoch: None,
            to: Some("me@acme.example".into()),
            relay: Some("smtp.example:587".into()),
            message_id: None,
        };
        assert_eq!(
            row(&step, term::Style { fancy: false }),
            "   1204 ms  .. accepted   me@acme.example: 450 come\u{fffd}[2Jback [smtp.example:587]\n"
        );
    }
}
