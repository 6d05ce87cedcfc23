//! What happens when: one story per test.

use std::collections::BTreeSet;
use std::time::Duration;

use kinetic_agent::machine::{AgentConfig, Input, STOP_DEADLINE};
use kinetic_wire::{DataType, Epoch, Locate, RpcCode, RpcError, decode};

use crate::harness::{START, Shell, answer, config, endpoint};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_datagram_becomes_a_stamped_body() {
    let mut shell = Shell::ready(config());
    shell.datagram("a:1|c\nb:2|c\n");
    shell.sleep(SECOND / 10);
    shell.datagram("c:3|ms");
    assert!(shell.out.is_empty(), "neither full nor old");
    shell.sleep(SECOND / 2);
    let sent = &shell.out[0];
    assert_eq!((sent.text(), sent.exchange.as_str()), ("a:1|c\nb:2|c\nc:3|ms", "in.acme"));
    assert_eq!(sent.routing_key, "web.web-1");
    let envelope = &sent.envelope;
    let text = |field: &Option<std::borrow::Cow<'static, str>>| field.as_deref().unwrap_or("-").to_owned();
    assert_eq!(text(&envelope.content_type), "text/x-statsd");
    assert_eq!(text(&envelope.kind), "kinetic.data.statsd.v1");
    assert_eq!(text(&envelope.app_id), concat!("kinetic-agent/", env!("CARGO_PKG_VERSION")));
    assert_eq!(text(&envelope.user_id), "acme.2026-a");
    assert_eq!((text(&envelope.origin), text(&envelope.profile)), ("web-1".to_owned(), "web".to_owned()));
    assert_eq!((envelope.ts, envelope.timestamp_s), (Some(START.wall), Some(1_795_000_000)));
    assert_eq!((envelope.seq, envelope.inc), (Some(1), Some(config().inc.0)));
    let id = uuid::Uuid::parse_str(&text(&envelope.message_id)).expect("a uuid");
    assert_eq!(id.get_version_num(), 7);
    let trace = text(&envelope.traceparent);
    assert!(trace.len() == 55 && trace.starts_with("00-") && trace.ends_with("-01"), "{trace}");
    assert!(!envelope.persistent && envelope.claimed_customer.is_none() && envelope.epoch.is_none());
}

#[test]
fn the_first_tick_asks_and_says_who() {
    let mut shell = Shell::new(config());
    assert!(shell.agent.next_wakeup().is_some_and(|at| at <= START.mono));
    shell.handle(Input::Tick);
    let question: Locate = decode(&shell.locates[0]).expect("a locate");
    assert_eq!((question.v, question.data_types, question.have_epoch), (1, vec![DataType::Statsd], None));
    assert_eq!(question.origin.as_deref(), Some("web-1"));
    shell.handle(Input::Tick);
    assert_eq!(shell.locates.len(), 1, "one question at a time");
}

#[test]
fn a_nudge_makes_it_ask_soon_and_once() {
    let mut shell = Shell::ready(config());
    (0..100).for_each(|_| shell.handle(Input::Nudged));
    assert_eq!(shell.locates.len(), 1, "not at once: all clients are nudged together");
    shell.run_for(2 * SECOND);
    assert_eq!((shell.locates.len(), shell.agent.stats().nudges), (2, 100));
    shell.handle(Input::Nudged);
    shell.run_for(2 * SECOND);
    assert_eq!(shell.locates.len(), 2, "one question at a time");
    let question: Locate = decode(&shell.locates[1]).expect("a locate");
    assert!(question.listen);
}

#[test]
fn it_asks_again_before_the_answer_is_old() {
    let mut shell = Shell::ready(config());
    shell.run_for(Duration::from_secs(191));
    assert_eq!(shell.locates.len(), 1);
    shell.run_for(Duration::from_secs(98));
    assert_eq!(shell.locates.len(), 2, "240 s, give or take 20 %");
    let question: Locate = decode(&shell.locates[1]).expect("a locate");
    assert_eq!(question.have_epoch, Some(Epoch(1)));
    shell.handle(Input::Located(&answer(1, &[endpoint("a", 0)])));
    assert_eq!(shell.connects.len(), 1, "the same address: nothing to do");
}

