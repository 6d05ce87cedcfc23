//! Whatever is sent, answered, lost or broken: every line taken reaches the broker whole, and memory stays bounded.

use std::collections::BTreeMap;
use std::time::Duration;

use kinetic_agent::machine::{AgentConfig, Input};
use proptest::prelude::*;

use crate::harness::{Sent, Shell, answer, config, endpoint};

#[derive(Clone, Debug)]
enum Op {
    Datagram(Vec<String>, bool),
    Sleep(u64),
    Confirm(prop::sample::Index),
    Fail(prop::sample::Index),
    Unroutable(prop::sample::Index),
    Located(u64, u8),
    LocateFailed,
    Nudged,
    Connected,
    Disconnected,
}

fn op() -> impl Strategy<Value = Op> {
    let line = prop_oneof![
        10 => "[a-z]{1,30}:[0-9]{1,3}\\|c",
        1 => Just(String::new()),
        1 => "[a-z]{60,90}:1\\|ms",
    ];
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => (prop::collection::vec(line, 0..12), any::<bool>()).prop_map(|(lines, end)| Op::Datagram(lines, end)),
        4 => (0_u64..1_500).prop_map(Op::Sleep),
        5 => index().prop_map(Op::Confirm),
        2 => index().prop_map(Op::Fail),
        1 => index().prop_map(Op::Unroutable),
        1 => (0_u64..4, 0_u8..3).prop_map(|(epoch, host)| Op::Located(epoch, host)),
        1 => Just(Op::LocateFailed),
        1 => Just(Op::Nudged),
        2 => Just(Op::Connected),
        1 => Just(Op::Disconnected),
    ]
}

/// The broker's side: bodies by number, as they were confirmed.
#[derive(Default)]
struct Broker(BTreeMap<u64, String>);

impl Broker {
    fn take(&mut self, sent: &Sent) {
        let seq = sent.envelope.seq.expect("a number");
        let text = sent.text().to_owned();
        let before = self.0.insert(seq, text.clone());
        assert!(before.is_none_or(|before| before == text), "a repeat is the same body");
    }
}

/// Longest line that fits a body of the test's configuration.
const BODY: usize = 80;

fn drain(shell: &mut Shell, broker: &mut Broker) {
    shell.handle(Input::Located(&answer(9, &[endpoint("end", 0)])));
    shell.handle(Input::Connected);
    for _ in 0..5_000 {
        for sent in std::mem::take(&mut shell.out) {
            broker.take(&sent);
            shell.handle(Input::Confirmed { id: sent.id });
        }
        shell.sleep(Duration::from_secs(1));
        if shell.agent.stats().bodies_buffered == 0 {
            return;
        }
    }
    panic!("never empty: {:?}", shell.agent.stats());
}

proptest! {
    #[test]
    fn lines_in_are_lines_out(ops in prop::collection::vec(op(), 1..120), buffer in 1_500_usize..60_000) {
        let config = AgentConfig { body_bytes: BODY, buffer_bytes: buffer, ..config() };
        let mut shell = Shell::new(config.clone());
        let (mut broker, mut taken, mut dropped, mut too_long) = (Broker::default(), Vec::new(), 0, 0);
        shell.handle(Input::Tick);
        for op in ops {
            match op {
                Op::Datagram(lines, end) => {
                    let text = lines.join("\n") + if end { "\n" } else { "" };
                    shell.datagram(&text);
                    let now_dropped = shell.agent.stats().datagrams_dropped;
                    if now_dropped == dropped {
                        too_long += lines.iter().filter(|line| line.len() > BODY).count() as u64;
                        taken.extend(lines.into_iter().filter(|line| (1..=BODY).contains(&line.len())));
                    }
                    dropped = now_dropped;
                }
                Op::Sleep(ms) => shell.sleep(Duration::from_millis(ms)),
                Op::Confirm(index) if !shell.out.is_empty() => {
                    let sent = shell.out.remove(index.index(shell.out.len()));
                    broker.take(&sent);
                    shell.handle(Input::Confirmed { id: sent.id });
                }
                Op::Fail(index) if !shell.out.is_empty() => {
                    let sent = shell.out.remove(index.index(shell.out.len()));
                    shell.handle(Input::Failed { id: sent.id });
                }
                Op::Unroutable(index) if !shell.out.is_empty() => {
                    let sent = shell.out.remove(index.index(shell.out.len()));
                    shell.handle(Input::Unroutable { id: sent.id });
                }
                Op::Confirm(_) | Op::Fail(_) | Op::Unroutable(_) => {}
                Op::Located(epoch, host) => {
                    let endpoints = [endpoint(&format!("h{host}"), 0), endpoint("x", 1)];
                    shell.handle(Input::Located(&answer(epoch, &endpoints)));
                }
                Op::LocateFailed => shell.handle(Input::LocateFailed),
                Op::Nudged => shell.handle(Input::Nudged),
                Op::Connected => shell.handle(Input::Connected),
                // Answers to what was in flight may still come: `out` is kept.
                Op::Disconnected => shell.handle(Input::Disconnected),
            }
            let stats = shell.agent.stats();
            prop_assert!(stats.bytes_buffered <= buffer, "{stats:?}");
            prop_assert!(stats.in_flight <= config.in_flight_max);
            prop_assert!(shell.out.iter().all(|sent| sent.body.len() <= BODY && !sent.body.is_empty()));
        }
        drain(&mut shell, &mut broker);
        let out: Vec<String> =
            broker.0.values().flat_map(|body| body.split('\n')).map(str::to_owned).collect();
        prop_assert_eq!(&out, &taken);
        let stats = shell.agent.stats();
        prop_assert_eq!((stats.lines, stats.lines_too_long), (taken.len() as u64, too_long));
        prop_assert_eq!((stats.bytes_buffered, stats.in_flight), (0, 0));
    }

    #[test]
    fn any_bytes_are_taken_without_a_panic(
        datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
    ) {
        let mut shell = Shell::ready(config());
        for datagram in &datagrams {
            shell.handle(Input::Datagram(datagram));
        }
        shell.handle(Input::Shutdown);
    }
}
