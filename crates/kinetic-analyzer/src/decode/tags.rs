//! Tags of a sample, taken apart. Only needed when a series is seen for the first time.

use std::borrow::Cow;

use crate::decode::{TAGS_BYTES_MAX, TAGS_MAX};
use crate::sample::{Reject, TagSyntax};

/// The tags of a sample as `(key, value)`; a bare word has the value `""`. Empty places between delimiters are
/// skipped; a key may come more than once, as DogStatsD allows.
#[must_use]
pub fn tags(tags: &str, syntax: TagSyntax) -> Tags<'_> {
    Tags { rest: if syntax == TagSyntax::None { "" } else { tags }, syntax }
}

/// Iterator of [`tags`].
#[derive(Clone, Debug)]
pub struct Tags<'a> {
    rest: &'a str,
    syntax: TagSyntax,
}

impl<'a> Iterator for Tags<'a> {
    type Item = (Cow<'a, str>, Cow<'a, str>);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let (tag, rest) = cut(self.rest, delimiter(self.syntax), self.syntax);
            self.rest = rest.unwrap_or("");
            if tag.is_empty() {
                continue;
            }
            let sign = if self.syntax == TagSyntax::Dog { b':' } else { b'=' };
            let (key, value) = cut(tag, sign, self.syntax);
            let value = value.unwrap_or("");
            if self.syntax == TagSyntax::InfluxEscaped {
                return Some((unescape(key), unescape(value)));
            }
            return Some((Cow::Borrowed(key), Cow::Borrowed(value)));
        }
        None
    }
}

fn delimiter(syntax: TagSyntax) -> u8 {
    if syntax == TagSyntax::Semicolon { b';' } else { b',' }
}

/// Splits at the first `at` (an ASCII character) that no backslash stands before, where backslashes mean anything.
fn cut(text: &str, at: u8, syntax: TagSyntax) -> (&str, Option<&str>) {
    let escapes = syntax == TagSyntax::InfluxEscaped;
    let mut escaped = false;
    for (i, b) in text.bytes().enumerate() {
        if b == at && !escaped {
            return (&text[..i], Some(&text[i + 1..]));
        }
        escaped = escapes && b == b'\\' && !escaped;
    }
    (text, None)
}

/// Influx line protocol's escapes outside of strings: a backslash before a comma, an equals sign, a space or a
/// backslash goes away; before anything else it is itself.
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some(&next @ (',' | '=' | ' ' | '\\')) if c == '\\' => {
                plain.push(next);
                chars.next();
            }
            _ => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

/// Refuses more than the bound, by counting delimiters (an escaped one counts too: the bound is no promise of more).
pub(super) fn check_count(tags: &str, syntax: TagSyntax) -> Result<(), Reject> {
    if tags.len() > TAGS_BYTES_MAX {
        return Err(Reject::TooManyTags);
    }
    if tags.len() < TAGS_MAX {
        return Ok(());
    }
    let delimiters = memchr::memchr_iter(delimiter(syntax), tags.as_bytes()).count();
    if delimiters >= TAGS_MAX { Err(Reject::TooManyTags) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, syntax: TagSyntax, expect: &[(&str, &str)]) {
        let read: Vec<_> = tags(text, syntax).map(|(k, v)| (k.into_owned(), v.into_owned())).collect();
        let expect: Vec<_> = expect.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(read, expect, "{text}");
    }

    #[test]
    fn each_syntax() {
        check(
            "env:prod,bare,url:http://x",
            TagSyntax::Dog,
            &[("env", "prod"), ("bare", ""), ("url", "http://x")],
        );
        check("k=v,k2=v=2,,", TagSyntax::Comma, &[("k", "v"), ("k2", "v=2")]);
        check("k=v;k2=a,b", TagSyntax::Semicolon, &[("k", "v"), ("k2", "a,b")]);
        check(
            r"a\ b=c\,d,e\=f=g,h\i=j\\",
            TagSyntax::InfluxEscaped,
            &[("a b", "c,d"), ("e=f", "g"), (r"h\i", r"j\")],
        );
        check("ignored", TagSyntax::None, &[]);
        check("", TagSyntax::Dog, &[]);
    }

    #[test]
    fn count_is_capped() {
        assert_eq!(check_count(&vec!["a:b"; 64].join(","), TagSyntax::Dog), Ok(()));
        assert_eq!(check_count(&vec!["a:b"; 65].join(","), TagSyntax::Dog), Err(Reject::TooManyTags));
        assert_eq!(check_count(&vec!["a=b"; 65].join(";"), TagSyntax::Semicolon), Err(Reject::TooManyTags));
        assert_eq!(check_count(&"a".repeat(4096), TagSyntax::Dog), Ok(()));
        assert_eq!(check_count(&"a".repeat(4097), TagSyntax::Dog), Err(Reject::TooManyTags));
    }
}
