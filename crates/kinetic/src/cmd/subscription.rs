//! `kinetic mail unsubscribed` and `kinetic mail subscribe`: who has taken himself off which alert.

use anyhow::Result;
use kinetic_wire::{
    CustomerName, Subscribe, Subscribed, Subscription, UnsubscribedQuestion, UnsubscribedReply,
    Unsubscription, encode, names,
};

use crate::cmd::moment::{author, utc};
use crate::cmd::operator;
use crate::{cli, term};

/// Pages read of one list: more recipients than an alert node remembers.
const PAGES_MAX: usize = 200;

/// `kinetic mail unsubscribed`
pub(crate) async fn list(args: cli::MailUnsubscribed) -> Result<u8> {
    let rpc = operator::client(&args.broker, "kinetic mail")?;
    let customer = args.customer.as_deref().map(CustomerName::new);
    let question = |after| encode(&UnsubscribedQuestion { v: 1, customer: customer.clone(), after });
    match operator::ask_all::<UnsubscribedReply>(&rpc, names::rpc::UNSUBSCRIBED, PAGES_MAX, question).await? {
        Ok(all) => operator::show(args.json, &all, listed)?,
        Err(code) => return Ok(code),
    }
    Ok(0)
}

fn listed(reply: &UnsubscribedReply) -> String {
    if reply.unsubscribed.is_empty() {
        return "nobody has unsubscribed\n".to_owned();
    }
    let line = |unsubscription: &Unsubscription| {
        let Unsubscription { subscription: Subscription { customer, alert, to }, since_ms, overruled } =
            unsubscription;
        let told = if *overruled { ", told nevertheless: nobody else would be" } else { "" };
        format!("{customer} {alert}  {to}  since {}{told}\n", utc(*since_ms))
    };
    reply.unsubscribed.iter().map(line).collect()
}

/// `kinetic mail subscribe`
pub(crate) async fn subscribe(args: cli::MailSubscribe) -> Result<u8> {
    let rpc = operator::client(&args.broker, "kinetic mail")?;
    let author = author(args.author.as_deref())?;
    let subscription =
        Subscription { customer: CustomerName::new(&args.customer), alert: args.alert, to: args.to };
    let body = encode(&Subscribe { v: 1, subscription, author });
    match operator::ask_or_say::<Subscribed>(&rpc, names::rpc::SUBSCRIBE, body).await? {
        Ok(reply) if args.json => term::say(&format!("{}\n", serde_json::to_string(&reply)?)),
        Ok(reply) => {
            let Subscription { customer, alert, to } = &reply.unsubscription.subscription;
            term::say(&format!("{to} is told by alert {alert} of {customer} again\n"));
        }
        Err(code) => return Ok(code),
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_left_is_said_in_lines() {
        let subscription =
            Subscription { customer: "acme".into(), alert: "team".into(), to: "ann@acme.example".into() };
        let left = Unsubscription { subscription, since_ms: 1_795_176_000_000, overruled: false };
        let overruled = Unsubscription { overruled: true, ..left.clone() };
        let mut reply =
            UnsubscribedReply { ok: true, unsubscribed: vec![left, overruled], next: None, now_ms: 0 };
        assert_eq!(
            listed(&reply),
            "acme team  ann@acme.example  since 2026-11-20 12:00:00 UTC\nacme team  ann@acme.example  since 2026-11-20 \
             12:00:00 UTC, told nevertheless: nobody else would be\n"
        );
        reply.unsubscribed.clear();
        assert_eq!(listed(&reply), "nobody has unsubscribed\n");
    }
}