#[test]
fn a_silent_redirector_is_asked_with_backoff_and_the_last_answer_stands() {
    let mut shell = Shell::ready(config());
    for _ in 0..200 {
        shell.run_for(Duration::from_secs(60));
        shell.handle(Input::LocateFailed);
    }
    let asked = shell.agent.stats().locates;
    assert!((150..=201).contains(&asked), "a question or so a minute: {asked}");
    shell.datagram("a:1|c");
    shell.sleep(SECOND);
    assert_eq!(shell.out.len(), 1);
}

#[test]
fn the_fallback_serves_only_until_the_redirector_has_answered() {
    let mut shell = Shell::new(AgentConfig { fallback: vec![endpoint("f", 0)], ..config() });
    shell.handle(Input::Tick);
    assert!(shell.connects.is_empty(), "an answer may be on its way");
    shell.handle(Input::LocateFailed);
    shell.handle(Input::Connected);
    assert_eq!(shell.connect_hosts(), ["f"]);
    shell.handle(Input::Located(&answer(1, &[endpoint("f", 3)])));
    assert_eq!(shell.connect_hosts(), ["f"], "the same address");
    shell.handle(Input::Located(&answer(2, &[endpoint("a", 0)])));
    shell.handle(Input::Connected);
    assert_eq!(shell.connect_hosts(), ["f", "a"]);
    shell.handle(Input::Disconnected);
    shell.run_for(SECOND);
    assert_eq!(shell.connect_hosts(), ["f", "a", "a"]);
}

#[test]
fn endpoints_are_tried_in_order() {
    let mut shell = Shell::new(config());
    shell.handle(Input::Tick);
    shell.handle(Input::Located(&answer(1, &[endpoint("c", 9), endpoint("a", 1), endpoint("b", 4)])));
    for _ in 0..3 {
        shell.handle(Input::Disconnected);
        shell.run_for(Duration::from_secs(9));
    }
    shell.handle(Input::Connected);
    shell.handle(Input::Disconnected);
    shell.run_for(Duration::from_secs(60));
    assert_eq!(shell.connect_hosts(), ["a", "b", "c", "a", "a"]);
}

#[test]
fn a_broken_connection_is_made_again_with_backoff_and_asks_where() {
    let mut shell = Shell::ready(config());
    for _ in 0..100 {
        shell.handle(Input::Disconnected);
        shell.run_for(Duration::from_secs(60));
    }
    assert_eq!(shell.connects.len(), 101);
    assert_eq!(shell.agent.stats().locates, 2, "it asked, and the question is still out");
    let wait = shell.agent.next_wakeup();
    assert_eq!(wait, None, "nothing to do but wait for the shell");
}

#[test]
fn the_higher_epoch_wins_until_the_answer_is_stale() {
    let mut shell = Shell::ready(config());
    shell.handle(Input::Located(&answer(5, &[endpoint("b", 0)])));
    shell.handle(Input::Located(&answer(4, &[endpoint("a", 0)])));
    assert_eq!(shell.connect_hosts(), ["a", "b"]);
    assert_eq!(shell.agent.stats().locate_stale, 1);
    shell.sleep(Duration::from_secs(86_401));
    shell.handle(Input::Located(&answer(4, &[endpoint("c", 0)])));
    assert_eq!(shell.connect_hosts(), ["a", "b", "c"]);
}

