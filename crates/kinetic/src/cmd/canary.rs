//! `kinetic canary`: test events on a schedule, and an alarm by another relay when they do not arrive.
//!
//! It runs beside the installation, best on another machine: what it reports is that the installation cannot report. So it keeps
//! nothing, needs no alert node, and mails by itself.

mod alarm;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kinetic_alert::machine::{Attempt, Email};
use kinetic_schema::Schema;
use kinetic_schema::schema::Relay as Declared;

use self::alarm::{Limits, Watch};
use crate::adapter::clock;
use crate::adapter::dkim::Signer;
use crate::adapter::smtp::Relay;
use crate::cmd::test_event::{self, TIMEOUT};
use crate::tracer::{self, Ending, Test};
use crate::{cli, schema_files, shutdown};

/// Shortest time between two rounds.
const EVERY_MIN: Duration = Duration::from_secs(2);
/// The next round comes this soon while a test has failed and nobody has been told.
const SOON: Duration = Duration::from_secs(30);
/// Longest time that one relay may take for an alarm.
const RELAY_TIMEOUT: Duration = Duration::from_secs(60);

/// `kinetic canary`
pub(crate) async fn run(args: cli::Canary) -> Result<u8> {
    if !TIMEOUT.contains(&args.timeout) {
        bail!("--timeout is from {:?} to {:?}", TIMEOUT.start(), TIMEOUT.end());
    }
    if args.every < EVERY_MIN {
        bail!("--every is {EVERY_MIN:?} at least");
    }
    // What is wrong from the beginning is said at once.
    let schema = load(&args.schema).await?;
    ways(&schema, args.relay.as_deref())?;
    let first: Vec<Test> =
        args.customer.iter().map(|name| planned(&args, name, &schema)).collect::<Result<_>>()?;
    tracing::info!(customers = first.len(), every = ?args.every, alarms = args.alarm_to.join(", "), "watching");
    let limits = Limits { fails: args.fails, again: args.again };
    let mut watches: Vec<Watch> = args.customer.iter().map(|name| Watch::new(name)).collect();
    let mut schema = Some(schema);
    tokio::select! {
        interrupted = shutdown::interrupted() => interrupted?,
        () = async {
            loop {
                // Between two rounds the schema may have changed; one that cannot be read leaves the last in force.
                match load(&args.schema).await {
                    Ok(fresh) => schema = Some(fresh),
                    Err(error) => tracing::warn!(error = format!("{error:#}"), "the schema cannot be read"),
                }
                let mut pause = args.every;
                for watch in &mut watches {
                    if let Some(schema) = &schema
                        && !round(&args, schema, watch, limits).await
                    {
                        pause = pause.min(SOON);
                    }
                }
                tokio::time::sleep(pause).await;
            }
        } => {}
    }
    Ok(0)
}

async fn load(place: &str) -> Result<Schema> {
    let place = place.to_owned();
    tokio::task::spawn_blocking(move || schema_files::load(&place)).await?
}

fn planned(args: &cli::Canary, customer: &str, schema: &Schema) -> Result<Test> {
    let test = cli::TestEvent {
        customer: customer.to_owned(),
        broker: args.broker.clone(),
        schema: args.schema.clone(),
        source: None,
        login: None,
        login_password_file: None,
        to: args.to.clone(),
        timeout: args.timeout,
        json: false,
    };
    test_event::planned(&test, schema)
}

/// Tests one customer's line once, and says what is to be said. Returns whether all is well or has been said.
async fn round(args: &cli::Canary, schema: &Schema, watch: &mut Watch, limits: Limits) -> bool {
    let now_ms = || clock::now().wall.as_ms();
    let failure = match planned(args, &watch.customer, schema) {
        Ok(test) => {
            let report = tracer::run(&test, &mut |_| {}).await;
            if report.is_busy {
                tracing::info!(customer = watch.customer, "somebody else is testing; passed over");
                return true;
            }
            match &report.ending {
                Ending::Accepted { .. } => {
                    tracing::info!(customer = watch.customer, took_ms = report.took_ms, "the line works");
                    None
                }
                Ending::Stopped(stopped) => {
                    let (at, why) = (stopped.at.as_str(), &stopped.why);
                    tracing::warn!(customer = watch.customer, at, why, "the line does not work");
                    Some(test_event::page(&report))
                }
            }
        }
        Err(error) => Some(format!("It could not be tested: {error:#}\n")),
    };
    let Some(word) = watch.heard(now_ms(), failure.is_none(), limits) else { return watch.is_settled() };
    let (from, domain) = sender(schema);
    let email = alarm::email(watch, word, failure.as_deref(), &from, &domain, now_ms());
    if tell(args, schema, &email).await {
        watch.told(word, now_ms());
    }
    watch.is_settled()
}

