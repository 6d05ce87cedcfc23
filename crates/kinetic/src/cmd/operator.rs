//! Requests that an operator's commands make of the leading redirector and of the alert node.

use std::io::Write;
use std::time::Duration;

use anyhow::{Result, bail};
use kinetic_amqp::{RpcClient, RpcFailed};
use kinetic_wire::{Reply, RpcError, decode, names};
use serde::de::DeserializeOwned;

use crate::{cli, exit, node};

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often a request is made in all: while the lead changes hands nobody answers.
const ATTEMPTS: usize = 3;

/// A connection to ask over.
pub(crate) fn client(broker: &cli::BrokerAddress, name: &str) -> Result<RpcClient> {
    Ok(RpcClient::start(node::address(&broker.amqp, broker.password_file.as_deref(), name)?))
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
            std::io::stderr().lock().write_all(format!("{}\n", refused.message).as_bytes())?;
            Ok(Err(exit::NO))
        }
    }
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
