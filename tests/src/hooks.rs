//! A receiver of webhooks that answers as it is told to, and keeps every request it was sent.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a sender may take for its request.
const TIMEOUT: Duration = Duration::from_secs(20);

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// What was asked for: `/path`.
    pub path: String,
    /// Headers, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// All of the body.
    pub body: String,
    /// Status with which it was answered.
    pub status: u16,
}

impl Hook {
    /// The header of a name in lower case.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_else(|| panic!("no {name}: {self:?}"))
    }

    /// The body.
    ///
    /// # Panics
    /// If it is not JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

#[derive(Debug, Default)]
struct State {
    hooks: Vec<Hook>,
    /// Statuses for the next requests; 200 when there are no more.
    statuses: VecDeque<u16>,
}

/// The receiver; it serves for as long as the process lives.
#[derive(Clone, Debug)]
pub struct HookCatcher {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl HookCatcher {
    /// A receiver on loopback that answers the first requests with these, and then with 200.
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    pub fn start(statuses: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let state = State { statuses: statuses.iter().copied().collect(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A sender that gives up in the middle is its own affair.
                thread::spawn(move || serve(&socket, &state).ok());
            }
        });
        Self { address, state }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has come so far, in order.
    #[must_use]
    pub fn hooks(&self) -> Vec<Hook> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).hooks.clone()
    }
}

fn serve(socket: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    socket.set_read_timeout(Some(TIMEOUT))?;
    let mut reader = BufReader::new(socket);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let status = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let status = state.statuses.pop_front().unwrap_or(200);
        state.hooks.push(Hook { path, headers, body, status });
        status
    };
    let mut socket = socket;
    write!(socket, "HTTP/1.1 {status} Said\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}
