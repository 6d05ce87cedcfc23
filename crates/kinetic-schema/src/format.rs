//! `kinetic fmt`: one canonical form, as HCL users know it. Two blanks a level, `=` aligned over neighbouring lines,
//! one blank line at most. Comments, strings and heredocs stay as they are, and so does every line break.
//!
//! It works on tokens, not on the syntax tree, since the tree does not say where on a line a comment stood. What it
//! gives is parsed again and compared: text whose meaning it would change is given back untouched.

use std::ops::Range;

use hcl_edit::structure::Body;

use crate::diagnostic::{Diagnostic, Sink};
use crate::parse::parse;

/// The canonical form of a file. Formatting what is formatted changes nothing.
///
/// # Errors
///
/// The first syntax error, with an empty file name.
#[expect(clippy::result_large_err, reason = "an error ends the run for this file; its size is no cost")]
pub fn format(text: &str) -> Result<String, Diagnostic> {
    let mut sink = Sink::new();
    let file = sink.add_file("", text);
    let before = parse(&mut sink, file);
    if let Some(first) = sink.finish().into_iter().next() {
        return Err(first);
    }
    Ok(reformatted(text, &before).unwrap_or_else(|| text.to_owned()))
}

/// The canonical form, if it is sure to say the same.
fn reformatted(text: &str, before: &Body) -> Option<String> {
    let tokens = tokens(text)?;
    let formatted = write(&lines(&tokens));
    let after: Body = formatted.parse().ok()?;
    let again = self::tokens(&formatted)?;
    let same =
        after == *before && comments(&tokens) == comments(&again) && write(&lines(&again)) == formatted;
    same.then_some(formatted)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Words, numbers, dots and operators, as they stand.
    Plain,
    /// A quoted string with all that is interpolated in it.
    Quoted,
    /// From `<<` to the word that ends it.
    Heredoc,
    /// To the end of its line.
    LineComment,
    /// `/* … */`.
    BlockComment,
    /// `{`, `[` or `(`.
    Open,
    /// `}`, `]` or `)`.
    Close,
    Comma,
    /// `=`, not part of an operator.
    Assign,
    Newline,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'t> {
    kind: Kind,
    text: &'t str,
    /// Blanks stood before it.
    spaced: bool,
}

impl Token<'_> {
    /// Whether it opens a bracket.
    pub(crate) fn opens(&self) -> bool {
        self.kind == Kind::Open
    }

    /// Whether it closes one.
    pub(crate) fn closes(&self) -> bool {
        self.kind == Kind::Close
    }
}

/// Takes a text apart; `None` where it does not end as it should.
pub(crate) fn tokens(text: &str) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let blanks = rest.len() - rest.trim_start_matches([' ', '\t', '\r']).len();
        at += blanks;
        let rest = &text[at..];
        if rest.is_empty() {
            break;
        }
        let (kind, length) = token(rest)?;
        let raw = &rest[..length];
        let text = if kind == Kind::LineComment { raw.trim_end() } else { raw };
        tokens.push(Token { kind, text, spaced: blanks > 0 });
        at += length;
    }
    Some(tokens)
}

/// Kind and length in bytes of the token that a text starts with.
fn token(rest: &str) -> Option<(Kind, usize)> {
    let line_end = || rest.find('\n').unwrap_or(rest.len());
    match rest.as_bytes()[0] {
        b'\n' => Some((Kind::Newline, 1)),
        b'#' => Some((Kind::LineComment, line_end())),
        b'/' if rest.starts_with("//") => Some((Kind::LineComment, line_end())),
        b'/' if rest.starts_with("/*") => Some((Kind::BlockComment, rest.find("*/")? + 2)),
        b'"' => Some((Kind::Quoted, quoted_length(rest)?)),
        b'<' if rest.starts_with("<<") => Some((Kind::Heredoc, heredoc_length(rest)?)),
        b'{' | b'[' | b'(' => Some((Kind::Open, 1)),
        b'}' | b']' | b')' => Some((Kind::Close, 1)),
        b',' => Some((Kind::Comma, 1)),
        b'=' if !rest.starts_with("==") && !rest.starts_with("=>") => Some((Kind::Assign, 1)),
        _ => Some((Kind::Plain, plain_length(rest))),
    }
}

