//! `kinetic locate`: ask the redirector, as a client would.

use anyhow::Result;
use kinetic_amqp::RpcClient;
use kinetic_wire::{Locate, encode};

use crate::shell::agent;
use crate::{cli, exit, node, term};

/// `kinetic locate`
pub(crate) async fn run(args: cli::Locate) -> Result<u8> {
    let address = node::address(&args.broker.amqp, args.broker.password_file.as_deref(), "kinetic locate")?;
    let rpc = RpcClient::start(address);
    let question = Locate {
        v: 1,
        client: node::new_incarnation(),
        origin: Some(node::host_name()),
        profile: None,
        data_types: Vec::new(),
        have_epoch: None,
        listen: false,
    };
    match agent::locate(&rpc, encode(&question)).await {
        Ok(reply) => {
            term::say(&format!("{}\n", serde_json::to_string_pretty(&reply)?));
            Ok(0)
        }
        Err(reason) => {
            term::say(&format!("no answer to publish by: {reason}\n"));
            Ok(exit::NO)
        }
    }
}
