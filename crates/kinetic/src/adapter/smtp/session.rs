//! One connection to a relay: the states of an SMTP transaction one by one (RFC 5321), so that of every failure it is
//! known in which state it came, and what it therefore says.

use std::time::Duration;

use kinetic_alert::machine::{Attempt, Failed};
use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Ehlo, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::{
    ClientId, Extension, MailBodyParameter, MailParameter, RcptParameter,
};
use lettre::transport::smtp::response::Response;

use tokio::net::TcpStream;

use super::chain;

/// The TCP connection; RFC 5321 says nothing of it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Greeting, EHLO, MAIL, RCPT (RFC 5321 4.5.3.2.1 to 4.5.3.2.3).
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// DATA (4.5.3.2.4).
const DATA_TIMEOUT: Duration = Duration::from_secs(2 * 60);
/// The message and the reply to its final dot: 3 minutes for a block and 10 for the reply (4.5.3.2.5 and 4.5.3.2.6).
const CONTENT_TIMEOUT: Duration = Duration::from_secs(13 * 60);

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Up to the end of EHLO, STARTTLS and AUTH.
    Connecting,
    /// MAIL FROM.
    Sender,
    /// RCPT TO.
    Recipient,
    /// DATA.
    Data,
    /// The message, up to the reply to its final dot.
    Content,
}

/// Why a transaction did not come to its end.
#[derive(Debug)]
pub(super) struct Stop {
    state: State,
    /// The relay's answer, if it gave one.
    code: Option<u16>,
    /// What went wrong, in words; the relay's own, if it gave an answer.
    detail: String,
}

impl Stop {
    fn of(state: State, error: &Error) -> Self {
        let code = error.status().map(u16::from);
        Self { state, code, detail: chain(error) }
    }

    pub(super) fn new(state: State, detail: impl Into<String>) -> Self {
        Self { state, code: None, detail: detail.into() }
    }

    /// Whether the connection was found to be gone before anything was asked of it: an idle one had been closed.
    pub(super) fn found_closed(&self) -> bool {
        self.state == State::Sender && matches!(self.code, None | Some(421))
    }

    /// Whether the connection can serve another mail.
    pub(super) fn leaves_connection(&self) -> bool {
        self.state != State::Connecting && self.code.is_some_and(|code| code != 421)
    }

    /// What it says about the mail.
    pub(super) fn attempt(self) -> Attempt {
        let Self { state, code, detail } = self;
        let Some(code) = code else {
            return match state {
                State::Content => Attempt::MaybeAccepted { detail },
                _ => Attempt::Retry { failed: Failed::Relay, detail },
            };
        };
        let failed = failed(state, code, enhanced(&detail));
        // A full mailbox (X.2.2) empties, whatever the relay thinks.
        let is_full = enhanced(&detail).is_some_and(|[_, subject, detail]| (subject, detail) == (2, 2));
        if code >= 500 && failed != Failed::Relay && !is_full {
            Attempt::Refused { failed, detail }
        } else {
            Attempt::Retry { failed, detail }
        }
    }
}

/// What failed, by the state, the reply code, and the enhanced status code where there is one (RFC 3463).
fn failed(state: State, code: u16, enhanced: Option<[u16; 3]>) -> Failed {
    // 421: it closes the connection. 530, 535 and their like: it wants a login that it did not get.
    if state == State::Connecting || matches!(code, 421 | 530 | 534 | 535 | 538) {
        return Failed::Relay;
    }
    match (enhanced, state) {
        // Its sender's address.
        (Some([_, 1, 7 | 8]), _) => Failed::Message,
        (Some([_, 1 | 2, _]), _) => Failed::Recipient,
        // The relay's system or its network, which another relay does not share.
        (Some([4, 3 | 4, _]), _) => Failed::Relay,
        // Policy and protocol: about the message, even where they are told of at RCPT.
        (Some([5, 3..=7, _]), _) => Failed::Message,
        (_, State::Recipient) => Failed::Recipient,
        _ => Failed::Message,
    }
}

/// The first enhanced status code in a relay's words.
fn enhanced(words: &str) -> Option<[u16; 3]> {
    words.split(|c: char| c.is_whitespace() || c == ':').find_map(|word| {
        let mut parts = word.split('.').map(|part| part.parse::<u16>().ok().filter(|_| part.len() <= 3));
        let code = [parts.next()??, parts.next()??, parts.next()??];
        (parts.next().is_none() && matches!(code[0], 2 | 4 | 5)).then_some(code)
    })
}

/// How a relay is reached.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) host: String,
    pub(super) port: u16,
    /// TLS from the first byte.
    pub(super) implicit_tls: Option<TlsParameters>,
    /// STARTTLS, or no mail.
    pub(super) start_tls: Option<TlsParameters>,
    pub(super) credentials: Option<Credentials>,
    pub(super) hello: ClientId,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Way").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