fn plain_length(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let two = bytes.get(at..at + 2).unwrap_or_default();
        match bytes[at] {
            b'=' | b'!' | b'<' | b'>' if matches!(two, b"==" | b"!=" | b"<=" | b">=" | b"=>") => at += 2,
            b' ' | b'\t' | b'\r' | b'\n' | b'#' | b'"' | b'{' | b'}' | b'[' | b']' | b'(' | b')' | b','
            | b'=' => break,
            b'/' if matches!(two, b"//" | b"/*") => break,
            b'<' if two == b"<<" => break,
            _ => at += 1,
        }
    }
    // A first byte that ends a token is never given here, and multi-byte characters hold none of these bytes.
    at.max(rest.chars().next().map_or(1, char::len_utf8))
}

/// Length of a quoted string, with its interpolations and the strings inside those.
fn quoted_length(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    // What is open, innermost last: a string, or an interpolation within one.
    let mut open = vec![b'"'];
    let mut at = 1;
    while let Some(innermost) = open.last() {
        let byte = *bytes.get(at)?;
        let next = bytes.get(at + 1).copied();
        if *innermost == b'"' {
            match byte {
                b'\\' => at += 1,
                b'"' => drop(open.pop()),
                // `$${` and `%%{` stand for the characters themselves.
                b'$' | b'%' if next == Some(byte) && bytes.get(at + 2) == Some(&b'{') => at += 2,
                b'$' | b'%' if next == Some(b'{') => {
                    open.push(b'{');
                    at += 1;
                }
                _ => {}
            }
        } else {
            match byte {
                b'"' | b'{' => open.push(byte),
                b'}' => drop(open.pop()),
                _ => {}
            }
        }
        at += 1;
    }
    Some(at)
}

/// Length of a heredoc, up to the word that ends it.
fn heredoc_length(rest: &str) -> Option<usize> {
    let newline = rest.find('\n')?;
    let word = rest[2..newline].trim_start_matches('-').trim_end();
    let mut at = newline + 1;
    for line in rest[at..].split_inclusive('\n') {
        if !word.is_empty() && line.trim() == word {
            return Some(at + line.trim_end().len());
        }
        at += line.len();
    }
    None
}

/// Where the line on which a byte stands has ended, with its line break. A comment that goes on over more lines ends with it.
pub(crate) fn line_end(text: &str, from: usize) -> usize {
    let mut at = from;
    while at < text.len() {
        let rest = &text[at..];
        at += match token(rest) {
            Some((Kind::Newline, length)) => return at + length,
            Some((_, length)) => length,
            None => return text.len(),
        };
    }
    text.len()
}

/// The lines of a block, with the comment right above it and with the blank lines that nothing needs any more. `None` where
/// something else stands on one of them.
pub(crate) fn lines_of(text: &str, block: Range<usize>) -> Option<Range<usize>> {
    let before = tokens(&text[..block.start])?;
    let is = |at: usize, kind: Kind| before.get(at).is_some_and(|token| token.kind == kind);
    // Lines above, from the nearest: a comment alone on its line belongs to the block.
    let mut first = before.len();
    let begins_line = |at: usize| at == 0 || is(at - 1, Kind::Newline);
    if !begins_line(first) {
        return None;
    }
    while first >= 2
        && is(first - 1, Kind::Newline)
        && is(first - 2, Kind::LineComment)
        && begins_line(first - 2)
    {
        first -= 2;
    }
    let mut blank_from = first;
    while blank_from > 0 && is(blank_from - 1, Kind::Newline) && begins_line(blank_from - 1) {
        blank_from -= 1;
    }
    // Behind the line breaks of what stays before it.
    let line_start = |at: usize| {
        let breaks = before[at..].iter().filter(|token| token.kind == Kind::Newline).count();
        let head = &text[..block.start];
        head.rmatch_indices('\n').nth(breaks).map_or(0, |(at, _)| at + 1)
    };
    let mut end = line_end(text, block.end);
    let blanks = text[end..].len() - text[end..].trim_start().len();
    let rest = &text[end + blanks..];
    let last = rest.is_empty() || rest.starts_with('}');
    end += text[end..end + blanks].rfind('\n').map_or(0, |at| at + 1);
    if rest.is_empty() {
        end = text.len();
    }
    // Of the gaps before and behind it one stays, and none at the end of what it stands in.
    Some(line_start(if last { blank_from } else { first })..end)
}

