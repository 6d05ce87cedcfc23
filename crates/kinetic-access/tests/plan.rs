//! Plans on a model of a broker: whatever the order of revisions, wherever a run is cut off, and whatever others have on the same
//! broker.

use std::collections::{BTreeMap, BTreeSet};

use kinetic_access::{
    Action, Binding, Broker, Destination, Exchange, Objects, Plan, Queue, Rights, User, Value, Vhost, Wanted,
    plan, wanted,
};
use kinetic_schema::Schema;
use kinetic_schema::schema::{Key, Purpose, SaltedHash};
use kinetic_wire::Wall;
use proptest::prelude::*;

const CONTROL: &str = "control";
const REGION: &str = "here";

/// What a revision says of one customer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Says {
    /// Byte of the secret, and whether it may declare, by name of the key.
    keys: BTreeMap<&'static str, (u8, bool)>,
    sources: BTreeSet<&'static str>,
    disabled: bool,
}

type Revision = BTreeMap<&'static str, Says>;

fn schema(revision: &Revision) -> Schema {
    let mut text = format!("region \"{REGION}\" {{}}\n");
    for (name, says) in revision {
        let sources: String = says
            .sources
            .iter()
            .map(|name| {
                format!("source \"{name}\" {{\n data_type = \"statsd\"\n routing = [\"{name}.#\"]\n}}\n")
            })
            .collect();
        text.push_str(&format!("customer \"{name}\" {{\n region = region.{REGION}\n{sources}}}\n"));
    }
    let loaded = kinetic_schema::load(&[("all.hcl".to_owned(), text.into_bytes())].into());
    let mut schema = loaded.schema.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    for (name, says) in revision {
        let customer = schema.customers.get_mut(&(*name).into()).expect("it is there");
        customer.disabled = says.disabled;
        customer.keys =
            says.keys.iter().map(|(name, (secret, may_declare))| key(name, *secret, *may_declare)).collect();
    }
    schema
}

