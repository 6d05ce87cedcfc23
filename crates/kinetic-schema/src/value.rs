//! Expressions to plain values, each with the sentence that says what was expected.

use std::ops::RangeInclusive;
use std::time::Duration;

use hcl_edit::Span;
use hcl_edit::expr::{Expression, ObjectKey, UnaryOperator};
use hcl_edit::template::Element;

use crate::diagnostic::{At, Problem, Sink};
use crate::limits::{GLOB_BYTES_MAX, LIST_MAX};
use crate::notation;
use crate::schema::Glob;
use crate::suggest;

/// An expression, where it stands, and the attribute whose value it is (or is part of).
#[derive(Clone, Copy)]
pub(crate) struct Value<'a> {
    pub(crate) file: usize,
    pub(crate) attribute: &'a str,
    pub(crate) expr: &'a Expression,
}

impl<'a> Value<'a> {
    pub(crate) fn at(&self) -> At {
        At::new(self.file, self.expr.span().unwrap_or_default())
    }

    /// The same place, another expression: an element of a list.
    pub(crate) fn with(&self, expr: &'a Expression) -> Self {
        Self { expr: unwrapped(expr), ..*self }
    }

    pub(crate) fn problem(&self, code: &'static str, message: impl Into<String>) -> Problem {
        Problem::error(code, &self.at(), message)
    }

    fn wrong_type(&self, wanted: &str) -> Problem {
        let found = describe(self.expr);
        self.problem("wrong-type", format!("`{}` must be {wanted}, not {found}", self.attribute))
            .label(format!("this is {found}"))
    }

    fn out_of_range(&self, message: String) -> Problem {
        self.problem("out-of-range", message).label("outside its range")
    }
}

/// What stands inside parentheses.
pub(crate) fn unwrapped(mut expr: &Expression) -> &Expression {
    while let Expression::Parenthesis(inner) = expr {
        expr = inner.inner();
    }
    expr
}

/// What an expression is, for a sentence.
pub(crate) fn describe(expr: &Expression) -> &'static str {
    match expr {
        Expression::Null(_) => "null",
        Expression::Bool(_) => "true or false",
        Expression::Number(_) => "a number",
        Expression::String(_) => "a string",
        Expression::Array(_) => "a list",
        Expression::Object(_) => "an object",
        Expression::StringTemplate(_) | Expression::HeredocTemplate(_) => "a template",
        Expression::Parenthesis(_) => "an expression in parentheses",
        Expression::Variable(_) => "a bare word",
        Expression::Conditional(_) => "a condition",
        Expression::FuncCall(_) => "a function call",
        Expression::Traversal(_) => "a reference",
        Expression::UnaryOp(_) | Expression::BinaryOp(_) => "a calculation",
        Expression::ForExpr(_) => "a `for` expression",
    }
}

/// The text of a string, or of a heredoc that holds nothing but text.
pub(crate) fn text<'a>(sink: &mut Sink<'_>, value: Value<'a>, wanted: &str) -> Option<&'a str> {
    let literal = match value.expr {
        Expression::String(string) => return Some(string.as_str()),
        Expression::HeredocTemplate(heredoc) => heredoc.template.as_single_element(),
        Expression::Variable(word) => {
            sink.push(
                value
                    .wrong_type(wanted)
                    .help(format!("strings are written in quotes: \"{}\"", word.as_str())),
            );
            return None;
        }
        Expression::StringTemplate(_) => None,
        _ => {
            sink.push(value.wrong_type(wanted));
            return None;
        }
    };
    if let Some(Element::Literal(literal)) = literal {
        return Some(literal.as_str());
    }
    sink.push(
        value
            .problem(
                "no-templates",
                format!("`{}` must be plain text: there is nothing to interpolate", value.attribute),
            )
            .help("write `$${` for the characters `${`, and `%%{` for `%{`"),
    );
    None
}

/// `true` or `false`.
pub(crate) fn boolean(sink: &mut Sink<'_>, value: Value<'_>) -> Option<bool> {
    if let Expression::Bool(boolean) = value.expr {
        return Some(*boolean.value());
    }
    sink.push(value.wrong_type("true or false"));
    None
}