fn comments<'t>(tokens: &[Token<'t>]) -> Vec<&'t str> {
    let comment = |token: &&Token<'t>| matches!(token.kind, Kind::LineComment | Kind::BlockComment);
    tokens.iter().filter(comment).map(|token| token.text).collect()
}

fn lines<'l, 't>(tokens: &'l [Token<'t>]) -> Vec<&'l [Token<'t>]> {
    let mut lines: Vec<&[Token<'t>]> = tokens.split(|token| token.kind == Kind::Newline).collect();
    // What follows the last line break is a line only if something is on it.
    if lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    lines
}

/// Writes lines with their indentation, aligned.
fn write(lines: &[&[Token<'_>]]) -> String {
    let mut out = String::new();
    let mut brackets = Brackets::default();
    let mut column = 0;
    let mut blank_wanted = false;
    let mut after_open = true;
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        let Some(first) = line.first() else {
            blank_wanted = !after_open;
            column = 0;
            at += 1;
            continue;
        };
        let group = if column == 0 && is_setting(line) { group_width(&lines[at..]) } else { column };
        column = if is_setting(line) { group } else { 0 };
        if blank_wanted && first.kind != Kind::Close {
            out.push('\n');
        }
        blank_wanted = false;
        let indent = brackets.line(at, line);
        out.extend(std::iter::repeat_n(' ', indent * 2));
        write_line(&mut out, line, column);
        out.push('\n');
        after_open =
            line.iter().rfind(|token| !is_comment(token)).is_some_and(|token| token.kind == Kind::Open);
        at += 1;
    }
    out
}

/// Open brackets; those opened on one line count as one level.
#[derive(Default)]
struct Brackets {
    opened_on: Vec<usize>,
}

impl Brackets {
    /// Takes in a line and gives its level.
    fn line(&mut self, number: usize, line: &[Token<'_>]) -> usize {
        let leading = line.iter().take_while(|token| token.kind == Kind::Close).count();
        for _ in 0..leading {
            self.opened_on.pop();
        }
        let mut distinct = self.opened_on.clone();
        distinct.dedup();
        for token in &line[leading..] {
            match token.kind {
                Kind::Open => self.opened_on.push(number),
                Kind::Close => drop(self.opened_on.pop()),
                _ => {}
            }
        }
        distinct.len()
    }
}

fn is_comment(token: &Token<'_>) -> bool {
    matches!(token.kind, Kind::LineComment | Kind::BlockComment)
}

/// Whether a line is `key = value`, whole on its line: these are aligned with their neighbours.
fn is_setting(line: &[Token<'_>]) -> bool {
    let [key, assign, value @ ..] = line else { return false };
    let mut depth = 0i32;
    let balanced = line.iter().all(|token| {
        depth += i32::from(token.kind == Kind::Open) - i32::from(token.kind == Kind::Close);
        depth >= 0 && !token.text.contains('\n')
    });
    let plain_key = matches!(key.kind, Kind::Plain | Kind::Quoted);
    plain_key
        && assign.kind == Kind::Assign
        && balanced
        && depth == 0
        && value.iter().any(|token| !is_comment(token))
}

/// Width of the widest key of the settings that lines start with.
fn group_width(lines: &[&[Token<'_>]]) -> usize {
    let settings = lines.iter().take_while(|line| is_setting(line));
    settings.map(|line| line[0].text.chars().count()).max().unwrap_or(0)
}

fn write_line(out: &mut String, line: &[Token<'_>], key_width: usize) {
    for (at, token) in line.iter().enumerate() {
        if let Some(before) = at.checked_sub(1).map(|before| &line[before]) {
            if at == 1 && key_width > 0 {
                let padding = key_width.saturating_sub(before.text.chars().count());
                out.extend(std::iter::repeat_n(' ', padding));
            }
            if space_between(before, token) {
                out.push(' ');
            }
        }
        out.push_str(token.text);
    }
}

fn space_between(before: &Token<'_>, after: &Token<'_>) -> bool {
    if is_comment(before) || is_comment(after) {
        return true;
    }
    match (before.kind, after.kind) {
        (Kind::Open, Kind::Close) | (_, Kind::Comma) => false,
        (Kind::Open, _) => before.text == "{",
        (_, Kind::Close) => after.text == "}",
        (Kind::Comma | Kind::Assign, _) | (_, Kind::Assign) => true,
        (_, Kind::Open) if after.text == "{" => true,
        _ => after.spaced,
    }
}

#[cfg(test)]
mod tests {
    use super::format;

    fn check(text: &str, expected: &str) {
        assert_eq!(format(text).as_deref(), Ok(expected));
        assert_eq!(format(expected).as_deref(), Ok(expected));
    }

    #[test]
    fn aligns_indents_and_spaces() {
        check(
            "\n\nsource   \"web\"{\nprofile=profile.web\n    routing   =[ \"a\",\"b\" ,]\n\n\n\n}\n\n\n",
            "source \"web\" {\n  profile = profile.web\n  routing = [\"a\", \"b\",]\n}\n",
        );
        check("region \"a\" {}", "region \"a\" {}\n");
        check("region \"a\" { amqp=\"b\" }", "region \"a\" { amqp = \"b\" }\n");
    }

    #[test]
    fn lists_over_several_lines_are_not_aligned_with() {
        check(
            "cluster \"c\" {\nsource = source.a\nmembers = [\n\"a\",\n  \"b\", \"c\"\n]\n}\n",
            "cluster \"c\" {\n  source = source.a\n  members = [\n    \"a\",\n    \"b\", \"c\"\n  ]\n}\n",
        );
    }

    #[test]
    fn comments_stay() {
        check(
            "# top\n\n\n// second\nmail { # here  \n/* a\n   b */\nfrom=\"x\"# why\nrelay = /* c */ \"y\"\n\n# end\n}\n# after",
            "# top\n\n// second\nmail { # here\n  /* a\n   b */\n  from  = \"x\" # why\n  relay = /* c */ \"y\"\n\n  # end\n}\n# after\n",
        );
    }

    #[test]
    fn heredocs_and_strings_stay() {
        check(
            "analytic \"a\" {\nmetric=\"a  {b,  c}\"\ndescription=<<-X\n      two\n        words  = 1\n    X\nfor=\"1 of 1\"\n}\n",
            "analytic \"a\" {\n  metric = \"a  {b,  c}\"\n  description = <<-X\n      two\n        words  = 1\n    X\n  for = \"1 of 1\"\n}\n",
        );
        check("a = \"x${f(\"}\")}  y\"\n", "a = \"x${f(\"}\")}  y\"\n");
        check("a=\"${ {b=1}[\"b   c\"]  }  {\"\n", "a = \"${ {b=1}[\"b   c\"]  }  {\"\n");
        check("a=\"$${  \\\"  %%{\"\nbb=1", "a  = \"$${  \\\"  %%{\"\nbb = 1\n");
    }

    #[test]
    fn brackets_opened_together_are_one_level() {
        check("a = f({\nb = 1\n})\n", "a = f({\n  b = 1\n})\n");
    }

    #[test]
    fn carriage_returns_go() {
        check("mail {\r\n  from = \"x\"\r\n}\r\n", "mail {\n  from = \"x\"\n}\n");
    }

    #[test]
    fn what_is_not_hcl_is_an_error() {
        assert_eq!(format("mail {").map_err(|error| error.code), Err("syntax"));
    }
}
