//! A mail relay that can be made to misbehave, and keeps every message it was given.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::eventually;
use crate::http::unbase64;

/// How the relay behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Takes everything.
    Accepts,
    /// "Try again later" to every recipient.
    Defers,
    /// Takes the message and hangs up before it says so: the sender cannot know.
    HangsUpAfterData,
}

/// One message as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Envelope sender.
    pub from: String,
    /// Envelope recipients.
    pub to: Vec<String>,
    /// Unfolded headers, in order.
    pub headers: Vec<(String, String)>,
    /// All that follows the headers.
    pub body: String,
}

impl Mail {
    /// The first header of a name, in whatever case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The decoded part of a type such as `text/plain`.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn part(&self, media_type: &str) -> String {
        let mut parts = VecDeque::from([(self.headers.clone(), self.body.clone())]);
        let (headers, body) = loop {
            let Some((headers, body)) = parts.pop_front() else { panic!("no part {media_type}: {self:?}") };
            let kind = header_of(&headers, "content-type").unwrap_or_default();
            if kind.starts_with(media_type) {
                break (headers, body);
            }
            // Parts may have parts of their own.
            if let Some((_, rest)) = kind.split_once("boundary=") {
                let boundary = rest.trim_start_matches('"').split(['"', ';']).next().unwrap_or_default();
                parts.extend(body.split(&format!("--{boundary}")).filter_map(split_message));
            }
        };
        match header_of(&headers, "content-transfer-encoding").unwrap_or("7bit").to_ascii_lowercase().as_str()
        {
            "base64" => String::from_utf8_lossy(&unbase64(&body)).into_owned(),
            "quoted-printable" => unquote(&body),
            _ => body,
        }
    }
}

fn header_of<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

type Headers = Vec<(String, String)>;

fn split_message(text: &str) -> Option<(Headers, String)> {
    let (head, body) = text.trim_start_matches("\r\n").split_once("\r\n\r\n")?;
    let mut headers: Headers = Vec::new();
    for line in head.split("\r\n") {
        match (line.starts_with([' ', '\t']), headers.last_mut()) {
            (true, Some((_, value))) => {
                value.push(' ');
                value.push_str(line.trim());
            }
            _ => {
                let (name, value) = line.split_once(':')?;
                headers.push((name.to_owned(), value.trim().to_owned()));
            }
        }
    }
    Some((headers, body.to_owned()))
}

/// RFC 2045 quoted-printable.
fn unquote(text: &str) -> String {
    unescape(&text.replace("=\r\n", ""), b'=')
}

/// Text in which a mark and two hexadecimal digits stand for a byte.
pub(crate) fn unescape(text: &str, mark: u8) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == mark).and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[derive(Debug)]
struct Shared {
    manner: Mutex<Manner>,
    unknown: Mutex<Vec<String>>,
    mails: Mutex<Vec<Mail>>,
    sessions: AtomicU64,
    down: AtomicBool,
}

/// The relay.
#[derive(Debug)]
pub struct SmtpCatcher {
    shared: Arc<Shared>,
    address: SocketAddr,
    listening: Option<JoinHandle<()>>,
}

