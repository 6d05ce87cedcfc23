//! A key is replaced while its client publishes with confirms: nothing is refused, everything is counted once, and the old key is
//! good for nothing afterwards, not even for the connection that it opened. Signing keys and certificates have stories of their own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use kinetic_amqp::{Address, Outcome, Secret};
use kinetic_tests::amqp::Client;
use kinetic_tests::poll::eventually_within;
use kinetic_tests::process::Launch;
use kinetic_tests::schema::{Customer, SECRET, Watch};
use kinetic_tests::tool::python_with;
use kinetic_tests::traffic::{envelope, line};
use kinetic_tests::{BrokerKind, World, eventually};

on_both_brokers!(a_key_is_replaced_and_its_client_does_not_notice, Python);

/// The secret of the key that replaces the first.
const NEXT_SECRET: &str = "the-next-secret-of-all-stories";
/// Its salted hash: the salt `kin2`, and `printf %s kin2the-next-secret-of-all-stories | sha256sum`.
const NEXT_SALTED_SHA256: &str = "6b696e32a6fb5f7ac11446e81a5553df353b71376cc706d487642216bf6e18f0d4dff6fb";
/// Between two publishes.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a connection may stand once its key is gone from the broker's table.
const CLOSING: Duration = Duration::from_secs(10);
/// AMQP by hand, and a connection that is held.
const HOLD: &str = concat!(include_str!("attacks/raw.py"), include_str!("attacks/hold.py"));

/// A client that publishes one sample after the other, each until it is confirmed.
struct Load {
    address: Arc<Mutex<Address>>,
    ends: Arc<AtomicBool>,
    publishing: JoinHandle<(u64, Vec<String>)>,
}

impl Load {
    fn start(address: Address) -> Self {
        let (address, ends) = (Arc::new(Mutex::new(address)), Arc::new(AtomicBool::new(false)));
        let (shared, asked) = (Arc::clone(&address), Arc::clone(&ends));
        let publishing = std::thread::spawn(move || {
            let current = || shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let (mut used, mut published, mut refused) = (current(), 0, Vec::new());
            let mut client = Client::start(used.clone());
            while !asked.load(Ordering::SeqCst) {
                let wanted = current();
                if wanted.login != used.login {
                    client = Client::start(wanted.clone());
                    used = wanted;
                }
                match client.try_publish("in.rotating", "web", &envelope(), line("web-01", false).as_bytes())
                {
                    Ok(Outcome::Confirmed) => published += 1,
                    other => refused.push(format!("{other:?}")),
                }
                std::thread::sleep(PAUSE);
            }
            (published, refused)
        });
        Self { address, ends, publishing }
    }

    fn switch(&self, address: Address) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// How many were confirmed, and what became of the others.
    fn stop(self) -> (u64, Vec<String>) {
        self.ends.store(true, Ordering::SeqCst);
        self.publishing.join().expect("the load does not panic")
    }
}

fn a_key_is_replaced_and_its_client_does_not_notice(kind: BrokerKind) {
    // Logins are the broker's, whichever vhost: this one is no other story's.
    let customer = Customer { name: "rotating", watches: vec![Watch::default()] };
    // Nobody is let in by the story: what a login may do comes out of the schema on both brokers.
    let world = World::start(kind, &[]);
    customer.files().iter().for_each(|file| world.schema.write(file));
    world.schema.push();
    let redirector = world.redirector();
    world.reconcile();
    let analyzer = world.analyzer("analyzer");
    let old = world.customer_address(&customer);
    let new = Address { login: "rotating.next".into(), password: Secret::new(NEXT_SECRET), ..old.clone() };
    let may_log_in =
        |address: &Address| Client::start(address.clone()).connects_within(Duration::from_secs(2));
    eventually("the key is good", || if may_log_in(&old) { Ok(()) } else { Err("not yet") });
    let load = Load::start(old.clone());

    let python = python_with("sys").expect("asked before");
    let port = world.amqp().port().to_string();
    let words = ["-c", HOLD, "127.0.0.1", &port, world.vhost(), &old.login, SECRET];
    let mut held = Launch::new(python).args(words).start("hold", &world.dir().join("hold.log"));
    eventually("a connection is held", || if held.log().contains("open") { Ok(()) } else { Err(held.log()) });

    let file = "customers/rotating/customer.hcl";
    let next = format!("  key \"next\" {{\n    salted_sha256 = \"{NEXT_SALTED_SHA256}\"\n  }}\n}}\n");
    let both = customer.files()[0].1.trim_end().trim_end_matches('}').to_owned() + &next;
    world.schema.write(&(file.to_owned(), both.clone()));
    world.schema.push();
    world.reconcile();
    eventually("both keys are good", || match (may_log_in(&old), may_log_in(&new)) {
        (true, true) => Ok(()),
        other => Err(other),
    });
    load.switch(new.clone());
    std::thread::sleep(20 * PAUSE);

    let (head, rest) = both.split_once("  key \"web\" {").expect("the first key");
    let (_, rest) = rest.split_once("  }\n").expect("its end");
    world.schema.write(&(file.to_owned(), format!("{head}{rest}")));
    world.schema.push();
    world.reconcile();
    eventually_within(CLOSING, "the connection of the old key is closed", || match held.ended() {
        Some(_) => Ok(()),
        None => Err(held.log()),
    });
    eventually("the old key is refused", || if may_log_in(&old) { Err("it is not") } else { Ok(()) });
    std::thread::sleep(20 * PAUSE);

    let (published, refused) = load.stop();
    assert!(refused.is_empty(), "{refused:?}");
    assert!(published > 60, "too few to mean anything: {published}");
    eventually("every sample is counted once", || match analyzer.metric("kinetic_analyzer_samples_total") {
        counted if counted == published => Ok(()),
        counted => Err((counted, published)),
    });
    drop(redirector);
}
