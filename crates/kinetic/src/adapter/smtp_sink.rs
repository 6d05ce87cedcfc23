//! A small SMTP server on loopback that keeps what it is given: the demo's mailbox.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Mails that wait to be looked at; a sender waits when there are more.
const MAILBOX_MAX: usize = 256;
/// Largest mail.
const MAIL_BYTES_MAX: usize = 1 << 20;
/// Longest command line (RFC 5321 4.5.3.1.4 asks for 512).
const LINE_BYTES_MAX: u64 = 4096;

/// One mail as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Envelope recipients.
    pub(crate) to: Vec<String>,
    /// The whole message, dots unstuffed.
    pub(crate) message: Vec<u8>,
}

/// The listening sink.
#[derive(Debug)]
pub(crate) struct SmtpSink {
    listener: TcpListener,
    address: SocketAddr,
}

impl SmtpSink {
    /// Listens on a free loopback port.
    pub(crate) async fn bind() -> Result<Self> {
        let listener =
            TcpListener::bind("127.0.0.1:0").await.context("cannot listen on a loopback port for mail")?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The mailbox, and the server that fills it for as long as it is polled.
    pub(crate) fn serve(self) -> (mpsc::Receiver<Received>, impl Future<Output = ()>) {
        let (mailbox, mails) = mpsc::channel(MAILBOX_MAX);
        let server = async move {
            let mut sessions = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = self.listener.accept() => match accepted {
                        Ok((socket, _)) => { sessions.spawn(session(socket, mailbox.clone())); }
                        Err(error) => tracing::warn!(%error, "cannot accept a mail connection"),
                    },
                    Some(ended) = sessions.join_next() => match ended {
                        Ok(Err(error)) => tracing::debug!(%error, "mail session ended"),
                        Err(error) => tracing::warn!(%error, "mail session failed"),
                        Ok(Ok(())) => {}
                    },
                }
            }
        };
        (mails, server)
    }
}

/// One SMTP session, RFC 5321 as far as a relay's client needs it.
async fn session(socket: TcpStream, mailbox: mpsc::Sender<Received>) -> std::io::Result<()> {
    // Each answer is one small packet that is waited for.
    socket.set_nodelay(true)?;
    let mut stream = BufReader::new(socket);
    stream.write_all(b"220 kinetic demo mailbox\r\n").await?;
    let mut to = Vec::new();
    loop {
        let Some(line) = read_line(&mut stream).await? else { return Ok(()) };
        let verb = line.get(..4).unwrap_or(&line).to_ascii_uppercase();
        let answer: &str = match verb.as_str() {
            "EHLO" => "250-kinetic\r\n250-8BITMIME\r\n250 SMTPUTF8",
            "HELO" | "NOOP" => "250 ok",
            "MAIL" | "RSET" => {
                to.clear();
                "250 ok"
            }
            "RCPT" => {
                to.push(address_of(&line));
                "250 ok"
            }
            "DATA" if to.is_empty() => "503 no recipients",
            "DATA" => {
                stream.write_all(b"354 end with a dot\r\n").await?;
                match read_message(&mut stream).await? {
                    Some(message) => {
                        let received = Received { to: std::mem::take(&mut to), message };
                        if mailbox.send(received).await.is_err() {
                            return Ok(());
                        }
                        "250 in the mailbox"
                    }
                    None => "552 too large",
                }
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => "502 not known here",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
}

/// One line without its end; `None` at the end of the stream.
async fn read_line(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    stream.take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()))
}

/// What stands between the angle brackets.
fn address_of(line: &str) -> String {
    line.split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'))
        .map_or("", |(address, _)| address)
        .to_owned()
}

/// The message up to the lone dot, unstuffed; `None` if it is too large (it is still read to its end).
async fn read_message(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Vec<u8>>> {
    let mut message = Vec::new();
    let mut line = Vec::new();
    let mut fits = true;
    loop {
        line.clear();
        if stream.take(MAIL_BYTES_MAX as u64).read_until(b'\n', &mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" || line == b".\n" {
            return Ok(fits.then_some(message));
        }
        fits = fits && message.len() + line.len() <= MAIL_BYTES_MAX;
        if fits {
            message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn a_mail_arrives_unstuffed_with_its_recipient() {
        let sink = SmtpSink::bind().await.expect("bind");
        let address = sink.address();
        let (mut mails, server) = sink.serve();
        let client = async {
            let mut socket = TcpStream::connect(address).await.expect("connect");
            socket
                .write_all(
                    b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nSubject: s\r\n\r\n..dot\r\n.\r\nQUIT\r\n",
                )
                .await
                .expect("write");
            let mut answers = String::new();
            socket.read_to_string(&mut answers).await.expect("read");
            assert!(answers.ends_with("250 in the mailbox\r\n221 bye\r\n"), "{answers}");
            mails.recv().await.expect("a mail")
        };
        tokio::select! {
            () = server => panic!("the sink ended"),
            mail = client => {
                assert_eq!(mail.to, ["c@d"]);
                assert_eq!(mail.message, b"Subject: s\r\n\r\n.dot\r\n");
            }
        }
    }
}
