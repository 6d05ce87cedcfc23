//! Text from outside made fit for a header, a line, or HTML. Metric names and origins are whatever a customer's
//! machines say; after this they can neither end a line nor turn its direction, whatever they hold.

/// What stands for a character that may not be shown.
const REPLACEMENT: char = '\u{fffd}';

/// Characters that end a line, command a terminal, hide, or reorder what is around them.
fn is_treacherous(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{feff}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// One line of at most `chars_max` characters; what is cut ends in an ellipsis.
pub(crate) fn line(text: &str, chars_max: usize) -> String {
    let mut clean: String =
        text.chars().take(chars_max + 1).map(|c| if is_treacherous(c) { REPLACEMENT } else { c }).collect();
    if let Some((cut, _)) = clean.char_indices().nth(chars_max) {
        let last = clean[..cut].char_indices().next_back().map_or(0, |(at, _)| at);
        clean.truncate(last);
        clean.push('…');
    }
    clean
}

/// A header value in visible ASCII and spaces, of at most `chars_max` characters.
pub(crate) fn header(text: &str, chars_max: usize) -> String {
    text.chars()
        .take(chars_max)
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .collect::<String>()
        .trim()
        .to_owned()
}

/// Text inside HTML, also inside a quoted attribute.
#[must_use]
pub fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line_that_reads_from_left_to_right() {
        assert_eq!(line("a\r\nBcc: x\u{2028}y\u{202e}z\u{85}\u{1b}[2J\t\0", 99), "a��Bcc: x�y�z��[2J��");
        assert_eq!(line("שלום", 99), "שלום");
        assert_eq!(line("abcdef", 6), "abcdef");
        assert_eq!(line("abcdefg", 6), "abcde…");
        assert_eq!(line("äöüäöüä", 6), "äöüäö…");
        assert_eq!(line(&"x".repeat(10_000), 60).chars().count(), 60);
        assert_eq!(line("", 5), "");
    }

    #[test]
    fn a_header_is_ascii() {
        assert_eq!(header("a\r\nB: ü ", 99), "a??B: ?");
        assert_eq!(header("abc", 2), "ab");
    }

    #[test]
    fn html_has_no_way_out() {
        assert_eq!(html(r#"<script>"a"&'b'"#), "&lt;script&gt;&quot;a&quot;&amp;&#39;b&#39;");
    }
}
