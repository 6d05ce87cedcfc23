//! `kinetic client-config`: what a customer's tools need, ready to paste.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use clap::ValueEnum;
use kinetic_amqp::Address;
use kinetic_schema::Schema;
use kinetic_schema::schema::{Customer, Key, Purpose};
use kinetic_wire::{DataType, names};

use crate::adapter::clock;
use crate::cli::{self, Tool};
use crate::{schema_files, term};

/// Stands for the key's secret, which nobody but its holder knows.
const SECRET: &str = "THE-KEY'S-SECRET";

/// What every tool needs to know.
#[derive(Debug, serde::Serialize)]
struct Access {
    uri: String,
    host: String,
    port: u16,
    tls: bool,
    vhost: String,
    exchange: String,
    /// Keys that publish and are good now, those first that are good for longest.
    logins: Vec<String>,
    /// Certificates that log in without a secret.
    certificates: usize,
    /// Its broker takes tokens, which our agent asks for by itself.
    tokens: bool,
    sources: Vec<SourceAccess>,
}

/// One source, as a publisher sees it.
#[derive(Debug, serde::Serialize)]
struct SourceAccess {
    name: String,
    data_type: DataType,
    profile: Option<String>,
    routing: Vec<String>,
    /// A routing key that its first pattern matches.
    routing_key: String,
}

/// `kinetic client-config`
pub(crate) fn run(args: &cli::ClientConfig) -> Result<u8> {
    let schema = schema_files::load(&args.schema)?;
    let customer = schema.customers.get(&args.customer.as_str().into()).with_context(|| {
        let known: Vec<&str> = schema.customers.keys().map(kinetic_wire::CustomerName::as_str).collect();
        format!("no customer named `{}` in {}; there is {}", args.customer, args.schema, known.join(", "))
    })?;
    let access = access(&schema, customer, &args.broker)?;
    if args.json {
        term::say(&format!("{}\n", serde_json::to_string_pretty(&access)?));
        return Ok(0);
    }
    let mut text = String::new();
    let style = term::Style::stdout();
    for tool in Tool::value_variants() {
        if args.tool.is_none_or(|wanted| wanted == *tool) {
            let (title, body) = section(*tool, &access);
            writeln!(text, "{}\n{body}", style.bold(&format!("# {title}")))?;
        }
    }
    if args.tool.is_none() {
        let mut head = String::new();
        writeln!(head, "AMQP      {}  vhost {}", access.uri, access.vhost)?;
        writeln!(head, "publish   to exchange {} (it is there already: do not declare it)", access.exchange)?;
        let login = match access.logins.as_slice() {
            [] => format!("no key is good for it: kinetic key new {} NAME", customer.name),
            some => format!("{}; password: the key's secret, shown when it was made", some.join(" or ")),
        };
        writeln!(head, "login     {login}")?;
        if access.certificates > 0 && access.tls {
            writeln!(head, "          or a client certificate, without a password (SASL EXTERNAL)")?;
        }
        if !customer.netblocks.is_empty() {
            let from: Vec<String> = customer.netblocks.iter().map(ToString::to_string).collect();
            writeln!(head, "          or none: carbon and statsd from {}, at an edge", from.join(", "))?;
        }
        if access.tokens {
            writeln!(head, "          our agent trades it for tokens that expire")?;
        }
        for source in &access.sources {
            writeln!(
                head,
                "source    {} ({:?}{}): routing key {} (patterns: {})",
                source.name,
                source.data_type,
                source.profile.as_ref().map_or_else(String::new, |profile| format!(", profile {profile}")),
                source.routing_key,
                source.routing.join(", ")
            )?;
        }
        text.insert_str(0, &format!("{head}\n"));
    }
    term::say(&text);
    Ok(0)
}

