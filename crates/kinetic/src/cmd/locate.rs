//! `kinetic locate`: ask the redirector, as a client would.

use std::fmt::Write as _;

use anyhow::Result;
use kinetic_amqp::RpcClient;
use kinetic_wire::{DataType, Locate, LocateReply, RpcCode, RpcError, encode};

use crate::shell::agent::{self, Unanswered};
use crate::{cli, exit, node, term};

/// `kinetic locate`
pub(crate) async fn run(args: cli::Locate) -> Result<u8> {
    let address = node::address(&args.broker, "kinetic locate")?;
    let login = address.login.clone();
    let rpc = RpcClient::start(address);
    let question = Locate {
        v: 1,
        client: node::new_incarnation(),
        origin: Some(args.origin.unwrap_or_else(node::host_name)),
        profile: args.profile,
        data_types: args.data_type.into_iter().map(DataType::from).collect(),
        have_epoch: None,
        listen: false,
    };
    let answer = agent::locate(&rpc, encode(&question)).await;
    // Why there is no connection says more than that there is none.
    let mut answer = match (answer, rpc.status().error) {
        (Err(Unanswered::Silent(_)), Some(reason)) => Err(Unanswered::Silent(reason)),
        (answer, _) => answer,
    };
    if let Ok(reply) = &mut answer
        && !args.token
        && let Some(credential) = &mut reply.credential
    {
        "(left out: --token shows it)".clone_into(&mut credential.token);
    }
    let text = match (&answer, args.json) {
        (Ok(reply), true) => serde_json::to_string(reply)? + "\n",
        (Ok(reply), false) => shown(reply),
        (Err(Unanswered::Refused(refused)), true) => serde_json::to_string(refused)? + "\n",
        (Err(Unanswered::Refused(refused)), false) => refusal(refused, &login),
        (Err(Unanswered::Silent(reason)), true) => {
            format!("{}\n", serde_json::json!({"ok": false, "message": reason}))
        }
        (Err(Unanswered::Silent(reason)), false) => {
            format!(
                "no answer to publish by: {reason}\nIs a redirector running (kinetic redirector, kinetic up)?\n"
            )
        }
    };
    term::say(&text);
    Ok(if answer.is_ok() { 0 } else { exit::NO })
}

impl From<cli::DataType> for DataType {
    fn from(data_type: cli::DataType) -> Self {
        match data_type {
            cli::DataType::Statsd => Self::Statsd,
            cli::DataType::Collectd => Self::Collectd,
            cli::DataType::Graphite => Self::Graphite,
            cli::DataType::Influx => Self::Influx,
            cli::DataType::Auto => Self::Auto,
        }
    }
}

/// An answer, for people.
fn shown(reply: &LocateReply) -> String {
    let mut text = format!("{} publishes in region {}\n\n", reply.customer, reply.region);
    let mut wrote = if reply.endpoints.is_empty() {
        writeln!(text, "  nowhere: the schema gives this region no address (amqp = [...])")
    } else {
        Ok(())
    };
    for endpoint in &reply.endpoints {
        let (place, uri) = (endpoint.priority + 1, &endpoint.uri);
        wrote = wrote.and_then(|()| {
            writeln!(text, "  {place}. {uri}  vhost {}  exchange {}", endpoint.vhost, endpoint.exchange)
        });
    }
    wrote = wrote.and_then(|()| {
        writeln!(
            text,
            "\nmap version {}; good for {} s; a body has at most {} bytes and waits at most {} ms",
            reply.epoch.0, reply.ttl_s, reply.limits.message_bytes, reply.limits.batch_ms
        )
    });
    if let Some(credential) = &reply.credential {
        let left_s = credential.expires_ms.saturating_sub(reply.now_ms) / 1_000;
        wrote = wrote.and_then(|()| {
            writeln!(
                text,
                "\nlog in as {} with this token, for {left_s} s: {}",
                credential.login, credential.token
            )
        });
    }
    wrote.expect("a String takes every text");
    text
}

/// A refusal, for people, with what to try next.
fn refusal(refused: &RpcError, login: &str) -> String {
    let next = match refused.code {
        RpcCode::UnknownProfile => "Try again with one of these as --profile, or without.",
        RpcCode::NoSource => {
            "Try again with another --data-type, or change the source's data_type in the schema."
        }
        RpcCode::UnknownCustomer => {
            "The customer is what stands before the dot in the login: <customer>.<key>."
        }
        RpcCode::Disabled => "Remove `disabled = true` from the customer in the schema to switch it on.",
        _ => "The redirector's log says more.",
    };
    format!("refused as {login}: {}\n{next}\n", refused.message)
}

#[cfg(test)]
mod tests {
    use kinetic_wire::{Endpoint, Epoch, Limits};

    use super::*;

    #[test]
    fn an_answer_and_a_refusal_read_well() {
        let endpoint = |priority, host: &str| Endpoint {
            uri: format!("amqps://{host}:5671"),
            vhost: "eu".to_owned(),
            exchange: "in.acme".to_owned(),
            priority,
        };
        let reply = LocateReply {
            ok: true,
            customer: "acme".into(),
            region: "eu".into(),
            endpoints: vec![endpoint(0, "b"), endpoint(1, "a")],
            epoch: Epoch(7),
            ttl_s: 300,
            refresh_s: 240,
            stale_ok_s: 86_400,
            backoff_s: 0,
            limits: Limits { message_bytes: 1_048_576, batch_ms: 1_000 },
            now_ms: 0,
            credential: None,
        };
        assert_eq!(
            shown(&reply),
            "acme publishes in region eu\n\n  1. amqps://b:5671  vhost eu  exchange in.acme\n  \
             2. amqps://a:5671  vhost eu  exchange in.acme\n\n\
             map version 7; good for 300 s; a body has at most 1048576 bytes and waits at most 1000 ms\n"
        );
        assert!(shown(&LocateReply { endpoints: Vec::new(), ..reply }).contains("nowhere"));
        let refused = RpcError {
            ok: false,
            code: RpcCode::UnknownProfile,
            message: "there are \"db\", \"web\"".to_owned(),
            retry_s: 60,
        };
        assert_eq!(
            refusal(&refused, "acme.first"),
            "refused as acme.first: there are \"db\", \"web\"\nTry again with one of these as --profile, or without.\n"
        );
    }
}
