//! Requests about mail that came back, and about addresses to which nothing is sent.

use std::ops::Bound::{Excluded, Unbounded};

use kinetic_wire::{
    Bounce, Bounced, RpcCode, SuppressionState, SuppressionsQuestion, SuppressionsReply, Unsuppress,
    Unsuppressed, encode,
};

use crate::clock::Steady;
use crate::doors::{AUTHOR_BYTES_MAX, Answer, Refusal, check_line};
use crate::escape;
use crate::machine::{Alert, Effect};
use crate::suppress::{Refused, address};

/// Addresses on one page.
const PAGE_MAX: usize = 200;
/// Bytes of a token, and of a mail's name.
const NAME_BYTES_MAX: usize = 300;
/// Characters of a report's words.
const DETAIL_MAX: usize = 500;

/// Whether this is an enhanced status code (RFC 3463): a class, a subject and a detail.
fn is_status(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let digits =
        |part: &&str| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    parts.len() == 3 && matches!(parts[0], "2" | "4" | "5") && parts.iter().all(digits)
}

impl Alert {
    /// A mail has come back.
    pub(crate) fn bounce(
        &mut self,
        at: Steady,
        asked: &Bounce,
        effects: &mut Vec<Effect>,
    ) -> Result<Answer, Refusal> {
        check_line("the token", &asked.token, NAME_BYTES_MAX)?;
        if let Some(mail) = &asked.mail {
            check_line("the Message-ID", mail, NAME_BYTES_MAX)?;
        }
        if !is_status(&asked.status) {
            let message = format!("`{}` is no enhanced status code", escape::line(&asked.status, 40));
            return Err(Refusal(RpcCode::Invalid, message));
        }
        let Some(to) = self.recipient_of(&asked.token) else {
            self.stats.bounces_unknown += 1;
            let message = "this installation sends mail to nobody under that token";
            return Err(Refusal(RpcCode::UnknownAddress, message.into()));
        };
        let counted = asked.status.starts_with("5.")
            && self.refused(
                at,
                &Refused {
                    mailbox: &to,
                    mail: asked.mail.as_deref(),
                    detail: escape::line(&format!("{} {}", asked.status, asked.detail), DETAIL_MAX).as_str(),
                },
                effects,
            );
        if !counted {
            self.stats.bounces_passing += 1;
        }
        let bounced = Bounced {
            ok: true,
            address: address(&to).to_owned(),
            counted,
            suppressed: self.suppressions.holds(&to),
            now_ms: at.wall().as_ms(),
        };
        Ok(Answer::Recorded(encode(&bounced)))
    }

    /// One page of the addresses to which nothing is sent.
    pub(crate) fn list_suppressions(&self, at: Steady, asked: SuppressionsQuestion) -> Answer {
        let begin = asked.after.map_or(Unbounded, Excluded);
        let mut suppressions: Vec<SuppressionState> =
            self.suppressions.after(begin).take(PAGE_MAX + 1).collect();
        let more = suppressions.len() > PAGE_MAX;
        suppressions.truncate(PAGE_MAX);
        let next = suppressions.last().filter(|_| more).map(|last| last.address.clone());
        let now_ms = at.wall().as_ms();
        Answer::Now(encode(&SuppressionsReply { ok: true, suppressions, next, now_ms }))
    }

    /// An operator says that an address is good again.
    pub(crate) fn lift_suppression(
        &mut self,
        at: Steady,
        asked: &Unsuppress,
        effects: &mut Vec<Effect>,
    ) -> Result<Answer, Refusal> {
        check_line("the author", &asked.author, AUTHOR_BYTES_MAX)?;
        check_line("the address", &asked.address, NAME_BYTES_MAX)?;
        let Some(suppression) = self.suppressions.get(address(&asked.address)) else {
            let message = format!("mail to {} is not suppressed", escape::line(&asked.address, 100));
            return Err(Refusal(RpcCode::UnknownAddress, message));
        };
        self.unsuppress(at, &suppression.address, Some(&asked.author), effects);
        let unsuppressed = Unsuppressed { ok: true, suppression, now_ms: at.wall().as_ms() };
        Ok(Answer::Recorded(encode(&unsuppressed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_three_numbers_and_a_class() {
        assert!(["5.1.1", "4.2.2", "2.0.0", "5.7.509"].iter().all(|status| is_status(status)));
        let others = ["", "5", "5.1", "3.1.1", "5.1.1.1", "5..1", "5.1.x", "550", "5.1.1000"];
        assert_eq!(others.iter().filter(|status| is_status(status)).count(), 0);
    }
}