/// One message to one recipient.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parcel<'a> {
    pub(super) from: &'a Address,
    pub(super) to: &'a Address,
    pub(super) message_id: &'a str,
    pub(super) content: &'a [u8],
}

/// An open connection, between transactions.
pub(super) struct Session {
    connection: AsyncSmtpConnection,
    /// The relay takes the parameters of RFC 3461.
    dsn: bool,
    /// Transactions so far.
    pub(super) mails: u32,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("dsn", &self.dsn).field("mails", &self.mails).finish_non_exhaustive()
    }
}

/// Waits for a reply no longer than `timeout`.
async fn reply<T>(
    state: State,
    timeout: Duration,
    step: impl Future<Output = Result<T, Error>>,
) -> Result<T, Stop> {
    match tokio::time::timeout(timeout, step).await {
        Ok(answer) => answer.map_err(|error| Stop::of(state, &error)),
        Err(_) => Err(Stop::new(state, format!("no reply for {} s", timeout.as_secs()))),
    }
}

/// Connects, up to the first EHLO. The client library opens connections with implicit TLS itself; others are opened here,
/// since it writes a message and its final dot one after the other, and leaves the dot waiting for the acknowledgement of
/// the message, up to 40 ms a mail.
async fn connect(way: &Way) -> Result<AsyncSmtpConnection, Stop> {
    let (state, server) = (State::Connecting, (way.host.as_str(), way.port));
    if way.implicit_tls.is_some() {
        let (hello, tls) = (&way.hello, way.implicit_tls.clone());
        let connected = AsyncSmtpConnection::connect_tokio1(server, Some(CONNECT_TIMEOUT), hello, tls, None);
        return reply(state, COMMAND_TIMEOUT, connected).await;
    }
    let failed = |error: std::io::Error| Stop::new(state, format!("cannot connect: {error}"));
    let mut refused = Stop::new(state, format!("cannot connect: {} has no address", way.host));
    for address in tokio::net::lookup_host(server).await.map_err(failed)? {
        let stream = match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                refused = failed(error);
                continue;
            }
            Err(_) => {
                refused = Stop::new(state, format!("cannot connect: no answer from {address}"));
                continue;
            }
        };
        stream.set_nodelay(true).map_err(failed)?;
        let connected = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &way.hello);
        return reply(state, COMMAND_TIMEOUT, connected).await;
    }
    Err(refused)
}

impl Session {
    /// Connects, up to the login.
    pub(super) async fn open(way: &Way) -> Result<Self, Stop> {
        let state = State::Connecting;
        let mut connection = connect(way).await?;
        if let Some(tls) = way.start_tls.clone() {
            reply(state, COMMAND_TIMEOUT, connection.starttls(tls, &way.hello)).await?;
        }
        // The client library keeps only the extensions that it knows, so the list is asked for once more.
        let hello = connection.command(Ehlo::new(way.hello.clone()));
        let offers = reply(state, COMMAND_TIMEOUT, hello).await?;
        let keyword =
            |line: &str| line.split(' ').next().is_some_and(|word| word.eq_ignore_ascii_case("DSN"));
        let dsn = offers.message().any(keyword);
        if let Some(credentials) = &way.credentials {
            reply(state, COMMAND_TIMEOUT, connection.auth(DEFAULT_MECHANISMS, credentials)).await?;
        }
        Ok(Self { connection, dsn, mails: 0 })
    }

    /// One transaction; the relay's last words.
    pub(super) async fn send(&mut self, parcel: Parcel<'_>) -> Result<String, Stop> {
        self.mails += 1;
        let sender = Mail::new(Some(parcel.from.clone()), self.sender_parameters(parcel)?);
        reply(State::Sender, COMMAND_TIMEOUT, self.connection.command(sender)).await?;
        let recipient = Rcpt::new(parcel.to.clone(), self.recipient_parameters(parcel));
        reply(State::Recipient, COMMAND_TIMEOUT, self.connection.command(recipient)).await?;
        reply(State::Data, DATA_TIMEOUT, self.connection.command(Data)).await?;
        let content = self.connection.message(parcel.content);
        Ok(words(&reply(State::Content, CONTENT_TIMEOUT, content).await?))
    }

