//! Mail that came back: reads a delivery status notification (RFC 3464) for what it says of the one recipient that a mail of
//! ours has. What it holds was written by others, and nothing of it is believed but its form.

use mail_parser::{Message, MessageParser, MessagePart, MimeHeaders};

/// Largest report: the mails that alerts send are far smaller.
pub(crate) const REPORT_BYTES_MAX: usize = 8 << 20;
/// Digits of a recipient's token.
const TOKEN_DIGITS: usize = 16;
/// Bytes of a field that are kept.
const FIELD_BYTES_MAX: usize = 400;

/// What a report says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Names the recipient.
    pub(crate) token: String,
    /// Message-ID of what came back, if it is named.
    pub(crate) mail: Option<String>,
    /// Enhanced status code (RFC 3463).
    pub(crate) status: String,
    /// In the words of whoever refused it; one line.
    pub(crate) detail: String,
}

/// Why a message is no report about a mail of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoReport {
    #[error("this is no mail message")]
    Unreadable,
    #[error("this is no delivery report (multipart/report with a part message/delivery-status, RFC 3464)")]
    OtherMail,
    #[error("the delivery report has no recipient with a status")]
    WithoutStatus,
    #[error("the report was sent to no `…+TOKEN@…`: say with --recipient to which address it came")]
    WithoutToken,
}

/// Reads a report. `recipient` is the address to which it came, where its own headers need not say so.
pub(crate) fn read(bytes: &[u8], recipient: Option<&str>) -> Result<Report, NoReport> {
    let message = MessageParser::default().parse(bytes).ok_or(NoReport::Unreadable)?;
    let part =
        message.parts.iter().find(|part| is(part, "message", &["delivery-status", "global-delivery-status"]));
    let status_part = part.ok_or(NoReport::OtherMail)?;
    let text = String::from_utf8_lossy(status_part.contents());
    let blocks = blocks(&text);
    let (of_message, of_recipients) = blocks.split_first().ok_or(NoReport::WithoutStatus)?;
    let (status, recipient_fields) = worst(of_recipients).ok_or(NoReport::WithoutStatus)?;
    let token = match recipient {
        Some(address) => token(address),
        None => addressed_to(&message),
    };
    let diagnostic = field(recipient_fields, "Diagnostic-Code").or(field(recipient_fields, "Action"));
    Ok(Report {
        token: token.ok_or(NoReport::WithoutToken)?,
        mail: field(of_message, "Original-Envelope-Id").and_then(unxtext).or_else(|| returned(&message)),
        status: status.to_owned(),
        detail: kept(diagnostic.unwrap_or_default()),
    })
}

fn is(part: &MessagePart<'_>, kind: &str, subtypes: &[&str]) -> bool {
    let Some(content) = part.content_type() else { return false };
    let subtype = content.subtype().unwrap_or_default();
    content.ctype().eq_ignore_ascii_case(kind)
        && subtypes.iter().any(|known| subtype.eq_ignore_ascii_case(known))
}

/// A field's name and its value, unfolded.
type Field = (String, String);

/// The fields of the message, and of each recipient: groups of header lines with empty lines between them.
fn blocks(text: &str) -> Vec<Vec<Field>> {
    let mut blocks: Vec<Vec<Field>> = Vec::new();
    let mut ended = true;
    for line in text.lines().map(str::trim_end) {
        if line.is_empty() {
            ended = true;
            continue;
        }
        if std::mem::take(&mut ended) {
            blocks.push(Vec::new());
        }
        let Some(block) = blocks.last_mut() else { continue };
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = block.last_mut() {
                value.push(' ');
                value.push_str(line.trim_start());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            block.push((name.trim_end().to_owned(), value.trim_start().to_owned()));
        }
    }
    blocks
}

fn field<'a>(block: &'a [Field], name: &str) -> Option<&'a str> {
    let found = block.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

/// Of the recipients that a report tells of (a list may have made many of one), the one that fares worst, and its status.
fn worst(recipients: &[Vec<Field>]) -> Option<(&str, &[Field])> {
    let with_status =
        recipients.iter().filter_map(|block| Some((status(field(block, "Status")?)?, &block[..])));
    with_status.max_by_key(|(status, _)| status.as_bytes()[0])
}

/// The code at the beginning of a Status field; a comment may follow it.
fn status(text: &str) -> Option<&str> {
    let code = text.split([' ', '\t', '(']).next()?;
    let digits = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    let known = code.split('.').count() == 3 && code.split('.').all(digits);
    (known && ["2.", "4.", "5."].iter().any(|class| code.starts_with(class))).then_some(code)
}

/// What stands behind the `+` of an address.
fn token(address: &str) -> Option<String> {
    let address = address.rsplit_once('<').map_or(address, |(_, rest)| rest.trim_end_matches('>')).trim();
    let (local, _) = address.rsplit_once('@').unwrap_or((address, ""));
    let (_, token) = local.rsplit_once('+')?;
    let hex = token.len() == TOKEN_DIGITS && token.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| token.to_ascii_lowercase())
}

/// The token of the address to which a message came: what delivered it says so best.
fn addressed_to(message: &Message<'_>) -> Option<String> {
    let delivered = ["X-Original-To", "Delivered-To", "Envelope-To"].into_iter();
    let delivered = delivered.filter_map(|name| message.header_raw(name)).find_map(token);
    delivered.or_else(|| message.to()?.iter().filter_map(|to| to.address()).find_map(token))
}

/// Message-ID of the message that a report returns, whole or its headers alone.
fn returned(message: &Message<'_>) -> Option<String> {
    let whole = message.parts.iter().find_map(|part| part.message()?.message_id().map(str::to_owned));
    let of_headers = || {
        let part = message.parts.iter().find(|part| is(part, "text", &["rfc822-headers"]))?;
        let headers = MessageParser::default().parse(part.contents())?;
        headers.message_id().map(str::to_owned)
    };
    whole.or_else(of_headers).filter(|id| !id.is_empty() && id.len() <= FIELD_BYTES_MAX).map(|id| kept(&id))
}

/// Undoes the encoding of an envelope id (RFC 3461, xtext).
fn unxtext(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.trim().as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'+' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    let id = String::from_utf8(bytes).ok()?;
    let plain = !id.is_empty() && id.len() <= FIELD_BYTES_MAX && !id.chars().any(char::is_control);
    plain.then_some(id)
}

/// One line of bounded length.
fn kept(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let end = (0..=clean.len().min(FIELD_BYTES_MAX)).rev().find(|at| clean.is_char_boundary(*at));
    clean[..end.unwrap_or_default()].trim().to_owned()
}

#[cfg(test)]
mod tests;
