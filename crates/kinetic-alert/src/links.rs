//! What the links in mails carry: who may do what about which episode, until when, signed. Whoever holds a link may use
//! it, so it names one recipient, one group and one thing to do, ends by itself, and is written to no log.
//!
//! A token is `base64url(claims) . base64url(mac)`: the claims in lines, and the first 128 bits of their HMAC-SHA-256
//! under a key that is derived from the node's id key for this alone.

use hmac::{Hmac, Mac};
use kinetic_wire::Wall;
use sha2::Sha256;

/// Names the use of the derived key, and the form of the claims.
const LABEL: &[u8] = b"kinetic link v1";
/// Bytes of the signature.
const MAC_BYTES: usize = 16;
/// Longest token that is looked at: names of schemas and addresses have bounds, and this is beyond them.
const TOKEN_BYTES_MAX: usize = 4_096;

/// What a link does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkAction {
    /// Acknowledge the episode.
    Acknowledge,
    /// Take the recipient off the alert block's mails (RFC 8058).
    Unsubscribe,
}

impl LinkAction {
    fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledge => "ack",
            Self::Unsubscribe => "unsubscribe",
        }
    }
}

/// What a link says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What it does.
    pub action: LinkAction,
    /// The group, as history names it; its first part is the customer.
    pub group: String,
    /// Name of the alert block.
    pub alert: String,
    /// When the episode began.
    pub episode: Wall,
    /// The recipient of the mail it stands in.
    pub to: String,
    /// When it ends.
    pub expires: Wall,
}

/// Why a link is not followed. A forged one and a broken one are not told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadLink {
    /// It was not made here, or has been changed.
    Forged,
    /// It was, too long ago.
    Expired,
}

/// The signature over claims. `key` is [`crate::AlertConfig::id_key`], under which nothing but derived names is made.
fn mac(key: &[u8; 32], claims: &[u8]) -> Hmac<Sha256> {
    let hmac = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    let derived = hmac(key).chain_update(LABEL).finalize().into_bytes();
    hmac(&derived).chain_update(claims)
}

impl Link {
    /// The token, of characters that need no escape in a URL. `None` where a name holds a line break, which no name of a
    /// schema does.
    #[must_use]
    pub fn token(&self, key: &[u8; 32]) -> Option<String> {
        let (episode, expires) = (self.episode.as_ms().to_string(), self.expires.as_ms().to_string());
        let fields = [self.action.as_str(), &self.group, &self.alert, &episode, &self.to, &expires];
        if fields.iter().any(|field| field.contains('\n')) {
            return None;
        }
        let claims = fields.join("\n").into_bytes();
        let signature = mac(key, &claims).finalize().into_bytes();
        Some(format!("{}.{}", encode(&claims), encode(&signature[..MAC_BYTES])))
    }

    /// Where the link leads, below the `mail.public_url` of the schema.
    #[must_use]
    pub fn url(&self, public_url: &str, key: &[u8; 32]) -> Option<String> {
        Some(format!("{public_url}/link/{}", self.token(key)?))
    }

    /// Reads a token that was made by this node or its companions.
    ///
    /// # Errors
    /// [`BadLink`].
    pub fn open(token: &str, key: &[u8; 32], now: Wall) -> Result<Self, BadLink> {
        let link = Self::read(token, key).ok_or(BadLink::Forged)?;
        if link.expires <= now { Err(BadLink::Expired) } else { Ok(link) }
    }

    fn read(token: &str, key: &[u8; 32]) -> Option<Self> {
        let (claims, signature) = token.split_once('.').filter(|_| token.len() <= TOKEN_BYTES_MAX)?;
        let (claims, signature) = (decode(claims)?, decode(signature)?);
        // A shorter one would be compared over less. The comparison takes the same time wherever they differ.
        if signature.len() != MAC_BYTES || mac(key, &claims).verify_truncated_left(&signature).is_err() {
            return None;
        }
        let claims = String::from_utf8(claims).ok()?;
        let mut fields = claims.split('\n');
        let mut next = || fields.next().map(str::to_owned);
        let action = next()?;
        let actions = [LinkAction::Acknowledge, LinkAction::Unsubscribe];
        let action = actions.into_iter().find(|known| known.as_str() == action)?;
        let (group, alert) = (next()?, next()?);
        let episode = Wall::from_ms(next()?.parse().ok()?);
        let to = next()?;
        let expires = Wall::from_ms(next()?.parse().ok()?);
        Some(Self { action, group, alert, episode, to, expires })
    }
}

