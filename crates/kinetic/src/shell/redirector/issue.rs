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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use kinetic_access::token::Unproven;
    use kinetic_schema::schema::{TokenKey, Tokens};
    use kinetic_wire::decode;

    use super::*;
    use crate::adapter::token_keys;

    /// 2026-11-18.
    const NOW_MS: i64 = 1_795_000_000_000;
    const TTL_MS: i64 = 900_000;

    /// The customer acme with the key web, in a region whose broker takes tokens, signed by this key.
    fn schema(folder: &Path, kid: &str) -> Schema {
        let hash = "00".repeat(36);
        let customer = format!(
            "customer \"acme\" {{\n  region = region.local\n  key \"web\" {{\n    salted_sha256 = \"{hash}\"\n  }}\n}}\n"
        );
        let region = "region \"local\" {\n  tokens = true\n}\n";
        let files = [("kinetic.hcl", region.to_owned()), ("customers/acme/customer.hcl", customer)];
        let files = files.map(|(path, text)| (path.to_owned(), text.into_bytes())).into();
        let mut schema = kinetic_schema::load(&files).schema.expect("it checks");
        let public = token_keys::make(folder, kid).expect("a key").public();
        let keys = vec![TokenKey { name: kid.to_owned(), public, starts_ms: None }];
        schema.tokens = Some(Tokens { ttl: Duration::from_millis(TTL_MS.unsigned_abs()), keys });
        schema
    }

    fn answered(issuer: &mut Issuer, schema: &Schema, login: &str, at_ms: i64) -> Option<Credential> {
        #[derive(serde::Deserialize)]
        struct Answer {
            credential: Option<Credential>,
        }
        let mut answer = br#"{"ok":true,"region":"local"}"#.to_vec();
        issuer.credit(schema, login, Wall::from_ms(at_ms), &mut answer);
        decode::<Answer>(&answer).expect("JSON").credential
    }

    #[test]
    fn a_token_is_told_again_until_half_of_its_life_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let schema = schema(dir.path(), "a");
        let mut issuer = Issuer::new(Some(dir.path().to_owned()));
        issuer.look(&schema, &Telemetry::default(), Wall::from_ms(NOW_MS));
        let mut at = |ms| answered(&mut issuer, &schema, "acme.web", NOW_MS + ms).expect("a token");
        let first = at(0);
        assert_eq!((first.login.as_str(), first.expires_ms), ("acme.web", NOW_MS + TTL_MS));
        assert_eq!(at(TTL_MS / 2 - 1), first);
        let second = at(TTL_MS / 2);
        assert_ne!(second.token, first.token);
        let proven = Unproven::read(&second.token).and_then(|read| {
            let then = Wall::from_ms(NOW_MS + TTL_MS / 2);
            read.judge(&schema, names::CONTROL_VHOST, then, token_keys::has_signed)
        });
        assert_eq!(proven.expect("it holds").login.name, "acme.web");
        issuer.follow(&schema);
        let third = answered(&mut issuer, &schema, "acme.web", NOW_MS + TTL_MS / 2).expect("a token");
        assert_ne!(third.token, second.token, "another revision: nothing is told again");
        assert_eq!((issuer.counted.issued, issuer.counted.repeated), (3, 1));
    }

    #[test]
    fn who_is_nobody_gets_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut schema = schema(dir.path(), "a");
        let mut issuer = Issuer::new(Some(dir.path().to_owned()));
        issuer.look(&schema, &Telemetry::default(), Wall::from_ms(NOW_MS));
        for login in ["acme.other", "acme", "kinetic", "beta.web", ""] {
            assert_eq!(answered(&mut issuer, &schema, login, NOW_MS), None, "{login}");
        }
        assert_eq!(issuer.counted.no_login, 5);
        schema.regions.values_mut().for_each(|region| region.tokens = false);
        assert_eq!(answered(&mut issuer, &schema, "acme.web", NOW_MS), None, "its broker takes none");
        assert!(!Issuer::is_wanted(&schema));
    }

    #[test]
    fn without_its_key_the_part_fails_and_nothing_is_signed() {
        let dir = tempfile::tempdir().unwrap();
        let schema = schema(dir.path(), "a");
        let telemetry = Telemetry::default();
        let now = Wall::from_ms(NOW_MS);
        let elsewhere = tempfile::tempdir().unwrap();
        for folder in [None, Some(elsewhere.path().to_owned())] {
            let mut issuer = Issuer::new(folder);
            issuer.look(&schema, &telemetry, now);
            assert!(!telemetry.working().contains(&PART));
            assert_eq!(answered(&mut issuer, &schema, "acme.web", NOW_MS), None);
            assert_eq!(issuer.counted.no_key, 1);
        }
        // A file of that name that holds another key is none.
        token_keys::make(elsewhere.path(), "a").unwrap();
        let mut issuer = Issuer::new(Some(elsewhere.path().to_owned()));
        issuer.look(&schema, &telemetry, now);
        assert!(!telemetry.working().contains(&PART));
        let mut issuer = Issuer::new(Some(dir.path().to_owned()));
        issuer.look(&schema, &telemetry, now);
        assert!(telemetry.working().contains(&PART));
    }
}
