//! `kinetic ca`: certificates for those who have no authority of their own.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use kinetic_schema::Schema;
use kinetic_schema::edit::{self, Literal, NewBlock};
use kinetic_wire::CustomerName;
use serde_json::json;

use crate::adapter::authority::{Entry, Folder, Kind, write_public};
use crate::adapter::{clock, file};
use crate::ca::{Authority, Issued, KeyOf, Whom};
use crate::checkout::Checkout;
use crate::cli::{Ca, CaInit, CaIssue, CaIssueServer, CaList, CaRevoke};
use crate::node::hex;
use crate::term;

/// Names tried for `--next`.
const NAMES_MAX: u32 = 10_000;

/// `kinetic ca`
pub(crate) fn run(command: &Ca) -> Result<u8> {
    match command {
        Ca::Init(args) => init(args),
        Ca::Issue(args) => issue(args),
        Ca::IssueServer(args) => issue_server(args),
        Ca::List(args) => list(args),
        Ca::Revoke(args) => revoke(args),
    }
}

fn init(args: &CaInit) -> Result<u8> {
    let now_s = now_s();
    // Whoever meets two authorities of one name takes the wrong one's certificate, and says that the signature is bad.
    let name = args.name.clone().unwrap_or_else(|| format!("Kinetic {:08x}", rand::random::<u32>()));
    let (authority, own) = Authority::new(&name, now_s, args.days)?;
    let folder = Folder::create(&args.dir, &name, &authority, &own, now_s)?;
    term::say(&format!(
        "{} is the certificate of \"{}\", good until {}: give it to brokers and clients.\n\
         {} stays here; whoever has it is anybody.\n",
        args.dir.join("ca.pem").display(),
        folder.index.name,
        day(folder.index.expires_s),
        args.dir.join("ca.key").display(),
    ));
    Ok(0)
}

fn issue(args: &CaIssue) -> Result<u8> {
    let mut folder = Folder::open(&args.dir)?;
    let mut checkout = args.schema.checkout().map(|checkout| Checkout::open(&checkout)).transpose()?;
    let in_schema = match &checkout {
        Some((_, schema)) => names_in_schema(schema, &args.customer)?,
        None => Vec::new(),
    };
    let is_used = |name: &str| {
        let login = format!("{}.{name}", args.customer);
        in_schema.iter().any(|used| used == name)
            || folder.index.issued.iter().any(|entry| entry.kind == Kind::Client && entry.name == login)
    };
    let name = match (is_used(&args.name), free(&args.name, is_used)) {
        (false, _) => args.name.clone(),
        (true, Some(next)) if args.next => next,
        (true, Some(next)) => bail!(
            "the name {} was used, and a login is never given twice: take {next}, or say --next",
            args.name
        ),
        (true, None) => bail!("the name {} and all that follow it were used", args.name),
    };
    if let Some(problem) = kinetic_schema::login_problem(&args.customer, &name) {
        bail!(problem);
    }
    let login = format!("{}.{name}", args.customer);
    let made = made(
        &mut folder,
        &login,
        Whom::Client(&login),
        Kind::Client,
        args.csr.as_deref(),
        args.days,
        &args.out,
    )?;
    let expires = rfc3339(made.expires_s);
    let sha256 = hex(&made.sha256);
    let is_written = checkout.is_some();
    if let Some((mut checkout, _)) = checkout.take() {
        let text = |text: &str| Literal::Text(text.to_owned());
        let attributes = vec![("sha256", text(&sha256)), ("expires", text(&expires))];
        let block = NewBlock { step: ("certificate", name.as_str()), attributes };
        let outer = [("customer", args.customer.as_str())];
        checkout.edit(&outer, |text| edit::add_block(text, &outer, &block))?;
        checkout.save(&format!("Certificate {login} is good until {expires}"))?;
    }
    if args.json {
        term::say(&format!(
            "{}\n",
            json!({"login": login, "name": name, "sha256": sha256, "expires": expires, "files": made.files})
        ));
        return Ok(0);
    }
    if is_written {
        term::say(&made.said());
        return Ok(0);
    }
    term::say(&format!(
        "{}This goes into the block of customer \"{}\"; {login} may log in as soon as it is pushed:\n\n  \
         certificate \"{name}\" {{\n    sha256  = \"{}\"\n    expires = \"{expires}\"\n  }}\n",
        made.said(),
        args.customer,
        sha256,
    ));
    Ok(0)
}

fn issue_server(args: &CaIssueServer) -> Result<u8> {
    let mut folder = Folder::open(&args.dir)?;
    let name = args.host.first().context("a broker has a name")?;
    if name.contains('/') {
        bail!("`{name}` is neither a name nor an address");
    }
    let whom = Whom::Server(&args.host);
    let made = made(&mut folder, name, whom, Kind::Server, args.csr.as_deref(), args.days, &args.out)?;
    if args.json {
        let expires = rfc3339(made.expires_s);
        term::say(&format!("{}\n", json!({"hosts": args.host, "expires": expires, "files": made.files})));
    } else {
        term::say(&format!(
            "{}good until {} for {}\n",
            made.said(),
            day(made.expires_s),
            args.host.join(", ")
        ));
    }
    Ok(0)
}

/// What was made, and where it lies.
struct Made {
    sha256: [u8; 32],
    expires_s: i64,
    files: Vec<String>,
}

impl Made {
    fn said(&self) -> String {
        self.files.iter().map(|path| format!("{path}\n")).collect()
    }
}

