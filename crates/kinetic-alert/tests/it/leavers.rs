//! Recipients who leave an alert block and come back, while the schema changes and the node restarts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kinetic_alert::{AlertConfig, Input};
use kinetic_schema::schema::Schema;
use kinetic_wire::{Subscribe, Subscription};
use proptest::option;
use proptest::prelude::*;

use crate::links::{ANN, BOB, act, ann, last, links, schema, unsubscribed};
use crate::world::{World, alert_block, config};

/// What happens to a block with three recipients.
#[derive(Clone, Debug)]
enum Op {
    Fire(u8),
    Resolve(u8),
    /// A recipient uses the last link to leave that he was mailed.
    Leave(u8),
    Back(u8),
    /// The schema names only these.
    Names(u8),
    Wait(u16),
    /// Nothing that was said to be done may be lost. Meanwhile the schema may have come to name only these.
    Restart(Option<u8>),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..3_u8).prop_map(Op::Fire),
        2 => (0..3_u8).prop_map(Op::Resolve),
        3 => (0..3_u8).prop_map(Op::Leave),
        1 => (0..3_u8).prop_map(Op::Back),
        1 => (1..8_u8).prop_map(Op::Names),
        3 => (0..900_u16).prop_map(Op::Wait),
        1 => option::of(1..8_u8).prop_map(Op::Restart),
    ]
}

const CAT: &str = "cat@acme.example";
const READERS: [&str; 3] = [ANN, BOB, CAT];

/// The world, and what is to be true of it.
struct Model {
    world: World,
    firing: BTreeSet<u8>,
    names: BTreeSet<u8>,
    left: BTreeSet<u8>,
}

impl Model {
    fn schema(names: &BTreeSet<u8>) -> Schema {
        let to: Vec<&str> = names.iter().map(|name| READERS[usize::from(*name)]).collect();
        schema(vec![alert_block("team", &to)], Some("https://alerts.acme.example"))
    }

    fn subscription(name: u8) -> Subscription {
        Subscription { to: READERS[usize::from(name)].into(), ..ann() }
    }

    fn now(&self) -> f64 {
        World::secs(self.world.now.wall)
    }

    fn perform(&mut self, op: &Op) {
        let now = self.now();
        match op {
            Op::Fire(host) => {
                self.world.fire(now + 1.0, &format!("web-{host}"));
                self.firing.insert(*host);
            }
            Op::Resolve(host) if self.firing.remove(host) => {
                self.world.resolve(now + 1.0, &format!("web-{host}"));
            }
            Op::Resolve(_) => {}
            Op::Leave(name) => self.leave(*name),
            Op::Back(name) => {
                let asked = Subscribe { v: 1, subscription: Self::subscription(*name), author: "ops".into() };
                let reply = self.world.request("subscribe", &asked);
                assert_eq!(reply["ok"], self.left.remove(name), "{reply}");
            }
            Op::Names(bits) => {
                self.name(*bits);
                self.world.change_schema(Self::schema(&self.names));
            }
            Op::Wait(secs) => self.world.run_until(now + f64::from(*secs)),
            Op::Restart(bits) => {
                if let Some(bits) = bits {
                    self.name(*bits);
                    self.world.schema = Arc::new(Self::schema(&self.names));
                }
                self.world.crash(usize::MAX);
                self.world.input(Input::Tick);
                self.world.settle();
            }
        }
    }

    fn name(&mut self, bits: u8) {
        self.names = (0..3).filter(|name| bits >> name & 1 == 1).collect();
        self.left.retain(|name| self.names.contains(name));
    }

    fn leave(&mut self, name: u8) {
        let to = READERS[usize::from(name)];
        let Some((_, email)) = self.world.inbox.iter().rfind(|(_, email)| email.to == to) else { return };
        let token = links(email).last().unwrap().rsplit('/').next().unwrap().to_owned();
        let reply = act(&mut self.world, &token, None, None);
        let others = self.names.iter().any(|other| *other != name && !self.left.contains(other));
        if !self.names.contains(&name) {
            assert_eq!(reply["code"], "unknown_subscription", "{reply}");
        } else if self.left.contains(&name) || others {
            assert_eq!(reply["unsubscribed"], true, "{reply}");
            self.left.insert(name);
        } else {
            assert_eq!(reply["code"], "last_recipient", "{reply}");
        }
    }

    /// After quiet: who is told knows what fires, and who is not has had no mail; the block tells somebody.
    fn check(&mut self) {
        let quiet = self.now();
        self.world.run_until(quiet + 2_500.0);
        let reply = unsubscribed(&mut self.world);
        let listed = reply["unsubscribed"].as_array().unwrap().len();
        assert_eq!(listed, self.left.len(), "{reply}");
        let somebody = self.names.iter().any(|name| !self.left.contains(name));
        for name in 0..3_u8 {
            let to = READERS[usize::from(name)];
            let is_told = self.names.contains(&name) && !(somebody && self.left.contains(&name));
            let late = |at: &kinetic_wire::Wall| World::secs(*at) > quiet + 1_000.0;
            let mailed = self.world.inbox.iter().filter(|(at, email)| email.to == to && late(at)).count();
            assert_eq!(mailed > 0, is_told && !self.firing.is_empty(), "{to}: {}", self.world.mails());
            for host in self.firing.iter().filter(|_| is_told) {
                let text = &last(&self.world, to).text;
                assert!(text.contains(&format!("web-{host}")), "{to}: {text}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever leaves, comes back, is named or dropped, whatever fires, over any restarts: the block tells whom it should.
    #[test]
    fn a_block_tells_whom_it_should(ops in proptest::collection::vec(op(), 1..60)) {
        let names: BTreeSet<u8> = (0..3).collect();
        // An event of an alert that fires is not repeated here, so nothing may go stale.
        let config = AlertConfig { stale_after: Duration::from_secs(10_000_000), ..config() };
        let world = World::with(config, Model::schema(&names));
        let mut model = Model { world, firing: BTreeSet::new(), names, left: BTreeSet::new() };
        ops.iter().for_each(|op| model.perform(op));
        model.check();
    }
}
