//! A login that expires by itself, beside the one of the address: tried first, renewed on the standing connection, and left for
//! the address's own where the broker does not take it.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::connect::Link;
use crate::{Address, AmqpError, Secret};

/// A login and what is given as its password for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The login.
    pub login: String,
    /// In place of a password.
    pub secret: Secret,
}

/// How tokens fare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenStats {
    /// Connections that a token opened.
    pub logins: u64,
    /// Tokens that a standing connection was given.
    pub renewed: u64,
    /// Tokens that the broker did not take.
    pub refused: u64,
}

/// The caller's end.
#[derive(Debug)]
pub(crate) struct Given {
    token: watch::Sender<Option<Token>>,
    counted: Arc<Counted>,
}

/// The driver's end.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    given: watch::Receiver<Option<Token>>,
    counted: Arc<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    logins: AtomicU64,
    renewed: AtomicU64,
    refused: AtomicU64,
}

/// Both ends, with a first token.
pub(crate) fn tokens(first: Option<Token>) -> (Given, Tokens) {
    let (token, given) = watch::channel(first);
    let counted = Arc::<Counted>::default();
    (Given { token, counted: Arc::clone(&counted) }, Tokens { given, counted })
}

impl Given {
    pub(crate) fn give(&self, token: Token) {
        self.token.send_replace(Some(token));
    }

    pub(crate) fn stats(&self) -> TokenStats {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counted { logins, renewed, refused } = &*self.counted;
        TokenStats { logins: read(logins), renewed: read(renewed), refused: read(refused) }
    }
}

impl Tokens {
    /// Connects with the token, where there is one that is taken; else as the address says.
    pub(crate) async fn open(&self, address: &Address) -> Result<Link, AmqpError> {
        let token = self.given.borrow().clone();
        let Some(token) = token else { return Link::open(address).await };
        match Link::open(&address.with(&token)).await {
            Ok(link) => {
                self.counted.logins.fetch_add(1, Ordering::Relaxed);
                Ok(link.known_as(&token.login))
            }
            Err(error @ (AmqpError::LoginRefused { .. } | AmqpError::VhostRefused { .. })) => {
                self.refused(&error);
                Link::open(address).await
            }
            Err(error) => Err(error),
        }
    }

    /// Ends when there is another token; never, where nobody can give one any more.
    pub(crate) async fn renewed(&mut self) {
        if self.given.changed().await.is_err() {
            pending::<()>().await;
        }
    }

    /// Gives the newest token to a connection that another of the same login opened.
    ///
    /// # Errors
    /// Where the broker does not take it, after which it ends the connection.
    pub(crate) async fn renew(&mut self, link: &Link) -> Result<(), AmqpError> {
        let token = self.given.borrow_and_update().clone();
        let Some(token) = token.filter(|token| link.is_known_as(&token.login)) else { return Ok(()) };
        match link.update_secret(token.secret.expose()).await {
            Ok(()) => {
                self.counted.renewed.fetch_add(1, Ordering::Relaxed);
                tracing::debug!("the connection has another token");
                Ok(())
            }
            Err(error) => {
                self.refused(&error);
                Err(error)
            }
        }
    }

    fn refused(&self, error: &AmqpError) {
        if self.counted.refused.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(
                error = error.chain(),
                "the broker does not take the token that locate gave; going on with the key itself (said once, counted)"
            );
        }
    }
}
