//! One signal that everything ends, and the order in which it does.

use tokio::sync::watch;

/// Told once, heard by everyone who holds a clone.
#[derive(Clone, Debug)]
pub(crate) struct Shutdown(watch::Receiver<bool>);

/// Whoever holds this can end everything; dropping it does so too.
#[derive(Debug)]
pub(crate) struct Ender(watch::Sender<bool>);

/// A fresh pair.
pub(crate) fn channel() -> (Ender, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Ender(sender), Shutdown(receiver))
}

impl Ender {
    /// Ends everything.
    pub(crate) fn end(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Waits for the end.
    pub(crate) async fn wait(&self) {
        // An error means that the ender is gone, which is the end as well.
        drop(self.0.clone().wait_for(|ended| *ended).await);
    }
}

/// Waits for Ctrl-C or SIGTERM.
pub(crate) async fn interrupted() -> anyhow::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
