//! Short-lived credentials: an agent goes on with one after another while the keys that sign them are replaced, and what is not one
//! of ours opens nothing.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use kinetic_amqp::{AmqpError, PublishError};
use kinetic_tests::amqp::{Client, log_in, queue_depth};
use kinetic_tests::poll::eventually_within;
use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::tokens::{TokenKeys, claims, header, in_secs, kid, part, written};
use kinetic_tests::traffic::line;
use kinetic_tests::world::{Agent, Node, SHORT_LEASE};
use kinetic_tests::{BrokerKind, World, eventually};
use kinetic_wire::{Credential, Envelope, Reply, SourceKey, decode, names};
use serde_json::{Value, json};

on_both_brokers!(signing_keys_are_replaced_under_load_and_a_revoked_login_is_out);
on_both_brokers!(what_is_not_ours_opens_nothing);

/// Life of a token here.
const TTL: Duration = Duration::from_secs(5);
/// Time between two lines.
const PACE: Duration = Duration::from_millis(20);

/// A world whose brokers take tokens.
struct Scene {
    world: World,
    keys: TokenKeys,
    customer: Customer,
    /// What `kinetic.hcl` says without tokens.
    installation: String,
}

impl Scene {
    /// The customer is nobody's else on the broker, so that its login may be taken away.
    fn begin(kind: BrokerKind, name: &'static str) -> Self {
        let customer = Customer { name, ..Customer::acme(&[Watch::default()]) };
        let world = World::start(kind, std::slice::from_ref(&customer));
        let keys = TokenKeys::new(world.dir().join("token-keys"));
        let installation = world.schema.read("kinetic.hcl");
        let installation = installation.replacen("  vhost", "  tokens = true\n  vhost", 1);
        Self { world, keys, customer, installation }
    }

    /// A key's name: RabbitMQ's keys are all stories' in common.
    fn kid(&self, which: &str) -> String {
        format!("{}-{which}", self.world.vhost())
    }

    /// Makes a key, and has RabbitMQ accept it; returns its line for the schema.
    fn key(&self, which: &str, starts: Option<u64>) -> String {
        let name = self.kid(which);
        let public = self.keys.make(&name);
        if let Some(rabbit) = self.world.rabbit() {
            rabbit.add_token_key(&name, &self.keys.public_pem(&name));
        }
        let starts = starts.map(|at| format!("    starts = \"{}\"\n", written(at))).unwrap_or_default();
        format!("  key \"{name}\" {{\n    public = \"{public}\"\n{starts}  }}\n")
    }

    fn push_keys(&self, keys: &[&str]) {
        let tokens = format!("\ntokens {{\n  ttl = \"{}s\"\n{}}}\n", TTL.as_secs(), keys.concat());
        self.world.schema.write(&("kinetic.hcl".to_owned(), self.installation.clone() + &tokens));
        self.world.schema.push();
    }

    fn redirector(&self) -> Node {
        let [ttl, grace] = SHORT_LEASE.map(|ms| ms.to_string());
        let words = ["--lease-ttl", &ttl, "--lease-grace", &grace, "--token-keys", &self.keys.folder()];
        let node = self.world.role("redirector", "redirector", &words);
        node.wait_healthy();
        eventually("the customer's queues are declared", || {
            queue_depth(&self.world.region_address(), names::DEAD_QUEUE).ok_or("not yet")
        });
        node
    }

    /// What `locate` hands out now.
    fn credential(&self) -> Credential {
        eventually("locate hands out a token", || {
            let answer = self.world.locate_with(&self.customer, &["--json", "--token"]);
            match decode::<Reply<kinetic_wire::LocateReply>>(&answer.stdout) {
                Ok(Reply::Ok(reply)) => reply.credential.ok_or_else(|| "an answer without one".to_owned()),
                other => Err(format!("{other:?}")),
            }
        })
    }

    /// A token, once the broker knows the key that signed it: it follows the schema by itself.
    fn taken(&self) -> String {
        eventually("the broker takes a token", || {
            let token = self.credential().token;
            self.try_token(&token).map(|()| token)
        })
    }

