//! Changes to a file that leave everything else in it as it is, byte for byte: layout, comments, and blocks that nobody asked about.
//!
//! A change is a splice of the text at a place that the syntax tree names. What comes out is parsed again, and given only if it says
//! what was meant.

use std::ops::Range;

use hcl_edit::Span;
use hcl_edit::structure::{Attribute, Block, BlockLabel, Body, Structure};

use crate::Files;
use crate::diagnostic::position;
use crate::format::{self, format};
use crate::reference;

/// A block's kind and its label, `""` where it has none.
pub type Step<'p> = (&'p str, &'p str);

/// A value to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// A string; whatever HCL would take for more than text in it is escaped.
    Text(String),
    /// `true` or `false`.
    Bool(bool),
    /// A list of strings.
    List(Vec<String>),
    /// An expression as it stands, such as a reference.
    Written(String),
}

/// A reference to a named block: `region.local`, `region["us-west.aws"]`.
#[must_use]
pub fn reference(kind: &str, name: &str) -> Literal {
    Literal::Written(reference::written(kind, name))
}

/// A block to write: attributes only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBlock<'b> {
    /// Kind and label.
    pub step: Step<'b>,
    /// Attributes, in this order.
    pub attributes: Vec<(&'b str, Literal)>,
}

/// Why a file was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The file is not HCL; `kinetic check` says where.
    #[error("the file is not HCL: check it first")]
    Syntax,
    /// There is no such block.
    #[error("there is no {0}")]
    NoBlock(String),
    /// A block of that kind and label is there already.
    #[error("there is a {0} already")]
    Exists(String),
    /// The place cannot be changed without changing more, such as a block in the middle of a line.
    #[error("{0} stands so that it has to be changed by hand")]
    ByHand(String),
}

