//! From what is on a broker to what is wanted there, in steps.
//!
//! The order is what makes a run safe to cut off anywhere: who loses rights loses them first; exchanges and queues stand before
//! anybody may use them; what goes away is removed last. A login whose connections are to be closed carries a tag that says so
//! until they are, so that whoever runs next knows.

mod step;

use std::collections::{BTreeMap, BTreeSet};

use kinetic_wire::names;

use crate::objects::{Args, Binding, Destination, Exchange, Objects, Queue, User, Value, Vhost};
use crate::ours::{Name, led_to};
use crate::wanted::{INSTALLATION_ARG, Wanted};

pub use step::{Action, Change, Step};

/// What is to be done, in this order.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Steps; each may be done again.
    pub steps: Vec<Step>,
    /// What people should know and nothing here changes: conflicts, and what is left behind.
    pub notes: Vec<String>,
}

impl Plan {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// How many steps create, change and remove something.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Change, usize> {
        let mut counts = BTreeMap::new();
        for step in &self.steps {
            *counts.entry(step.change).or_default() += 1;
        }
        counts
    }
}

/// What is to be done to a broker on which there is `actual`. One plan may not be enough: it is followed by another, until one is
/// empty. The connections of a login that loses rights are closed twice, at the time and in the plan after.
#[must_use]
pub fn plan(actual: &Objects, wanted: &Wanted) -> Plan {
    let mut planner = Planner { actual, wanted, known: known(actual, wanted), stages: Stages::default() };
    planner.users();
    planner.rights_of_nobody();
    planner.vhosts();
    let Stages { revoke, close, finish, vhosts, exchanges, queues, bindings, unbind, grant, remove, notes } =
        planner.stages;
    let steps = [revoke, close, finish, vhosts, exchanges, queues, bindings, unbind, grant, remove];
    Plan { steps: steps.into_iter().flatten().collect(), notes }
}

/// Steps by the stage they belong to.
#[derive(Debug, Default)]
struct Stages {
    revoke: Vec<Step>,
    close: Vec<Step>,
    finish: Vec<Step>,
    vhosts: Vec<Step>,
    exchanges: Vec<Step>,
    queues: Vec<Step>,
    bindings: Vec<Step>,
    unbind: Vec<Step>,
    grant: Vec<Step>,
    remove: Vec<Step>,
    notes: Vec<String>,
}

struct Planner<'p> {
    actual: &'p Objects,
    wanted: &'p Wanted,
    /// Customers that the broker knows already, so that what they lack has been removed by somebody.
    known: BTreeSet<&'p str>,
    stages: Stages,
}

fn customer_of_login(login: &str) -> &str {
    login.split('.').next().unwrap_or(login)
}

fn known<'p>(actual: &'p Objects, wanted: &Wanted) -> BTreeSet<&'p str> {
    let ours = actual.users.iter().filter(|(_, user)| user.tags.contains(&wanted.tag));
    let mut known: BTreeSet<&str> = ours.map(|(name, _)| customer_of_login(name)).collect();
    for vhost in actual.vhosts.values() {
        let names = vhost.queues.keys().chain(vhost.exchanges.keys());
        known.extend(names.filter_map(|name| Name::read(name)).map(Name::customer));
    }
    known
}

impl<'p> Planner<'p> {
    fn users(&mut self) {
        let Wanted { objects, tag, .. } = self.wanted;
        for (name, user) in &objects.users {
            match self.actual.users.get(name) {
                None => {
                    let why = self.why_new(name);
                    let put = Action::PutUser { name: name.clone(), user: user.clone() };
                    self.stages.grant.push(Step::new(Change::Create, put, &why));
                    self.grant(name, &why);
                }
                Some(found) if !found.tags.contains(tag) => self.stages.notes.push(format!(
                    "conflict: a user {name} is there that is not ours (it lacks the tag {tag}); it is left alone, and the \
                     schema's login does not work until somebody removes or renames it"
                )),
                Some(found) => self.keep_user(name, found, user),
            }
        }
        for (name, found) in &self.actual.users {
            if found.tags.contains(tag) && !objects.users.contains_key(name) {
                self.remove_user(name, found);
            }
        }
    }