impl SmtpCatcher {
    /// Listens on a free loopback port and takes everything.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let shared = Shared {
            manner: Mutex::new(Manner::Accepts),
            unknown: Mutex::default(),
            mails: Mutex::default(),
            sessions: AtomicU64::new(0),
            down: AtomicBool::new(false),
        };
        let mut catcher = Self { shared: Arc::new(shared), address, listening: None };
        catcher.serve(listener);
        catcher
    }

    fn serve(&mut self, listener: TcpListener) {
        let shared = Arc::clone(&self.shared);
        shared.down.store(false, Ordering::SeqCst);
        self.listening = Some(std::thread::spawn(move || {
            for socket in listener.incoming() {
                if shared.down.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(socket), shared) = (socket, Arc::clone(&shared)) else { continue };
                shared.sessions.fetch_add(1, Ordering::SeqCst);
                // A session ends with its connection, or when the sender leaves it silent for too long.
                std::thread::spawn(move || session(socket, &shared));
            }
        }));
    }

    /// Where it listens, or listened.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening: connections are refused, and those that stood are cut.
    pub fn go_down(&mut self) {
        self.shared.down.store(true, Ordering::SeqCst);
        // The listener looks up when somebody connects.
        drop(TcpStream::connect(self.address));
        if let Some(listening) = self.listening.take() {
            listening.join().expect("the listener ends well");
        }
    }

    /// Listens again, on the same port.
    pub fn come_up(&mut self) {
        let listener = eventually("the relay's port is free again", || TcpListener::bind(self.address));
        self.serve(listener);
    }

    /// Changes how it behaves from the next command on.
    pub fn behave(&self, manner: Manner) {
        *locked(&self.shared.manner) = manner;
    }

    /// From the next command on says of these recipients, and of no others, that it does not know them.
    pub fn disown(&self, recipients: &[&str]) {
        *locked(&self.shared.unknown) = recipients.iter().map(|to| (*to).to_owned()).collect();
    }

    /// Connections so far.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.shared.sessions.load(Ordering::SeqCst)
    }

    /// Everything that arrived, repeats included.
    #[must_use]
    pub fn mails(&self) -> Vec<Mail> {
        locked(&self.shared.mails).clone()
    }

    /// What a mailbox shows: of messages with one Message-ID the first.
    #[must_use]
    pub fn inbox(&self) -> Vec<Mail> {
        let mut shown: Vec<Mail> = Vec::new();
        for mail in self.mails() {
            let id = mail.header("message-id").map(str::to_owned);
            if id.is_none() || !shown.iter().any(|other| other.header("message-id") == id.as_deref()) {
                shown.push(mail);
            }
        }
        shown
    }

    /// Waits for a mail that is meant.
    pub fn wait_for(&self, what: &str, is_meant: impl Fn(&Mail) -> bool) -> Mail {
        eventually(what, || {
            let mails = self.mails();
            let subjects = || {
                mails.iter().map(|mail| mail.header("subject").unwrap_or("-").to_owned()).collect::<Vec<_>>()
            };
            mails.iter().find(|mail| is_meant(mail)).cloned().ok_or_else(subjects)
        })
    }
}

