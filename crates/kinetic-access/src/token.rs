//! Tokens that `locate` hands out: signed, short-lived, and good for one login in one vhost. JSON Web Tokens (RFC 7519) in
//! the compact form of RFC 7515, signed with ES256 (RFC 7518, section 3.4), such as RabbitMQ's OAuth2 plugin takes.
//!
//! Pure: who signs and who verifies a signature brings the elliptic curve along. What a token says of rights is for RabbitMQ, which knows
//! nothing better; whoever has the schema takes them from there.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kinetic_schema::Schema;
use kinetic_schema::schema::TokenKey;
use kinetic_wire::{Wall, names};
use serde::{Deserialize, Serialize};

use crate::login::{Grant, Login, login};

mod scope;
#[cfg(test)]
mod tests;

pub use scope::scopes;

/// `aud` of every token, and the `resource_server_id` that RabbitMQ is configured with; the scopes begin with it.
pub const AUDIENCE: &str = "kinetic";
/// `iss` of every token.
pub const ISSUER: &str = "kinetic";
/// The only algorithm.
pub const ALGORITHM: &str = "ES256";
/// Longer ones are not read.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;
/// How far ahead the clock of whoever signed may be.
pub const AHEAD_MAX_S: i64 = 30;
/// Bytes of a signature: R and S (RFC 7518, section 3.4).
pub const SIGNATURE_BYTES: usize = 64;

/// What a token begins with (RFC 7515, section 4). A header that asks for anything else to be understood is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// How it is signed.
    pub alg: String,
    /// `JWT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub typ: Option<String>,
    /// Name of the key that signed it.
    pub kid: String,
}

/// What it says (RFC 7519, section 4.1). Instants are seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who made it.
    pub iss: String,
    /// The login that it is for. RabbitMQ's user name: there must be no `client_id`, which 3.10 would take before this.
    pub sub: String,
    /// What it is for.
    pub aud: String,
    /// When it was made.
    pub iat: i64,
    /// It is good from here on. RabbitMQ does not look at this one.
    pub nbf: i64,
    /// The first second at which it is good no more.
    pub exp: i64,
    /// Its own name.
    pub jti: String,
    /// What its holder may do, for RabbitMQ: [`scopes`].
    pub scope: String,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum TokenRefused {
    /// It is no token, or longer than [`TOKEN_BYTES_MAX`].
    #[error("it is not a token of the form that we make")]
    Malformed,
    /// It wants to be verified by another algorithm than [`ALGORITHM`], or by none.
    #[error("it names another algorithm than ES256")]
    Algorithm,
    /// The schema has no key of that name.
    #[error("the schema has no key of that name")]
    UnknownKey,
    /// The key did not sign it.
    #[error("its key did not sign it")]
    Signature,
    /// It is for somebody else to accept.
    #[error("it is not meant for our brokers")]
    Audience,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Its time is yet to come.
    #[error("it is not good yet")]
    Early,
    /// Whoever shows it calls itself by another login.
    #[error("it is another login's")]
    Foreign,
    /// The schema does not have that login now.
    #[error("its login is not good: revoked, expired, or its customer is switched off")]
    Login,
    /// It grants what the schema does not.
    #[error("it grants more than its login may do")]
    Scope,
}

impl TokenRefused {
    /// One word, for a label.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::Early => "early",
            Self::Foreign => "foreign",
            Self::Login => "login",
            Self::Scope => "scope",
        }
    }
}

/// A token that lacks nothing but its signature.
#[derive(Clone, Debug)]
pub struct Unsigned {
    text: String,
    /// The first moment at which it is good no more, milliseconds since the Unix epoch.
    pub expires_ms: i64,
}

impl Unsigned {
    /// A token for a login that is good now, where the broker of its region takes tokens: good for the schema's `ttl`, and not beyond
    /// the login itself. `jti` is its name, which no other has.
    #[must_use]
    pub fn new(schema: &Schema, login: &Login, kid: &str, now: Wall, jti: String) -> Option<Self> {
        let tokens = schema.tokens.as_ref()?;
        let customer = schema.customers.get(&login.customer)?;
        let region = schema.regions.get(&customer.region).filter(|region| region.tokens)?;
        let grant = login.grants.get(&region.vhost)?;
        let now_ms = now.as_ms();
        let ttl_ms = i64::try_from(tokens.ttl.as_millis()).unwrap_or(i64::MAX);
        let until_ms = now_ms.saturating_add(ttl_ms).min(login.expires_ms.unwrap_or(i64::MAX));
        let (iat, exp) = (now_ms.div_euclid(1_000), until_ms.div_euclid(1_000));
        if exp <= iat {
            return None;
        }
        let header = Header { alg: ALGORITHM.to_owned(), typ: Some("JWT".to_owned()), kid: kid.to_owned() };
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: login.name.clone(),
            aud: AUDIENCE.to_owned(),
            iat,
            nbf: iat,
            exp,
            jti,
            scope: scopes(&region.vhost, &carried(grant.clone())).join(" "),
        };
        let text = format!("{}.{}", part(&header), part(&claims));
        Some(Self { text, expires_ms: exp.saturating_mul(1_000) })
    }

    /// What is signed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The token: what was signed, with R and S behind it.
    #[must_use]
    pub fn signed(self, signature: &[u8]) -> String {
        format!("{}.{}", self.text, URL_SAFE_NO_PAD.encode(signature))
    }
}

fn part(part: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(part).expect("plain text and numbers"))
}