    fn why_new(&self, login: &str) -> String {
        match login.split_once('.') {
            Some((customer, _)) if !self.known.contains(customer) => format!("customer {customer} is new"),
            Some((_, key)) => format!("key or certificate {key} is new"),
            None => "it is new".to_owned(),
        }
    }

    /// Vhosts in which a login has rights and should have others or none.
    fn wrong_rights(&self, name: &str) -> Vec<&'p str> {
        let mut wrong = Vec::new();
        let actual: &'p Objects = self.actual;
        for (vhost, found) in &actual.vhosts {
            let Some(has) = found.rights.get(name) else { continue };
            let wants = self.wanted.objects.vhosts.get(vhost).map(|wanted| wanted.rights.get(name));
            let is_right = match wants {
                Some(wants) => wants == Some(has),
                None => self.wanted.elsewhere.contains(vhost) && self.wanted.good.contains(name),
            };
            if !is_right {
                wrong.push(vhost.as_str());
            }
        }
        wrong
    }

    /// A login that is ours and stays.
    fn keep_user(&mut self, name: &str, found: &User, user: &User) {
        let Wanted { closing_tag, .. } = self.wanted;
        let wrong = self.wrong_rights(name);
        let is_closing = found.tags.contains(closing_tag);
        let has_other_secret = found.password_hash != user.password_hash;
        let reason = if has_other_secret {
            "its secret has changed"
        } else if !wrong.is_empty() {
            "it may do other things than the schema says"
        } else if is_closing {
            "its connections are of before a change"
        } else {
            ""
        };
        if !reason.is_empty() {
            let mut closing = user.clone();
            closing.tags.insert(closing_tag.clone());
            if *found != closing {
                self.revoke(Change::Change, Action::PutUser { name: name.to_owned(), user: closing }, reason);
            }
            self.withdraw(name, &wrong, reason);
            self.close(name, reason);
            if !has_other_secret && wrong.is_empty() {
                let put = Action::PutUser { name: name.to_owned(), user: user.clone() };
                self.stages.finish.push(Step::new(Change::Change, put, "its connections are closed"));
            }
        } else if found != user {
            let put = Action::PutUser { name: name.to_owned(), user: user.clone() };
            let why = if found.tags == user.tags { "its limits have changed" } else { "its tags are others" };
            self.stages.grant.push(Step::new(Change::Change, put, why));
        }
        self.grant(name, "it may do this by the schema");
    }

    /// Rights that a login lacks, and that are not put right already.
    fn grant(&mut self, name: &str, why: &str) {
        for (vhost, wanted) in &self.wanted.objects.vhosts {
            let has = self.actual.vhosts.get(vhost).is_some_and(|found| found.rights.contains_key(name));
            if let Some(rights) = wanted.rights.get(name).filter(|_| !has) {
                let (vhost, user) = (vhost.clone(), name.to_owned());
                let put = Action::PutRights { vhost, user, rights: rights.clone() };
                self.stages.grant.push(Step::new(Change::Create, put, why));
            }
        }
    }

    /// Wrong rights are removed; those that are to be there in another form come back when what they name stands.
    fn withdraw(&mut self, name: &str, wrong: &[&str], reason: &str) {
        for &vhost in wrong {
            let action = Action::RemoveRights { vhost: vhost.to_owned(), user: name.to_owned() };
            self.revoke(Change::Remove, action, reason);
            let wanted = self.wanted.objects.vhosts.get(vhost).and_then(|wanted| wanted.rights.get(name));
            if let Some(rights) = wanted {
                let (vhost, user) = (vhost.to_owned(), name.to_owned());
                let put = Action::PutRights { vhost, user, rights: rights.clone() };
                self.stages.grant.push(Step::new(Change::Change, put, reason));
            }
        }
    }

    /// A login that is ours and not wanted here.
    fn remove_user(&mut self, name: &str, found: &User) {
        let is_good = self.wanted.good.contains(name);
        let reason = self.wanted.refused.get(name).cloned().unwrap_or_else(|| {
            let customer = customer_of_login(name);
            match name.split_once('.') {
                _ if is_good => format!("customer {customer} is in another region"),
                Some(_) if !self.wanted.homes.contains_key(customer) => {
                    format!("customer {customer} is gone")
                }
                Some((_, key)) => format!("{customer} has no key or certificate {key} any more"),
                None => "the schema does not know it".to_owned(),
            }
        });
        let wrong = self.wrong_rights(name);
        let has_rights = |vhost: &Vhost| vhost.rights.contains_key(name);
        let rights = self.actual.vhosts.values().filter(|&vhost| has_rights(vhost)).count();
        if is_good && rights > wrong.len() {
            // Another region keeps it: one broker under two addresses.
            self.withdraw(name, &wrong, &reason);
            if !wrong.is_empty() {
                self.close(name, &reason);
            }
            return;
        }
        let tags = BTreeSet::from([self.wanted.tag.clone(), self.wanted.closing_tag.clone()]);
        let shut = User { password_hash: String::new(), tags, ..found.clone() };
        let is_shut = *found == shut && wrong.is_empty();
        if *found != shut {
            self.revoke(Change::Remove, Action::PutUser { name: name.to_owned(), user: shut }, &reason);
        }
        self.withdraw(name, &wrong, &reason);
        self.close(name, &reason);
        if is_shut {
            let remove = Action::RemoveUser { name: name.to_owned() };
            self.stages.finish.push(Step::new(Change::Remove, remove, &reason));
        }
    }

    fn revoke(&mut self, change: Change, action: Action, reason: &str) {
        self.stages.revoke.push(Step::new(change, action, reason));
    }

    fn close(&mut self, name: &str, reason: &str) {
        let action = Action::CloseConnections { user: name.to_owned() };
        self.stages.close.push(Step::new(Change::Remove, action, reason));
    }

    /// Kinetic's own login gets what it lacks; what it has is somebody's decision.
    fn rights_of_nobody(&mut self) {
        let own = self.wanted.own.clone();
        for (vhost, wanted) in &self.wanted.objects.vhosts {
            let has = self.actual.vhosts.get(vhost).is_some_and(|found| found.rights.contains_key(&own));
            if let Some(rights) = wanted.rights.get(&own).filter(|_| !has) {
                let (vhost, user, rights) = (vhost.clone(), own.clone(), rights.clone());
                let put = Action::PutRights { vhost, user, rights };
                self.stages.vhosts.push(Step::new(Change::Create, put, "Kinetic's own nodes work there"));
            }
        }
    }

    fn vhosts(&mut self) {
        let nothing = Vhost::default();
        let mut created = Vec::new();
        for (name, wanted) in &self.wanted.objects.vhosts {
            let found = self.actual.vhosts.get(name);
            if found.is_none() {
                let create = Action::CreateVhost { vhost: name.clone() };
                created.push(Step::new(Change::Create, create, "the schema wants it"));
            }
            let found = found.unwrap_or(&nothing);
            self.exchanges(name, wanted, found);
            self.queues(name, wanted, found);
            self.bindings(name, wanted, found);
            self.left(name, wanted, found);
        }
        self.stages.vhosts.splice(0..0, created);
    }

    /// Why something is missing.
    fn why_missing(&self, name: &str) -> String {
        match Name::read(name) {
            Some(of) if !self.known.contains(of.customer()) => format!("customer {} is new", of.customer()),
            Some(Name::Source { source, .. } | Name::Split { source, .. }) => {
                format!("source {source} is new, or somebody deleted it")
            }
            Some(Name::In { .. }) => "somebody deleted it".to_owned(),
            Some(Name::Out { customer }) => format!("{customer} reads its notifications"),
            _ => "it is not there".to_owned(),
        }
    }

    fn exchanges(&mut self, vhost: &str, wanted: &Vhost, found: &Vhost) {
        for (name, exchange) in &wanted.exchanges {
            let create = |exchange: &Exchange| {
                let (vhost, name, exchange) = (vhost.to_owned(), name.clone(), exchange.clone());
                Action::CreateExchange { vhost, name, exchange }
            };
            match found.exchanges.get(name) {
                None => {
                    let why = self.why_missing(name);
                    self.stages.exchanges.push(Step::new(Change::Create, create(exchange), &why));
                }
                Some(other) => {
                    if let Some(problem) = exchange_differs(exchange, other) {
                        self.stages.notes.push(format!(
                            "conflict: exchange {name} in {vhost} {problem}; delete it, and it comes back as it should be"
                        ));
                    }
                }
            }
        }
    }

    fn queues(&mut self, vhost: &str, wanted: &Vhost, found: &Vhost) {
        for (name, queue) in &wanted.queues {
            match found.queues.get(name) {
                None => {
                    let (vhost, name, queue) = (vhost.to_owned(), name.clone(), queue.clone());
                    let why = self.why_missing(&name);
                    let create = Action::CreateQueue { vhost, name, queue };
                    self.stages.queues.push(Step::new(Change::Create, create, &why));
                }
                Some(other) => {
                    if let Some(problem) = queue_differs(queue, other) {
                        self.stages.notes.push(format!(
                            "conflict: queue {name} in {vhost} {problem}, and a broker never changes a queue; delete it when it \
                             is empty, and it comes back as it should be"
                        ));
                    }
                }
            }
        }
    }

    fn bindings(&mut self, vhost: &str, wanted: &Vhost, found: &Vhost) {
        for binding in wanted.bindings.difference(&found.bindings) {
            let is_rebuilt = match &binding.to {
                Destination::Queue(name) => found.queues.contains_key(name),
                Destination::Exchange(name) => found.exchanges.contains_key(name),
            } && found.exchanges.contains_key(&binding.source);
            let why = match Name::read(binding.to.name()) {
                Some(_) if is_rebuilt => "it is new in the schema, or somebody deleted it".to_owned(),
                _ => self.why_missing(binding.to.name()),
            };
            let create = Action::CreateBinding { vhost: vhost.to_owned(), binding: binding.clone() };
            self.stages.bindings.push(Step::new(Change::Create, create, &why));
        }
        for binding in found.bindings.difference(&wanted.bindings) {
            if let Some(why) = self.why_unbound(vhost, wanted, binding) {
                let remove = Action::RemoveBinding { vhost: vhost.to_owned(), binding: binding.clone() };
                self.stages.unbind.push(Step::new(Change::Remove, remove, &why));
            }
        }
    }

    /// Why a binding that nobody wants is to go; `None` where it is not ours to judge.
    fn why_unbound(&self, vhost: &str, wanted: &Vhost, binding: &Binding) -> Option<String> {
        // Every queue is bound to the default exchange, and nobody can change that. What is left in parts that a source had is still
        // forwarded to it.
        if binding.source.is_empty() || binding.source == names::PARTIALS_EXCHANGE {
            return None;
        }
        let to = led_to(&binding.to)?;
        let is_wanted = match &binding.to {
            Destination::Queue(name) => wanted.queues.contains_key(name),
            Destination::Exchange(name) => wanted.exchanges.contains_key(name),
        };
        let home = self.wanted.homes.get(to.customer()).filter(|home| home.vhost == vhost);
        let is_splitter = matches!(Name::read(&binding.source), Some(Name::Split { .. }));
        let goes_with_it = is_splitter && !wanted.exchanges.contains_key(&binding.source);
        let stays = (is_wanted || self.why_gone(vhost, to).is_none()) && !goes_with_it;
        if !stays || (home.is_none() && !matches!(to, Name::Out { .. })) {
            // What leads to what is removed goes with it, and what a customer has left behind is emptied by its analyzers.
            return None;
        }
        match (Name::read(&binding.source), to.source()) {
            (Some(Name::In { customer }), Some(source)) if customer == to.customer() => {
                Some(format!("source {source} does not have this pattern"))
            }
            _ => Some("it leads to a queue of ours what does not belong there".to_owned()),
        }
    }

    /// What is ours by name and arguments, and of nobody any more.
    fn left(&mut self, vhost: &str, wanted: &Vhost, found: &Vhost) {
        for (name, queue) in &found.queues {
            let Some(of) = Name::read(name).filter(|_| !wanted.queues.contains_key(name)) else { continue };
            if let Some(why) = self.why_gone(vhost, of) {
                if of.is_our_queue(&queue.args) && queue.durable {
                    let remove =
                        Action::RemoveQueue { vhost: vhost.to_owned(), name: name.clone(), messages: None };
                    self.stages.remove.push(Step::new(Change::Remove, remove, &why));
                } else {
                    self.stages.notes.push(format!(
                        "left: queue {name} in {vhost} has a name of ours ({why}), but not our arguments"
                    ));
                }
            }
        }
        for (name, exchange) in &found.exchanges {
            let Some(of) = Name::read(name).filter(|_| !wanted.exchanges.contains_key(name)) else {
                continue;
            };
            if let Some(why) = self.why_gone(vhost, of) {
                if is_our_exchange(of, exchange, &self.wanted.installation) {
                    let remove = Action::RemoveExchange { vhost: vhost.to_owned(), name: name.clone() };
                    self.stages.remove.push(Step::new(Change::Remove, remove, &why));
                } else {
                    self.stages.notes.push(format!(
                        "left: exchange {name} in {vhost} has a name of ours ({why}), but not our mark"
                    ));
                }
            }
        }
    }

    /// Why an object of a customer is nobody's any more; `None` where it still is, or may be.
    fn why_gone(&self, vhost: &str, of: Name<'_>) -> Option<String> {
        let customer = of.customer();
        let Some(home) = self.wanted.homes.get(customer) else {
            return Some(format!("customer {customer} is gone"));
        };
        match (of, of.source()) {
            (Name::Out { .. }, _) => Some(format!("{customer} has no good key to read with")),
            _ if home.vhost != vhost => None,
            (Name::Split { .. }, Some(source)) => Some(format!("source {source} of {customer} is not split")),
            (_, Some(source)) if !home.sources.contains(source) => {
                Some(format!("source {source} of {customer} is gone"))
            }
            _ => None,
        }
    }
}