fn key(name: &str, secret: u8, may_declare: bool) -> Key {
    Key {
        name: name.to_owned(),
        hash: SaltedHash { salt: [1; 4], digest: [secret; 32] },
        purpose: Purpose::Publish,
        starts_ms: None,
        expires_ms: None,
        may_declare,
    }
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

/// What the nodes declare of a revision, in small.
fn declared(revision: &Revision) -> BTreeMap<String, Vhost> {
    let mut vhost = Vhost::default();
    for (name, says) in revision {
        let ingress = format!("in.{name}");
        let exchange = Exchange { kind: "topic".into(), durable: true, ..Exchange::default() };
        vhost.exchanges.insert(ingress.clone(), exchange);
        for source in &says.sources {
            let queue = format!("src.{name}.{source}");
            vhost.queues.insert(queue.clone(), source_queue());
            vhost.bindings.insert(bound(&ingress, &queue, &format!("{source}.#")));
        }
    }
    BTreeMap::from([(REGION.to_owned(), vhost)])
}

fn source_queue() -> Queue {
    let args = [
        ("x-overflow", text("drop-head")),
        ("x-max-length", Value::Number(10)),
        ("x-dead-letter-exchange", text("kin.dead")),
    ];
    Queue { durable: true, args: args.map(|(name, value)| (name.to_owned(), value)).into() }
}

fn bound(source: &str, queue: &str, key: &str) -> Binding {
    let to = Destination::Queue(queue.to_owned());
    Binding { source: source.to_owned(), to, key: key.to_owned(), has_args: false }
}

fn wants(revision: &Revision) -> Wanted {
    let broker = Broker {
        control: CONTROL.to_owned(),
        has_control: true,
        regions: [REGION.into()].into(),
        own: "kinetic".to_owned(),
    };
    wanted(&schema(revision), Wall::from_ms(1_000), &broker, declared(revision))
}

/// A broker, and who is connected to it.
#[derive(Clone, Debug, Default)]
struct Model {
    objects: Objects,
    /// Who, by which secret, with which rights.
    connections: BTreeSet<(String, String, (String, String, String))>,
}

impl Model {
    /// A broker that others use as well.
    fn shared() -> Self {
        let mut model = Self::default();
        let theirs = User { password_hash: "theirs".into(), ..User::default() };
        for name in ["kinetic", "theirs", "acme.theirs"] {
            model.objects.users.insert(name.to_owned(), theirs.clone());
        }
        let mut vhost = Vhost::default();
        vhost.rights.insert("theirs".to_owned(), Rights::default());
        vhost.exchanges.insert(
            "in.theirs".to_owned(),
            Exchange { kind: "topic".into(), durable: true, ..Exchange::default() },
        );
        vhost.queues.insert("src.theirs.web".to_owned(), Queue { durable: true, ..Queue::default() });
        vhost.queues.insert("tap".to_owned(), Queue::default());
        vhost.bindings.insert(bound("in.theirs", "tap", "#"));
        model.objects.vhosts.insert(REGION.to_owned(), vhost);
        model
    }

    fn theirs(&self) -> (Vec<&User>, Vec<&Exchange>, Vec<&Queue>, bool) {
        let vhost = &self.objects.vhosts[REGION];
        (
            ["kinetic", "theirs", "acme.theirs"]
                .iter()
                .filter_map(|name| self.objects.users.get(*name))
                .collect(),
            vhost.exchanges.get("in.theirs").into_iter().collect(),
            ["src.theirs.web", "tap"].iter().filter_map(|name| vhost.queues.get(*name)).collect(),
            vhost.bindings.contains(&bound("in.theirs", "tap", "#")) && vhost.rights.contains_key("theirs"),
        )
    }

    /// Everybody who ever had a key tries it.
    fn everybody_connects(&mut self) {
        let Some(vhost) = self.objects.vhosts.get(REGION) else { return };
        for (name, user) in &self.objects.users {
            if let (Some(rights), false) = (vhost.rights.get(name), user.password_hash.is_empty()) {
                let rights = (rights.configure.clone(), rights.write.clone(), rights.read.clone());
                self.connections.insert((name.clone(), user.password_hash.clone(), rights));
            }
        }
    }

    fn vhost(&mut self, name: &str) -> &mut Vhost {
        self.objects.vhosts.get_mut(name).unwrap_or_else(|| panic!("vhost {name} is not there"))
    }

    fn apply(&mut self, action: &Action) {
        match action.clone() {
            Action::CreateVhost { vhost } => _ = self.objects.vhosts.entry(vhost).or_default(),
            Action::PutUser { name, user } => _ = self.objects.users.insert(name, user),
            Action::CloseConnections { user } => self.connections.retain(|(of, ..)| *of != user),
            Action::RemoveUser { name } => {
                self.objects.users.remove(&name);
                self.objects.vhosts.values_mut().for_each(|vhost| _ = vhost.rights.remove(&name));
            }
            Action::PutRights { vhost, user, rights } => {
                assert!(self.objects.users.contains_key(&user), "rights before their login: {user}");
                if let Some((customer, _)) = user.split_once('.') {
                    let exchange = format!("in.{customer}");
                    assert!(self.vhost(&vhost).exchanges.contains_key(&exchange), "rights before {exchange}");
                }
                self.vhost(&vhost).rights.insert(user, rights);
            }
            Action::RemoveRights { vhost, user } => _ = self.vhost(&vhost).rights.remove(&user),
            Action::CreateExchange { vhost, name, exchange } => {
                self.vhost(&vhost).exchanges.entry(name).or_insert(exchange);
            }
            Action::CreateQueue { vhost, name, queue } => {
                _ = self.vhost(&vhost).queues.entry(name).or_insert(queue)
            }
            Action::CreateBinding { vhost, binding } => {
                let vhost = self.vhost(&vhost);
                assert!(
                    vhost.exchanges.contains_key(&binding.source),
                    "bound before it is there: {binding:?}"
                );
                assert!(
                    vhost.queues.contains_key(binding.to.name()),
                    "bound before it is there: {binding:?}"
                );
                vhost.bindings.insert(binding);
            }
            Action::RemoveQueue { vhost, name, .. } => {
                let vhost = self.vhost(&vhost);
                vhost.queues.remove(&name);
                vhost.bindings.retain(|binding| binding.to.name() != name);
            }
            Action::RemoveExchange { vhost, name } => {
                let vhost = self.vhost(&vhost);
                vhost.exchanges.remove(&name);
                vhost.bindings.retain(|binding| binding.source != name);
            }
            Action::RemoveBinding { vhost, binding } => _ = self.vhost(&vhost).bindings.remove(&binding),
        }
    }

    /// Plans and does, until nothing is left to do.
    fn converge(&mut self, wanted: &Wanted) {
        for _ in 0..4 {
            let plan = plan(&self.objects, wanted);
            if plan.is_empty() {
                return;
            }
            plan.steps.iter().for_each(|step| self.apply(&step.action));
            self.everybody_connects();
        }
        panic!("no end: {:#?}", plan(&self.objects, wanted).steps);
    }

    fn check(&self, wanted: &Wanted) {
        let ours: BTreeMap<_, _> =
            self.objects.users.iter().filter(|(_, user)| user.tags.contains(&wanted.tag)).collect();
        assert_eq!(ours, wanted.objects.users.iter().collect());
        let (found, wants) = (&self.objects.vhosts[REGION], &wanted.objects.vhosts[REGION]);
        let not_theirs = |name: &&String| !name.contains("theirs") && *name != "tap";
        let names = |vhost: &Vhost| -> Vec<String> {
            vhost.exchanges.keys().chain(vhost.queues.keys()).filter(not_theirs).cloned().collect()
        };
        assert_eq!(names(found), names(wants));
        let tapped = bound("in.theirs", "tap", "#");
        assert!(found.bindings.iter().filter(|one| **one != tapped).eq(wants.bindings.iter()), "{found:#?}");
        for (user, secret, rights) in &self.connections {
            let now = self.objects.users.get(user).map(|user| &user.password_hash);
            assert_eq!(now, Some(secret), "{user} is connected by a secret that is good no more");
            let Rights { configure, write, read } = found.rights.get(user).expect("it may still be here");
            assert_eq!(
                (configure, write, read),
                (&rights.0, &rights.1, &rights.2),
                "{user} has rights of before"
            );
        }
    }
}

fn said(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| format!("{} {}: {}", step.change.word(), step.action, step.reason)).collect()
}