#[test]
fn a_moved_customer_is_followed_and_nothing_is_lost() {
    let mut shell = Shell::ready(config());
    shell.datagram(&"x:1|c\n".repeat(8));
    shell.run_for(SECOND);
    let refused = shell.out.remove(0);
    shell.handle(Input::Unroutable { id: refused.id });
    while shell.locates.len() == 1 {
        shell.sleep(SECOND / 100);
        for sent in std::mem::take(&mut shell.out) {
            shell.handle(Input::Unroutable { id: sent.id });
        }
        assert!(shell.now.mono < START.mono + 10 * SECOND, "unroutable means: ask");
    }
    shell.handle(Input::Located(&answer(2, &[endpoint("b", 0)])));
    assert_eq!(shell.connect_hosts(), ["a", "b"]);
    shell.handle(Input::Connected);
    let again = &shell.out[0];
    assert_eq!((&again.body, &again.envelope), (&refused.body, &refused.envelope), "recognisably the same");
    assert_ne!(again.id, refused.id);
}

#[test]
fn what_nobody_takes_is_tried_one_at_a_time_with_backoff() {
    let mut shell = Shell::ready(config());
    shell.datagram(&"x:1|c\n".repeat(100));
    assert_eq!(shell.out.len(), 4, "the window");
    for sent in std::mem::take(&mut shell.out) {
        shell.handle(Input::Failed { id: sent.id });
    }
    let mut tries = 0;
    for _ in 0..600 {
        shell.sleep(SECOND / 10);
        assert!(shell.out.len() <= 1, "one at a time");
        for sent in std::mem::take(&mut shell.out) {
            tries += 1;
            shell.handle(Input::Failed { id: sent.id });
        }
    }
    assert!((8..=60).contains(&tries), "{tries} in a minute");
    shell.sleep(Duration::from_secs(10));
    let probe = shell.out.remove(0);
    shell.handle(Input::Confirmed { id: probe.id });
    assert_eq!(shell.out.len(), 4, "the window opens again");
}

#[test]
fn a_late_confirm_is_believed() {
    let mut shell = Shell::ready(config());
    shell.datagram("a:1|c");
    shell.sleep(SECOND);
    let id = shell.out[0].id;
    shell.handle(Input::Disconnected);
    shell.handle(Input::Confirmed { id });
    assert_eq!((shell.agent.stats().confirmed, shell.agent.stats().bodies_buffered), (1, 0));
    shell.handle(Input::Confirmed { id });
    shell.handle(Input::Failed { id });
    shell.handle(Input::Unroutable { id });
    assert_eq!(shell.agent.stats().confirmed, 1);
}

#[test]
fn a_full_buffer_drops_the_newest_and_says_so() {
    let mut shell = Shell::new(AgentConfig { buffer_bytes: 4_000, ..config() });
    for i in 0..1_000 {
        shell.datagram(&format!("metric.{i:04}:1|c"));
        assert!(shell.agent.stats().bytes_buffered <= 4_000);
    }
    let stats = shell.agent.stats();
    assert_eq!(stats.lines + stats.datagrams_dropped, 1_000);
    assert!(stats.datagrams_dropped > 900 && stats.lines > 30, "{stats:?}");
    shell.handle(Input::Tick);
    shell.handle(Input::Located(&answer(1, &[endpoint("a", 0)])));
    shell.handle(Input::Connected);
    assert!(shell.out[0].text().starts_with("metric.0000:1|c"), "the oldest were kept");
    for _ in 0..100 {
        for sent in std::mem::take(&mut shell.out) {
            shell.handle(Input::Confirmed { id: sent.id });
        }
        shell.sleep(SECOND);
    }
    shell.datagram("again:1|c");
    assert_eq!(shell.agent.stats().lines, stats.lines + 1, "there is room again");
}

#[test]
fn the_answer_limits_bodies() {
    let mut shell = Shell::new(AgentConfig { body_bytes: 4_000, body_age: 5 * SECOND, ..config() });
    shell.handle(Input::Tick);
    let mut reply = answer(1, &[endpoint("a", 0)]);
    (reply.limits.message_bytes, reply.limits.batch_ms) = (600, 200);
    shell.handle(Input::Located(&reply));
    shell.handle(Input::Connected);
    shell.datagram(&"x:1|c\n".repeat(150));
    assert_eq!(shell.out.len(), 1);
    shell.sleep(SECOND / 5);
    assert_eq!(shell.out.len(), 2);
    assert!(shell.out.iter().all(|sent| sent.body.len() <= 600));
}