fn is_our_exchange(of: Name<'_>, exchange: &Exchange, installation: &str) -> bool {
    let has = |name: &str, want: &str| exchange.args.get(name) == Some(&Value::Text(want.to_owned()));
    match of {
        Name::In { .. } => exchange.kind == "topic" && has(INSTALLATION_ARG, installation),
        Name::Split { .. } => exchange.kind == "x-consistent-hash" && has("hash-header", "kin-origin"),
        _ => false,
    }
}

/// How an exchange that is there is not what is wanted.
fn exchange_differs(wanted: &Exchange, found: &Exchange) -> Option<String> {
    if wanted.kind != found.kind {
        return Some(format!("is {} and should be {}", found.kind, wanted.kind));
    }
    if wanted.durable != found.durable {
        return Some("should outlive a restart of the broker".to_owned());
    }
    let mut args = wanted.args.clone();
    // Who declared it before we could mark it has harmed nobody.
    args.remove(INSTALLATION_ARG);
    args_differ(&args, &found.args)
}

fn queue_differs(wanted: &Queue, found: &Queue) -> Option<String> {
    if wanted.durable != found.durable {
        return Some("should outlive a restart of the broker".to_owned());
    }
    args_differ(&wanted.args, &found.args)
}

fn args_differ(wanted: &Args, found: &Args) -> Option<String> {
    let differs = |(name, _): &(&String, &Value)| found.get(*name) != wanted.get(*name);
    let (name, value) = wanted.iter().find(differs)?;
    let said = |value: Option<&Value>| match value {
        None => "nothing".to_owned(),
        Some(Value::Text(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Flag(flag)) => flag.to_string(),
        Some(Value::Other) => "something else".to_owned(),
    };
    Some(format!("has {name} = {} and should have {}", said(found.get(name)), said(Some(value))))
}