fn access(schema: &Schema, customer: &Customer, broker: &str) -> Result<Access> {
    let region =
        schema.regions.get(&customer.region).context("a checked schema has its customers' regions")?;
    let uri = region.amqp.first().cloned().unwrap_or_else(|| format!("amqp://{broker}"));
    let (tls, authority) = match uri.split_once("://") {
        Some((scheme, rest)) => (scheme == "amqps", rest.trim_end_matches('/')),
        None => (false, uri.as_str()),
    };
    let default_port = if tls { 5671 } else { 5672 };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host.to_owned(), port.parse().unwrap_or(default_port)),
        None => (authority.to_owned(), default_port),
    };
    let sources = customer.sources.values().map(|source| SourceAccess {
        name: source.name.to_string(),
        data_type: source.data_type,
        profile: source.profile.clone(),
        routing: source.routing.clone(),
        routing_key: source.routing_key(),
    });
    Ok(Access {
        host,
        port,
        tls,
        vhost: region.vhost.clone(),
        exchange: names::ingress_exchange(&customer.name),
        logins: logins(customer, clock::now().wall.as_ms()),
        certificates: customer.certificates.len(),
        tokens: schema.tokens.is_some() && region.tokens,
        sources: sources.collect(),
        uri,
    })
}

/// Logins that publish and are good now.
fn logins(customer: &Customer, now_ms: i64) -> Vec<String> {
    let good = |key: &&Key| {
        key.purpose == Purpose::Publish
            && key.starts_ms.is_none_or(|starts| starts <= now_ms)
            && key.expires_ms.is_none_or(|ends| now_ms < ends)
    };
    let mut keys: Vec<&Key> = customer.keys.iter().filter(good).collect();
    keys.sort_by_key(|key| std::cmp::Reverse(key.expires_ms.unwrap_or(i64::MAX)));
    keys.into_iter().map(|key| format!("{}.{}", customer.name, key.name)).collect()
}

impl Access {
    fn login(&self) -> &str {
        self.logins.first().map_or("CUSTOMER.KEY", String::as_str)
    }

    /// The routing key of the first source of a data type; of the first source, if none says it has that type.
    fn key(&self, data_type: DataType) -> &str {
        let fits = |source: &&SourceAccess| source.data_type == data_type;
        let source = self.sources.iter().find(fits).or(self.sources.first());
        source.map_or("", |source| &source.routing_key)
    }

    /// The vhost as a path of an AMQP URL.
    fn vhost_path(&self) -> String {
        self.vhost.replace('%', "%25").replace('/', "%2f")
    }
}

fn section(tool: Tool, access: &Access) -> (&'static str, String) {
    match tool {
        Tool::Agent => ("this host's statsd (udp 8125), through our agent", agent(access)),
        Tool::Statsd => ("npm statsd with statsd-amqp-backend (config.js)", statsd(access)),
        Tool::Collectd => ("collectd (collectd.conf)", collectd(access)),
        Tool::Telegraf => ("Telegraf (telegraf.conf)", telegraf(access)),
        Tool::Pika => ("Python", pika(access)),
    }
}

fn agent(access: &Access) -> String {
    let scheme = if access.tls { "amqps" } else { "amqp" };
    let address = Address::from_url(&format!("{scheme}://{}:{}", access.host, access.port));
    let is_open = address.is_ok_and(|address| address.check_plain().is_err());
    format!(
        "umask 077; echo \"{SECRET}\" > key\n\
         kinetic agent --amqp {scheme}://{}@{}:{}/{} --password-file key --routing-key {}{}\n\
         echo 'checkout.latency:123|ms' | nc -u -w0 127.0.0.1 8125\n",
        access.login(),
        access.host,
        access.port,
        access.vhost_path(),
        access.key(DataType::Statsd),
        if is_open { " --allow-plain   # the key travels where others can read it" } else { "" },
    )
}