impl Drop for SmtpCatcher {
    fn drop(&mut self) {
        if self.listening.is_some() {
            self.go_down();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One session; an error is a connection that ended.
fn session(socket: TcpStream, shared: &Shared) -> Option<()> {
    socket.set_read_timeout(Some(Duration::from_millis(100))).ok()?;
    let mut out = socket.try_clone().ok()?;
    let mut lines = BufReader::new(socket);
    let mut say = |line: &str| out.write_all(format!("{line}\r\n").as_bytes()).ok();
    let mut from = String::new();
    let mut to = Vec::new();
    say("220 stories relay")?;
    loop {
        let line = read_line(&mut lines, shared)?;
        let manner = *locked(&shared.manner);
        match line.get(..4).unwrap_or(&line).to_ascii_uppercase().as_str() {
            "EHLO" => say("250-stories\r\n250-8BITMIME\r\n250 SMTPUTF8")?,
            "MAIL" | "RSET" => {
                to.clear();
                from = address(&line);
                say("250 ok")?;
            }
            "RCPT" if manner == Manner::Defers => say("451 4.3.0 later")?,
            "RCPT" if locked(&shared.unknown).contains(&address(&line)) => say("550 5.1.1 no such user")?,
            "RCPT" => {
                to.push(address(&line));
                say("250 ok")?;
            }
            "DATA" if to.is_empty() => say("503 no recipients")?,
            "DATA" => {
                say("354 go on")?;
                let mail =
                    read_mail(&mut lines, shared, (std::mem::take(&mut from), std::mem::take(&mut to)))?;
                let manner = *locked(&shared.manner);
                locked(&shared.mails).push(mail);
                if manner == Manner::HangsUpAfterData {
                    return None;
                }
                say("250 2.0.0 taken")?;
            }
            "QUIT" => {
                say("221 bye")?;
                return None;
            }
            _ => say("250 ok")?,
        }
    }
}

/// One line without its end; `None` where the connection or the relay is down.
fn read_line(lines: &mut BufReader<TcpStream>, shared: &Shared) -> Option<String> {
    let mut line = Vec::new();
    loop {
        match lines.read_until(b'\n', &mut line) {
            Ok(_) if line.ends_with(b"\n") => {
                return Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
            }
            Ok(_) => return None,
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                if shared.down.load(Ordering::SeqCst) {
                    return None;
                }
            }
            Err(_) => return None,
        }
    }
}

/// What stands in angle brackets.
fn address(line: &str) -> String {
    line.split(['<', '>']).nth(1).unwrap_or_default().to_owned()
}

fn read_mail(
    lines: &mut BufReader<TcpStream>,
    shared: &Shared,
    (from, to): (String, Vec<String>),
) -> Option<Mail> {
    let mut text = String::new();
    loop {
        let line = read_line(lines, shared)?;
        if line == "." {
            let (headers, body) = split_message(&text)?;
            return Some(Mail { from, to, headers, body });
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
        text.push_str("\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends one message as a relay's client would; the last answer, or what went wrong.
    fn send(address: SocketAddr, id: &str) -> Result<String, String> {
        let text = |error: std::io::Error| error.to_string();
        let mut socket = TcpStream::connect(address).map_err(text)?;
        let mut answers = BufReader::new(socket.try_clone().map_err(text)?);
        let mut answer = String::new();
        let message = format!("Message-ID: <{id}>\r\nSubject: a\r\n b\r\n\r\n..x\r\n.");
        for line in ["", "HELO x", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", &message] {
            if !line.is_empty() {
                socket.write_all(format!("{line}\r\n").as_bytes()).map_err(text)?;
            }
            answer.clear();
            if answers.read_line(&mut answer).map_err(text)? == 0 {
                return Err("closed".into());
            }
            if answer.starts_with(['4', '5']) {
                return Err(answer);
            }
        }
        Ok(answer)
    }

    #[test]
    fn the_relay_behaves_as_told() {
        let mut relay = SmtpCatcher::start();
        assert!(send(relay.address(), "1").expect("taken").starts_with("250"));
        relay.behave(Manner::Defers);
        assert!(send(relay.address(), "2").expect_err("deferred").starts_with("451"));
        relay.behave(Manner::HangsUpAfterData);
        send(relay.address(), "3").expect_err("hung up");
        relay.go_down();
        send(relay.address(), "3").expect_err("refused");
        relay.behave(Manner::Accepts);
        relay.come_up();
        send(relay.address(), "3").expect("taken");
        relay.disown(&["c@d"]);
        assert!(send(relay.address(), "4").expect_err("refused").starts_with("550"));
        let ids = |mails: Vec<Mail>| -> Vec<String> {
            mails.iter().map(|mail| mail.header("Message-Id").expect("id").to_owned()).collect()
        };
        assert_eq!(ids(relay.mails()), ["<1>", "<3>", "<3>"]);
        assert_eq!(ids(relay.inbox()), ["<1>", "<3>"]);
        let first = relay.mails().remove(0);
        assert_eq!(
            (first.from.as_str(), first.to.clone(), first.header("subject"), first.body.as_str()),
            ("a@b", vec!["c@d".into()], Some("a b"), ".x\r\n")
        );
    }

    #[test]
    fn parts_are_decoded() {
        let (headers, body) = split_message(
            "Content-Type: multipart/alternative;\r\n boundary=\"b\"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\
             Content-Transfer-Encoding: quoted-printable\r\n\r\na =3D =C3=BC b=\r\nc\r\n--b\r\nContent-Type: \
             multipart/related; boundary=c\r\n\r\n--c\r\nContent-Type: text/html\r\n\
             Content-Transfer-Encoding: base64\r\n\r\nPGI+\r\n--c--\r\n--b--\r\n",
        )
        .expect("splits");
        let mail = Mail { from: String::new(), to: Vec::new(), headers, body };
        assert_eq!(mail.part("text/plain").trim_end(), "a = ü bc");
        assert_eq!(mail.part("text/html"), "<b>");
    }
}
