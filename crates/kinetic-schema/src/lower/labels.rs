//! `site` and `labels`: what alert blocks choose by.

use std::collections::BTreeMap;

use crate::block::Node;
use crate::diagnostic::{At, Problem, Sink};
use crate::limits::{LABEL_BYTES_MAX, LABELS_MAX};
use crate::notation::{NameRule, name_problem};
use crate::value;

/// What to write for labels.
const EXAMPLE: &str = "an object such as { team = \"payments\" }";

/// `site`, where there is one.
pub(super) fn site(sink: &mut Sink<'_>, node: Node<'_>) -> Option<String> {
    let value = node.get("site")?;
    let written = value::text(sink, value, "a site's name as a string")?;
    if let Some(problem) = name_problem(NameRule::Region, written) {
        sink.push(value.problem("bad-name", problem).label("not a site's name"));
        return None;
    }
    Some(written.to_owned())
}

/// `labels`, where there are any.
pub(super) fn labels(sink: &mut Sink<'_>, node: Node<'_>) -> BTreeMap<String, String> {
    let Some(value) = node.get("labels") else { return BTreeMap::new() };
    let mut labels = BTreeMap::new();
    for (name, text, at) in value::strings(sink, value, LABELS_MAX, EXAMPLE) {
        if text.is_empty() || text.len() > LABEL_BYTES_MAX || text.contains(char::is_control) {
            let message = format!("a label's value is one line of 1 to {LABEL_BYTES_MAX} bytes");
            sink.push(Problem::error("bad-text", &at, message).label("its value"));
        } else if name_is_sound(sink, name, &at) {
            labels.insert(name.to_owned(), text.to_owned());
        }
    }
    labels
}

/// `labels` of `match`: each a glob.
pub(super) fn patterns(sink: &mut Sink<'_>, node: Node<'_>) -> BTreeMap<String, crate::schema::Glob> {
    let Some(value) = node.get("labels") else { return BTreeMap::new() };
    let mut patterns = BTreeMap::new();
    for (name, text, at) in value::strings(sink, value, LABELS_MAX, EXAMPLE) {
        if !name_is_sound(sink, name, &at) {
            continue;
        }
        if let Some(glob) = value::glob_of(sink, &at, text) {
            patterns.insert(name.to_owned(), glob);
        }
    }
    patterns
}

fn name_is_sound(sink: &mut Sink<'_>, name: &str, at: &At) -> bool {
    let problem = name_problem(NameRule::Other, name);
    if let Some(problem) = &problem {
        sink.push(Problem::error("bad-name", at, problem.clone()).label("not a label's name"));
    }
    problem.is_none()
}
