//! `kinetic map`: who owns what, live, from the leading redirector.

mod table;

use std::time::Duration;

use anyhow::{Result, bail};
use kinetic_amqp::RpcClient;
use kinetic_wire::{CustomerName, MapQuestion, MapReply, SourceKey, SourceName, SourceState, encode, names};

use crate::cmd::operator;
use crate::{cli, term};

/// Pause between two pictures of `--watch`.
const LOOK: Duration = Duration::from_secs(2);
/// Pages read for one picture: a million sources. More are not looked at, which is said.
const PAGES_MAX: usize = 1_000;
/// Moves shown.
const MOVES_SHOWN: usize = 8;

/// `kinetic map`
pub(crate) async fn run(args: cli::Map) -> Result<u8> {
    let rpc = operator::client(&args.broker, "kinetic map")?;
    loop {
        let picture = look(&rpc, &args).await?;
        if args.json {
            term::say(&format!("{}\n", serde_json::to_string(&picture.reply)?));
        } else {
            let text = table::render(&picture, &args.shown(), term::Style::stdout());
            if args.watch && term::is_fancy() {
                term::steer("\x1b[2J\x1b[H");
            }
            term::say(&text);
        }
        if !args.watch {
            return Ok(0);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What was asked for.
#[derive(Debug)]
struct Picture {
    /// The first page, with the sources of all pages that were wanted.
    reply: MapReply,
    /// Sources that fit what was asked for, and are not among them.
    more: bool,
}

/// What one picture is to have.
#[derive(Clone, Debug)]
struct Shown {
    customer: Option<CustomerName>,
    node: Option<String>,
    /// Sources at most.
    limit: usize,
}

impl cli::Map {
    fn shown(&self) -> Shown {
        Shown {
            customer: self.customer.as_deref().map(CustomerName::new),
            node: self.node.clone(),
            limit: if self.json { usize::MAX } else { self.limit },
        }
    }
}

impl Shown {
    fn wants(&self, source: &SourceState) -> bool {
        let owned_by = |node: &String| source.owner.as_ref().is_some_and(|owner| owner.node.as_str() == node);
        self.customer.as_ref().is_none_or(|customer| source.source.customer == *customer)
            && self.node.as_ref().is_none_or(owned_by)
    }

    /// No later page can have any.
    fn is_past(&self, page: &MapReply) -> bool {
        let last = page.sources.last().map(|source| &source.source.customer);
        matches!((&self.customer, last), (Some(customer), Some(last)) if last > customer)
    }
}

/// Reads pages until everything without an owner is found, and a screenful of the rest.
async fn look(rpc: &RpcClient, args: &cli::Map) -> Result<Picture> {
    let shown = args.shown();
    let mut reply = page(rpc, None).await?;
    let mut unowned_left = reply.unowned;
    let mut kept = Kept { unowned: Vec::new(), owned: Vec::new(), more: false };
    if let Some(customer) = &shown.customer {
        // Straight to the customer's first source: an empty name is before all.
        let before = SourceKey { customer: customer.clone(), source: SourceName::new(""), part: 0 };
        let jumped = page(rpc, Some(before)).await?;
        (reply.sources, reply.next) = (jumped.sources, jumped.next);
    }
    let mut pages = 1;
    loop {
        let past = shown.is_past(&reply);
        for source in std::mem::take(&mut reply.sources) {
            unowned_left -= u64::from(source.owner.is_none()).min(unowned_left);
            kept.take(source, &shown);
        }
        let enough = kept.owned.len() >= shown.limit && unowned_left == 0;
        let Some(next) = reply.next.take().filter(|_| !past) else { break };
        if enough || pages >= PAGES_MAX {
            kept.more = true;
            break;
        }
        let following = page(rpc, Some(next)).await?;
        (reply.sources, reply.next) = (following.sources, following.next);
        pages += 1;
    }
    reply.sources = kept.unowned;
    reply.sources.append(&mut kept.owned);
    kept.more |= reply.sources.len() > shown.limit;
    reply.sources.truncate(shown.limit);
    if let Some(node) = &shown.node {
        reply.analyzers.retain(|analyzer| analyzer.node.as_str() == node);
    }
    reply.moves.truncate(if args.json { usize::MAX } else { MOVES_SHOWN });
    Ok(Picture { reply, more: kept.more })
}

/// Sources without an owner come first.
struct Kept {
    unowned: Vec<SourceState>,
    owned: Vec<SourceState>,
    more: bool,
}

impl Kept {
    fn take(&mut self, source: SourceState, shown: &Shown) {
        if !shown.wants(&source) {
            return;
        }
        let list = if source.owner.is_none() { &mut self.unowned } else { &mut self.owned };
        if list.len() < shown.limit {
            list.push(source);
        } else {
            self.more = true;
        }
    }
}

async fn page(rpc: &RpcClient, after: Option<SourceKey>) -> Result<MapReply> {
    let question = MapQuestion { v: 1, after, limit: None };
    match operator::ask(rpc, names::rpc::MAP, encode(&question)).await? {
        Ok(reply) => Ok(reply),
        Err(refused) => bail!("the redirector refuses: {}", refused.message),
    }
}