fn made(
    folder: &mut Folder,
    name: &str,
    whom: Whom<'_>,
    kind: Kind,
    csr: Option<&Path>,
    days: u32,
    out: &Path,
) -> Result<Made> {
    let now_s = now_s();
    let request = csr.map(file::read_text).transpose()?;
    let key = request.as_deref().map_or(KeyOf::New, KeyOf::Request);
    let issued = folder.authority()?.issue(whom, key, now_s, days)?;
    file::make_dir(out)?;
    let (certificate, key_file) = (out.join(format!("{name}.pem")), out.join(format!("{name}.key")));
    if let Some(taken) = [&certificate, &key_file].into_iter().find(|path| path.exists()) {
        bail!("{} is there already: give another folder with --out", taken.display());
    }
    folder.note(name, kind, &issued, now_s)?;
    let Issued { pem, key, sha256, expires_s, .. } = issued;
    let ca = out.join("ca.pem");
    write_public(&ca, &folder.certificate()?)?;
    write_public(&certificate, &pem)?;
    let mut paths = vec![&ca, &certificate];
    if let Some(key) = key {
        file::write_secret(&key_file, key.trim_end())?;
        paths.push(&key_file);
    }
    let files = paths.into_iter().map(|path| path.to_string_lossy().into_owned()).collect();
    Ok(Made { sha256, expires_s, files })
}

fn list(args: &CaList) -> Result<u8> {
    let index = Folder::open(&args.dir)?.index;
    if args.json {
        term::say(&format!("{}\n", serde_json::to_string(&index)?));
        return Ok(0);
    }
    let now_s = now_s();
    let mut text = format!("{}, good until {}\n", index.name, day(index.expires_s));
    for entry in &index.issued {
        let Entry { name, kind, expires_s, revoked_s, sha256, .. } = entry;
        let kind = if *kind == Kind::Client { "client" } else { "broker" };
        let state = match revoked_s {
            Some(at_s) => format!("revoked {}", day(*at_s)),
            None if *expires_s < now_s => format!("expired {}", day(*expires_s)),
            None => format!("good until {}", day(*expires_s)),
        };
        writeln!(text, "{kind}  {name:<32}  {state:<27}  {}…", &sha256[..16])?;
    }
    term::say(&text);
    Ok(0)
}

fn revoke(args: &CaRevoke) -> Result<u8> {
    let mut folder = Folder::open(&args.dir)?;
    let login = format!("{}.{}", args.customer, args.name);
    if !folder.index.issued.iter().any(|entry| entry.kind == Kind::Client && entry.name == login) {
        bail!(
            "{} has issued no certificate to {login}; `kinetic ca list` shows what it has",
            args.dir.display()
        );
    }
    let revoked = folder.revoke(&folder.authority()?, &login, now_s())?;
    let listed = if revoked == 0 { "was listed before in" } else { "is now listed in" };
    let mut text = format!("{login} {listed} {}\n", folder.revocations().display());
    let Some(checkout) = args.schema.checkout() else {
        text += &format!(
            "NOT REVOKED YET: remove the block `certificate \"{}\"` of customer \"{}\" from the schema and push (--schema DIR --push does \
             it); that takes\nthe login away on every broker and closes its connections\n",
            args.name, args.customer
        );
        term::say(&text);
        return Ok(0);
    };
    term::say(&text);
    let (mut checkout, schema) = Checkout::open(&checkout)?;
    if !names_in_schema(&schema, &args.customer)?.contains(&args.name) {
        term::say("the schema has no such login any more: it is revoked where that was pushed\n");
        return Ok(0);
    }
    let path = [("customer", args.customer.as_str()), ("certificate", args.name.as_str())];
    checkout.edit(&path, |text| edit::remove_block(text, &path))?;
    checkout.save(&format!("Certificate {login} is revoked"))?;
    Ok(0)
}

/// Keys and certificates of a customer: each is a login.
fn names_in_schema(schema: &Schema, customer: &str) -> Result<Vec<String>> {
    let customer = schema
        .customers
        .get(&CustomerName::new(customer))
        .with_context(|| format!("the schema has no customer {customer}"))?;
    let keys = customer.keys.iter().map(|key| key.name.clone());
    Ok(keys.chain(customer.certificates.iter().map(|held| held.name.clone())).collect())
}

/// The first of `name-2`, `name-3` and so on that is free; a number at the end goes on from there.
fn free(name: &str, is_used: impl Fn(&str) -> bool) -> Option<String> {
    let numbered = name.rsplit_once('-').and_then(|(stem, number)| Some((stem, number.parse::<u32>().ok()?)));
    // `host-7` is a host's name and no successor of `host`, unless `host` was used.
    let (stem, from) = match numbered {
        Some((stem, number)) if number >= 2 && is_used(stem) => (stem, number + 1),
        _ => (name, 2),
    };
    (from..from.saturating_add(NAMES_MAX))
        .map(|number| format!("{stem}-{number}"))
        .find(|next| !is_used(next))
}

fn now_s() -> i64 {
    clock::now().wall.as_ms() / 1_000
}

/// `2026-12-20`.
fn day(at_s: i64) -> String {
    rfc3339(at_s).chars().take(10).collect()
}

fn rfc3339(at_s: i64) -> String {
    Timestamp::from_second(at_s).map_or_else(|_| at_s.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_never_used_twice() {
        let next = |name: &str, used: &[&str]| free(name, |name| used.contains(&name)).expect("one is free");
        assert_eq!(next("host-7", &["host-7"]), "host-7-2");
        assert_eq!(next("host-7", &["host-7", "host-7-2"]), "host-7-3");
        assert_eq!(next("host-7-2", &["host-7", "host-7-2"]), "host-7-3");
        assert_eq!(next("web", &["web"]), "web-2");
    }
}
