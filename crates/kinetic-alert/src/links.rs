//! The links in mails: who may do what about which episode, until when, signed. Whoever holds a link may use it, so it
//! is for one recipient, one group and one thing to do, and it ends by itself.
//!
//! A token is 36 bytes, 48 characters of base64url, so that a link fits on a line of a terminal. It names nobody: what it is
//! about is hashed under a key, and found again among what fires, or among the recipients of the schema. So neither the
//! logs of a proxy nor a glance at it tell an address or a customer.
//!
//! ```text
//!  0  version, 1
//!  1  what it does
//!  2  when it ends, seconds since 1970, 32 bits
//!  6  when the episode began, milliseconds since 1970, 48 bits; zero where it is about none
//! 12  what it is about: keyed hash, 64 bits
//! 20  HMAC-SHA-256 of all before, its first 128 bits
//! ```

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::time::Duration;

use hmac::{Hmac, Mac};
use kinetic_schema::schema;
use kinetic_wire::{LinkAction, Subscription, Wall};
use sha2::Sha256;

use crate::id::{GroupKey, StreamKey};
use crate::machine::AlertConfig;
use crate::render::Notification;
use crate::subscribe;

/// First byte of a token.
const VERSION: u8 = 1;
/// Bytes in front of the signature.
const CLAIMS_BYTES: usize = 20;
/// Bytes of the signature.
const MAC_BYTES: usize = 16;
/// Bytes of what names the subject.
const SUBJECT_BYTES: usize = 8;
/// Characters of a token.
const TOKEN_CHARS: usize = (CLAIMS_BYTES + MAC_BYTES) / 3 * 4;
/// How long a link about an episode may be followed; what fires for longer is mailed again, with newer ones.
const EPISODE_LINK_LIFE: Duration = Duration::from_secs(7 * 86_400);
/// How long one may unsubscribe by a mail.
const UNSUBSCRIBE_LIFE: Duration = Duration::from_secs(365 * 86_400);
/// Longest address of a page; beyond that a mail has no links.
const URL_BYTES_MAX: usize = 900;

/// What a link is about, as its token has it.
pub(crate) type Subject = [u8; SUBJECT_BYTES];

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    /// What it does.
    pub(crate) action: LinkAction,
    /// When it ends, in whole seconds.
    pub(crate) expires: Wall,
    /// When the episode began; zero where it is about none.
    pub(crate) episode: Wall,
    /// What it is about.
    pub(crate) subject: Subject,
}

/// Why a token is not taken. A forged one, a cut one and one of another installation are not told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadToken {
    /// It was not made under this key, or has been changed.
    Forged,
    /// It was, too long ago.
    Expired,
}

/// Makes and reads tokens. Its keys are derived from the installation's id key, each for one use alone.
#[derive(Debug)]
pub(crate) struct Keys {
    signing: Hmac<Sha256>,
    naming: Hmac<Sha256>,
}

impl Keys {
    /// The keys of an installation.
    pub(crate) fn new(id_key: &[u8; 32]) -> Self {
        let hmac = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
        let derived = |label: &[u8]| hmac(&hmac(id_key).chain_update(label).finalize().into_bytes());
        Self { signing: derived(b"kinetic link 1 signature"), naming: derived(b"kinetic link 1 subject") }
    }

    fn subject(&self, parts: &[&str]) -> Subject {
        let mut mac = self.naming.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        let hash: [u8; 32] = mac.finalize().into_bytes().into();
        std::array::from_fn(|at| hash[at])
    }

    /// A recipient's mails about a group.
    pub(crate) fn stream(&self, group: &GroupKey, stream: &StreamKey) -> Subject {
        self.subject(&["stream", &group.to_string(), &stream.alert, &stream.to])
    }

    /// A recipient of an alert block.
    pub(crate) fn recipient(&self, subscription: &Subscription) -> Subject {
        let Subscription { customer, alert, to } = subscription;
        self.subject(&["recipient", customer.as_str(), alert, to])
    }