/// A number, also a negative one.
fn number(value: Value<'_>) -> Option<f64> {
    match value.expr {
        Expression::Number(number) => number.as_f64(),
        Expression::UnaryOp(op) if *op.operator.value() == UnaryOperator::Neg => {
            number(value.with(&op.expr)).map(|number| -number)
        }
        _ => None,
    }
}

/// A finite number in a range.
pub(crate) fn real(
    sink: &mut Sink<'_>,
    value: Value<'_>,
    range: RangeInclusive<f64>,
    wanted: &str,
) -> Option<f64> {
    let Some(number) = number(value) else {
        sink.push(value.wrong_type(wanted));
        return None;
    };
    if number.is_finite() && range.contains(&number) {
        return Some(number);
    }
    sink.push(value.out_of_range(format!("`{}` must be {wanted}", value.attribute)));
    None
}

/// A whole number in a range.
pub(crate) fn whole(sink: &mut Sink<'_>, value: Value<'_>, range: RangeInclusive<u64>) -> Option<u64> {
    let wanted = format!("a whole number from {} to {}", range.start(), range.end());
    if number(value).is_none() {
        sink.push(value.wrong_type(&wanted));
        return None;
    }
    let whole = match value.expr {
        Expression::Number(number) => number.as_u64().filter(|whole| range.contains(whole)),
        _ => None,
    };
    if whole.is_none() {
        sink.push(value.out_of_range(format!("`{}` must be {wanted}", value.attribute)));
    }
    whole
}

/// A duration such as `"10s"`, in a range.
pub(crate) fn duration(
    sink: &mut Sink<'_>,
    value: Value<'_>,
    range: RangeInclusive<Duration>,
) -> Option<Duration> {
    let wanted = "a duration such as \"500ms\", \"10s\", \"5m\" or \"1h\"";
    if let Expression::Number(number) = value.expr {
        let help = format!("durations carry their unit: \"{}s\"", number.value());
        sink.push(value.wrong_type(wanted).help(help));
        return None;
    }
    let written = text(sink, value, wanted)?;
    let Some(duration) = notation::duration(written) else {
        sink.push(
            value
                .problem("bad-duration", format!("`{}` must be {wanted}", value.attribute))
                .label("not a duration")
                .help("a number and one of ms, s, m, h, d; several may follow each other: \"1m30s\""),
        );
        return None;
    };
    if range.contains(&duration) {
        return Some(duration);
    }
    let (low, high) = (notation::show_duration(*range.start()), notation::show_duration(*range.end()));
    sink.push(value.out_of_range(format!("`{}` must be from {low} to {high}", value.attribute)));
    None
}

/// A size in bytes: `"256MiB"`, or a bare number.
pub(crate) fn size(sink: &mut Sink<'_>, value: Value<'_>, range: RangeInclusive<u64>) -> Option<u64> {
    if number(value).is_some() {
        return whole(sink, value, range);
    }
    let wanted = "a size such as \"256MiB\"";
    let written = text(sink, value, wanted)?;
    match notation::size(written) {
        Some(size) if range.contains(&size) => Some(size),
        Some(_) => {
            let message =
                format!("`{}` must be from {} to {} bytes", value.attribute, range.start(), range.end());
            sink.push(value.out_of_range(message));
            None
        }
        None => {
            sink.push(
                value
                    .problem("bad-size", format!("`{}` must be {wanted}", value.attribute))
                    .label("not a size")
                    .help("a number and one of B, kB, MB, GB, KiB, MiB, GiB"),
            );
            None
        }
    }
}

/// One of several words.
pub(crate) fn choice<T: Copy>(sink: &mut Sink<'_>, value: Value<'_>, choices: &[(&str, T)]) -> Option<T> {
    let names = || choices.iter().map(|(name, _)| *name);
    let written = text(sink, value, &format!("one of {}", suggest::listed(names())))?;
    if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == written) {
        return Some(*choice);
    }
    let problem = value
        .problem("unknown-value", format!("`{}` cannot be \"{written}\"", value.attribute))
        .label("not one of them");
    sink.push(match suggest::closest(written, names()) {
        Some(near) => problem.help(format!("did you mean \"{near}\"?")),
        None => problem.help(format!("it is one of {}", suggest::listed(names()))),
    });
    None
}

