//! Who logs in at the board: passwords and what their holders may do.

use std::sync::LazyLock;

use anyhow::{Context, Result, bail};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use kinetic_schema::Schema;
use kinetic_schema::schema::{Role, User};
use kinetic_wire::CustomerName;
use subtle::ConstantTimeEq;

/// KiB of memory, passes and lanes of hashes that are made here: what OWASP asks for at least. A board on a small machine can
/// pay for several at once.
const COST: (u32, u32, u32) = (19_456, 2, 1);
/// Bytes of a hash.
const HASH_BYTES: usize = 32;
/// Fewest characters of a new password.
const CHARACTERS_MIN: usize = 12;

/// Somebody who has logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    /// What he logs in with.
    pub(crate) name: String,
    /// Whose he is; an operator is nobody's.
    pub(crate) customer: Option<CustomerName>,
    /// What he may do.
    pub(crate) role: Role,
}

/// Who somebody is that gives this name and this password. For a name that nobody has, it takes as long as for one that somebody
/// has. It takes a core some tens of milliseconds and memory of 19 MiB: whoever asks for it over a network bounds how many at once.
pub(crate) fn authenticate(schema: &Schema, name: &str, password: &str) -> Option<Person> {
    let name = name.trim().to_ascii_lowercase();
    let found = people(schema).find(|(_, user)| user.name == name);
    let stored = found.map_or(NOBODYS.as_str(), |(_, user)| user.password.as_str());
    let right = verify(stored, password);
    let (customer, user) = found.filter(|_| right)?;
    Some(Person { name, customer: customer.cloned(), role: user.role })
}

/// All who may log in, with their customers.
pub(crate) fn people(schema: &Schema) -> impl Iterator<Item = (Option<&CustomerName>, &User)> {
    let operators = schema.operators.iter().map(|user| (None, user));
    let of_customers = schema
        .customers
        .values()
        .flat_map(|customer| customer.users.iter().map(move |user| (Some(&customer.name), user)));
    operators.chain(of_customers)
}

/// What is compared with where there is nobody: as dear as all that are made here, and no password's.
static NOBODYS: LazyLock<String> = LazyLock::new(|| phc(&rand::random::<[u8; 16]>(), &rand::random()));

/// The hash of a new password, as a PHC string.
pub(crate) fn hash(password: &str) -> Result<String> {
    if password.chars().count() < CHARACTERS_MIN {
        bail!("a password has at least {CHARACTERS_MIN} characters; several words do well");
    }
    hash_with(password.as_bytes(), &rand::random())
}

fn hash_with(password: &[u8], salt: &[u8; 16]) -> Result<String> {
    let hash = derived(password, salt, COST).context("argon2id takes these parameters")?;
    Ok(phc(salt, &hash))
}

fn phc(salt: &[u8], hash: &[u8; HASH_BYTES]) -> String {
    let (m, t, p) = COST;
    let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
    format!("$argon2id$v=19$m={m},t={t},p={p}${salt}${hash}")
}

/// Whether a password is the one of a hash that the schema's check has let through.
fn verify(stored: &str, password: &str) -> bool {
    let fields: Vec<&str> = stored.split('$').collect();
    let ["", "argon2id", "v=19", cost, salt, hash] = fields[..] else { return false };
    let cost: Vec<u32> = cost.split(',').filter_map(|part| part.split_once('=')?.1.parse().ok()).collect();
    let ([m, t, p], Ok(salt), Ok(hash)) =
        (&cost[..], STANDARD_NO_PAD.decode(salt), STANDARD_NO_PAD.decode(hash))
    else {
        return false;
    };
    let mut found = vec![0; hash.len()];
    let right = derive(password.as_bytes(), &salt, (*m, *t, *p), &mut found);
    right.is_some() && bool::from(found.ct_eq(&hash))
}

fn derived<const N: usize>(password: &[u8], salt: &[u8], cost: (u32, u32, u32)) -> Option<[u8; N]> {
    let mut hash = [0; N];
    derive(password, salt, cost, &mut hash).map(|()| hash)
}

fn derive(password: &[u8], salt: &[u8], (m, t, p): (u32, u32, u32), into: &mut [u8]) -> Option<()> {
    let params = Params::new(m, t, p, Some(into.len())).ok()?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(password, salt, into).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::clock;

    fn schema(alice: &str, ops: &str) -> Schema {
        let text = format!(
            "region \"local\" {{}}\nuser \"ops@example.org\" {{ password = \"{ops}\" }}\ncustomer \"acme\" {{\n  region = \
             region.local\n  user \"alice@acme.example\" {{\n    password = \"{alice}\"\n    role = \"owner\"\n  }}\n}}\n"
        );
        let files = kinetic_schema::Files::from([("kinetic.hcl".to_owned(), text.into_bytes())]);
        let loaded = kinetic_schema::load(&files);
        loaded.schema.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
    }

    #[test]
    fn a_password_lets_its_owner_in_and_nobody_else() {
        let (alice, ops) =
            (hash("correct horse battery").expect("long"), hash("staple in the haystack").expect("long"));
        assert_ne!(alice, hash("correct horse battery").expect("long"), "each has a salt of its own");
        let schema = schema(&alice, &ops);
        let role = |name: &str, password: &str| {
            authenticate(&schema, name, password)
                .map(|person| (person.customer.map(|name| name.to_string()), person.role))
        };
        let owner = Some((Some("acme".to_owned()), Role::Owner));
        assert_eq!(role("alice@acme.example", "correct horse battery"), owner);
        assert_eq!(role(" Alice@Acme.example ", "correct horse battery"), owner, "as people type it");
        assert_eq!(role("ops@example.org", "staple in the haystack"), Some((None, Role::Operator)));
        for (name, password) in [
            ("alice@acme.example", "staple in the haystack"),
            ("alice@acme.example", "correct horse batter"),
            ("alice@acme.example", ""),
            ("ops@example.org", "correct horse battery"),
            ("nobody", "correct horse battery"),
            ("", ""),
        ] {
            assert_eq!(role(name, password), None, "{name} {password}");
        }
        assert!(hash("hunter2").is_err(), "too short");
    }

    #[test]
    fn a_name_that_nobody_has_takes_as_long() {
        let made = hash("correct horse battery").expect("long");
        let schema = schema(&made, &made);
        let shortest = |name: &str| {
            let once = |_| {
                let before = clock::now().mono;
                assert!(authenticate(&schema, name, "staple in the haystack").is_none());
                clock::now().mono.since(before)
            };
            (0..2).map(once).min().expect("two")
        };
        let (somebody, nobody) = (shortest("alice@acme.example"), shortest("nobody@acme.example"));
        assert!(nobody * 10 > somebody && somebody * 10 > nobody, "{somebody:?} {nobody:?}");
    }

    #[test]
    fn a_hash_of_the_reference_implementation_is_understood() {
        // From the test suite of the reference implementation (phc-winner-argon2, argon2id, version 0x13, t = 2, m = 2^16, p = 1).
        let reference =
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(verify(reference, "password") && !verify(reference, "Password"));
        let made = hash_with(b"correct-horse-battery", b"saltsaltsaltsalt").expect("it can be made");
        assert!(made.starts_with("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$"), "{made}");
    }
}
