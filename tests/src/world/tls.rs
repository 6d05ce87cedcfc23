//! TLS between everything and the broker, and logins by certificate.

use kinetic_amqp::Address;

use super::{Agent, Broker, BrokerKind, LOGS, LOGS_VARIABLE, World, text};
use crate::certs::{Authority, Issued};
use crate::process::{Launch, kinetic};
use crate::schema::{Customer, Queues};

impl World {
    /// A broker that everything speaks TLS to, clients that follow the schema included.
    ///
    /// # Panics
    /// If something does not come up.
    #[must_use]
    pub fn start_over_tls(kind: BrokerKind, customers: &[Customer]) -> Self {
        let mut world = Self::start_as(kind, Queues::Classic, customers, LOGS, true);
        world.over_tls = true;
        world.follow_over_tls();
        world
    }

    fn follow_over_tls(&self) {
        let region = format!("region \"local\" {{\n  amqp   = [\"{}\"]\n", self.url());
        self.schema.rewrite("kinetic.hcl", "region \"local\" {\n", &region);
        self.schema.push();
    }

    /// Who signed the broker's certificate, and whose client certificates are logins.
    ///
    /// # Panics
    /// If the broker has none.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        match &self.broker {
            Broker::Embedded { tls, .. } => &tls.as_ref().expect("it was started over TLS").1,
            Broker::Shared(rabbit) => rabbit.authority(),
            Broker::Own(rabbit) => rabbit.authority(),
        }
    }

    /// Makes a certificate a customer's login: in the schema, and where the broker does not follow that by itself.
    pub fn certify(&self, customer: &Customer, certificate: &Issued) {
        let file = format!("customers/{}/customer.hcl", customer.name);
        let block = format!("\n  {}\n\n  key \"web\"", certificate.block);
        self.schema.rewrite(&file, "\n  key \"web\"", &block);
        self.schema.push();
        if let Some(rabbit) = self.rabbit() {
            let write = format!("^(in\\.{}|kin\\.rpc)$", customer.name);
            rabbit.certified(&self.vhost, &certificate.login, ["^$", &write, "^$"]);
        }
    }

    /// Takes it away again.
    pub fn revoke(&self, customer: &Customer, certificate: &Issued) {
        let file = format!("customers/{}/customer.hcl", customer.name);
        self.schema.rewrite(&file, &format!("\n  {}\n", certificate.block), "");
        self.schema.push();
        if let Some(rabbit) = self.rabbit() {
            rabbit.expel(&certificate.login);
        }
    }

    /// Words that tell a client whom to trust.
    #[must_use]
    pub fn trust_words(&self) -> Vec<String> {
        match self.over_tls {
            true => vec!["--ca-file".into(), text(&self.authority().file())],
            false => Vec::new(),
        }
    }

    /// Address of who shows a certificate, and nothing else.
    #[must_use]
    pub fn certified_address(&self, certificate: &Issued) -> Address {
        let mut address = self.address(&certificate.login, "", &self.vhost);
        address.identity = Some(certificate.identity());
        address
    }

    /// The agent of who shows a certificate.
    #[must_use]
    pub fn agent_by(&self, certificate: &Issued, name: &str) -> Agent {
        let broker = format!("{}/{}", self.url(), self.vhost);
        let launch = Launch::new(kinetic()).env(LOGS_VARIABLE, self.logs);
        self.started(launch.args(["agent", "--amqp", &broker]).args(certificate.words()), name)
    }
}
