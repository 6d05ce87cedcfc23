//! `kinetic customer new|list`.

use anyhow::{Context, Result, bail};
use kinetic_schema::edit;

use super::schema_repo::{NewCustomer, customer_files};
use crate::checkout::{Checkout, NewSecret};
use crate::cli::{self, Customer};
use crate::{BadConfig, schema_files, term};

/// `kinetic customer`
pub(crate) fn run(command: Customer) -> Result<u8> {
    match command {
        Customer::New(args) => new(&args),
        Customer::List(args) => list(&args),
    }
}

fn new(args: &cli::CustomerNew) -> Result<u8> {
    let (mut checkout, schema) = Checkout::open(&args.checkout)?;
    let name = args.name.as_str();
    if schema.customers.contains_key(&name.into()) {
        bail!(BadConfig(format!("there is a customer `{name}` already")));
    }
    let regions: Vec<&str> = schema.regions.keys().map(kinetic_wire::RegionName::as_str).collect();
    let region = match (&args.region, regions.as_slice()) {
        (Some(region), _) => region.as_str(),
        (None, [only]) => only,
        (None, []) => bail!(BadConfig("the schema has no region for its data to arrive in".to_owned())),
        (None, several) => bail!(BadConfig(format!("say where with --region: {}", several.join(", ")))),
    };
    let region = edit::reference("region", region).to_string();
    let netblocks: Vec<String> = args.netblock.iter().map(ToString::to_string).collect();
    let secret = NewSecret::make(&args.secret);
    let files = customer_files(&NewCustomer {
        name,
        region: &region,
        netblocks: &netblocks,
        to: &args.to,
        salted_sha256: &secret.hash(),
    });
    for (path, text) in &files {
        checkout.add(path, std::str::from_utf8(text).context("what is written here is UTF-8")?)?;
    }
    secret.save(checkout, &format!("{name}.first"), &format!("Customer {name}"))?;
    let from = args.checkout.schema.display();
    let at =
        if args.checkout.schema.as_os_str() == "." { String::new() } else { format!(" --schema {from}") };
    term::say(&format!("What its tools need:\n  kinetic client-config {name}{at}\n"));
    Ok(0)
}

fn list(args: &cli::CustomerList) -> Result<u8> {
    let schema = schema_files::load(&args.schema)?;
    if args.json {
        let all: Vec<serde_json::Value> = schema
            .customers
            .values()
            .map(|customer| {
                serde_json::json!({
                    "name": customer.name,
                    "region": customer.region,
                    "disabled": customer.disabled,
                    "netblocks": customer.netblocks.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    "keys": customer.keys.len(),
                    "certificates": customer.certificates.len(),
                    "users": customer.users.len(),
                    "sources": customer.sources.len(),
                    "analytics": customer.analytics.len(),
                })
            })
            .collect();
        term::say(&format!("{}\n", serde_json::to_string_pretty(&all)?));
        return Ok(0);
    }
    let head = ["CUSTOMER", "REGION", "KEYS", "CERTIFICATES", "USERS", "SOURCES", "ANALYTICS", ""];
    let rows = schema.customers.values().map(|customer| {
        [
            customer.name.to_string(),
            customer.region.to_string(),
            customer.keys.len().to_string(),
            customer.certificates.len().to_string(),
            customer.users.len().to_string(),
            customer.sources.len().to_string(),
            customer.analytics.len().to_string(),
            if customer.disabled { "disabled".to_owned() } else { String::new() },
        ]
    });
    term::say(&term::table(head, rows));
    Ok(0)
}