/// A token that was taken apart. Nothing in it is to be believed before it is [judged](Self::judge).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unproven<'t> {
    /// What is said to be signed.
    pub text: &'t str,
    /// Its first part.
    pub header: Header,
    /// What it says.
    pub claims: Claims,
    /// R and S, if it is a signature.
    pub signature: [u8; SIGNATURE_BYTES],
}

/// A token that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The login, with the grants that the schema gives it, in the vhosts that the token names.
    pub login: Login,
    /// Name of the key that signed it.
    pub key: String,
    /// The first moment at which it is good no more, milliseconds since the Unix epoch.
    pub expires_ms: i64,
}

impl<'t> Unproven<'t> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`TokenRefused::Malformed`], or [`TokenRefused::Algorithm`] where it is one of another kind.
    pub fn read(token: &'t str) -> Result<Self, TokenRefused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenRefused::Malformed);
        }
        let (text, signature) = token.rsplit_once('.').ok_or(TokenRefused::Malformed)?;
        let (header, claims) = text.split_once('.').ok_or(TokenRefused::Malformed)?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenRefused::Malformed);
        let header = decode(header)?;
        // Said first: a token of another kind may have another form in all its other parts.
        let alg: Alg = serde_json::from_slice(&header).map_err(|_| TokenRefused::Malformed)?;
        if alg.alg != ALGORITHM {
            return Err(TokenRefused::Algorithm);
        }
        let header: Header = serde_json::from_slice(&header).map_err(|_| TokenRefused::Malformed)?;
        let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| TokenRefused::Malformed)?;
        let signature = decode(signature)?.try_into().map_err(|_| TokenRefused::Malformed)?;
        Ok(Self { text, header, claims, signature })
    }

    /// Whether it holds now. `signed` says whether a key (ECDSA on P-256 with SHA-256) made a signature of a text; `control` is the
    /// control vhost.
    ///
    /// # Errors
    /// [`TokenRefused`].
    pub fn judge(
        &self,
        schema: &Schema,
        control: &str,
        now: Wall,
        signed: impl FnOnce(&TokenKey, &[u8], &[u8; SIGNATURE_BYTES]) -> bool,
    ) -> Result<Proven, TokenRefused> {
        let keys = schema.tokens.iter().flat_map(|tokens| &tokens.keys);
        let mut named = keys.filter(|key| key.name == self.header.kid);
        let key = named.next().ok_or(TokenRefused::UnknownKey)?;
        if !signed(key, self.text.as_bytes(), &self.signature) {
            return Err(TokenRefused::Signature);
        }
        let claims = &self.claims;
        if claims.aud != AUDIENCE || claims.iss != ISSUER {
            return Err(TokenRefused::Audience);
        }
        let now_s = now.as_ms().div_euclid(1_000);
        if claims.exp <= now_s {
            return Err(TokenRefused::Expired);
        }
        if claims.nbf > now_s.saturating_add(AHEAD_MAX_S) {
            return Err(TokenRefused::Early);
        }
        let mut login = login(schema, &claims.sub, now, control).map(by_token).ok_or(TokenRefused::Login)?;
        login.grants.retain(|vhost, grant| names_any(vhost, grant, &claims.scope));
        let allowed: Vec<String> =
            login.grants.iter().flat_map(|(vhost, grant)| scopes(vhost, grant)).collect();
        let mut said = claims.scope.split(' ').filter(|scope| !scope.is_empty());
        if allowed.is_empty() || !said.all(|scope| allowed.iter().any(|allowed| allowed == scope)) {
            return Err(TokenRefused::Scope);
        }
        Ok(Proven { login, key: key.name.clone(), expires_ms: claims.exp.saturating_mul(1_000) })
    }
}

/// What a token lets its holder do of what its login may. Not ask: who had stolen one could ask for the next, for ever.
#[must_use]
pub fn by_token(mut login: Login) -> Login {
    let grants = std::mem::take(&mut login.grants);
    login.grants = grants.into_iter().map(|(vhost, grant)| (vhost, carried(grant))).collect();
    login
}

fn carried(mut grant: Grant) -> Grant {
    grant.write.retain(|name| name != names::RPC_EXCHANGE);
    grant
}

/// Just enough of a header to see what it is.
#[derive(Deserialize)]
struct Alg {
    alg: String,
}

/// Whether a token with these scopes is for a vhost at all.
fn names_any(vhost: &str, grant: &Grant, said: &str) -> bool {
    let allowed = scopes(vhost, grant);
    said.split(' ').any(|scope| allowed.iter().any(|allowed| allowed == scope))
}

/// Who signs at some moment: of the keys that have started, the one that started last.
#[must_use]
pub fn signing_key(schema: &Schema, now: Wall, has: impl Fn(&TokenKey) -> bool) -> Option<&TokenKey> {
    let keys = schema.tokens.iter().flat_map(|tokens| &tokens.keys);
    let started = keys.filter(|key| key.starts_ms.is_none_or(|at| at <= now.as_ms()));
    // The later of two that say the same.
    started.filter(|key| has(key)).max_by_key(|key| key.starts_ms)
}

/// Any bytes as a token, and read as one: it must not panic, and what is read is what was written. For fuzzing.
pub fn fuzz_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(read) = Unproven::read(text) else { return };
    let written = format!("{}.{}", read.text, URL_SAFE_NO_PAD.encode(read.signature));
    assert_eq!(written, text, "one token has one form");
    let again = Unsigned {
        text: format!("{}.{}", part(&read.header), part(&read.claims)),
        expires_ms: read.claims.exp.saturating_mul(1_000),
    };
    let again = again.signed(&read.signature);
    if again.len() <= TOKEN_BYTES_MAX {
        let again = Unproven::read(&again).expect("written by us");
        assert_eq!((again.header, again.claims), (read.header, read.claims));
    }
}