    fn try_token(&self, token: &str) -> Result<(), AmqpError> {
        log_in(&self.world.token_address(&self.customer.login(), token))
    }

    fn refused(&self, what: &str, token: &str) {
        match self.try_token(token) {
            Err(AmqpError::LoginRefused { .. }) => {}
            other => panic!("{what}: {other:?}"),
        }
    }
}

/// Waits until the agent has been given so many more tokens.
fn renewed(agent: &Agent, more: u64) {
    let count = || agent.node.metric("kinetic_agent_tokens_renewed_total");
    let target = count() + more;
    eventually_within(TTL * 4, "the agent's connection has other tokens", || {
        if count() >= target { Ok(()) } else { Err(agent.node.metrics()) }
    });
}

/// An agent publishes with confirms over several tokens; the key that signs them is added, signs, and the old one goes; then its
/// login is taken out of the schema.
fn signing_keys_are_replaced_under_load_and_a_revoked_login_is_out(kind: BrokerKind) {
    let scene = Scene::begin(kind, "envoy");
    let old = scene.key("a", None);
    scene.push_keys(&[&old]);
    let redirector = scene.redirector();
    assert_eq!(kid(&scene.taken()), scene.kid("a"));
    let agent = scene.world.agent(&scene.customer, "agent", &[]);
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|threads| {
        threads.spawn(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
            while !stop.load(Ordering::Relaxed) {
                socket.send_to(line("web-01", false).as_bytes(), agent.udp).expect("send");
                sent.fetch_add(1, Ordering::Relaxed);
                thread::sleep(PACE);
            }
        });
        // Stops the traffic also when the story fails.
        let rotated = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            renewed(&agent, 2);
            let new = scene.key("b", Some(in_secs(Duration::from_secs(4))));
            scene.push_keys(&[&old, &new]);
            eventually("the new key signs", || match kid(&scene.credential().token) {
                kid if kid == scene.kid("b") => Ok(()),
                kid => Err(kid),
            });
            renewed(&agent, 2);
            scene.push_keys(&[&new]);
            if let Some(rabbit) = scene.world.rabbit() {
                rabbit.remove_token_key(&scene.kid("a"));
            }
            renewed(&agent, 2);
        }));
        stop.store(true, Ordering::Relaxed);
        rotated.unwrap_or_else(|failed| std::panic::resume_unwind(failed));
    });
    nothing_was_refused(&scene, &agent, sent.into_inner());
    assert!(redirector.metric("kinetic_redirector_tokens_issued_total") >= 4);
    is_out_when_revoked(&scene, &agent, kind);
}

/// Every line is confirmed and in the queue once, over one connection that has seen nothing but tokens.
fn nothing_was_refused(scene: &Scene, agent: &Agent, sent: u64) {
    let count = |name: &str| agent.node.metric(&format!("kinetic_agent_{name}"));
    eventually("all lines are confirmed", || {
        let (lines, buffered) = (count("lines_total"), count("bytes_buffered"));
        if lines == sent && buffered == 0 { Ok(()) } else { Err((lines, buffered)) }
    });
    for name in
        ["failed_total", "tokens_refused_total", "lapses_total", "disconnects_total", "unroutable_total"]
    {
        assert_eq!(count(name), 0, "{name}\n{}", agent.node.metrics());
    }
    assert_eq!(
        (count("connects_total"), count("tokens_logins_total")),
        (1, 1),
        "one connection all the time"
    );
    let source = names::source_queue(&SourceKey::new(scene.customer.name, "web"));
    let depth = queue_depth(&scene.world.region_address(), &source).expect("the queue");
    assert_eq!(u64::from(depth.messages), count("confirmed_total"), "not one was lost or doubled");
}