/// The elements of a list. Wherever a list is expected, one value may stand by itself.
pub(crate) fn list<'a>(sink: &mut Sink<'_>, value: Value<'a>, max: usize) -> Vec<Value<'a>> {
    let Expression::Array(array) = value.expr else {
        return vec![value];
    };
    let max = max.min(LIST_MAX);
    if array.len() > max {
        let message = format!("`{}` holds {} entries; {max} are possible", value.attribute, array.len());
        sink.push(value.problem("too-many", message).label("too long a list"));
    }
    array.iter().take(max).map(|expr| value.with(expr)).collect()
}

/// Like [`list`], with at least one element.
pub(crate) fn some_list<'a>(sink: &mut Sink<'_>, value: Value<'a>, max: usize, why: &str) -> Vec<Value<'a>> {
    let values = list(sink, value, max);
    if values.is_empty() {
        sink.push(
            value
                .problem("empty-list", format!("`{}` is empty", value.attribute))
                .label("nothing in it")
                .help(why.to_owned()),
        );
    }
    values
}

/// The entries of an object of strings, each name with its value and where they stand, in the order written.
pub(crate) fn strings<'a>(
    sink: &mut Sink<'_>,
    value: Value<'a>,
    max: usize,
    wanted: &str,
) -> Vec<(&'a str, &'a str, At)> {
    let Expression::Object(object) = value.expr else {
        sink.push(value.wrong_type(wanted));
        return Vec::new();
    };
    if object.len() > max {
        let message = format!("`{}` holds {} entries; {max} are possible", value.attribute, object.len());
        sink.push(value.problem("too-many", message).label("too many entries"));
    }
    let mut entries: Vec<(&str, &str, At)> = Vec::new();
    for (key, inner) in object.iter().take(max) {
        let at = At::new(value.file, key.span().unwrap_or_default());
        let name = match key {
            ObjectKey::Ident(word) => word.as_str(),
            ObjectKey::Expression(Expression::Variable(word)) => word.as_str(),
            ObjectKey::Expression(Expression::String(string)) => string.as_str(),
            ObjectKey::Expression(other) => {
                let message = format!(
                    "a name in `{}` must be a word or a string, not {}",
                    value.attribute,
                    describe(other)
                );
                sink.push(Problem::error("wrong-type", &at, message).label("not a name"));
                continue;
            }
        };
        if entries.iter().any(|(other, ..)| *other == name) {
            let message = format!("`{name}` stands here twice");
            sink.push(Problem::error("duplicate-entry", &at, message).label("again"));
            continue;
        }
        if let Some(text) = text(sink, Value { attribute: name, ..value.with(inner.expr()) }, "a string") {
            entries.push((name, text, at));
        }
    }
    entries
}

/// A glob, compiled; `*` runs over dots too.
pub(crate) fn glob(sink: &mut Sink<'_>, value: Value<'_>) -> Option<Glob> {
    let pattern = text(sink, value, "a string")?;
    glob_of(sink, &value.at(), pattern)
}

/// The glob that a text which stands there is.
pub(crate) fn glob_of(sink: &mut Sink<'_>, at: &At, pattern: &str) -> Option<Glob> {
    let problem = if pattern.is_empty() {
        Some("a glob must not be empty; `*` matches everything".to_owned())
    } else if pattern.len() > GLOB_BYTES_MAX {
        Some(format!("a glob has at most {GLOB_BYTES_MAX} bytes; this one has {}", pattern.len()))
    } else if pattern.chars().any(char::is_control) {
        Some("a glob holds no control characters".to_owned())
    } else {
        None
    };
    if let Some(message) = problem {
        sink.push(Problem::error("bad-glob", at, message).label("not a glob"));
        return None;
    }
    match Glob::parse(pattern) {
        Ok(glob) => Some(glob),
        Err(error) => {
            let message = format!("\"{pattern}\" is not a glob: {}", error.kind());
            sink.push(
                Problem::error("bad-glob", at, message)
                    .label("not a glob")
                    .help("`*` is any run of characters, `?` any one, `[abc]` one of these, `{a,b}` either; a backslash takes the meaning away"),
            );
            None
        }
    }
}

/// Whether a pattern can match one name only.
pub(crate) fn is_literal(pattern: &str) -> bool {
    !pattern.contains(['*', '?', '[', ']', '{', '}', '\\'])
}
