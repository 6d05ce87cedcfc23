//! Tokens at the embedded broker: any key of the schema's list verifies them, and what they may do stands in the schema. A key that is
//! taken out of it ends the connections of its tokens.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kinetic_access::token::{Unproven, by_token};
use kinetic_broker::{TokenGrant, TokenVerifier};
use kinetic_schema::Schema;
use kinetic_wire::{Wall, names};

use crate::adapter::{clock, token_keys};
use crate::shell::broker::user;
use crate::telemetry::Metric;

/// How tokens fare, over all revisions of the schema.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    accepted: AtomicU64,
    /// By reason, of which there are few.
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counted {
    fn refuse(&self, reason: &'static str) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }

    /// For `/metrics`.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let accepted = self.accepted.load(Ordering::Relaxed);
        let mut metrics = vec![Metric::counter(
            "kinetic_broker_tokens_accepted",
            "Tokens that opened or renewed a connection.",
            accepted,
        )];
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.extend(refused.iter().map(|(reason, count)| {
            let help = "Tokens that were shown and did not hold, by reason.";
            Metric::counter("kinetic_broker_tokens_refused", help, *count).with("reason", *reason)
        }));
        metrics
    }
}

/// Judges by one revision of the schema.
#[derive(Debug)]
struct Verifier {
    schema: Arc<Schema>,
    counted: Arc<Counted>,
}

/// Who judges tokens by this revision of the schema; nobody where it has no keys for them.
pub(crate) fn verifier(schema: &Arc<Schema>, counted: &Arc<Counted>) -> Option<Arc<dyn TokenVerifier>> {
    let tokens = schema.tokens.as_ref()?;
    if tokens.keys.is_empty() {
        return None;
    }
    Some(Arc::new(Verifier { schema: Arc::clone(schema), counted: Arc::clone(counted) }))
}

impl TokenVerifier for Verifier {
    fn verify(&self, login: &str, token: &str, now_ms: i64) -> Result<TokenGrant, String> {
        let judged = Unproven::read(token).and_then(|read| {
            read.judge(&self.schema, names::CONTROL_VHOST, Wall::from_ms(now_ms), token_keys::has_signed)
        });
        let judged = judged.and_then(|proven| match login {
            said if said == proven.login.name => Ok(proven),
            _ => Err(kinetic_access::token::TokenRefused::Foreign),
        });
        match judged {
            Ok(proven) => {
                self.counted.accepted.fetch_add(1, Ordering::Relaxed);
                let (login, mut user) = user(proven.login);
                user.credentials.clear();
                Ok(TokenGrant { login, key: proven.key, user, expires_ms: proven.expires_ms })
            }
            Err(refused) => {
                self.counted.refuse(refused.reason());
                Err(refused.to_string())
            }
        }
    }

    fn stands(&self, grant: &TokenGrant) -> bool {
        let mut keys = self.schema.tokens.iter().flat_map(|tokens| &tokens.keys);
        if !keys.any(|key| key.name == grant.key) {
            return false;
        }
        let now = clock::now().wall;
        let Some(login) = kinetic_access::login(&self.schema, &grant.login, now, names::CONTROL_VHOST) else {
            return false;
        };
        // What the login may do has changed: whoever comes back is told what holds now.
        let (_, mut user) = user(by_token(login));
        user.permissions.retain(|vhost, _| grant.user.permissions.contains_key(vhost));
        user.permissions == grant.user.permissions
    }
}
