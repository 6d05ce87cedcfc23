//! The loop that keeps a connection: open, serve, wait, open again, until it is told to close.

use std::future::pending;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::connect::{Backoff, CLOSE_TIMEOUT, raised};
use crate::{AmqpError, LinkStatus};

/// How the work on a connection ends.
pub(crate) enum End<L> {
    /// In good order, for good.
    Closed,
    /// It failed; the reason, for people.
    Lost(String),
    /// In good order, to go on with the next.
    Renewed(L),
}

/// What is done over a connection that is always made again.
pub(crate) trait Driver: Send {
    /// One connection, with what stands on it.
    type Line: Send;
    /// What does not work while there is none, for the log.
    const WHAT: &'static str;

    /// Connects.
    fn open(&self) -> impl Future<Output = Result<Self::Line, AmqpError>> + Send;

    /// Works on a connection until that ends.
    fn serve(&mut self, line: Self::Line) -> impl Future<Output = End<Self::Line>> + Send;

    /// The login of a connection, where a certificate or a token said it.
    fn login(_line: &Self::Line) -> Option<String> {
        None
    }

    /// Hears how the connection is.
    fn say(&self, _status: LinkStatus) {}

    /// What is done while there is none. Cancelled when it is time to connect again; ends when there is nobody left to do it
    /// for.
    fn idle(&mut self) -> impl Future<Output = ()> + Send {
        pending()
    }
}

/// The caller's end of a driver that runs in a task of its own. The task ends with it.
pub(crate) struct Handle {
    what: &'static str,
    status: watch::Receiver<LinkStatus>,
    closing: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

impl Handle {
    /// Starts the driver that is made of what it says its status on and the flag that closes it. Must be called inside a tokio
    /// runtime.
    pub(crate) fn start<D: Driver + 'static>(
        make: impl FnOnce(watch::Sender<LinkStatus>, watch::Receiver<bool>) -> D,
    ) -> Self {
        let (said, status) = watch::channel(LinkStatus::default());
        let (closing, closed) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(drive(make(said, closed.clone()), closed));
        Self { what: D::WHAT, status, closing, tasks: Mutex::new(tasks) }
    }

    pub(crate) fn status(&self) -> LinkStatus {
        self.status.borrow().clone()
    }

    pub(crate) fn connected(&self) -> bool {
        self.status.borrow().connected
    }

    /// Waits until a connection stands, or none does; or until the driver has ended.
    pub(crate) async fn wait_connected(&self, connected: bool) {
        let mut status = self.status.clone();
        status.wait_for(|status| status.connected == connected).await.map(drop).ok();
    }

    /// Tells the driver to close and waits until it has, within bounds.
    pub(crate) async fn close(&self) {
        self.closing.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(CLOSE_TIMEOUT.saturating_mul(2), all).await.is_err() {
            tracing::warn!(what = self.what, "did not close in time");
        }
    }
}

/// Keeps a driver's connection until `closed` is raised. A driver that serves must look at the flag itself.
async fn drive<D: Driver>(mut driver: D, mut closed: watch::Receiver<bool>) {
    let mut backoff = Backoff::new();
    loop {
        let opened = tokio::select! {
            opened = driver.open() => opened,
            () = raised(&mut closed) => return,
        };
        let reason = match opened {
            Ok(mut line) => loop {
                backoff.connected();
                driver.say(LinkStatus { connected: true, login: D::login(&line), ..LinkStatus::default() });
                match driver.serve(line).await {
                    End::Closed => return,
                    End::Lost(reason) => break reason,
                    End::Renewed(next) => line = next,
                }
            },
            Err(error) => error.chain(),
        };
        let wait = backoff.wait();
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(what = D::WHAT, reason, wait_ms, "no connection to the broker");
        driver.say(LinkStatus { error: Some(reason), ..LinkStatus::default() });
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = driver.idle() => return,
            () = raised(&mut closed) => return,
        }
    }
}

/// Notes whether the broker takes publishes for now, and says so when that changes.
pub(crate) fn say_blocked(said: &watch::Sender<LinkStatus>, blocked: bool) {
    let has_changed =
        said.send_if_modified(|status| std::mem::replace(&mut status.blocked, blocked) != blocked);
    match (has_changed, blocked) {
        (false, _) => {}
        (true, true) => tracing::warn!(
            "the broker takes no publishes: it is short of memory or disk; give it some, all that is held leaves then"
        ),
        (true, false) => tracing::info!("the broker takes publishes again"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Connects and fails in turns; counts how often.
    struct Scripted {
        opened: Arc<AtomicUsize>,
        said: watch::Sender<LinkStatus>,
        /// The connection that is closed in good order.
        last: usize,
        /// Nobody needs it any more.
        is_idle: bool,
    }

    impl Driver for Scripted {
        type Line = usize;
        const WHAT: &'static str = "test";

        async fn open(&self) -> Result<usize, AmqpError> {
            match self.opened.fetch_add(1, Ordering::Relaxed) {
                odd if odd % 2 == 1 => Err(AmqpError::Lost { reason: "refused".to_owned() }),
                even => Ok(even),
            }
        }

        async fn serve(&mut self, line: usize) -> End<usize> {
            assert!(self.said.borrow().connected);
            match line {
                line if line == self.last => End::Closed,
                // Goes over to a connection of its own making before it is lost.
                0 => End::Renewed(1),
                _ => End::Lost("lost".to_owned()),
            }
        }

        fn say(&self, status: LinkStatus) {
            self.said.send_replace(status);
        }

        async fn idle(&mut self) {
            if !self.is_idle {
                pending::<()>().await;
            }
        }
    }

    fn scripted(last: usize, is_idle: bool) -> (Scripted, Arc<AtomicUsize>, watch::Receiver<LinkStatus>) {
        let opened = Arc::new(AtomicUsize::new(0));
        let (said, status) = watch::channel(LinkStatus::default());
        (Scripted { opened: Arc::clone(&opened), said, last, is_idle }, opened, status)
    }

    #[tokio::test(start_paused = true)]
    async fn it_connects_until_it_is_closed_in_good_order() {
        let (driver, opened, status) = scripted(4, false);
        let (_closing, closed) = watch::channel(false);
        timeout(Duration::from_secs(60), drive(driver, closed)).await.expect("it ends by itself");
        assert_eq!(opened.load(Ordering::Relaxed), 5, "lost, refused, lost, refused, closed");
        assert!(status.borrow().connected);
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_while_it_waits() {
        for is_idle in [false, true] {
            let (driver, opened, status) = scripted(usize::MAX, is_idle);
            let (closing, closed) = watch::channel(false);
            let close = async {
                if is_idle {
                    pending::<()>().await;
                }
                tokio::time::sleep(Duration::from_secs(300)).await;
                closing.send_replace(true);
                pending().await
            };
            let driven = timeout(Duration::from_millis(300_001), drive(driver, closed));
            tokio::select! {
                ended = driven => ended.expect("told to, or nobody needs it"),
                () = close => {}
            }
            let opened = opened.load(Ordering::Relaxed);
            assert!(if is_idle { opened == 1 } else { (30..400).contains(&opened) }, "{opened}");
            assert!(!status.borrow().connected);
            assert!(status.borrow().error.is_some());
        }
    }
}
