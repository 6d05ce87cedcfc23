//! The next connection, when the client certificate has been replaced: made while the present one goes on, and taken when
//! nothing is under way on that.
//!
//! A new certificate that the broker does not take yet costs nothing: the old connection stands until the new one does.

use std::future::pending;
use std::pin::Pin;

use tokio::time::Sleep;

use crate::AmqpError;
use crate::connect::{Backoff, Link, sleep};

type Opening<L> = Pin<Box<dyn Future<Output = Result<L, AmqpError>> + Send>>;

/// Where the next connection of a driver stands.
pub(crate) struct Renewal<L> {
    state: State<L>,
    backoff: Backoff,
}

enum State<L> {
    None,
    Opening(Opening<L>),
    Waiting(Pin<Box<Sleep>>),
    Ready(L),
}

impl<L> Renewal<L> {
    pub(crate) fn new() -> Self {
        Self { state: State::None, backoff: Backoff::new() }
    }

    /// Looks at the files of the present connection's certificate; `open` makes the next connection where they have changed.
    pub(crate) fn check<F>(&mut self, link: &Link, open: impl FnOnce() -> F)
    where
        F: Future<Output = Result<L, AmqpError>> + Send + 'static,
    {
        if matches!(self.state, State::None) && link.is_outdated() {
            self.state = State::Opening(Box::pin(open()));
        }
    }

    /// Works at it. Ends when there is a next connection, or news of none; never otherwise. Cancel-safe.
    pub(crate) async fn made(&mut self) {
        match &mut self.state {
            State::Opening(opening) => match opening.await {
                Ok(line) => {
                    tracing::info!("going over to a connection with the renewed certificate");
                    self.state = State::Ready(line);
                }
                Err(error) => {
                    tracing::warn!(
                        error = error.chain(),
                        "the renewed certificate does not serve yet; going on with the old one"
                    );
                    self.state = State::Waiting(sleep(self.backoff.wait()));
                }
            },
            State::Waiting(waiting) => {
                waiting.await;
                self.state = State::None;
            }
            State::None | State::Ready(_) => pending().await,
        }
    }

    /// Whether the present connection is to take nothing new.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    /// The next connection, once.
    pub(crate) fn take(&mut self) -> Option<L> {
        match std::mem::replace(&mut self.state, State::None) {
            State::Ready(line) => Some(line),
            other => {
                self.state = other;
                None
            }
        }
    }
}