fn says(keys: &[(&'static str, u8)]) -> Says {
    let keys = keys.iter().map(|(name, secret)| (*name, (*secret, false))).collect();
    Says { keys, sources: BTreeSet::from(["web"]), disabled: false }
}

#[test]
fn an_empty_broker_is_made_whole_in_the_order_that_harms_nobody() {
    let wanted = wants(&Revision::from([("acme", says(&[("first", 7)]))]));
    let want = [
        "create vhost control: the schema wants it",
        "create vhost here: the schema wants it",
        "create rights of kinetic in control: Kinetic's own nodes work there",
        "create rights of kinetic in here: Kinetic's own nodes work there",
        "create exchange in.acme in here: customer acme is new",
        "create queue src.acme.web in here: customer acme is new",
        "create binding in.acme → src.acme.web by \"web.#\" in here: customer acme is new",
        "create login acme.first: customer acme is new",
        "create rights of acme.first in here: customer acme is new",
    ];
    assert_eq!(said(&plan(&Objects::default(), &wanted)), want);
}

#[test]
fn a_key_that_is_taken_away_loses_its_rights_then_its_connections_then_its_login() {
    let mut model = Model::shared();
    model.converge(&wants(&Revision::from([("acme", says(&[("first", 7), ("second", 8)]))])));
    model.everybody_connects();
    let wanted = wants(&Revision::from([("acme", says(&[("first", 7)]))]));
    let first = plan(&model.objects, &wanted);
    let reason = "acme has no key or certificate second any more";
    let want = [
        format!("remove login acme.second: {reason}"),
        format!("remove rights of acme.second in here: {reason}"),
        format!("remove connections of acme.second: {reason}"),
    ];
    assert_eq!(said(&first), want);
    first.steps.iter().for_each(|step| model.apply(&step.action));
    let want = [
        format!("remove connections of acme.second: {reason}"),
        format!("remove login acme.second: {reason}"),
    ];
    assert_eq!(said(&plan(&model.objects, &wanted)), want);
    model.converge(&wanted);
    model.check(&wanted);
    assert!(model.connections.iter().any(|(user, ..)| user == "acme.first"), "others stay connected");
}

#[test]
fn what_somebody_deletes_comes_back_and_what_is_not_ours_stays() {
    let wanted = wants(&Revision::from([("acme", says(&[("first", 7)]))]));
    let mut model = Model::shared();
    model.converge(&wanted);
    model.apply(&Action::RemoveExchange { vhost: REGION.into(), name: "in.acme".into() });
    let stray = bound("in.theirs", "src.acme.web", "#");
    model.vhost(REGION).bindings.insert(stray);
    let want = [
        "create exchange in.acme in here: somebody deleted it",
        "create binding in.acme → src.acme.web by \"web.#\" in here: source web is new, or somebody deleted it",
        "remove binding in.theirs → src.acme.web by \"#\" in here: it leads to a queue of ours what does not belong there",
    ];
    let drift = plan(&model.objects, &wanted);
    assert_eq!(said(&drift), want);
    assert_eq!(drift.notes.len(), 2, "of in.theirs and src.theirs.web: {:?}", drift.notes);
}

#[test]
fn a_login_that_somebody_else_has_made_is_reported_and_left() {
    let wanted = wants(&Revision::from([("acme", says(&[("theirs", 7)]))]));
    let mut model = Model::shared();
    let before = model.theirs().0.into_iter().cloned().collect::<Vec<_>>();
    let plan = plan(&model.objects, &wanted);
    assert!(
        plan.notes.iter().any(|note| note.starts_with("conflict: a user acme.theirs")),
        "{:?}",
        plan.notes
    );
    assert!(!said(&plan).iter().any(|line| line.contains("acme.theirs")), "{:?}", said(&plan));
    model.converge(&wanted);
    assert_eq!(model.theirs().0, before.iter().collect::<Vec<_>>());
    assert!(!model.objects.vhosts[REGION].rights.contains_key("acme.theirs"));
}

fn any_says() -> impl Strategy<Value = Says> {
    let keys = proptest::collection::btree_map(
        prop_oneof![Just("first"), Just("second")],
        (0u8..3, any::<bool>()),
        1..3,
    );
    let sources = proptest::collection::btree_set(prop_oneof![Just("web"), Just("db")], 0..3);
    (keys, sources, proptest::bool::weighted(0.2)).prop_map(|(keys, sources, disabled)| Says {
        keys,
        sources,
        disabled,
    })
}

fn any_revision() -> impl Strategy<Value = Revision> {
    proptest::collection::btree_map(prop_oneof![Just("acme"), Just("best"), Just("corp")], any_says(), 0..4)
}

proptest! {
    /// From one revision to the next, cut off after each step in turn.
    #[test]
    fn a_run_may_be_cut_off_after_any_step(before in any_revision(), after in any_revision()) {
        let (before, after) = (wants(&before), wants(&after));
        let mut model = Model::shared();
        model.converge(&before);
        model.everybody_connects();
        let steps = plan(&model.objects, &after).steps;
        for cut in 0..=steps.len() {
            let mut model = model.clone();
            steps[..cut].iter().for_each(|step| model.apply(&step.action));
            model.converge(&after);
            model.check(&after);
        }
    }

    /// Revisions follow each other, each run is cut off somewhere, people connect all the time and delete what they may: in the
    /// end everything is as the last revision says, and what others have made is as it was.
    #[test]
    fn any_prefix_of_any_plan_leads_to_the_same_end(
        revisions in proptest::collection::vec((any_revision(), 0usize..40), 1..5),
        deleted in proptest::option::of(prop_oneof![Just("in.acme"), Just("in.best")]),
    ) {
        let mut model = Model::shared();
        let before = model.clone();
        for (revision, cut) in &revisions {
            let plan = plan(&model.objects, &wants(revision));
            for step in plan.steps.iter().take(*cut) {
                model.apply(&step.action);
                model.everybody_connects();
            }
            if let Some(name) = deleted {
                model.apply(&Action::RemoveExchange { vhost: REGION.into(), name: name.into() });
            }
        }
        let wanted = wants(&revisions.last().expect("one at least").0);
        model.converge(&wanted);
        model.check(&wanted);
        prop_assert_eq!(model.theirs(), before.theirs());
    }
}