/// Sender of alarms, and its domain.
fn sender(schema: &Schema) -> (String, String) {
    let from = schema.mail.as_ref().map(|mail| mail.from.clone()).unwrap_or_default();
    let domain = from.rsplit_once('@').map(|(_, domain)| domain.trim_end_matches('>').to_owned());
    (from, domain.unwrap_or_default())
}

/// The relays in the order in which alarms try them: the one that is named, or the last of the schema's, and then the others.
fn ways<'s>(schema: &'s Schema, named: Option<&str>) -> Result<Vec<&'s Declared>> {
    let mail = schema.mail.as_ref().context("the schema names no mail relay, by which an alarm could go")?;
    let mut relays: Vec<&Declared> = mail.relays.iter().rev().collect();
    if let Some(named) = named {
        let known = || mail.relays.iter().map(|relay| relay.name.as_str()).collect::<Vec<_>>().join(", ");
        let place = relays.iter().position(|relay| relay.name == named);
        let place =
            place.with_context(|| format!("the schema has no relay {named}; there are: {}", known()))?;
        relays[..=place].rotate_right(1);
    }
    Ok(relays)
}

/// Mails everybody who is to be alarmed. Returns whether any relay has taken it for all of them.
async fn tell(args: &cli::Canary, schema: &Schema, email: &Email) -> bool {
    let relays = match ways(schema, args.relay.as_deref()) {
        Ok(relays) => relays,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the alarm cannot be mailed");
            return false;
        }
    };
    let dkim = schema.mail.as_ref().and_then(|mail| mail.dkim.as_ref());
    // The key is a file of the alert node: where it is not here, an unsigned alarm is better than none.
    let signer = dkim.and_then(|dkim| Signer::new(dkim).ok()).map(Arc::new);
    let mut all = true;
    for to in &args.alarm_to {
        let email = Email { to: to.clone(), ..email.clone() };
        let mut is_taken = false;
        for declared in &relays {
            is_taken = offer(declared, signer.clone(), &email).await;
            if is_taken {
                break;
            }
        }
        all &= is_taken;
    }
    all
}

/// Offers an alarm to one relay.
async fn offer(declared: &Declared, signer: Option<Arc<Signer>>, email: &Email) -> bool {
    let (relay, to) = (&declared.name, &email.to);
    let detail = match Relay::new(declared, signer) {
        Ok(open) => match tokio::time::timeout(RELAY_TIMEOUT, open.send(email)).await {
            Ok(Attempt::Accepted { detail }) => {
                tracing::info!(relay, to, subject = email.subject, detail, "alarm mailed");
                return true;
            }
            Ok(
                Attempt::MaybeAccepted { detail }
                | Attempt::Busy { detail, .. }
                | Attempt::Retry { detail, .. }
                | Attempt::Refused { detail, .. },
            ) => detail,
            Err(_) => "no answer in time".to_owned(),
        },
        Err(error) => format!("{error:#}"),
    };
    tracing::error!(relay, to, detail, "the alarm was not taken");
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_go_by_the_last_relay_first_or_by_the_one_that_is_named() {
        let text = "mail {\n  relay = \"one.example:587\"\n  from = \"alerts@example.net\"\n  fallback \"two\" {\n    relay = \
                    \"two.example:25\"\n  }\n  fallback \"three\" {\n    relay = \"three.example:25\"\n  }\n}\n";
        let files = kinetic_schema::Files::from([("kinetic.hcl".to_owned(), text.as_bytes().to_vec())]);
        let schema = kinetic_schema::load(&files).schema.expect("checks");
        let names = |named| -> Vec<&str> {
            ways(&schema, named).expect("relays").iter().map(|relay| relay.name.as_str()).collect()
        };
        assert_eq!(names(None), ["three", "two", "one.example:587"]);
        assert_eq!(names(Some("two")), ["two", "three", "one.example:587"]);
        assert_eq!(names(Some("one.example:587")), ["one.example:587", "three", "two"]);
        assert!(ways(&schema, Some("four")).is_err_and(|error| error.to_string().contains("three")));
        assert!(ways(&Schema::default(), None).is_err());
        assert_eq!(sender(&schema), ("alerts@example.net".to_owned(), "example.net".to_owned()));
    }
}
