//! `kinetic drain`: relieve an analyzer of its sources, or take that back.

use std::time::Duration;

use anyhow::Result;
use kinetic_wire::{NodeId, Relieve, Relieved, encode, names};

use crate::cmd::operator;
use crate::{cli, exit, term};

/// How often progress is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// `kinetic drain`
pub(crate) async fn run(args: cli::DrainNode) -> Result<u8> {
    let rpc = operator::client(&args.broker, "kinetic drain")?;
    let body = encode(&Relieve { v: 1, node: NodeId::new(&args.name), undo: args.undo });
    let mut first = None;
    loop {
        let relieved: Relieved = match operator::ask(&rpc, names::rpc::RELIEVE, body.clone()).await? {
            Ok(relieved) => relieved,
            // It had to be there at first; that it is gone at last is what was waited for.
            Err(_) if first.is_some() => Relieved { ok: true, remaining: 0, now_ms: 0 },
            Err(refused) => {
                let refusal = format!("{}: {}\n", args.name, refused.message);
                term::warn(&refusal);
                return Ok(exit::NO);
            }
        };
        let total = *first.get_or_insert(relieved.remaining);
        if args.json {
            term::say(&format!(
                "{}\n",
                serde_json::json!({"node": args.name, "remaining": relieved.remaining})
            ));
        } else {
            term::say(&progress(&args, total, relieved.remaining));
        }
        if args.undo || !args.wait || relieved.remaining == 0 {
            return Ok(0);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn progress(args: &cli::DrainNode, total: u64, remaining: u64) -> String {
    let name = &args.name;
    match (args.undo, remaining) {
        (true, _) => format!("{name} may be given sources again; it owns {remaining}\n"),
        (false, 0) => format!("{name} owns nothing any more, and is given nothing\n"),
        (false, _) if args.wait => {
            format!("{name}: {} of {total} sources have left\n", total.saturating_sub(remaining))
        }
        (false, _) => format!(
            "{name} is given nothing more, and {remaining} sources leave it as others can take them\n"
        ),
    }
}