    /// The token, of characters that need no escape in a URL.
    pub(crate) fn seal(&self, claims: &Claims) -> String {
        let expires = u32::try_from(claims.expires.as_secs().max(0)).unwrap_or(u32::MAX);
        let episode = u64::try_from(claims.episode.as_ms()).unwrap_or_default();
        let mut bytes = vec![VERSION, number(claims.action)];
        bytes.extend_from_slice(&expires.to_be_bytes());
        bytes.extend_from_slice(&episode.to_be_bytes()[2..]);
        bytes.extend_from_slice(&claims.subject);
        let signature = self.signing.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&signature[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token that was made under these keys.
    pub(crate) fn open(&self, token: &str, now: Wall) -> Result<Claims, BadToken> {
        let claims = self.read(token).ok_or(BadToken::Forged)?;
        if claims.expires <= now { Err(BadToken::Expired) } else { Ok(claims) }
    }

    fn read(&self, token: &str) -> Option<Claims> {
        if token.len() != TOKEN_CHARS {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (claims, signature) = bytes.split_first_chunk::<CLAIMS_BYTES>()?;
        // The comparison takes the same time wherever they differ; the length is that of a whole one, as above.
        self.signing.clone().chain_update(claims).verify_truncated_left(signature).ok()?;
        let field = |from: usize, to: usize| {
            claims[from..to].iter().fold(0_i64, |number, byte| number << 8 | i64::from(*byte))
        };
        let actions = [LinkAction::Acknowledge, LinkAction::Silence, LinkAction::Unsubscribe];
        let action = actions.into_iter().find(|known| number(*known) == claims[1])?;
        (claims[0] == VERSION).then(|| Claims {
            action,
            expires: Wall::from_secs(field(2, 6)),
            episode: Wall::from_ms(field(6, 12)),
            subject: std::array::from_fn(|at| claims[12 + at]),
        })
    }
}

fn number(action: LinkAction) -> u8 {
    match action {
        LinkAction::Acknowledge => 1,
        LinkAction::Silence => 2,
        LinkAction::Unsubscribe => 3,
    }
}

/// The links of one mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Links {
    /// Acknowledge the episode.
    pub(crate) acknowledge: String,
    /// Silence what fires.
    pub(crate) silence: String,
    /// Unsubscribe from the alert block.
    pub(crate) unsubscribe: String,
}

impl Links {
    /// The links of a mail about a group's episode, if the schema says where they lead and somebody serves them.
    pub(crate) fn of(
        config: &AlertConfig,
        mail: &schema::Mail,
        group: &GroupKey,
        stream: &StreamKey,
        episode: Wall,
        now: Wall,
    ) -> Option<Self> {
        let public_url = mail.public_url.as_deref().filter(|_| config.serves_links)?;
        let keys = Keys::new(&config.id_key);
        let url = |claims: Claims| format!("{public_url}/l/{}", keys.seal(&claims));
        let of_episode = |action| Claims {
            action,
            expires: now + EPISODE_LINK_LIFE,
            episode,
            subject: keys.stream(group, stream),
        };
        let unsubscribe = Claims {
            action: LinkAction::Unsubscribe,
            expires: now + UNSUBSCRIBE_LIFE,
            episode: Wall(0),
            subject: keys.recipient(&subscribe::of(group, stream)),
        };
        let links = Self {
            acknowledge: url(of_episode(LinkAction::Acknowledge)),
            silence: url(of_episode(LinkAction::Silence)),
            unsubscribe: url(unsubscribe),
        };
        (links.unsubscribe.len() <= URL_BYTES_MAX && links.unsubscribe.is_ascii()).then_some(links)
    }

    /// Whether mail programs may unsubscribe by themselves (RFC 8058): only over TLS.
    pub(crate) fn one_click(&self) -> bool {
        self.unsubscribe.starts_with("https://")
    }
}

/// Reads any bytes as the token of a link, and as a change of a good one: neither is taken. For fuzzing, and for the tests
/// that replay its seeds.
///
/// # Panics
/// If one is.
pub fn fuzz_link(bytes: &[u8]) {
    let keys = Keys::new(&[7; 32]);
    let refused = |token: &str| assert!(keys.read(token).is_none(), "taken: {token}");
    refused(&String::from_utf8_lossy(bytes));
    let (action, subject) = (LinkAction::Acknowledge, [1; SUBJECT_BYTES]);
    let claims = Claims { action, expires: Wall::from_secs(1), episode: Wall::from_ms(1), subject };
    let good = keys.seal(&claims);
    let mut changed = good.clone().into_bytes();
    for change in bytes.chunks_exact(2) {
        changed[usize::from(change[0]) % TOKEN_CHARS] = change[1];
    }
    if changed != good.as_bytes() {
        refused(&String::from_utf8_lossy(&changed));
    }
}

impl Notification<'_> {
    /// What its recipient can do about what fires, and where that is done.
    pub(crate) fn actions(&self) -> Vec<(&'static str, &str)> {
        match &self.links {
            Some(links) if !self.firing.is_empty() => {
                vec![("Acknowledge", &*links.acknowledge), ("Silence 2 h", &*links.silence)]
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 4648 section 5.
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    fn keys() -> Keys {
        Keys::new(&[7; 32])
    }

    fn claims() -> Claims {
        Claims {
            action: LinkAction::Acknowledge,
            expires: Wall::from_secs(1_795_262_400),
            episode: Wall::from_ms(1_795_176_000_123),
            subject: [1, 2, 3, 4, 5, 6, 7, 8],
        }
    }

    #[test]
    fn a_token_says_what_it_was_made_of_until_it_ends() {
        let token = keys().seal(&claims());
        assert_eq!(token.len(), 48);
        assert!(token.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)), "{token}");
        let before = Wall::from_secs(1_795_262_399);
        for action in [LinkAction::Acknowledge, LinkAction::Silence, LinkAction::Unsubscribe] {
            let claims = Claims { action, ..claims() };
            assert_eq!(keys().open(&keys().seal(&claims), before), Ok(claims));
        }
        assert_eq!(keys().open(&token, claims().expires), Err(BadToken::Expired));
        assert_eq!(Keys::new(&[8; 32]).open(&token, before), Err(BadToken::Forged));
    }

    #[test]
    fn a_key_is_used_for_links_alone() {
        let bytes = URL_SAFE_NO_PAD.decode(keys().seal(&claims())).unwrap();
        for key in [&[7; 32], b"kinetic link 1 signature\0\0\0\0\0\0\0\0"] {
            let mut other = Hmac::<Sha256>::new_from_slice(key).unwrap();
            other.update(&bytes[..CLAIMS_BYTES]);
            let mut forged = bytes[..CLAIMS_BYTES].to_vec();
            forged.extend_from_slice(&other.finalize().into_bytes()[..MAC_BYTES]);
            assert_eq!(keys().open(&URL_SAFE_NO_PAD.encode(&forged), Wall(0)), Err(BadToken::Forged));
        }
    }

    #[test]
    fn no_other_token_is_taken() {
        let token = keys().seal(&claims());
        let open = |token: &str| keys().open(token, Wall(0));
        for n in 0..token.len() {
            assert_eq!(open(&token[..n]), Err(BadToken::Forged), "cut at {n}");
            for bit in 0..6 {
                let mut other = token.clone().into_bytes();
                let value = ALPHABET.iter().position(|known| *known == other[n]).unwrap();
                other[n] = ALPHABET[value ^ 1 << bit];
                let other = String::from_utf8(other).unwrap();
                assert_eq!(open(&other), Err(BadToken::Forged), "changed at {n}");
            }
        }
        assert_eq!(open(&format!("{token}AAAA")), Err(BadToken::Forged));
        assert_eq!(open(&"é".repeat(24)), Err(BadToken::Forged));
        // Also a future version, well signed, is not read as this one.
        let mut bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        bytes[0] = 2;
        let signature = keys().signing.clone().chain_update(&bytes[..CLAIMS_BYTES]).finalize().into_bytes();
        bytes[CLAIMS_BYTES..].copy_from_slice(&signature[..MAC_BYTES]);
        assert_eq!(open(&URL_SAFE_NO_PAD.encode(&bytes)), Err(BadToken::Forged));
    }

    #[test]
    fn subjects_differ_in_each_of_their_parts() {
        let recipient = |customer: &str, alert: &str, to: &str| {
            let (customer, alert, to) = (customer.into(), alert.into(), to.into());
            keys().recipient(&Subscription { customer, alert, to })
        };
        let one = recipient("acme", "team", "a@b");
        assert_eq!(one, recipient("acme", "team", "a@b"));
        assert_ne!(one, recipient("shop", "team", "a@b"));
        assert_ne!(one, recipient("acme", "tea", "ma@b"));
        assert_ne!(one, recipient("acme", "team", "b@b"));
        let stream = StreamKey { alert: "team".into(), to: "a@b".into() };
        let of = |group: &str| keys().stream(&GroupKey::parse(group).unwrap(), &stream);
        assert_ne!(of("acme/a/b/c"), of("acme/a/b/d"));
        assert_ne!(of("acme/a/b/c"), of("shop/a/b/c"));
    }

    proptest! {
        #[test]
        fn tokens_there_and_back(
            (expires, episode) in (0..=u32::MAX, 0..9_000_000_000_000_i64), subject in any::<[u8; 8]>(), which in 0..3_usize,
        ) {
            let action = [LinkAction::Acknowledge, LinkAction::Silence, LinkAction::Unsubscribe][which];
            let (expires, episode) = (Wall::from_secs(expires.into()), Wall::from_ms(episode));
            let claims = Claims { action, expires, episode, subject };
            prop_assert_eq!(keys().read(&keys().seal(&claims)), Some(claims));
        }

        #[test]
        fn nothing_makes_it_do_anything_but_say_no(text in "[A-Za-z0-9_-]{48}|.{0,60}") {
            prop_assert_eq!(keys().open(&text, Wall(0)), Err(BadToken::Forged));
        }
    }
}
