//! `kinetic plan` and `kinetic reconcile`: what a RabbitMQ lacks and has too much of by the schema, and making it so.

use std::fmt::Write as _;
use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Context, Result};
use kinetic_access::{Change, Plan};
use kinetic_schema::Schema;

use crate::adapter::clock;
use crate::adapter::file;
use crate::adapter::management::Management;
use crate::reconcile::{self, Outcome, Target};
use crate::term::Style;
use crate::{BadConfig, cli, exit, node, schema_files, term};

/// A run that takes longer says how far it is.
const QUIET_MS: u64 = 1_000;

/// One broker and what there is to do.
struct Planned {
    target: Target,
    api: Management,
    plan: Plan,
}

/// `kinetic plan`
pub(crate) async fn plan(args: cli::PlanBroker) -> Result<u8> {
    let (_, planned, without) = look(&args.of).await?;
    show(&args.of, &planned, &without);
    Ok(if planned.iter().all(|one| one.plan.is_empty()) { 0 } else { exit::CHANGES })
}

/// `kinetic reconcile`
pub(crate) async fn run(args: cli::Reconcile) -> Result<u8> {
    let (schema, planned, without) = look(&args.of).await?;
    if planned.iter().all(|one| one.plan.is_empty()) || args.dry_run {
        show(&args.of, &planned, &without);
        return Ok(if planned.iter().all(|one| one.plan.is_empty()) { 0 } else { exit::CHANGES });
    }
    if !args.of.json {
        show(&args.of, &planned, &without);
    }
    if !args.yes && !agreed()? {
        return Ok(exit::CHANGES);
    }
    let began = clock::now().mono;
    let mut total = Outcome::default();
    for Planned { target, api, plan } in planned {
        let progress = |done: usize, of: usize, what: &str| {
            if clock::now().mono.since(began).as_millis() >= u128::from(QUIET_MS) && done < of {
                term::progress(&format!("{done} of {of}: {what}"));
            }
        };
        let mut outcome = Outcome::default();
        let settled = reconcile::settle(&api, &schema, &target, plan, &mut outcome, &progress).await;
        if std::io::stderr().is_terminal() {
            term::progress("");
        }
        for (change, count) in outcome.steps {
            *total.steps.entry(change).or_default() += count;
        }
        total.notes.extend(outcome.notes);
        settled
            .with_context(|| format!("{} is not as the schema wants it; the next run goes on", target.url))?;
    }
    let took = clock::now().mono.since(began);
    let count = |change: Change| total.steps.get(&change).copied().unwrap_or_default();
    let (created, changed, removed) = (count(Change::Create), count(Change::Change), count(Change::Remove));
    term::say(&if args.of.json {
        let done = serde_json::json!({
            "created": created, "changed": changed, "removed": removed,
            "seconds": took.as_secs_f64(), "notes": total.notes,
        });
        format!("{done}\n")
    } else {
        format!(
            "done in {:.1} s: {created} created, {changed} changed, {removed} removed\n",
            took.as_secs_f64()
        )
    });
    Ok(0)
}

/// Reads the schema and looks at every broker.
async fn look(args: &cli::Reconciled) -> Result<(Schema, Vec<Planned>, Vec<String>)> {
    let place = args.schema.clone();
    let schema = tokio::task::spawn_blocking(move || schema_files::load(&place)).await??;
    let control = node::address(&args.broker, "kinetic reconcile")?;
    let password = args.management_password_file.as_deref().map(file::read_secret).transpose()?;
    let (targets, without) = reconcile::targets(&schema, &control, args.management.as_deref());
    let without: Vec<String> = without
        .iter()
        .map(|region| {
            format!(
                "region {region} has no `management`: Kinetic's own broker follows the schema by itself; a RabbitMQ needs \
                 `management = \"https://HOST:15671\"` in the region's block, or --management"
            )
        })
        .collect();
    if targets.is_empty() {
        let problem = without.first().map_or("the schema has no region", String::as_str);
        return Err(BadConfig(format!("there is no broker to look at: {problem}")).into());
    }
    let mut planned = Vec::new();
    for target in targets {
        let api = Management::new(&target.url, &control, password.as_ref())?;
        let mut plan = reconcile::look(&api, &schema, &target)
            .await
            .with_context(|| format!("cannot see what is on the broker of {}", target.url))?;
        api.count_messages(&mut plan).await;
        planned.push(Planned { target, api, plan });
    }
    Ok((schema, planned, without))
}

fn show(args: &cli::Reconciled, planned: &[Planned], without: &[String]) {
    if args.json {
        let brokers: Vec<serde_json::Value> =
            planned.iter().map(|one| json(&one.target, &one.plan)).collect();
        term::say(&format!("{}\n", serde_json::json!({"brokers": brokers, "notes": without})));
        return;
    }
    let style = Style::stdout();
    let mut text = String::new();
    for Planned { target, plan, .. } in planned {
        lines(&mut text, style, target, plan, args.limit);
    }
    for note in without {
        text.push_str(&format!("note: {note}\n"));
    }
    term::say(&text);
}

fn lines(text: &mut String, style: Style, target: &Target, plan: &Plan, limit: usize) {
    let mut line = |words: String| writeln!(text, "{words}").expect("writing to a string");
    line(style.bold(&target.url));
    for step in plan.steps.iter().take(limit) {
        let change = match step.change {
            Change::Create => style.green("create"),
            Change::Change => style.bold("change"),
            Change::Remove => style.red("remove"),
        };
        line(format!("  {change} {} {}", step.action, style.dim(&format!("({})", step.reason))));
    }
    if plan.steps.len() > limit {
        line(format!("  … and {} more (--limit, --json)", plan.steps.len() - limit));
    }
    for note in plan.notes.iter().take(limit) {
        line(format!("  note: {note}"));
    }
    if plan.notes.len() > limit {
        line(format!("  … and {} more notes (--limit, --json)", plan.notes.len() - limit));
    }
    let counts = plan.counts();
    let count = |change: Change| counts.get(&change).copied().unwrap_or_default();
    line(if plan.is_empty() {
        "  nothing to do".to_owned()
    } else {
        format!(
            "  {} to create, {} to change, {} to remove",
            count(Change::Create),
            count(Change::Change),
            count(Change::Remove)
        )
    });
}

fn json(target: &Target, plan: &Plan) -> serde_json::Value {
    let steps: Vec<serde_json::Value> = plan
        .steps
        .iter()
        .map(|step| {
            serde_json::json!({
                "change": step.change.word(),
                "object": step.action.object(),
                "what": step.action.to_string(),
                "reason": step.reason,
            })
        })
        .collect();
    serde_json::json!({"management": target.url, "steps": steps, "notes": plan.notes})
}

/// Asks on the terminal; elsewhere nobody has agreed.
fn agreed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(BadConfig("nobody is asked here: say --yes, or look with kinetic plan".to_owned()).into());
    }
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "Do this? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
