//! `kinetic silence`: tell nobody of something for a while.

use anyhow::Result;
use kinetic_wire::{
    AskSilence, CustomerName, Silence, Silenced, SilencesQuestion, SilencesReply, Unsilence, encode, names,
};
use uuid::Uuid;

use crate::adapter::clock;
use crate::cmd::moment::{author, span, utc};
use crate::cmd::operator;
use crate::{cli, term};

/// Digits of a silence's name.
const ID_DIGITS: usize = 12;
/// Pages read of one list: more silences than an alert node takes.
const PAGES_MAX: usize = 200;

/// `kinetic silence`
pub(crate) async fn run(args: cli::Silence) -> Result<u8> {
    match args {
        cli::Silence::Add(args) => add(args).await,
        cli::Silence::List(args) => list(args).await,
        cli::Silence::End(args) => end(args).await,
    }
}

/// A name that nobody else has; the last digits of a v7 are the random ones.
fn fresh_id() -> String {
    let id = Uuid::now_v7().simple().to_string();
    id[id.len() - ID_DIGITS..].to_owned()
}

async fn add(args: cli::SilenceAdd) -> Result<u8> {
    let now_ms = clock::now().wall.as_ms();
    let from_ms = args.from.unwrap_or(now_ms);
    let cli::Meant { service, cluster, analytic, origin, metric, all: _ } = args.meant;
    let silence = Silence {
        id: fresh_id(),
        customer: CustomerName::new(&args.customer),
        services: service,
        clusters: cluster,
        analytics: analytic,
        origins: origin,
        metrics: metric,
        author: author(args.word.author.as_deref())?,
        reason: args.word.reason,
        from_ms,
        until_ms: args.end.after(from_ms),
    };
    let rpc = operator::client(&args.broker, "kinetic silence")?;
    let body = encode(&AskSilence { v: 1, silence });
    match operator::ask_or_say::<Silenced>(&rpc, names::rpc::SILENCE, body).await? {
        Ok(reply) if args.json => term::say(&format!("{}\n", serde_json::to_string(&reply)?)),
        Ok(reply) => term::say(&added(&reply)),
        Err(code) => return Ok(code),
    }
    Ok(0)
}

fn added(Silenced { silence, silenced, now_ms, .. }: &Silenced) -> String {
    let Silence { id, customer, from_ms, until_ms, .. } = silence;
    let until = format!("until {} ({})", utc(*until_ms), span(until_ms - now_ms));
    let begins = if from_ms > now_ms { format!("from {} ", utc(*from_ms)) } else { String::new() };
    format!(
        "{id} {begins}{until}: {}\nof {customer}'s alerts {silenced} fire and are silenced\nto end it: kinetic silence end \
         {customer} {id}\n",
        meant(silence)
    )
}

/// What a silence means, in a line.
pub(crate) fn meant(silence: &Silence) -> String {
    let kinds = [
        ("service", &silence.services),
        ("cluster", &silence.clusters),
        ("analytic", &silence.analytics),
        ("origin", &silence.origins),
        ("metric", &silence.metrics),
    ];
    let said = kinds.iter().filter(|(_, globs)| !globs.is_empty());
    let said: Vec<String> = said.map(|(kind, globs)| format!("{kind} {}", globs.join(" or "))).collect();
    if said.is_empty() { format!("all of {}", silence.customer) } else { said.join(", ") }
}

async fn list(args: cli::SilenceList) -> Result<u8> {
    let rpc = operator::client(&args.broker, "kinetic silence")?;
    let customer = args.customer.as_deref().map(CustomerName::new);
    let question = |after| encode(&SilencesQuestion { v: 1, customer: customer.clone(), after });
    match operator::ask_all::<SilencesReply>(&rpc, names::rpc::SILENCES, PAGES_MAX, question).await? {
        Ok(all) => operator::show(args.json, &all, listed)?,
        Err(code) => return Ok(code),
    }
    Ok(0)
}

fn listed(reply: &SilencesReply) -> String {
    if reply.silences.is_empty() {
        return "no silences\n".to_owned();
    }
    let mut text = String::new();
    for silence in &reply.silences {
        let Silence { id, customer, author, reason, from_ms, until_ms, .. } = silence;
        let begins = if *from_ms > reply.now_ms { format!("from {} ", utc(*from_ms)) } else { String::new() };
        text.push_str(&format!(
            "{customer} {id}  {begins}until {} ({})\n  {}\n  {author}: {reason}\n",
            utc(*until_ms),
            span(until_ms - reply.now_ms),
            meant(silence),
        ));
    }
    text
}

async fn end(args: cli::SilenceEnd) -> Result<u8> {
    let rpc = operator::client(&args.broker, "kinetic silence")?;
    let author = author(args.author.as_deref())?;
    let customer = CustomerName::new(&args.customer);
    let body = encode(&Unsilence { v: 1, customer, id: args.id, author });
    match operator::ask_or_say::<Silenced>(&rpc, names::rpc::UNSILENCE, body).await? {
        Ok(reply) if args.json => term::say(&format!("{}\n", serde_json::to_string(&reply)?)),
        Ok(reply) => {
            let Silence { id, customer, .. } = &reply.silence;
            term::say(&format!("{id} of {customer} has ended: {}\n", meant(&reply.silence)));
        }
        Err(code) => return Ok(code),
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silences_are_said_in_words() {
        let silence = Silence {
            id: "5f2c81d09ab3".into(),
            customer: "acme".into(),
            services: vec!["checkout".into()],
            clusters: Vec::new(),
            analytics: Vec::new(),
            origins: vec!["web-3*".into(), "web-4*".into()],
            metrics: Vec::new(),
            author: "ann".into(),
            reason: "new disks".into(),
            from_ms: 1_795_176_000_000,
            until_ms: 1_795_183_200_000,
        };
        let all = Silence { services: Vec::new(), origins: Vec::new(), ..silence.clone() };
        let reply = SilencesReply {
            ok: true,
            silences: vec![silence.clone(), all],
            next: None,
            now_ms: 1_795_172_400_000,
        };
        assert_eq!(
            listed(&reply),
            "acme 5f2c81d09ab3  from 2026-11-20 12:00:00 UTC until 2026-11-20 14:00:00 UTC (3h)\n  service checkout, origin \
             web-3* or web-4*\n  ann: new disks\nacme 5f2c81d09ab3  from 2026-11-20 12:00:00 UTC until 2026-11-20 14:00:00 \
             UTC (3h)\n  all of acme\n  ann: new disks\n"
        );
        let reply = Silenced { ok: true, silence, silenced: 2, now_ms: 1_795_176_000_000 };
        assert!(
            added(&reply).starts_with("5f2c81d09ab3 until 2026-11-20 14:00:00 UTC (2h): service checkout")
        );
        assert_eq!((fresh_id().len(), fresh_id() == fresh_id()), (ID_DIGITS, false));
    }
}