#[test]
fn hostile_answers_do_no_harm() {
    let mut shell = Shell::new(config());
    shell.handle(Input::Tick);
    shell.handle(Input::Located(&answer(9, &[])));
    assert!(shell.connects.is_empty());
    let mut reply = answer(1, &[endpoint("a", u32::MAX)]);
    (reply.refresh_s, reply.stale_ok_s, reply.backoff_s) = (u64::MAX, u64::MAX, u64::MAX);
    (reply.limits.message_bytes, reply.limits.batch_ms) = (0, 0);
    shell.handle(Input::Located(&reply));
    (reply.refresh_s, reply.stale_ok_s, reply.backoff_s) = (0, 0, 0);
    shell.handle(Input::Located(&reply));
    shell.handle(Input::Connected);
    shell.datagram("a:1|c");
    shell.run_for(SECOND);
    assert_eq!(shell.out.len(), 1);
    assert!(shell.agent.stats().locates <= 3);
}

#[test]
fn shutdown_flushes_and_waits_for_confirms() {
    let mut shell = Shell::ready(config());
    shell.datagram("a:1|c");
    shell.handle(Input::Shutdown);
    assert!(!shell.stopped && shell.out.len() == 1);
    shell.datagram("late:1|c");
    assert_eq!(shell.agent.stats().datagrams_dropped, 1);
    let id = shell.out[0].id;
    shell.handle(Input::Confirmed { id });
    assert!(shell.stopped);
    assert_eq!(shell.agent.next_wakeup(), None);
    shell.handle(Input::Tick);

    let mut idle = Shell::ready(config());
    idle.handle(Input::Shutdown);
    assert!(idle.stopped);

    let mut stuck = Shell::new(config());
    stuck.datagram("a:1|c");
    stuck.handle(Input::Shutdown);
    stuck.sleep(STOP_DEADLINE - SECOND);
    assert!(!stuck.stopped);
    stuck.sleep(SECOND);
    assert!(stuck.stopped && stuck.agent.stats().bodies_abandoned == 1);
}

#[test]
fn ids_differ_from_body_to_body_and_agent_to_agent() {
    let mut ids = BTreeSet::new();
    let mut last = String::new();
    for inc in [77, 78] {
        let mut own = config();
        own.inc.0 = uuid::Uuid::from_u128(inc);
        let mut shell = Shell::ready(own);
        for seq in 1..=20_u64 {
            shell.datagram("a:1|c");
            shell.sleep(SECOND);
            let sent = shell.out.remove(0);
            shell.handle(Input::Confirmed { id: sent.id });
            assert_eq!(sent.envelope.seq, Some(seq));
            let id = sent.envelope.message_id.expect("an id").into_owned();
            assert!(id > last || seq == 1);
            assert!(ids.insert(id.clone()) && ids.insert(sent.envelope.traceparent.expect("a trace").into()));
            last = id;
        }
    }
}

fn refusal(code: RpcCode, message: &str) -> RpcError {
    RpcError { ok: false, code, message: message.to_owned(), retry_s: 60 }
}