/// The agent's login is taken out of the schema.
fn is_out_when_revoked(scene: &Scene, agent: &Agent, kind: BrokerKind) {
    let last = scene.credential().token;
    scene.try_token(&last).expect("still good");
    scene.world.schema.rewrite("customers/envoy/customer.hcl", "key \"web\"", "key \"another\"");
    scene.world.schema.push();
    if let Some(rabbit) = scene.world.rabbit() {
        rabbit.revoke(&scene.customer.login());
    }
    let out = Duration::from_secs(TTL.as_secs() + 5);
    eventually_within(out, "its key opens nothing", || {
        match log_in(&scene.world.customer_address(&scene.customer)) {
            Err(AmqpError::LoginRefused { .. }) => Ok(()),
            other => Err(other),
        }
    });
    if kind == BrokerKind::Embedded {
        eventually_within(out, "the revoked agent is out", || match agent.node.heartbeat() {
            Ok(answer) if answer.status == 503 => Ok(()),
            other => Err(other),
        });
    }
    // RabbitMQ does not know the schema: there a token lives until it expires.
    eventually_within(out, "its last token opens nothing", || match scene.try_token(&last) {
        Err(AmqpError::LoginRefused { .. }) => Ok(()),
        other => Err(other),
    });
}

/// Tokens of all kinds but the right one.
fn what_is_not_ours_opens_nothing(kind: BrokerKind) {
    let scene = Scene::begin(kind, "forger");
    let key = scene.key("a", None);
    scene.push_keys(&[&key]);
    let _redirector = scene.redirector();
    let good = scene.taken();
    let client = Client::start(scene.world.token_address(&scene.customer.login(), &good));
    for exchange in ["in.globex", "kin.dead", names::RPC_EXCHANGE, ""] {
        let refused = client.try_publish(exchange, "web", &Envelope::default(), b"x:1|c");
        assert!(matches!(refused, Err(PublishError::Refused(_))), "{exchange}: {refused:?}");
    }

    let (own, honest) = (scene.kid("a"), claims(&good));
    let with = |change: &[(&str, Value)]| {
        let mut claims = honest.clone();
        change.iter().for_each(|(name, value)| claims[*name] = value.clone());
        claims
    };
    let everything = with(&[("scope", json!("kinetic.read:*/* kinetic.write:*/*/* kinetic.configure:*/*"))]);
    let mut parts = good.split('.');
    let (head, signature) = (parts.next().expect("a header"), parts.next_back().expect("a signature"));
    scene.refused("a tampered scope", &format!("{head}.{}.{signature}", part(&everything)));
    let late = with(&[("exp", json!(in_secs(Duration::ZERO) - 1))]);
    scene.refused("expired", &scene.keys.sign(&own, &header(&own), &late));
    let for_others = with(&[("aud", json!("rabbitmq"))]);
    scene.refused("meant for others", &scene.keys.sign(&own, &header(&own), &for_others));
    let none = json!({"alg": "none", "typ": "JWT", "kid": own});
    scene.refused("alg none", &format!("{}.{}.", part(&none), part(&honest)));
    scene.refused("alg none, signed", &scene.keys.sign(&own, &none, &honest));
    let hmac = json!({"alg": "HS256", "typ": "JWT", "kid": own});
    scene.refused("alg HS256", &scene.keys.sign(&own, &hmac, &honest));
    let elsewhere = TokenKeys::new(scene.world.dir().join("elsewhere"));
    assert!(!elsewhere.make(&own).is_empty());
    scene.refused("another installation's key", &elsewhere.sign(&own, &header(&own), &honest));
    assert!(!elsewhere.make("unheard-of").is_empty());
    scene.refused("a key nobody knows", &elsewhere.sign("unheard-of", &header("unheard-of"), &honest));
    scene.try_token(&scene.credential().token).expect("the right one, still");
    if kind == BrokerKind::Embedded {
        // What only who has the schema can tell, of tokens that the right key signed.
        scene.refused("a scope beyond the login", &scene.keys.sign(&own, &header(&own), &everything));
        let nobody = with(&[("sub", json!("forger.nobody"))]);
        scene.refused("nobody's", &scene.keys.sign(&own, &header(&own), &nobody));
        let other = log_in(&scene.world.token_address("forger.other", &good));
        assert!(matches!(other, Err(AmqpError::LoginRefused { .. })), "{other:?}");
    }
}
