//! `kinetic token`: the keys that sign what `locate` hands out, and what they signed.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, Result};
use kinetic_access::token::{TOKEN_BYTES_MAX, Unproven, signing_key};
use kinetic_schema::Schema;
use kinetic_schema::schema::TokenKey;
use kinetic_wire::{Wall, names};

use crate::adapter::token_keys::{self, Signer};
use crate::adapter::{clock, file};
use crate::{cli, exit, node, schema_files, term};

/// `kinetic token`
pub(crate) fn run(args: &cli::Token) -> Result<u8> {
    match args {
        cli::Token::New(args) => new(args),
        cli::Token::List(args) => list(args),
        cli::Token::Show(args) => show(args),
    }
}

fn new(args: &cli::TokenNew) -> Result<u8> {
    let signer = token_keys::make(&args.keys, &args.name)?;
    let private = token_keys::private_file(&args.keys, &args.name)?;
    let public = token_keys::public_file(&args.keys, &args.name)?;
    let starts = match &args.starts {
        Some(starts) => format!("\n    starts = \"{starts}\""),
        None => String::new(),
    };
    term::say(&format!(
        "{} signs; it belongs to the redirectors (--token-keys), mode 600.\n{} verifies; it belongs to every RabbitMQ:\n\
         \x20 auth_oauth2.signing_keys.{} = {}\n\nPush this to the schema, in kinetic.hcl:\n\n\
         tokens {{\n  key \"{}\" {{\n    public = \"{}\"{starts}\n  }}\n}}\n",
        private.display(),
        public.display(),
        args.name,
        public.display(),
        args.name,
        node::hex(&signer.public()),
    ));
    Ok(0)
}

fn list(args: &cli::TokenList) -> Result<u8> {
    let schema = schema_files::load(&args.schema)?;
    term::say(&listed(&schema, args.keys.as_deref(), clock::now().wall));
    Ok(0)
}

fn listed(schema: &Schema, folder: Option<&Path>, now: Wall) -> String {
    let Some(tokens) = &schema.tokens else {
        return "the schema has no tokens: `locate` hands out none\n".to_owned();
    };
    let signs = signing_key(schema, now, |_| true).map(|key| key.name.as_str());
    let mut text = format!("a token is good for {} s\n", tokens.ttl.as_secs());
    for key in &tokens.keys {
        let state = match key.starts_ms {
            _ if signs == Some(&key.name) => "signs, and is accepted".to_owned(),
            Some(at) if at > now.as_ms() => {
                format!("is accepted, and signs in {} s", (at - now.as_ms()).div_euclid(1_000) + 1)
            }
            _ => "is accepted".to_owned(),
        };
        let file = folder.map_or_else(String::new, |folder| format!("; {}", on_disk(folder, key)));
        writeln!(text, "  {}  {state}{file}", key.name).expect("a String takes every text");
    }
    text
}

fn on_disk(folder: &Path, key: &TokenKey) -> String {
    match Signer::read(folder, &key.name) {
        Ok(signer) if signer.public() == key.public => "its private half is here".to_owned(),
        Ok(_) => "the file of its name is another key's".to_owned(),
        Err(error) => format!("{error:#}"),
    }
}

fn show(args: &cli::TokenShow) -> Result<u8> {
    let text = if args.file == "-" {
        let mut text = String::new();
        // One more than is read of any token, and the end of a line.
        let most = u64::try_from(TOKEN_BYTES_MAX + 3).unwrap_or(u64::MAX);
        std::io::stdin().take(most).read_to_string(&mut text).context("cannot read a token")?;
        text
    } else {
        file::read_text(Path::new(&args.file))?
    };
    let schema = schema_files::load(&args.schema)?;
    let (shown, holds) = shown(&schema, text.trim(), clock::now().wall);
    term::say(&shown);
    Ok(if holds { 0 } else { exit::NO })
}

/// What a token says, and whether it holds.
fn shown(schema: &Schema, token: &str, now: Wall) -> (String, bool) {
    let read = match Unproven::read(token) {
        Ok(read) => read,
        Err(refused) => return (format!("it does not hold: {refused}\n"), false),
    };
    let claims = &read.claims;
    let left_s = claims.exp.saturating_sub(now.as_ms().div_euclid(1_000));
    let when = if left_s > 0 { format!("in {left_s} s") } else { format!("{} s ago", -left_s) };
    let mut text = format!(
        "login    {}\nkey      {}\nexpires  {when}\nname     {}\n",
        claims.sub, read.header.kid, claims.jti
    );
    for scope in claims.scope.split(' ') {
        text += &format!("scope    {scope}\n");
    }
    let judged = read.judge(schema, names::CONTROL_VHOST, now, token_keys::has_signed);
    let holds = judged.is_ok();
    text += &match judged {
        Ok(_) => "it holds\n".to_owned(),
        Err(refused) => format!("it does not hold: {refused}\n"),
    };
    (text, holds)
}