#[test]
fn a_refusal_is_said_once_and_the_asking_goes_on() {
    let mut shell = Shell::new(config());
    shell.handle(Input::Tick);
    shell.datagram("a:1|c");
    let wrong = refusal(RpcCode::UnknownProfile, "there are db, web");
    let asked = |shell: &Shell| shell.agent.stats().locates;
    for round in 0..50 {
        assert_eq!(asked(&shell), round + 1);
        shell.handle(Input::LocateRefused(&wrong));
        shell.run_for(Duration::from_secs(61));
    }
    assert_eq!(shell.complaints, std::slice::from_ref(&wrong));
    assert!(shell.agent.stats().locate_refusals == 50 && shell.agent.stats().locate_failures == 0);
    for (code, said) in [
        (RpcCode::NotLeader, 1),
        (RpcCode::Overload, 1),
        (RpcCode::NoSource, 2),
        (RpcCode::NoSource, 2),
        (RpcCode::UnknownProfile, 3),
    ] {
        shell.handle(Input::LocateRefused(&refusal(code, "why")));
        assert_eq!(shell.complaints.len(), said, "{code:?}");
        shell.run_for(Duration::from_secs(61));
    }
    // The schema is mended: what was taken before is still there.
    shell.handle(Input::Located(&answer(1, &[endpoint("a", 0)])));
    shell.handle(Input::Connected);
    assert_eq!(shell.out[0].text(), "a:1|c");
    shell.run_for(Duration::from_secs(300));
    shell.handle(Input::LocateRefused(&wrong));
    assert_eq!(shell.complaints.len(), 4, "it had been answered in between");
    shell.datagram("b:1|c");
    shell.run_for(SECOND);
    assert_eq!(shell.out[1].text(), "b:1|c", "the last answer stands");
}

/// Publishes come back until the next question is out; how long that took.
fn returned_until_asked(shell: &mut Shell) -> Duration {
    let (asked, from) = (shell.locates.len(), shell.now.mono);
    while shell.locates.len() == asked {
        for sent in std::mem::take(&mut shell.out) {
            shell.handle(Input::Unroutable { id: sent.id });
        }
        shell.sleep(SECOND / 100);
    }
    shell.now.mono.since(from)
}

#[test]
fn three_hops_are_followed_at_once_and_then_it_waits() {
    let mut shell = Shell::ready(config());
    shell.datagram("a:1|c");
    shell.run_for(SECOND);
    for epoch in 2..=4 {
        let took = returned_until_asked(&mut shell);
        assert!(took <= SECOND / 50, "hop {epoch} after {took:?}");
        shell.sleep(SECOND / 10);
        shell.handle(Input::Located(&answer(epoch, &[endpoint(&format!("b{epoch}"), 0)])));
        shell.handle(Input::Connected);
    }
    assert_eq!((shell.agent.stats().hops, shell.agent.stats().hops_exceeded), (3, 0));
    let waits: Vec<Duration> = (5..25)
        .map(|epoch| {
            let took = returned_until_asked(&mut shell);
            shell.sleep(SECOND / 10);
            shell.handle(Input::Located(&answer(epoch, &[endpoint(&format!("b{epoch}"), 0)])));
            shell.handle(Input::Connected);
            took
        })
        .collect();
    assert!(waits.iter().any(|wait| *wait > 10 * SECOND) && waits.iter().all(|wait| *wait < 62 * SECOND));
    let stats = shell.agent.stats();
    assert!(stats.hops == 3 && stats.hops_exceeded >= 20 && stats.bodies_buffered == 1, "{stats:?}");
    // One confirm, and answers are trusted again.
    while shell.out.is_empty() {
        shell.run_for(SECOND);
    }
    let id = shell.out.remove(0).id;
    shell.handle(Input::Confirmed { id });
    shell.datagram("b:1|c");
    shell.run_for(SECOND);
    assert!(returned_until_asked(&mut shell) <= SECOND / 50);
}

#[test]
fn an_address_that_refuses_is_a_hop_and_a_broken_connection_is_none() {
    let mut shell = Shell::ready(config());
    shell.handle(Input::Disconnected);
    assert_eq!(shell.agent.stats().hops, 0, "all clients of a broker lose it at once");
    shell.run_for(SECOND);
    shell.handle(Input::Located(&answer(2, &[endpoint("b", 0)])));
    shell.sleep(SECOND / 5);
    shell.handle(Input::Disconnected);
    let asked = shell.locates.len();
    shell.sleep(Duration::from_nanos(1));
    assert_eq!((shell.locates.len(), shell.agent.stats().hops), (asked, 1), "asked in the same step");
}