    fn sender_parameters(&self, parcel: Parcel<'_>) -> Result<Vec<MailParameter>, Stop> {
        let offers = self.connection.server_info();
        let lacks = |what: &str| Stop {
            state: State::Recipient,
            code: Some(550),
            detail: format!("the relay does not take {what}"),
        };
        let mut parameters = Vec::new();
        let ascii = |address: &Address| AsRef::<str>::as_ref(address).is_ascii();
        if !ascii(parcel.from) || !ascii(parcel.to) {
            if !offers.supports_feature(Extension::SmtpUtfEight) {
                return Err(lacks("addresses beyond ASCII (SMTPUTF8)"));
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        if !parcel.content.is_ascii() && offers.supports_feature(Extension::EightBitMime) {
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        if self.dsn {
            let other = |keyword: &str, value: &str| MailParameter::Other {
                keyword: keyword.to_owned(),
                value: Some(value.to_owned()),
            };
            parameters.push(other("RET", "HDRS"));
            parameters.push(other("ENVID", parcel.message_id));
        }
        Ok(parameters)
    }

    fn recipient_parameters(&self, parcel: Parcel<'_>) -> Vec<RcptParameter> {
        if !self.dsn {
            return Vec::new();
        }
        let other = |keyword: &str, value: String| RcptParameter::Other {
            keyword: keyword.to_owned(),
            value: Some(value),
        };
        vec![other("NOTIFY", "FAILURE,DELAY".into()), other("ORCPT", format!("rfc822;{}", parcel.to))]
    }

    /// Makes it fit for another transaction after one that failed.
    pub(super) async fn reset(&mut self) -> bool {
        reply(State::Sender, COMMAND_TIMEOUT, self.connection.command(Rset)).await.is_ok()
    }

    /// Takes leave; nobody waits for the answer for long.
    pub(super) async fn quit(mut self) {
        let _ended = tokio::time::timeout(CONNECT_TIMEOUT, self.connection.abort()).await;
    }
}

/// A reply in one line.
fn words(response: &Response) -> String {
    let lines: Vec<&str> = response.message().collect();
    format!("{} {}", response.code(), lines.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(state: State, code: u16, detail: &str, wanted: &str) {
        let attempt = Stop { state, code: Some(code), detail: detail.to_owned() }.attempt();
        let said = match attempt {
            Attempt::Accepted { .. } => "accepted".to_owned(),
            Attempt::MaybeAccepted { .. } => "perhaps".to_owned(),
            Attempt::Busy { .. } => "busy".to_owned(),
            Attempt::Retry { failed, .. } => format!("retry {failed:?}"),
            Attempt::Refused { failed, .. } => format!("refused {failed:?}"),
        };
        assert_eq!(said, wanted, "{state:?} {code} {detail}");
    }

    #[test]
    fn a_failure_is_told_apart_by_its_state_and_codes() {
        use State::{Connecting, Content, Data, Recipient, Sender};
        check(Connecting, 554, "5.7.1 no service here", "retry Relay");
        check(Connecting, 535, "5.7.8 bad login", "retry Relay");
        check(Connecting, 421, "busy", "retry Relay");
        check(Sender, 421, "closing", "retry Relay");
        check(Sender, 451, "later", "retry Message");
        check(Sender, 530, "5.7.0 must issue STARTTLS", "retry Relay");
        check(Sender, 550, "no", "refused Message");
        check(Recipient, 450, "4.7.1 greylisted", "retry Recipient");
        check(Recipient, 451, "4.3.0 lookup failed", "retry Relay");
        check(Recipient, 450, "4.2.0 busy", "retry Recipient");
        check(Recipient, 550, "5.1.1 no such user", "refused Recipient");
        check(Recipient, 550, "no such user", "refused Recipient");
        check(Recipient, 552, "5.2.2 mailbox full", "retry Recipient");
        check(Recipient, 554, "5.7.1 relaying denied", "refused Message");
        check(Recipient, 550, "5.1.8 bad sender", "refused Message");
        check(Data, 451, "later", "retry Message");
        check(Data, 554, "no valid recipients", "refused Message");
        check(Content, 452, "4.3.1 disk full", "retry Relay");
        check(Content, 554, "5.6.0 content rejected", "refused Message");
        check(Content, 550, "5.1.1 unknown after all", "refused Recipient");
        check(Content, 421, "closing", "retry Relay");
    }

    #[test]
    fn a_silent_end_is_doubtful_only_after_the_content() {
        let lost = |state| Stop::new(state, "connection closed").attempt();
        for state in [State::Connecting, State::Sender, State::Recipient, State::Data] {
            assert!(matches!(lost(state), Attempt::Retry { failed: Failed::Relay, .. }), "{state:?}");
        }
        assert!(matches!(lost(State::Content), Attempt::MaybeAccepted { .. }));
    }

    #[test]
    fn an_enhanced_code_is_found_in_its_words() {
        assert_eq!(enhanced("permanent error (550): 5.1.1 no such user"), Some([5, 1, 1]));
        assert_eq!(enhanced("transient error (451): 4.7.25 later"), Some([4, 7, 25]));
        assert_eq!(enhanced("550 host 192.0.2.1 says no"), None);
        assert_eq!(enhanced("2.0"), None);
    }
}