/// The first file in which a block stands, by its path from the top of the file.
#[must_use]
pub fn holder<'f>(files: &'f Files, path: &[Step<'_>]) -> Option<&'f str> {
    let holds = |bytes: &[u8]| {
        let body: Body = std::str::from_utf8(bytes).ok()?.parse().ok()?;
        find(&body, path).map(drop)
    };
    let mut sources = files.iter().filter(|(name, _)| name.ends_with(".hcl"));
    sources.find(|(_, bytes)| holds(bytes).is_some()).map(|(name, _)| name.as_str())
}

/// File and line of a block, or of one of its attributes: the block's where it has none such.
#[must_use]
pub fn line(files: &Files, path: &[Step<'_>], attribute: Option<&str>) -> Option<(String, u32)> {
    let file = holder(files, path)?;
    let text = std::str::from_utf8(files.get(file)?).ok()?;
    let body: Body = text.parse().ok()?;
    let block = find(&body, path)?;
    let attribute = attribute.and_then(|name| block.body.get_attribute(name)).and_then(Attribute::span);
    let span = attribute.or_else(|| block.span())?;
    Some((file.to_owned(), position(text, span.start).0))
}

/// Adds a block inside the one that `outer` names, or at the end of the file where that is empty: behind the last of its kind.
///
/// # Errors
/// [`EditError`].
pub fn add_block(text: &str, outer: &[Step<'_>], new: &NewBlock<'_>) -> Result<String, EditError> {
    let body = parsed(text)?;
    let shown = shown(new.step);
    let (within, depth) = match outer {
        [] => (&body, 0),
        path => {
            let block = find(&body, path).ok_or_else(|| EditError::NoBlock(shown_path(path)))?;
            (&block.body, path.len())
        }
    };
    if inner(within, new.step).is_some() {
        return Err(EditError::Exists(shown));
    }
    let last = within.iter().filter(|structure| is_kind(structure, new.step.0)).last();
    let last = last.or_else(|| within.iter().last());
    let at = match (last, outer) {
        (Some(structure), _) if !within.prefer_oneline() => {
            format::line_end(text, structure.span().ok_or_else(|| EditError::ByHand(shown.clone()))?.end)
        }
        (_, []) => text.len(),
        (_, path) => {
            let block = find(&body, path).ok_or_else(|| EditError::NoBlock(shown_path(path)))?;
            let (opened, at) = opened(text, block)?;
            let blank = if block.body.is_empty() { "" } else { "\n" };
            let added = blank.to_owned() + &written(new, depth);
            return sure(text, &opened, splice(&opened, at..at, &added), &shown);
        }
    };
    let missing = if text[..at].is_empty() || text[..at].ends_with('\n') { "" } else { "\n" };
    let blank = if text[..at].trim().is_empty() { "" } else { "\n" };
    let added = format!("{missing}{blank}{}", written(new, depth));
    sure(text, text, splice(text, at..at, &added), &shown)
}

/// Removes a block, with the comment that stands right above it.
///
/// # Errors
/// [`EditError`].
pub fn remove_block(text: &str, path: &[Step<'_>]) -> Result<String, EditError> {
    let body = parsed(text)?;
    let shown = shown_path(path);
    let block = find(&body, path).ok_or_else(|| EditError::NoBlock(shown.clone()))?;
    let span = block.span().ok_or_else(|| EditError::ByHand(shown.clone()))?;
    let lines = format::lines_of(text, span).ok_or_else(|| EditError::ByHand(shown.clone()))?;
    sure(text, text, splice(text, lines, ""), &shown)
}

/// Sets an attribute of a block, or adds it behind the others.
///
/// # Errors
/// [`EditError`].
pub fn set_attribute(
    text: &str,
    path: &[Step<'_>],
    name: &str,
    value: &Literal,
) -> Result<String, EditError> {
    let body = parsed(text)?;
    let shown = shown_path(path);
    let block = find(&body, path).ok_or_else(|| EditError::NoBlock(shown.clone()))?;
    if let Some(span) = block.body.get_attribute(name).and_then(|attribute| attribute.value.span()) {
        return sure(text, text, splice(text, span, &value.to_string()), &shown);
    }
    let line = format!("{}{name} = {value}\n", "  ".repeat(path.len()));
    let last = block.body.attributes().last().and_then(Attribute::span);
    if let Some(span) = last.filter(|_| !block.body.prefer_oneline()) {
        let at = format::line_end(text, span.end);
        return sure(text, text, splice(text, at..at, &line), &shown);
    }
    let (opened, at) = opened(text, block)?;
    sure(text, &opened, splice(&opened, at..at, &line), &shown)
}

/// Removes an attribute of a block, with its line.
///
/// # Errors
/// [`EditError`]; it is none if it is not there.
pub fn remove_attribute(text: &str, path: &[Step<'_>], name: &str) -> Result<String, EditError> {
    let body = parsed(text)?;
    let shown = shown_path(path);
    let block = find(&body, path).ok_or_else(|| EditError::NoBlock(shown.clone()))?;
    let Some(attribute) = block.body.get_attribute(name) else { return Ok(text.to_owned()) };
    let span = attribute.span().ok_or_else(|| EditError::ByHand(shown.clone()))?;
    let start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    if !text[start..span.start].trim().is_empty() {
        return Err(EditError::ByHand(shown));
    }
    sure(text, text, splice(text, start..format::line_end(text, span.end), ""), &shown)
}

impl std::fmt::Display for Literal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => {
                f.write_str("\"")?;
                let mut rest = text.chars().peekable();
                while let Some(c) = rest.next() {
                    match c {
                        '"' | '\\' => write!(f, "\\{c}")?,
                        '\n' => f.write_str("\\n")?,
                        '\r' => f.write_str("\\r")?,
                        '\t' => f.write_str("\\t")?,
                        c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                        '$' | '%' if rest.peek() == Some(&'{') => write!(f, "{c}{c}")?,
                        c => write!(f, "{c}")?,
                    }
                }
                f.write_str("\"")
            }
            Self::Bool(value) => write!(f, "{value}"),
            Self::List(texts) => {
                let texts: Vec<String> =
                    texts.iter().map(|text| Self::Text(text.clone()).to_string()).collect();
                write!(f, "[{}]", texts.join(", "))
            }
            Self::Written(text) => f.write_str(text),
        }
    }
}

/// Every change that a file's first blocks allow: what comes out is HCL, and what was added can be taken away again.
pub(crate) fn fuzz(text: &str) {
    let Ok(body) = parsed(text) else { return };
    let new =
        NewBlock { step: ("kinetic_new", "$ {"), attributes: vec![("a", Literal::Text(text.to_owned()))] };
    for block in body.blocks().take(FUZZED_MAX) {
        let path = [(block.ident.as_str(), block.labels.first().map_or("", BlockLabel::as_str))];
        let changes = [
            remove_block(text, &path),
            set_attribute(text, &path, "kinetic_new", &Literal::Bool(true)),
            remove_attribute(text, &path, "region"),
            add_block(text, &path, &new),
        ];
        for changed in changes.iter().flatten() {
            assert!(parsed(changed).is_ok(), "{changed}");
        }
        if let Ok(added) = &changes[3] {
            assert!(remove_block(added, &[path[0], new.step]).is_ok(), "{added}");
        }
    }
}

/// Blocks that are changed for each text; each change parses it several times.
const FUZZED_MAX: usize = 1;

fn parsed(text: &str) -> Result<Body, EditError> {
    text.parse().map_err(|_| EditError::Syntax)
}

fn find<'b>(body: &'b Body, path: &[Step<'_>]) -> Option<&'b Block> {
    let (first, rest) = path.split_first()?;
    let block = inner(body, *first)?;
    if rest.is_empty() { Some(block) } else { find(&block.body, rest) }
}

fn inner<'b>(body: &'b Body, (kind, label): Step<'_>) -> Option<&'b Block> {
    body.blocks()
        .find(|block| block.has_ident(kind) && block.labels.first().map_or("", BlockLabel::as_str) == label)
}

fn is_kind(structure: &Structure, kind: &str) -> bool {
    structure.as_block().is_some_and(|block| block.has_ident(kind))
}

fn shown((kind, label): Step<'_>) -> String {
    if label.is_empty() { format!("`{kind}`") } else { format!("{kind} `{label}`") }
}

fn shown_path(path: &[Step<'_>]) -> String {
    let steps: Vec<String> = path.iter().rev().map(|step| shown(*step)).collect();
    steps.join(" of ")
}

/// A block's text at a depth, aligned.
fn written(new: &NewBlock<'_>, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    let (kind, label) = new.step;
    let label =
        if label.is_empty() { String::new() } else { format!(" {}", Literal::Text(label.to_owned())) };
    let width = new.attributes.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(&str, Literal)| format!("{indent}  {name:width$} = {value}\n");
    let lines: String = new.attributes.iter().map(line).collect();
    format!("{indent}{kind}{label} {{\n{lines}{indent}}}\n")
}

/// The text with a block that stands on one line, or holds nothing, opened up; and where its closing line begins.
fn opened(text: &str, block: &Block) -> Result<(String, usize), EditError> {
    let by_hand = || EditError::ByHand(format!("this `{}`", block.ident.as_str()));
    let span = block.span().ok_or_else(by_hand)?;
    let line = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    let indent = &text[line..span.start];
    if !indent.trim().is_empty() {
        return Err(by_hand());
    }
    let whole = &text[span.clone()];
    let end = span.end - 1;
    let start =
        block.labels.last().and_then(Span::span).or_else(|| block.ident.span()).ok_or_else(by_hand)?;
    let open = start.end + text[start.end..].find('{').ok_or_else(by_hand)? + 1;
    if whole.contains('\n') {
        let closing = text[..end].rfind('\n').map_or(0, |at| at + 1);
        return if text[closing..end].trim().is_empty() {
            Ok((text.to_owned(), closing))
        } else {
            Err(by_hand())
        };
    }
    let held = text[open..end].trim();
    let held = if held.is_empty() { String::new() } else { format!("{indent}  {held}\n") };
    let before = format!("{}\n{held}", &text[..open]);
    Ok((format!("{before}{indent}{}", &text[end..]), before.len()))
}

fn splice(text: &str, range: Range<usize>, with: &str) -> String {
    [&text[..range.start], with, &text[range.end..]].concat()
}

/// What was changed, in canonical form if the text was; not given where it cannot be read any more.
fn sure(text: &str, base: &str, changed: String, shown: &str) -> Result<String, EditError> {
    if changed.parse::<Body>().is_err() || (base != text && base.parse::<Body>() != text.parse::<Body>()) {
        return Err(EditError::ByHand(shown.to_owned()));
    }
    let canonical = format(text).is_ok_and(|formatted| formatted == text);
    if canonical && let Ok(formatted) = format(&changed) {
        return Ok(formatted);
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# The customer.
customer "acme" {
  region = region.local # where

  # Being rotated.
  key "web" {
    salted_sha256 = "00"
  }

  key "web-2" { salted_sha256 = "11" } # the next one

  /* not
  # the key's */
  user "alice" {}
}

source "web" {
  routing = "*"
}
"#;

    const ACME: Step<'_> = ("customer", "acme");

    fn key(name: &str) -> [Step<'_>; 2] {
        [ACME, ("key", name)]
    }

    fn text(text: &str) -> Literal {
        Literal::Text(text.to_owned())
    }

    #[test]
    fn a_block_goes_with_its_comment_and_one_gap() {
        let without = remove_block(TEXT, &key("web")).expect("it is there");
        let gone = "  # Being rotated.\n  key \"web\" {\n    salted_sha256 = \"00\"\n  }\n\n";
        assert_eq!(without, TEXT.replace(gone, ""));
        let without = remove_block(TEXT, &key("web-2")).expect("it is there");
        assert_eq!(
            without,
            TEXT.replace("  key \"web-2\" { salted_sha256 = \"11\" } # the next one\n\n", "")
        );
        let last = remove_block(TEXT, &[ACME, ("user", "alice")]).expect("it is there");
        assert_eq!(last, TEXT.replace("  user \"alice\" {}\n", ""), "the comment is not a line's");
        let end = remove_block(TEXT, &[("source", "web")]).expect("it is there");
        assert_eq!(end, TEXT.replace("\nsource \"web\" {\n  routing = \"*\"\n}\n", ""));
        let none = remove_block(TEXT, &key("other"));
        assert_eq!(none, Err(EditError::NoBlock("key `other` of customer `acme`".to_owned())));
        assert_eq!(remove_block("customer \"a\" {", &key("x")), Err(EditError::Syntax));
    }

    #[test]
    fn a_block_is_added_behind_its_kind() {
        let new = NewBlock {
            step: ("key", "new"),
            attributes: vec![
                ("salted_sha256", text("22")),
                ("purpose", text("read")),
                ("may_declare", Literal::Bool(true)),
            ],
        };
        let added = add_block(TEXT, &[ACME], &new).expect("it is not there");
        let block = "\n  key \"new\" {\n    salted_sha256 = \"22\"\n    purpose       = \"read\"\n    may_declare   = true\n  }\n";
        assert_eq!(added, TEXT.replace("# the next one\n", &format!("# the next one\n{block}")));
        assert_eq!(remove_block(&added, &key("new")).as_deref(), Ok(TEXT));
        let there = NewBlock { step: ("key", "web"), attributes: Vec::new() };
        assert_eq!(add_block(TEXT, &[ACME], &there), Err(EditError::Exists("key `web`".to_owned())));
        let single =
            NewBlock { step: ("limits", ""), attributes: vec![("feeds", Literal::Written("7".to_owned()))] };
        let closing = add_block(TEXT, &[ACME], &single).expect("it is not there");
        assert!(closing.contains("  user \"alice\" {}\n\n  limits {\n    feeds = 7\n  }\n}\n"), "{closing}");
        let first = add_block("customer \"a\" {}\n", &[("customer", "a")], &single).expect("it is not there");
        assert_eq!(first, "customer \"a\" {\n  limits {\n    feeds = 7\n  }\n}\n");
        let line = "customer \"a\" { region = region.x }\n";
        let opened = add_block(line, &[("customer", "a")], &single).expect("it is not there");
        assert_eq!(opened, "customer \"a\" {\n  region = region.x\n\n  limits {\n    feeds = 7\n  }\n}\n");
        let top = add_block("a {}", &[], &single).expect("it is not there");
        assert_eq!(top, "a {}\n\nlimits {\n  feeds = 7\n}\n");
        assert_eq!(add_block("", &[], &single).as_deref(), Ok("limits {\n  feeds = 7\n}\n"));
    }

    #[test]
    fn attributes_are_set_added_and_removed() {
        let set = set_attribute(TEXT, &key("web"), "salted_sha256", &text("a\"${b}")).expect("it is there");
        assert_eq!(set, TEXT.replace("\"00\"", "\"a\\\"$${b}\""));
        // The text is canonical, and so is what comes out: the names stand in line.
        let added = set_attribute(TEXT, &key("web"), "expires", &text("2027-01-01")).expect("it is there");
        assert_eq!(added, TEXT.replace("\"00\"\n", "\"00\"\n    expires       = \"2027-01-01\"\n"));
        assert_eq!(remove_attribute(&added, &key("web"), "expires").as_deref(), Ok(TEXT));
        let opened = set_attribute(TEXT, &key("web-2"), "expires", &text("x")).expect("it is there");
        let block =
            "  key \"web-2\" {\n    salted_sha256 = \"11\"\n    expires       = \"x\"\n  } # the next one\n";
        assert_eq!(
            opened,
            TEXT.replace("  key \"web-2\" { salted_sha256 = \"11\" } # the next one\n", block)
        );
        let closed = remove_attribute(TEXT, &key("web-2"), "salted_sha256");
        assert!(matches!(closed, Err(EditError::ByHand(_))), "{closed:?}");
        assert_eq!(remove_attribute(TEXT, &key("web"), "starts").as_deref(), Ok(TEXT));
    }

    #[test]
    fn the_file_that_holds_a_block_is_found() {
        let files = Files::from([
            ("a.hcl".to_owned(), b"broken {".to_vec()),
            ("b.hcl".to_owned(), TEXT.as_bytes().to_vec()),
            ("c.txt".to_owned(), TEXT.as_bytes().to_vec()),
        ]);
        assert_eq!(holder(&files, &key("web-2")), Some("b.hcl"));
        assert_eq!(holder(&files, &key("none")), None);
    }
}
