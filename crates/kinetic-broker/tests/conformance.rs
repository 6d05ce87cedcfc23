//! Checks of what a broker does, written so that they pass on RabbitMQ and on the embedded broker alike.
//!
//! `cargo test -p kinetic-broker --test conformance -- --ignored` runs the same checks on a private RabbitMQ node.

mod common;

#[path = "conformance/bindings.rs"]
mod bindings;
#[path = "conformance/consuming.rs"]
mod consuming;
#[path = "conformance/declaring.rs"]
mod declaring;
#[path = "conformance/limits.rs"]
mod limits;
#[path = "conformance/login.rs"]
mod login;
#[path = "conformance/publishing.rs"]
mod publishing;
#[path = "conformance/rpc.rs"]
mod rpc;
#[path = "conformance/spreading.rs"]
mod spreading;

use common::World;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

#[expect(clippy::print_stdout, reason = "a report of checks")]
async fn run_all(world: &World) {
    let mut checks = declaring::checks();
    for more in [
        bindings::checks(),
        publishing::checks(),
        consuming::checks(),
        limits::checks(),
        rpc::checks(),
        login::checks(),
        spreading::checks(),
    ] {
        checks.extend(more);
    }
    assert!(checks.len() >= 30, "only {} checks", checks.len());
    let mut failed = Vec::new();
    for (name, check) in &checks {
        // A line before each, so that an abort or a hang names its check.
        println!("{name}");
        let run = AssertUnwindSafe(tokio::time::timeout(Duration::from_secs(15), check(world.clone())));
        match run.catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => failed.push(format!("{name}: no end in 15 s")),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                failed.push(format!("{name}: {}", text.unwrap_or_default()));
            }
        }
    }
    println!("{} of {} checks passed", checks.len() - failed.len(), checks.len());
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), checks.len(), failed.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_broker() {
    run_all(&common::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "starts a RabbitMQ node: run with --ignored where rabbitmq-server is installed"]
async fn rabbitmq() {
    let node = common::rabbit::start().await;
    run_all(&node.world).await;
}
