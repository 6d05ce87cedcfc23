//! `kinetic dns-zone`: the records by which `<customer>.<region>.<domain>` finds its broker.
//!
//! ```text
//! acme.us-west.aws              CNAME  broker.us-west.aws.example.          the first endpoint; A or AAAA where it is a number
//! _amqps._tcp.acme.us-west.aws  SRV    0 0 5671 broker.us-west.aws.example.  every endpoint, in order (RFC 2782)
//! b1.brokers.us-west.aws        A      203.0.113.7                          a name for an endpoint that has none
//! ```

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use kinetic_schema::Schema;
use kinetic_schema::schema::{AddressOrder, Region};
use serde::Serialize;

use crate::{cli, schema_files, term};

/// Longest label, and longest name with its dots (RFC 1035, 2.3.4).
const LABEL_MAX: usize = 63;
const NAME_MAX: usize = 253;
/// Step of SRV priorities, so that an operator can put something between two.
const PRIORITY_STEP: usize = 10;

/// One record. Names in `name` are relative to the domain, those in `data` absolute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Record {
    name: String,
    ttl: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    data: String,
}

/// `kinetic dns-zone`
pub(crate) fn run(args: &cli::DnsZone) -> Result<u8> {
    let schema =
        schema_files::load(args.dir.as_ref().or(args.schema.as_ref()).context("name a schema folder")?)?;
    let domain = args.domain.trim_end_matches('.');
    check_name(domain).with_context(|| format!("{domain} is no domain"))?;
    let (records, skipped) = records(&schema, args, domain)?;
    if args.json {
        term::say(&format!(
            "{}\n",
            serde_json::json!({"domain": domain, "records": records, "skipped": skipped})
        ));
    } else {
        term::say(&zone(&records, &skipped, domain));
    }
    Ok(0)
}

/// An endpoint's address, taken apart.
struct Place {
    scheme: &'static str,
    host: String,
    port: u16,
}

fn place(uri: &str) -> Result<Place> {
    let (scheme, rest, default) = match uri.split_once("://") {
        Some(("amqps", rest)) => ("amqps", rest, 5671),
        Some(("amqp", rest)) => ("amqp", rest, 5672),
        _ => bail!("{uri} is not amqp[s]://HOST[:PORT]"),
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && (!host.contains(':') || host.starts_with('[')) => {
            (host, port.parse().with_context(|| format!("{uri}: {port} is no port"))?)
        }
        _ => (authority, default),
    };
    ensure!(!host.is_empty(), "{uri} names no host");
    Ok(Place { scheme, host: host.trim_matches(['[', ']']).to_owned(), port })
}

fn check_name(name: &str) -> Result<()> {
    ensure!(name.len() <= NAME_MAX, "{name} is longer than {NAME_MAX} bytes");
    for label in name.split('.') {
        let fits = !label.is_empty() && label.len() <= LABEL_MAX;
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        ensure!(
            fits && plain && !label.starts_with('-') && !label.ends_with('-'),
            "`{label}` is no label of a name"
        );
    }
    Ok(())
}

/// All records of a schema, and what has none, with the reason.
fn records(schema: &Schema, args: &cli::DnsZone, domain: &str) -> Result<(Vec<Record>, Vec<String>)> {
    let (mut records, mut skipped) = (BTreeSet::new(), Vec::new());
    for customer in schema.customers.values() {
        if customer.disabled {
            skipped.push(format!("{}: switched off", customer.name));
            continue;
        }
        let Some(region) = schema.regions.get(&customer.region) else { continue };
        let uris = if region.amqp.is_empty() { &args.broker } else { &region.amqp };
        if uris.is_empty() {
            skipped
                .push(format!("{}: region {} names no broker; say --broker URI", customer.name, region.name));
            continue;
        }
        let name = format!("{}.{}", customer.name, region.name);
        check_name(&format!("_amqps._tcp.{name}.{domain}"))?;
        records.extend(of_customer(&name, region, uris, args.ttl, domain)?);
    }
    Ok((records.into_iter().collect(), skipped))
}

