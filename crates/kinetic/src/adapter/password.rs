//! Passwords as people give them: typed without echo, on standard input, or in a file. Never as an argument.

use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use kinetic_amqp::Secret;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::file;

/// Bytes of a password that are read.
const BYTES_MAX: u64 = 1_024;

/// How often a typed password is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It is known.
    Once,
    /// It is new: a slip would lock its owner out.
    Twice,
}

/// The password of somebody.
pub(crate) fn read(whose: &str, from: Option<&Path>, asked: Asked) -> Result<Secret> {
    if let Some(path) = from {
        return file::read_secret(path);
    }
    if !std::io::stdin().is_terminal() {
        return line(&mut std::io::stdin().lock());
    }
    let typed = prompt(&format!("Password of {whose}: "))?;
    if asked == Asked::Twice && prompt("Once more: ")? != typed {
        bail!("the two are not the same");
    }
    Ok(typed)
}

/// The first line of a text.
fn line(from: &mut impl BufRead) -> Result<Secret> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(BYTES_MAX)? + 2));
    from.take(BYTES_MAX + 2).read_until(b'\n', &mut bytes).context("cannot read the password")?;
    let text = std::str::from_utf8(&bytes).context("the password is not UTF-8")?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        bail!("no password came");
    }
    if password.len() as u64 > BYTES_MAX {
        bail!("a password has at most {BYTES_MAX} bytes");
    }
    Ok(Secret::from(password))
}

/// Asks on the terminal, which shows nothing of what is typed.
fn prompt(question: &str) -> Result<Secret> {
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin).context("cannot ask the terminal")?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    silent.local_modes.insert(LocalModes::ECHONL);
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{question}").and_then(|()| stderr.flush()).context("cannot ask on the terminal")?;
    tcsetattr(&stdin, OptionalActions::Flush, &silent).context("cannot silence the terminal")?;
    let typed = line(&mut stdin.lock());
    tcsetattr(&stdin, OptionalActions::Now, &before).context("cannot make the terminal speak again")?;
    typed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_a_line() {
        let read = |text: &str| line(&mut text.as_bytes()).map(|password| password.expose().to_owned()).ok();
        assert_eq!(read(" correct horse \r\nnext"), Some(" correct horse ".to_owned()));
        assert_eq!(read("no line break"), Some("no line break".to_owned()));
        assert_eq!(read("\n"), None);
        assert_eq!(read(""), None);
        assert_eq!(read(&"a".repeat(1_024)), Some("a".repeat(1_024)));
        assert_eq!(read(&"a".repeat(1_025)), None);
    }
}
