//! Requests that an operator's commands make of the leading redirector and of the alert node.

use std::time::Duration;

use anyhow::{Result, bail};
use kinetic_amqp::{RpcClient, RpcFailed};
use kinetic_wire::{
    EpisodesReply, Reply, RpcError, SilenceName, SilencesReply, Subscription, SuppressionsReply,
    UnsubscribedReply, decode, names,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{cli, exit, node, term};

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often a request is made in all: while the lead changes hands nobody answers.
const ATTEMPTS: usize = 3;

/// A connection to ask over.
pub(crate) fn client(broker: &cli::BrokerAddress, name: &str) -> Result<RpcClient> {
    Ok(RpcClient::start(node::address(broker, name)?))
}

/// The same, or the refusal said to the operator and the exit code for it.
pub(crate) async fn ask_or_say<T: DeserializeOwned>(
    rpc: &RpcClient,
    kind: &str,
    body: Vec<u8>,
) -> Result<Result<T, u8>> {
    match ask(rpc, kind, body).await? {
        Ok(reply) => Ok(Ok(reply)),
        Err(refused) => {
            term::warn(&format!("{}\n", refused.message));
            Ok(Err(exit::NO))
        }
    }
}

/// A list that is told a page at a time.
pub(crate) trait Pages: DeserializeOwned {
    /// Where a page ends.
    type Cursor;

    /// Where to go on, if there is more.
    fn next(&self) -> Option<Self::Cursor>;

    /// Takes in the page that follows.
    fn extend(&mut self, page: Self);
}

macro_rules! pages {
    ($($reply:ident { $list:ident } by $cursor:ty),+) => {
        $(impl Pages for $reply {
            type Cursor = $cursor;

            fn next(&self) -> Option<$cursor> {
                self.next.clone()
            }

            fn extend(&mut self, mut page: Self) {
                self.$list.append(&mut page.$list);
                (self.next, self.now_ms) = (page.next, page.now_ms);
            }
        })+
    };
}

pages! {
    EpisodesReply { episodes } by String,
    SilencesReply { silences } by SilenceName,
    SuppressionsReply { suppressions } by String,
    UnsubscribedReply { unsubscribed } by Subscription
}

/// Asks for a whole list, so many pages at most; `next` of the answer says whether there were more. Refusals as for
/// [`ask_or_say`].
pub(crate) async fn ask_all<T: Pages>(
    rpc: &RpcClient,
    kind: &str,
    pages_max: usize,
    question: impl Fn(Option<T::Cursor>) -> Vec<u8>,
) -> Result<Result<T, u8>> {
    let mut all = match ask_or_say::<T>(rpc, kind, question(None)).await? {
        Ok(first) => first,
        Err(code) => return Ok(Err(code)),
    };
    for _ in 1..pages_max {
        let Some(after) = all.next() else { break };
        match ask_or_say(rpc, kind, question(Some(after))).await? {
            Ok(page) => all.extend(page),
            Err(code) => return Ok(Err(code)),
        }
    }
    Ok(Ok(all))
}

/// Shows an answer: to programs as one JSON object, to people in words.
pub(crate) fn show<T: Serialize>(as_json: bool, reply: &T, words: impl FnOnce(&T) -> String) -> Result<()> {
    let text = if as_json { format!("{}\n", serde_json::to_string(reply)?) } else { words(reply) };
    term::say(&text);
    Ok(())
}

/// Asks whoever answers this kind, patiently. The inner error is its refusal.
pub(crate) async fn ask<T: DeserializeOwned>(
    rpc: &RpcClient,
    kind: &str,
    body: Vec<u8>,
) -> Result<Result<T, RpcError>> {
    let mut last = RpcFailed::Timeout;
    for _ in 0..ATTEMPTS {
        match rpc.request(names::RPC_EXCHANGE, kind, body.clone(), TIMEOUT).await {
            Ok(answer) => match decode::<Reply<T>>(&answer) {
                Ok(Reply::Ok(reply)) => return Ok(Ok(reply)),
                Ok(Reply::Refused(refused)) => return Ok(Err(refused)),
                Err(error) => bail!("the answer to `{kind}` cannot be read: {error}"),
            },
            Err(failed) => last = failed,
        }
    }
    match rpc.status().error {
        Some(error) => bail!("no answer to `{kind}`: {error}"),
        None if names::rpc::ALERT.contains(&kind) => {
            bail!("no answer to `{kind}` ({last}): does an alert node run? this must be its control vhost")
        }
        None => {
            bail!("no answer to `{kind}` ({last}): does a redirector lead? this must be its control vhost")
        }
    }
}