fn of_customer(name: &str, region: &Region, uris: &[String], ttl: u32, domain: &str) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut push = |name: String, kind, data| records.push(Record { name, ttl, kind, data });
    for (index, uri) in uris.iter().enumerate() {
        let Place { scheme, host, port } = place(uri).with_context(|| format!("region {}", region.name))?;
        // The target of a SRV record is a name, and not an alias: a number gets a name of its own.
        let target = match host.parse::<IpAddr>() {
            Ok(address) => {
                let own = format!("b{}.brokers.{}", index + 1, region.name);
                let kind = if address.is_ipv4() { "A" } else { "AAAA" };
                push(own.clone(), kind, address.to_string());
                if index == 0 {
                    push(name.to_owned(), kind, address.to_string());
                }
                format!("{own}.{domain}.")
            }
            Err(_) => {
                let host = host.trim_end_matches('.');
                check_name(host).with_context(|| format!("region {}: {uri}", region.name))?;
                if index == 0 {
                    push(name.to_owned(), "CNAME", format!("{host}."));
                }
                format!("{host}.")
            }
        };
        // Where each origin has an order of its own, none is better than another, and each is as likely (RFC 2782).
        let (priority, weight) = match region.order {
            AddressOrder::Listed => (index * PRIORITY_STEP, 0),
            AddressOrder::ByOrigin => (0, 1),
        };
        push(format!("_{scheme}._tcp.{name}"), "SRV", format!("{priority} {weight} {port} {target}"));
    }
    Ok(records)
}