fn statsd(access: &Access) -> String {
    format!(
        "{{\n  backends: [\"statsd-amqp-backend\"],\n  amqp: {{\n    host: \"{}\", port: {}, vhost: \"{}\",\n    \
         login: \"{}\", password: \"{SECRET}\",\n    defaultExchange: \"{}\", messageFormat: \"graphite\"\n  }}\n}}\n\
         // It declares the exchange at every flush: its key needs may_declare = true.\n\
         // Its routing keys are metric names: give the source data_type = \"graphite\" and routing = [\"stats.#\"].\n",
        access.host,
        access.port,
        access.vhost,
        access.login(),
        access.exchange,
    )
}

fn collectd(access: &Access) -> String {
    format!(
        "LoadPlugin amqp\n<Plugin amqp>\n  <Publish \"kinetic\">\n    Host \"{}\"\n    Port \"{}\"\n    VHost \"{}\"\n    \
         User \"{}\"\n    Password \"{SECRET}\"\n    Exchange \"{}\"\n    RoutingKey \"{}\"\n    Format Command\n  \
         </Publish>\n</Plugin>\n# No ExchangeType: with it collectd would declare the exchange, which is there already.\n",
        access.host,
        access.port,
        access.vhost,
        access.login(),
        access.exchange,
        access.key(DataType::Collectd),
    )
}

fn telegraf(access: &Access) -> String {
    let scheme = if access.tls { "amqps" } else { "amqp" };
    format!(
        "[[outputs.amqp]]\n  brokers = [\"{scheme}://{}:{}/{}\"]\n  username = \"{}\"\n  password = \"{SECRET}\"\n  \
         exchange = \"{}\"\n  exchange_type = \"topic\"\n  exchange_passive = true\n  routing_key = \"{}\"\n  \
         data_format = \"influx\"\n",
        access.host,
        access.port,
        access.vhost_path(),
        access.login(),
        access.exchange,
        access.key(DataType::Influx),
    )
}

fn pika(access: &Access) -> String {
    format!(
        "import pika\n\
         credentials = pika.PlainCredentials(\"{}\", \"{SECRET}\")\n\
         parameters = pika.ConnectionParameters(\"{}\", {}, \"{}\", credentials)\n\
         channel = pika.BlockingConnection(parameters).channel()\n\
         channel.confirm_delivery()\n\
         channel.basic_publish(\"{}\", \"{}\", b\"checkout.latency:123|ms\",\n    \
         pika.BasicProperties(headers={{\"kin-origin\": \"web-1\"}}), mandatory=True)\n",
        access.login(),
        access.host,
        access.port,
        access.vhost,
        access.exchange,
        access.key(DataType::Statsd),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::schema_repo;

    fn starter() -> Schema {
        let files = schema_repo::starter("acme", &schema_repo::salted_sha256("secret"));
        kinetic_schema::load(&files).schema.expect("the starter checks")
    }

    #[test]
    fn every_tool_is_told_exchange_login_and_vhost() {
        let schema = starter();
        let customer = &schema.customers[&"acme".into()];
        let access = access(&schema, customer, "127.0.0.1:5672").expect("access");
        for tool in Tool::value_variants() {
            let (_, text) = section(*tool, &access);
            assert!(text.contains("acme.first"), "{text}");
            assert!(text.contains("local"), "{text}");
            assert!(*tool == Tool::Agent || text.contains("in.acme"), "{text}");
        }
    }

    #[test]
    fn only_keys_that_publish_now_are_named() {
        let mut schema = starter();
        let acme = schema.customers.get_mut(&"acme".into()).expect("it is there");
        let first = acme.keys[0].clone();
        let key = |name: &str, purpose, starts_ms, expires_ms| Key {
            name: name.to_owned(),
            purpose,
            starts_ms,
            expires_ms,
            ..first.clone()
        };
        acme.keys = vec![
            key("ending", Purpose::Publish, None, Some(11)),
            key("reads", Purpose::Read, None, None),
            key("over", Purpose::Publish, None, Some(10)),
            key("later", Purpose::Publish, Some(11), None),
            key("now", Purpose::Publish, Some(10), None),
        ];
        assert_eq!(logins(acme, 10), ["acme.now", "acme.ending"]);
    }
}
