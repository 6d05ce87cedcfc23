//! References: `source.web`, `service.checkout.cluster.frontends`, `region["us-west.aws"]`.

use std::collections::BTreeMap;

use hcl_edit::Span;
use hcl_edit::expr::{Expression, TraversalOperator};

use crate::block::Named;
use crate::diagnostic::{At, Problem, Sink};
use crate::suggest::{closest, listed};
use crate::value::{Value, describe, unwrapped};

/// Declared blocks of one kind, by name.
pub(crate) type Names<'a> = BTreeMap<&'a str, Named<'a>>;

/// A name within a reference, with its place.
pub(crate) struct Step<'a> {
    pub(crate) name: &'a str,
    pub(crate) at: At,
}

/// Takes a reference apart into its words. What is not one is reported; `example` shows how it is written.
pub(crate) fn steps<'a>(sink: &mut Sink<'_>, value: Value<'a>, example: &str) -> Option<Vec<Step<'a>>> {
    let place = |span: Option<std::ops::Range<usize>>| At::new(value.file, span.unwrap_or_default());
    match value.expr {
        Expression::Variable(word) => Some(vec![Step { name: word.as_str(), at: value.at() }]),
        Expression::Traversal(traversal) => {
            let Expression::Variable(root) = &traversal.expr else {
                sink.push(not_a_reference(value, example));
                return None;
            };
            let mut steps = vec![Step { name: root.as_str(), at: place(root.span()) }];
            for operator in &traversal.operators {
                let step = match operator.value() {
                    TraversalOperator::GetAttr(word) => Step { name: word.as_str(), at: place(word.span()) },
                    TraversalOperator::Index(index) => match unwrapped(index) {
                        Expression::String(name) => Step { name: name.as_str(), at: place(name.span()) },
                        _ => {
                            sink.push(not_a_reference(value, example));
                            return None;
                        }
                    },
                    _ => {
                        sink.push(not_a_reference(value, example));
                        return None;
                    }
                };
                steps.push(step);
            }
            Some(steps)
        }
        _ => {
            sink.push(not_a_reference(value, example));
            None
        }
    }
}

fn not_a_reference(value: Value<'_>, example: &str) -> Problem {
    let found = describe(value.expr);
    let message = format!("`{}` must be a reference such as {example}, not {found}", value.attribute);
    let problem = value.problem("wrong-type", message).label(format!("this is {found}"));
    match (value.expr, example.split(['.', '[']).next()) {
        (Expression::String(name), Some(kind)) => {
            problem.help(format!("references stand without quotes: {}", written(kind, name.as_str())))
        }
        _ => problem,
    }
}

/// A reference as one would write it.
pub(crate) fn written(kind: &str, name: &str) -> String {
    let word = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && !name.contains('.');
    if word { format!("{kind}.{name}") } else { format!("{kind}[\"{name}\"]") }
}

/// Resolves `kind.name` to a declared name.
pub(crate) fn resolve<'a>(
    sink: &mut Sink<'_>,
    value: Value<'a>,
    kind: &str,
    names: &Names<'_>,
) -> Option<&'a str> {
    let example = written(kind, names.keys().next().copied().unwrap_or("name"));
    let steps = steps(sink, value, &example)?;
    match steps.as_slice() {
        [root, name] if root.name == kind => known(sink, name, kind, names).then_some(name.name),
        _ => {
            sink.push(wrong_root(value, &steps, kind, &example));
            None
        }
    }
}

/// What to say of a reference that does not read `kind.name`.
pub(crate) fn wrong_root(value: Value<'_>, steps: &[Step<'_>], kind: &str, example: &str) -> Problem {
    let message = format!("`{}` must be a reference such as {example}", value.attribute);
    let problem = value.problem("wrong-reference", message).label(format!("names no {kind}"));
    match steps {
        [only] => problem.help(format!("write {}", written(kind, only.name))),
        _ => problem.help(format!("write {}", written(kind, "name"))),
    }
}

/// Whether a name is declared; if it is not, says which one may be meant.
pub(crate) fn known(sink: &mut Sink<'_>, step: &Step<'_>, kind: &str, names: &Names<'_>) -> bool {
    if names.contains_key(step.name) {
        return true;
    }
    sink.push(unknown(step, kind, names));
    false
}

fn unknown(step: &Step<'_>, kind: &str, names: &Names<'_>) -> Problem {
    let name = step.name;
    let problem = Problem::error("unknown-reference", &step.at, format!("no {kind} named `{name}`"));
    match closest(name, names.keys().copied()) {
        Some(near) => {
            problem.label(format!("did you mean `{near}`?")).help(format!("write {}", written(kind, near)))
        }
        None if names.is_empty() => {
            problem.label("not declared").help(format!("declare it: {kind} \"{name}\" {{ … }}"))
        }
        None => problem.label("not declared").help(format!("there is {}", listed(names.keys().copied()))),
    }
}
