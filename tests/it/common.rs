//! What several stories say in the same words.

use std::time::Duration;

use kinetic_tests::smtp::{Mail, SmtpCatcher};
use kinetic_tests::steadily;
use kinetic_tests::traffic::HOSTS;

/// How long a story looks for a second mail that must not come: three times the `group_interval` of the stories.
pub(crate) const QUIET: Duration = Duration::from_secs(3);

/// Whether a mail's first line is about a host.
pub(crate) fn is_about(mail: &Mail, host: &str) -> bool {
    first_line(mail).contains(host)
}

/// The first line of a mail, where the decisive numbers stand.
pub(crate) fn first_line(mail: &Mail) -> String {
    mail.part("text/plain").lines().next().unwrap_or_default().to_owned()
}

/// Makes sure that the mailbox holds this many mails, goes on holding them, and that all of them are about one host.
pub(crate) fn only_mails_about(smtp: &SmtpCatcher, host: &str, count: usize) {
    steadily("no other mail comes", QUIET, || {
        let lines: Vec<String> = smtp.inbox().iter().map(first_line).collect();
        if lines.len() == count { Ok(()) } else { Err(lines) }
    });
    for mail in smtp.inbox() {
        let line = first_line(&mail);
        assert!(line.contains(host), "{line}");
        let others = HOSTS.iter().filter(|other| **other != host);
        others.for_each(|other| assert!(!line.contains(other), "{line}"));
    }
}
