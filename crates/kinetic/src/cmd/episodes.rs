//! `kinetic episodes` and `kinetic ack`: what fires, who was told of it, and who takes care.

use anyhow::Result;
use kinetic_wire::{
    Acknowledge, Acknowledged, CustomerName, EpisodeState, EpisodesQuestion, EpisodesReply, ToldState,
    encode, names,
};

use crate::adapter::clock;
use crate::cmd::moment::{author, span, utc};
use crate::cmd::operator;
use crate::term::Style;
use crate::{cli, term};

/// Pages read: ten thousand episodes. More are not shown, which is said.
const PAGES_MAX: usize = 100;

/// `kinetic episodes`
pub(crate) async fn run(args: cli::Episodes) -> Result<u8> {
    let rpc = operator::client(&args.broker, "kinetic episodes")?;
    let customer = args.customer.as_deref().map(CustomerName::new);
    let question = |after| {
        encode(&EpisodesQuestion { v: 1, customer: customer.clone(), after, ..EpisodesQuestion::default() })
    };
    match operator::ask_all::<EpisodesReply>(&rpc, names::rpc::EPISODES, PAGES_MAX, question).await? {
        Ok(all) => operator::show(args.json, &all, |all| render(all, Style::stdout()))?,
        Err(code) => return Ok(code),
    }
    Ok(0)
}

/// `kinetic ack`
pub(crate) async fn acknowledge(args: cli::Ack) -> Result<u8> {
    let rpc = operator::client(&args.broker, "kinetic ack")?;
    let asked = Acknowledge {
        v: 1,
        group: args.group,
        episode_ms: None,
        author: author(args.word.author.as_deref())?,
        reason: args.word.reason,
        until_ms: args.end.after(clock::now().wall.as_ms()),
    };
    match operator::ask_or_say::<Acknowledged>(&rpc, names::rpc::ACKNOWLEDGE, encode(&asked)).await? {
        Ok(reply) if args.json => term::say(&format!("{}\n", serde_json::to_string(&reply)?)),
        Ok(reply) => term::say(&episode(&reply.episode, reply.now_ms, Style::stdout())),
        Err(code) => return Ok(code),
    }
    Ok(0)
}

fn render(reply: &EpisodesReply, style: Style) -> String {
    if reply.episodes.is_empty() {
        return "nothing fires\n".to_owned();
    }
    let told = reply.episodes.iter().map(|state| episode(state, reply.now_ms, style));
    let mut text = told.collect::<Vec<_>>().join("\n");
    if reply.next.is_some() {
        text.push_str("\nand more, which are not shown\n");
    }
    text
}

fn episode(state: &EpisodeState, now_ms: i64, style: Style) -> String {
    let mut text = style.bold(&state.group);
    let silenced = if state.silenced > 0 { format!(", {} silenced", state.silenced) } else { String::new() };
    text.push_str(&match state.firing {
        0 => "  is over, which not everybody has been told\n".to_owned(),
        firing => format!(
            "  {} since {} ({}){silenced}\n",
            style.red(&format!("{firing} firing")),
            utc(state.since_ms),
            span(now_ms - state.since_ms)
        ),
    });
    for feed in &state.feeds {
        let out = feed.deviations.map(|by| format!("{by:+.2} standard deviations, ")).unwrap_or_default();
        let silenced = if feed.silenced { "  silenced" } else { "" };
        let (since, feed) = (utc(feed.since_ms), &feed.feed);
        text.push_str(&format!("  {} {}  {out}since {since}{silenced}\n", feed.origin, feed.metric));
    }
    let more = state.firing.saturating_sub(state.feeds.len() as u64);
    if more > 0 {
        text.push_str(&format!("  and {more} more\n"));
    }
    match &state.acknowledged {
        Some(by) => {
            let (said, until) = (style.green("acknowledged"), utc(by.until_ms));
            text.push_str(&format!("  {said} by {} until {until}: {}\n", by.author, by.reason));
        }
        None if state.firing > 0 => text.push_str(&format!("  {}\n", style.dim("not acknowledged"))),
        None => {}
    }
    for told in &state.told {
        text.push_str(&format!("  {}\n", recipient(told)));
    }
    text
}

/// `oncall@acme.example (team): told of 2 at …; repeat_interval_elapsed due at …`
fn recipient(told: &ToldState) -> String {
    let mut text = format!("{} ({}): ", told.to, told.alert);
    text.push_str(&match (told.told, told.mailed_ms) {
        (0, _) => "not told".to_owned(),
        (n, Some(at)) => format!("told of {n} at {}", utc(at)),
        (n, None) => format!("told of {n}"),
    });
    if told.on_its_way {
        text.push_str("; a mail is on its way");
    }
    if let Some(service) = &told.folded_under {
        text.push_str(&format!("; told of {service} instead, on which it depends"));
    }
    if let (Some(reason), Some(at)) = (&told.next_reason, told.next_ms) {
        text.push_str(&format!("; {reason} due at {}", utc(at)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinetic_wire::{AcknowledgementState, Feed, FiringFeed};

    #[test]
    fn an_episode_says_what_fires_and_who_knows() {
        let feed = |origin: &str, silenced: bool| FiringFeed {
            feed: Feed { origin: origin.into(), metric: "checkout.latency".into() },
            since_ms: 1_795_176_001_000,
            deviations: (!silenced).then_some(3.31),
            silenced,
        };
        let told = |to: &str, told: u64, escalation: bool| ToldState {
            alert: "team".into(),
            to: to.into(),
            escalation,
            told,
            mailed_ms: (told > 0).then_some(1_795_176_002_000),
            on_its_way: false,
            next_reason: escalation.then(|| "escalated".into()),
            next_ms: escalation.then_some(1_795_177_802_000),
            folded_under: None,
        };
        let mut state = EpisodeState {
            group: "acme/slow-host/checkout/frontends".into(),
            customer: "acme".into(),
            analytic: "slow-host".into(),
            service: "checkout".into(),
            cluster: "frontends".into(),
            since_ms: 1_795_176_001_000,
            firing: 3,
            silenced: 1,
            feeds: vec![feed("web-7", false), feed("web-8", true)],
            acknowledged: None,
            told: vec![told("oncall@acme.example", 2, false), told("lead@acme.example", 0, true)],
        };
        let plain = Style { fancy: false };
        assert_eq!(
            episode(&state, 1_795_176_251_000, plain),
            "acme/slow-host/checkout/frontends  3 firing since 2026-11-20 12:00:01 UTC (4m 10s), 1 silenced\n  \
             web-7 checkout.latency  +3.31 standard deviations, since 2026-11-20 12:00:01 UTC\n  \
             web-8 checkout.latency  since 2026-11-20 12:00:01 UTC  silenced\n  and 1 more\n  not acknowledged\n  \
             oncall@acme.example (team): told of 2 at 2026-11-20 12:00:02 UTC\n  \
             lead@acme.example (team): not told; escalated due at 2026-11-20 12:30:02 UTC\n"
        );
        let (author, reason) = ("ann".to_owned(), "on it".to_owned());
        let until_ms = 1_795_183_200_000;
        state.acknowledged = Some(AcknowledgementState { author, reason, at_ms: 0, until_ms });
        let said = episode(&state, 1_795_176_251_000, plain);
        assert!(said.contains("\n  acknowledged by ann until 2026-11-20 14:00:00 UTC: on it\n"), "{said}");
        let none = EpisodesReply { ok: true, episodes: Vec::new(), next: None, now_ms: 0 };
        assert_eq!(render(&none, plain), "nothing fires\n");
    }
}
