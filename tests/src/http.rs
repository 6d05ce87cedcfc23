//! A few lines of HTTP/1.0: enough for `/metrics`, `/__heartbeat__` and RabbitMQ's management API.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Body.
    pub body: String,
}

/// A GET.
///
/// # Errors
/// Where nobody answers in time, or not in HTTP.
pub fn get(server: SocketAddr, path: &str) -> std::io::Result<Response> {
    request(server, "GET", path, None, "")
}

/// Any request. `login` is a name and a password for basic authentication.
///
/// # Errors
/// Where nobody answers in time, or not in HTTP.
pub fn request(
    server: SocketAddr,
    method: &str,
    path: &str,
    login: Option<(&str, &str)>,
    body: &str,
) -> std::io::Result<Response> {
    let mut socket = TcpStream::connect_timeout(&server, TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    let authorization = login.map_or_else(String::new, |(name, password)| {
        format!("Authorization: Basic {}\r\n", base64(format!("{name}:{password}").as_bytes()))
    });
    let length = body.len();
    write!(
        socket,
        "{method} {path} HTTP/1.0\r\nHost: {server}\r\n{authorization}Content-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer)).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

fn parse(answer: &str) -> Option<Response> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Response { status, body: body.to_owned() })
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648 base64.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_usize, |group, byte| (group << 8) | usize::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = ALPHABET[(group >> (18 - 6 * place)) & 63];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// RFC 4648 base64, read; what is no letter of it is passed over.
#[must_use]
pub fn unbase64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut group, mut bits) = (0_usize, 0);
    for letter in text.bytes() {
        let Some(value) = ALPHABET.iter().position(|known| *known == letter) else { continue };
        group = (group << 6) | value;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((group >> bits) & 255).expect("one byte"));
        }
    }
    bytes
}

/// The value of one line of Prometheus text: `name`, or `name{label="value"}`.
#[must_use]
pub fn sample(exposition: &str, series: &str) -> Option<f64> {
    exposition.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The sum over all label values of a name.
#[must_use]
pub fn sum(exposition: &str, name: &str) -> f64 {
    let values = exposition.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labelled) => labelled.split_once("} ")?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.trim().parse::<f64>().ok()
    });
    values.fold(0.0, |sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
            assert_eq!(unbase64(coded), plain.as_bytes());
        }
    }

    #[test]
    fn prometheus_lines_are_read() {
        let text = "# TYPE a counter\na_total 12\nab_total 1\nb_total{r=\"x y\"} 2\nb_total{r=\"z\"} 3.5\n";
        assert_eq!(sample(text, "a_total"), Some(12.0));
        assert_eq!(sample(text, "b_total{r=\"z\"}"), Some(3.5));
        assert_eq!(sample(text, "b_total"), None);
        assert_eq!(sum(text, "b_total"), 5.5);
        assert_eq!(sum(text, "a_total"), 12.0);
    }
}
