//! When an alarm is due, and what it says. Pure.

use std::time::Duration;

use kinetic_alert::html_escaped;
use kinetic_alert::machine::Email;
use kinetic_wire::Wall;

use crate::cmd::moment::utc;

/// When somebody is alarmed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Tests in a row that fail before anybody is told: one may have met a node that was being replaced.
    pub(crate) fails: u32,
    /// Somebody is told again after this long.
    pub(crate) again: Duration,
}

/// What is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// Tests do not arrive any more.
    Stopped,
    /// They still do not.
    Still,
    /// They do again.
    Again,
}

/// One customer's tests.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) customer: String,
    fails: u32,
    /// When the first of the tests in a row failed.
    since_ms: Option<i64>,
    /// When somebody was last told that they fail.
    told_ms: Option<i64>,
}

impl Watch {
    pub(crate) fn new(customer: &str) -> Self {
        Self { customer: customer.to_owned(), fails: 0, since_ms: None, told_ms: None }
    }

    /// A test has ended. What is due is due until it has been [told](Self::told).
    pub(crate) fn heard(&mut self, at_ms: i64, ok: bool, limits: Limits) -> Option<Word> {
        if ok {
            self.fails = 0;
            if self.told_ms.is_none() {
                self.since_ms = None;
            }
            return self.told_ms.map(|_| Word::Again);
        }
        self.fails = self.fails.saturating_add(1);
        self.since_ms.get_or_insert(at_ms);
        let again_ms = i64::try_from(limits.again.as_millis()).unwrap_or(i64::MAX);
        match self.told_ms {
            None => (self.fails >= limits.fails).then_some(Word::Stopped),
            Some(told) => (at_ms.saturating_sub(told) >= again_ms).then_some(Word::Still),
        }
    }

    /// It has been said.
    pub(crate) fn told(&mut self, word: Word, at_ms: i64) {
        match word {
            Word::Stopped | Word::Still => self.told_ms = Some(at_ms),
            Word::Again => (self.since_ms, self.told_ms) = (None, None),
        }
    }

    /// Nothing is wrong that nobody knows of, and nothing that was wrong is well without anybody's knowing.
    pub(crate) fn is_settled(&self) -> bool {
        (self.fails > 0) == self.told_ms.is_some()
    }
}

/// The mail, without its recipient. All of one failure are one thread.
pub(crate) fn email(
    watch: &Watch,
    word: Word,
    failure: Option<&str>,
    from: &str,
    domain: &str,
    now_ms: i64,
) -> Email {
    let customer = &watch.customer;
    let since_ms = watch.since_ms.unwrap_or(now_ms);
    let since = utc(since_ms);
    let (state, head) = match word {
        Word::Stopped => ("failing", format!("Test events of {customer} have not arrived since {since}.")),
        Word::Still => ("failing", format!("Test events of {customer} still do not arrive, since {since}.")),
        Word::Again => {
            ("works", format!("Test events of {customer} arrive again. They had not since {since}."))
        }
    };
    let subject = match word {
        Word::Stopped | Word::Still => format!("[CANARY] {customer}: alerting does not work, since {since}"),
        Word::Again => format!("[CANARY] {customer}: alerting works again"),
    };
    let more = match (word, failure) {
        (Word::Again, _) | (_, None) => String::new(),
        (_, Some(failure)) => {
            format!(
                "\nAs long as this lasts an alert of {customer} may reach nobody.\n\nThe last test:\n\n{failure}"
            )
        }
    };
    let text = format!("{head}\n{more}\nThis mail was sent by kinetic canary, not by the installation.\n");
    let root = format!("canary.{customer}.{since_ms:x}.root@{domain}");
    let headers = [
        ("In-Reply-To", format!("<{root}>")),
        ("References", format!("<{root}>")),
        ("Auto-Submitted", "auto-generated".to_owned()),
        ("X-Auto-Response-Suppress", "All".to_owned()),
        ("X-Kinetic-Customer", customer.clone()),
        ("X-Kinetic-State", state.to_owned()),
        ("X-Kinetic-Reason", "canary".to_owned()),
    ];
    Email {
        post: None,
        message_id: format!("canary.{customer}.{now_ms:x}@{domain}"),
        from: from.to_owned(),
        to: String::new(),
        envelope_from: None,
        subject,
        date: Wall::from_ms(now_ms),
        headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        html: format!(
            "<!doctype html>\n<html lang=\"en\"><body><pre>{}</pre></body></html>\n",
            html_escaped(&text)
        ),
        text,
        plot: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { fails: 2, again: Duration::from_secs(3_600) };

    #[test]
    fn one_failure_may_be_chance_and_two_are_told_until_somebody_has_it() {
        let mut watch = Watch::new("acme");
        assert_eq!(watch.heard(0, true, LIMITS), None);
        assert_eq!(watch.heard(1_000, false, LIMITS), None);
        assert!(!watch.is_settled(), "the next test comes soon");
        assert_eq!(watch.heard(2_000, true, LIMITS), None, "it was chance");
        assert!(watch.is_settled());
        assert_eq!(watch.heard(3_000, false, LIMITS), None);
        assert_eq!(watch.heard(4_000, false, LIMITS), Some(Word::Stopped));
        // No relay took it.
        assert!(!watch.is_settled());
        assert_eq!(watch.heard(5_000, false, LIMITS), Some(Word::Stopped));
        watch.told(Word::Stopped, 5_000);
        assert!(watch.is_settled());
        assert_eq!(watch.since_ms, Some(3_000));
        assert_eq!(watch.heard(3_604_999, false, LIMITS), None);
        assert_eq!(watch.heard(3_605_000, false, LIMITS), Some(Word::Still));
        watch.told(Word::Still, 3_605_000);
        assert_eq!(watch.heard(3_606_000, true, LIMITS), Some(Word::Again));
        assert!(!watch.is_settled());
        assert_eq!(watch.heard(3_607_000, true, LIMITS), Some(Word::Again), "until somebody has it");
        watch.told(Word::Again, 3_607_000);
        assert_eq!(watch.heard(3_608_000, true, LIMITS), None);
        assert!(watch.is_settled() && watch.since_ms.is_none());
    }

    #[test]
    fn the_mails_of_one_failure_are_a_thread() {
        let mut watch = Watch::new("acme");
        watch.heard(1_795_176_000_000, false, Limits { fails: 1, ..LIMITS });
        let mail =
            |word, at| email(&watch, word, Some("stopped at <stored>\n"), "a@x.example", "x.example", at);
        let (first, last) = (mail(Word::Stopped, 1_795_176_001_000), mail(Word::Again, 1_795_179_601_000));
        assert_eq!(first.subject, "[CANARY] acme: alerting does not work, since 2026-11-20 12:00:00 UTC");
        assert_eq!(last.subject, "[CANARY] acme: alerting works again");
        assert_eq!(first.headers[..2], last.headers[..2]);
        assert_ne!(first.message_id, last.message_id);
        assert!(first.text.contains("stopped at <stored>") && first.html.contains("&lt;stored&gt;"));
        assert!(!last.text.contains("stopped at"));
    }
}
