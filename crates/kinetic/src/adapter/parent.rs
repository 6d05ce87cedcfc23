//! Whether whoever started this process still lives: its end of the pipe on standard input says so.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// Waits until the pipe is closed, which the kernel does however the parent ends. What is written to it is ignored.
pub(crate) async fn ended() -> Result<()> {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().context("standard input is closed")?;
    let mut pipe = pipe::Receiver::from_owned_fd(stdin).context("standard input is no pipe")?;
    let mut ignored = [0; 64];
    while pipe.read(&mut ignored).await.context("cannot read standard input")? > 0 {}
    Ok(())
}
