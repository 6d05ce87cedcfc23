//! Signs what `locate` hands out. A token is made once and told again until half of its life is over, so that a client whose key is
//! taken away is left with one for less than a whole life, and a fleet behind one login costs one signature.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kinetic_access::token::{self, Unsigned};
use kinetic_schema::Schema;
use kinetic_wire::{Credential, Wall, encode, names};

use crate::adapter::token_keys::Signer;
use crate::telemetry::{Health, Metric, Telemetry};

/// Logins whose token is kept; what is signed past it is not told again (counted).
const ISSUED_MAX: usize = 100_000;
/// Name of this part on `/__heartbeat__`, where the schema has tokens.
const PART: &str = "tokens";

/// Signs, for the logins that ask.
#[derive(Debug)]
pub(super) struct Issuer {
    folder: Option<PathBuf>,
    /// Private keys of the schema's list, as far as the folder has them.
    signers: BTreeMap<String, Signer>,
    issued: BTreeMap<String, Issued>,
    /// Since when the key that signs does, milliseconds since the Unix epoch.
    signs_since_ms: Option<i64>,
    /// It has been said how this part is.
    shown: bool,
    counted: Counted,
}

/// A token that is told again.
#[derive(Debug)]
struct Issued {
    credential: Vec<u8>,
    /// From here on another is made, milliseconds since the Unix epoch.
    renew_ms: i64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    issued: u64,
    repeated: u64,
    overflows: u64,
    no_key: u64,
    no_login: u64,
}

impl Issuer {
    /// With the private keys of a folder.
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self {
            folder,
            signers: BTreeMap::new(),
            issued: BTreeMap::new(),
            signs_since_ms: None,
            shown: false,
            counted: Counted::default(),
        }
    }

    /// Whether any broker takes tokens; nothing here costs anything where none does.
    pub(super) fn is_wanted(schema: &Schema) -> bool {
        schema.tokens.is_some() && schema.regions.values().any(|region| region.tokens)
    }

    /// Another schema revision stands: keys and logins may have gone.
    pub(super) fn follow(&mut self, schema: &Schema) {
        self.issued.clear();
        let keys = schema.tokens.iter().flat_map(|tokens| &tokens.keys);
        let known = |name: &String, signer: &mut Signer| {
            keys.clone().any(|key| key.name == *name && key.public == signer.public())
        };
        self.signers.retain(known);
    }

    /// Looks for files of keys that have none yet, and says how things stand.
    pub(super) fn look(&mut self, schema: &Schema, telemetry: &Telemetry, now: Wall) {
        let wanted = Self::is_wanted(schema);
        let mut missing = Vec::new();
        for key in schema.tokens.iter().flat_map(|tokens| &tokens.keys).filter(|_| wanted) {
            let Some(folder) = self.folder.as_ref().filter(|_| !self.signers.contains_key(&key.name)) else {
                continue;
            };
            match Signer::read(folder, &key.name) {
                Ok(signer) if signer.public() == key.public => {
                    tracing::info!(key = key.name, "a key signs tokens from when it starts");
                    self.signers.insert(key.name.clone(), signer);
                }
                Ok(_) => missing.push(format!("the file of {} is another key's", key.name)),
                Err(error) => missing.push(format!("{error:#}")),
            }
        }
        let signs = token::signing_key(schema, now, |key| self.signers.contains_key(&key.name));
        self.signs_since_ms = signs.map(|key| key.starts_ms.unwrap_or_default());
        if !wanted && !self.shown {
            return;
        }
        self.shown = true;
        let health = match signs {
            Some(_) => Health::Ok,
            None if !wanted => Health::Ok,
            None if self.folder.is_none() => Health::Failing(
                "the schema has tokens, and this redirector no folder of keys (--token-keys)".into(),
            ),
            None if missing.is_empty() => Health::Failing("no key that signs tokens has started".into()),
            None => Health::Failing(format!("no key to sign tokens with: {}", missing.join("; "))),
        };
        telemetry.health(PART, health, now);
    }

    /// Puts a credential into an answer to `locate`, where the login that asked is to have one.
    pub(super) fn credit(&mut self, schema: &Schema, login: &str, now: Wall, answer: &mut Vec<u8>) {
        if let Some(issued) = self.issued.get(login).filter(|issued| now.as_ms() < issued.renew_ms) {
            self.counted.repeated += u64::from(kinetic_wire::credit(answer, &issued.credential));
            return;
        }
        if let Some(issued) = self.issue(schema, login, now) {
            self.counted.issued += u64::from(kinetic_wire::credit(answer, &issued.credential));
            self.keep(login, issued, now);
        }
    }

    fn issue(&mut self, schema: &Schema, login: &str, now: Wall) -> Option<Issued> {
        let Some(known) = kinetic_access::login(schema, login, now, names::CONTROL_VHOST) else {
            self.counted.no_login += 1;
            return None;
        };
        let region = &schema.customers.get(&known.customer)?.region;
        if !schema.regions.get(region)?.tokens {
            return None;
        }
        let Some(key) = token::signing_key(schema, now, |key| self.signers.contains_key(&key.name)) else {
            self.counted.no_key += 1;
            return None;
        };
        let jti = uuid::Uuid::now_v7().to_string();
        let unsigned = Unsigned::new(schema, &known, &key.name, now, jti)?;
        let signature = self.signers.get(&key.name)?.sign(unsigned.text())?;
        let expires_ms = unsigned.expires_ms;
        let credential = Credential { login: known.name, token: unsigned.signed(&signature), expires_ms };
        let renew_ms = now.as_ms() + (expires_ms - now.as_ms()) / 2;
        Some(Issued { credential: encode(&credential), renew_ms })
    }

    fn keep(&mut self, login: &str, issued: Issued, now: Wall) {
        if self.issued.len() >= ISSUED_MAX {
            self.issued.retain(|_, issued| now.as_ms() < issued.renew_ms);
        }
        if self.issued.len() >= ISSUED_MAX {
            self.counted.overflows += 1;
            return;
        }
        self.issued.insert(login.to_owned(), issued);
    }

    /// Its numbers; none where no schema has had tokens.
    pub(super) fn metrics(&self, now: Wall) -> Vec<Metric> {
        if !self.shown {
            return Vec::new();
        }
        let Counted { issued, repeated, overflows, no_key, no_login } = self.counted;
        let refused = |reason, count| {
            let help = "Answers to locate that carry no token where one was due, by reason.";
            Metric::counter("kinetic_redirector_tokens_refused", help, count).with("reason", reason)
        };
        let age_s = self.signs_since_ms.filter(|since| *since > 0).map(|since| (now.as_ms() - since) / 1_000);
        vec![
            Metric::counter("kinetic_redirector_tokens_issued", "Tokens signed.", issued),
            Metric::counter("kinetic_redirector_tokens_repeated", "Tokens told again.", repeated),
            Metric::counter(
                "kinetic_redirector_tokens_unkept",
                "Tokens signed that are not told again, because too many are kept.",
                overflows,
            ),
            refused("no_key", no_key),
            refused("no_login", no_login),
            Metric::gauge(
                "kinetic_redirector_token_key_age_seconds",
                "For how long the key that signs tokens has done so; 0 where the schema does not say since when.",
                age_s.unwrap_or_default() as f64,
            ),
        ]
    }
}
