//! What a form or a mail program posts.

use kinetic_wire::LinkAct;

/// What a mail program posts to unsubscribe its user (RFC 8058), as its key and its value.
pub(super) const ONE_CLICK: (&str, &str) = ("List-Unsubscribe", "One-Click");
/// Name of the field for how long, seconds.
pub(super) const FOR: &str = "for";
/// Name of the field for why.
pub(super) const REASON: &str = "reason";

/// Reads a body: our own form, or what a mail program sends, urlencoded or in parts. `None` where it is neither.
pub(super) fn read(body: &[u8]) -> Option<LinkAct> {
    let text = std::str::from_utf8(body).ok()?;
    let (key, value) = ONE_CLICK;
    // As multipart/form-data; what else stands in it does not matter.
    if text.contains(&format!("name=\"{key}\"")) && text.contains(value) {
        return Some(LinkAct::default());
    }
    let mut act = LinkAct::default();
    let mut known = false;
    for pair in text.split('&') {
        let (name, given) = pair.split_once('=').unwrap_or((pair, ""));
        let given = decoded(given)?;
        match &*decoded(name)? {
            FOR => act.for_s = Some(given.trim().parse().ok()?),
            REASON => act.reason = Some(given),
            name if name == key && given.trim() == value => {}
            _ => continue,
        }
        known = true;
    }
    known.then_some(act)
}

/// Text of application/x-www-form-urlencoded.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(for_s: Option<u64>, reason: Option<&str>) -> LinkAct {
        LinkAct { for_s, reason: reason.map(str::to_owned) }
    }

    #[test]
    fn forms_and_mail_programs_are_read() {
        let check = |body: &str, want| assert_eq!(read(body.as_bytes()), want, "{body}");
        check("for=3600&reason=on+it%2C+100%25+m%C3%BCde", Some(act(Some(3_600), Some("on it, 100% müde"))));
        check("reason=&for=60", Some(act(Some(60), Some(""))));
        check("List-Unsubscribe=One-Click", Some(act(None, None)));
        check("List%2DUnsubscribe=One%2DClick&x=y", Some(act(None, None)));
        let parts =
            "--b\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--b--\r\n";
        check(parts, Some(act(None, None)));
        for body in [
            "",
            "List-Unsubscribe=Maybe",
            "x=y",
            "for=soon",
            "for=-1",
            "for=1&reason=%f",
            "reason=%ff",
            "\u{1f4a9}",
        ] {
            check(body, None);
        }
        assert_eq!(read(b"reason=\xff"), None);
    }

    #[test]
    fn no_body_makes_it_do_anything_but_say_no() {
        let mut state = 7_u32;
        for _ in 0..20_000 {
            let body: Vec<u8> = (0..state >> 27)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    b"for=reason%&+0aF\xff\n"[(state >> 24) as usize % 18]
                })
                .collect();
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            read(&body);
        }
    }
}