/// The records as a fragment of a master file (RFC 1035, 5), to be included in the domain's zone.
fn zone(records: &[Record], skipped: &[String], domain: &str) -> String {
    let width = records.iter().map(|record| record.name.len()).max().unwrap_or_default();
    let mut text =
        format!("; written by kinetic dns-zone: include it in the zone of {domain}\n$ORIGIN {domain}.\n");
    for why in skipped {
        text += &format!("; no record of {why}\n");
    }
    for Record { name, ttl, kind, data } in records {
        text += &format!("{name:<width$} {ttl} IN {kind:<5} {data}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        let text = r#"
            region "us-west.aws" { amqp = ["amqps://b1.us-west.aws.example:5671", "amqp://203.0.113.7:5673"] }
            region "lab" { amqp = "amqp://[2001:db8::7]" }
            region "local" {}
            customer "acme" { region = region["us-west.aws"] }
            customer "zoo" { region = region["us-west.aws"] }
            customer "rack" { region = region.lab }
            customer "here" { region = region.local }
            customer "gone" {
              region   = region.lab
              disabled = true
            }
        "#;
        let files = [("all.hcl".to_owned(), text.as_bytes().to_vec())].into();
        let loaded = kinetic_schema::load(&files);
        loaded.schema.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
    }

    fn args() -> cli::DnsZone {
        cli::DnsZone {
            dir: None,
            schema: None,
            domain: "example.net".to_owned(),
            broker: Vec::new(),
            ttl: 300,
            json: false,
        }
    }

    fn made() -> (Vec<Record>, Vec<String>) {
        records(&schema(), &args(), "example.net").expect("records")
    }

    #[test]
    fn every_customer_has_a_name_and_its_endpoints_in_order() {
        let (records, skipped) = made();
        let want = "\
; written by kinetic dns-zone: include it in the zone of example.net
$ORIGIN example.net.
; no record of gone: switched off
; no record of here: region local names no broker; say --broker URI
_amqp._tcp.acme.us-west.aws  300 IN SRV   10 0 5673 b2.brokers.us-west.aws.example.net.
_amqp._tcp.rack.lab          300 IN SRV   0 0 5672 b1.brokers.lab.example.net.
_amqp._tcp.zoo.us-west.aws   300 IN SRV   10 0 5673 b2.brokers.us-west.aws.example.net.
_amqps._tcp.acme.us-west.aws 300 IN SRV   0 0 5671 b1.us-west.aws.example.
_amqps._tcp.zoo.us-west.aws  300 IN SRV   0 0 5671 b1.us-west.aws.example.
acme.us-west.aws             300 IN CNAME b1.us-west.aws.example.
b1.brokers.lab               300 IN AAAA  2001:db8::7
b2.brokers.us-west.aws       300 IN A     203.0.113.7
rack.lab                     300 IN AAAA  2001:db8::7
zoo.us-west.aws              300 IN CNAME b1.us-west.aws.example.
";
        assert_eq!(zone(&records, &skipped, "example.net"), want);
    }

    /// What a name server checks of a master file, as far as such records can break it.
    #[test]
    fn the_fragment_is_a_master_file() {
        let (records, skipped) = made();
        let text = zone(&records, &skipped, "example.net");
        let (mut owners, mut aliases) = (Vec::new(), BTreeSet::new());
        for line in text.lines().filter(|line| !line.starts_with([';', '$'])) {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let [name, ttl, class, kind, data @ ..] = &fields[..] else { panic!("{line}") };
            check_name(&format!("{name}.example.net")).expect("a name");
            assert!(ttl.parse::<u32>().is_ok() && *class == "IN", "{line}");
            match (*kind, data) {
                ("CNAME", [target]) => {
                    assert!(target.ends_with('.') && aliases.insert(*name), "{line}");
                }
                ("A" | "AAAA", [address]) => assert!(address.parse::<IpAddr>().is_ok(), "{line}"),
                ("SRV", [priority, weight, port, target]) => {
                    let numbers = [priority, weight, port].map(|number| number.parse::<u16>().is_ok());
                    assert!(numbers == [true; 3] && target.ends_with('.'), "{line}");
                }
                _ => panic!("{line}"),
            }
            owners.push((*name, *kind));
        }
        let alone = |alias: &&str| owners.iter().filter(|(name, _)| name == alias).count() == 1;
        assert!(aliases.iter().all(alone), "an alias has no other record");
    }

    #[test]
    fn a_broker_of_our_own_can_be_said() {
        let args = cli::DnsZone { broker: vec!["amqp://hub.example:5672".to_owned()], ..args() };
        let (records, skipped) = records(&schema(), &args, "example.net").expect("records");
        assert_eq!(skipped.len(), 1);
        let here: Vec<&Record> = records.iter().filter(|record| record.name == "here.local").collect();
        assert_eq!((here[0].kind, here[0].data.as_str()), ("CNAME", "hub.example."));
    }

    #[test]
    fn where_each_origin_has_its_order_no_address_is_better() {
        let mut schema = schema();
        schema.regions.get_mut(&"us-west.aws".into()).expect("it is there").order = AddressOrder::ByOrigin;
        let (records, _) = records(&schema, &args(), "example.net").expect("records");
        let services = records.iter().filter(|record| record.kind == "SRV" && record.name.contains(".acme."));
        let data: Vec<&str> = services.map(|record| &record.data[..4]).collect();
        assert_eq!(data, ["0 1 ", "0 1 "]);
    }

    #[test]
    fn addresses_are_taken_apart() {
        let of = |uri: &str| place(uri).map(|place| (place.scheme, place.host, place.port)).ok();
        assert_eq!(of("amqps://b.example"), Some(("amqps", "b.example".to_owned(), 5671)));
        assert_eq!(of("amqp://u:p@b.example:1/v"), Some(("amqp", "b.example".to_owned(), 1)));
        assert_eq!(of("amqp://[::1]:9"), Some(("amqp", "::1".to_owned(), 9)));
        assert_eq!(of("amqp://[::1]"), Some(("amqp", "::1".to_owned(), 5672)));
        assert_eq!([of("http://b"), of("amqp://"), of("amqp://b:x")], [None, None, None]);
    }
}
