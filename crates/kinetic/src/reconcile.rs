//! Makes RabbitMQ brokers as a schema wants them: for the command, and for the leading redirector.

mod declared;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, bail};
use kinetic_access::{Action, Broker, Change, Plan, Wanted, plan, wanted};
use kinetic_amqp::Address;
use kinetic_schema::Schema;
use kinetic_schema::schema::Region;
use kinetic_wire::RegionName;

use crate::adapter::clock;
use crate::adapter::management::{Management, Progress, without_limits};

/// Plans in a row; the second closes what came while the first ran, the third finds nothing left to do.
const ROUNDS_MAX: usize = 5;
/// Pause before what was closed is looked at again: whoever was about to be connected is by then.
const CLOSING_PAUSE: Duration = Duration::from_secs(1);

/// A broker with a management API, and what this installation has there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Where its API is.
    pub(crate) url: String,
    /// What is there.
    pub(crate) broker: Broker,
}

/// The brokers that can be reconciled, and the regions whose brokers cannot. `given` is the API of the broker that `control` leads
/// to, for regions that name none.
pub(crate) fn targets(
    schema: &Schema,
    control: &Address,
    given: Option<&str>,
) -> (Vec<Target>, Vec<RegionName>) {
    let mut targets: BTreeMap<String, Broker> = BTreeMap::new();
    let mut without = Vec::new();
    let new = || Broker {
        control: control.vhost.clone(),
        has_control: false,
        regions: BTreeSet::new(),
        own: control.login.clone(),
    };
    let is_own = |region: &Region| {
        region.amqp.is_empty()
            || region.amqp.iter().any(|uri| control.uris.contains(uri) || control.is_also(uri))
    };
    if let Some(url) = given {
        targets.entry(trimmed(url)).or_insert_with(new).has_control = true;
    }
    for region in schema.regions.values() {
        let url = region.management.as_deref().or(given.filter(|_| is_own(region)));
        let Some(url) = url else {
            without.push(region.name.clone());
            continue;
        };
        let broker = targets.entry(trimmed(url)).or_insert_with(new);
        broker.regions.insert(region.name.clone());
        broker.has_control |= given.is_none() && is_own(region);
    }
    let target = |(url, broker)| Target { url, broker };
    (targets.into_iter().map(target).collect(), without)
}

fn trimmed(url: &str) -> String {
    url.trim_end_matches('/').to_owned()
}

/// What a schema wants on a broker now.
pub(crate) fn wanted_of(schema: &Schema, target: &Target) -> Wanted {
    let now = clock::now().wall;
    wanted(schema, now, &target.broker, declared::all(schema, now, &target.broker))
}

/// What there is to do on a broker.
pub(crate) async fn look(api: &Management, schema: &Schema, target: &Target) -> Result<Plan> {
    let mut wanted = wanted_of(schema, target);
    let (actual, abilities) = api.objects(&wanted.objects.vhosts.keys().cloned().collect()).await?;
    if !abilities.user_limits {
        without_limits(&mut wanted);
    }
    let mut plan = plan(&actual, &wanted);
    if !abilities.user_limits {
        plan.notes.push(
            "this RabbitMQ does not bound the connections and channels of a login (rabbitmqctl enable_feature_flag user_limits)"
                .to_owned(),
        );
    }
    Ok(plan)
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Steps by what they amount to.
    pub(crate) steps: BTreeMap<Change, u64>,
    /// What people should know.
    pub(crate) notes: Vec<String>,
}

/// Does a plan and those that follow from it, until nothing is left to do. `outcome` counts also what was done before an error.
pub(crate) async fn settle(
    api: &Management,
    schema: &Schema,
    target: &Target,
    first: Plan,
    outcome: &mut Outcome,
    progress: Progress<'_>,
) -> Result<()> {
    let mut plan = first;
    for _ in 0..ROUNDS_MAX {
        outcome.notes.clone_from(&plan.notes);
        if plan.is_empty() {
            return Ok(());
        }
        api.apply(&plan.steps, progress).await?;
        for (change, count) in plan.counts() {
            *outcome.steps.entry(change).or_default() += count as u64;
        }
        if plan.steps.iter().any(|step| matches!(step.action, Action::CloseConnections { .. })) {
            tokio::time::sleep(CLOSING_PAUSE).await;
        }
        plan = look(api, schema, target).await?;
    }
    match plan.steps.first() {
        None => Ok(()),
        Some(step) => bail!(
            "RabbitMQ took every step, and {} are still to be done, first: {} {} ({}); look into RabbitMQ's log",
            plan.steps.len(),
            step.change.word(),
            step.action,
            step.reason
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(regions: &str, given: Option<&str>, want: &[(&str, bool, &[&str])], unknown: &[&str]) {
        let text = regions.as_bytes().to_vec();
        let loaded = kinetic_schema::load(&[("kinetic.hcl".to_owned(), text)].into());
        let mut schema = loaded.schema.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
        for region in schema.regions.values_mut() {
            let api = region.name.as_str().strip_prefix("m-").map(|_| "http://127.0.0.1:15672/".to_owned());
            region.management = api.or(region.management.take());
        }
        let control = Address::from_url("amqp://kinetic@127.0.0.1:5672/prod").expect("an address");
        let (targets, without) = targets(&schema, &control, given);
        let found: Vec<(&str, bool, Vec<&str>)> = targets
            .iter()
            .map(|Target { url, broker }| {
                (url.as_str(), broker.has_control, broker.regions.iter().map(RegionName::as_str).collect())
            })
            .collect();
        let want: Vec<(&str, bool, Vec<&str>)> =
            want.iter().map(|(url, control, regions)| (*url, *control, regions.to_vec())).collect();
        assert_eq!(found, want);
        assert_eq!(without.iter().map(RegionName::as_str).collect::<Vec<_>>(), unknown);
    }

    #[test]
    fn regions_of_one_api_are_one_broker_and_the_flag_is_for_the_others_of_ours() {
        let regions = r#"
            region "m-a" {}
            region "m-b" { amqp = ["amqp://127.0.0.2:5672"] }
            region "c" {}
            region "d" { amqp = ["amqps://else.example:5671"] }
        "#;
        let api = "http://127.0.0.1:15672";
        check(regions, None, &[(api, true, &["m-a", "m-b"])], &["c", "d"]);
        let other = "https://ours.example:15671";
        let want: [(&str, bool, &[&str]); 2] = [(api, false, &["m-a", "m-b"]), (other, true, &["c"])];
        check(regions, Some("https://ours.example:15671/"), &want, &["d"]);
    }
}