/// RFC 4648 section 5.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// base64url without padding.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * n)) as usize & 63]));
        }
    }
    text
}

/// The bytes of base64url without padding, if it is that.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in text.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for n in 0..4 {
            let value = match chunk.get(n) {
                Some(character) => ALPHABET.iter().position(|known| known == character)?,
                None => 0,
            };
            bits = bits << 6 | u32::try_from(value).ok()?;
        }
        let whole = [(bits >> 16) as u8, (bits >> 8) as u8, bits as u8];
        bytes.extend_from_slice(&whole[..chunk.len().checked_sub(1).filter(|n| *n > 0)?]);
    }
    // Only one text stands for the same bytes.
    (encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn link() -> Link {
        Link {
            action: LinkAction::Acknowledge,
            group: "acme/@team/checkout/*".into(),
            alert: "team".into(),
            episode: Wall::from_secs(1_795_176_000),
            to: "oncall@acme.example".into(),
            expires: Wall::from_secs(1_795_262_400),
        }
    }

    #[test]
    fn a_link_says_what_it_was_made_of_until_it_ends() {
        let url = link().url("https://alerts.example/k", &KEY).unwrap();
        let token = url.strip_prefix("https://alerts.example/k/link/").unwrap();
        assert!(token.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)), "{token}");
        assert!(token.len() < 200, "{} characters", token.len());
        let before = Wall::from_secs(1_795_262_399);
        assert_eq!(Link::open(token, &KEY, before), Ok(link()));
        assert_eq!(Link::open(token, &KEY, link().expires), Err(BadLink::Expired));
        assert_eq!(Link::open(token, &[8; 32], before), Err(BadLink::Forged));
        let broken = Link { to: "a\nb".into(), ..link() };
        assert_eq!(broken.token(&KEY), None);
    }

    #[test]
    fn a_key_is_used_for_links_alone() {
        let token = link().token(&KEY).unwrap();
        let (claims, _) = token.split_once('.').unwrap();
        let mut under_the_id_key = Hmac::<Sha256>::new_from_slice(&KEY).unwrap();
        under_the_id_key.update(&decode(claims).unwrap());
        let signature = under_the_id_key.finalize().into_bytes();
        let forged = format!("{claims}.{}", encode(&signature[..MAC_BYTES]));
        assert_eq!(Link::open(&forged, &KEY, Wall::default()), Err(BadLink::Forged));
    }

    #[test]
    fn no_other_token_is_taken() {
        let token = link().token(&KEY).unwrap();
        let open = |token: &str| Link::open(token, &KEY, Wall::default());
        for n in 0..token.len() {
            assert_eq!(open(&token[..n]), Err(BadLink::Forged), "cut at {n}");
            let mut other = token.clone().into_bytes();
            other[n] = if other[n] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert_eq!(open(&other), Err(BadLink::Forged), "changed at {n}");
        }
        assert_eq!(open(&format!("{token}A")), Err(BadLink::Forged));
        assert_eq!(open("."), Err(BadLink::Forged));
        let (claims, _) = token.split_once('.').unwrap();
        assert_eq!(open(&format!("{claims}.")), Err(BadLink::Forged));
    }

    proptest! {
        #[test]
        fn base64url_there_and_back(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn nothing_makes_it_do_anything_but_say_no(text in "[A-Za-z0-9_.-]{0,80}") {
            prop_assert_eq!(Link::open(&text, &KEY, Wall::default()), Err(BadLink::Forged));
        }
    }
}
