//! Blocks: which attributes and inner blocks each kind has, and how a block is asked for them.

use hcl_edit::Span;
use hcl_edit::structure::{Block, BlockLabel, Body, Structure};

use crate::diagnostic::{At, Problem, Sink};
use crate::notation::{NameRule, name_problem};
use crate::suggest::{closest, listed};
use crate::value::{Value, unwrapped};

/// What a kind of block may hold. Whatever is not here is an error.
pub(crate) struct Shape {
    /// The block's word.
    pub(crate) kind: &'static str,
    /// The rule of its label; `None` where it has none.
    pub(crate) name: Option<NameRule>,
    pub(crate) attributes: &'static [&'static str],
    pub(crate) blocks: &'static [&'static str],
}

/// Blocks that belong to a customer, in the order of the documentation.
pub(crate) const OF_CUSTOMER: [&str; 6] = ["profile", "source", "service", "analytic", "alert", "test"];
/// Blocks that belong to the installation.
pub(crate) const OF_INSTALLATION: [&str; 3] = ["region", "mail", "customer"];

/// Every kind of block; `docs/topology-language.md` documents each attribute (a test holds the two together).
pub(crate) const SHAPES: [Shape; 12] = [
    Shape { kind: "region", name: Some(NameRule::Region), attributes: &["amqp", "vhost"], blocks: &[] },
    Shape {
        kind: "mail",
        name: None,
        attributes: &["relay", "from", "tls", "username", "password_file"],
        blocks: &[],
    },
    Shape {
        kind: "customer",
        name: Some(NameRule::Customer),
        attributes: &["region", "netblocks"],
        blocks: &["key", "profile", "source", "service", "analytic", "alert", "test"],
    },
    Shape {
        kind: "key",
        name: Some(NameRule::Other),
        attributes: &["secret_sha256", "expires", "may_declare"],
        blocks: &[],
    },
    Shape { kind: "profile", name: Some(NameRule::Other), attributes: &["data_type"], blocks: &[] },
    Shape {
        kind: "source",
        name: Some(NameRule::Other),
        attributes: &[
            "profile",
            "data_type",
            "routing",
            "lateness",
            "name",
            "origin_tag",
            "gauge_sign",
            "precision",
            "max_length",
            "max_length_bytes",
        ],
        blocks: &[],
    },
    Shape { kind: "service", name: Some(NameRule::Other), attributes: &["depends_on"], blocks: &["cluster"] },
    Shape { kind: "cluster", name: Some(NameRule::Other), attributes: &["source", "members"], blocks: &[] },
    Shape {
        kind: "analytic",
        name: Some(NameRule::Other),
        attributes: &["on", "metric", "value", "window", "for", "severity", "description"],
        blocks: &["rule"],
    },
    Shape {
        kind: "rule",
        name: Some(NameRule::Free),
        attributes: &[
            "deviations",
            "direction",
            "deviation",
            "min_feeds",
            "min_effect",
            "min_effect_absolute",
        ],
        blocks: &[],
    },
    Shape {
        kind: "alert",
        name: Some(NameRule::Other),
        attributes: &["analytics", "to", "group_wait", "group_interval", "repeat_interval", "send_resolved"],
        blocks: &[],
    },
    Shape { kind: "test", name: Some(NameRule::Free), attributes: &[], blocks: &[] },
];

/// The shape of a kind of block.
pub(crate) fn shape(kind: &str) -> &'static Shape {
    SHAPES.iter().find(|shape| shape.kind == kind).expect("callers name kinds of the table")
}

/// A block and the file that it stands in.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    pub(crate) file: usize,
    pub(crate) block: &'a Block,
}

/// A block with its checked name.
#[derive(Clone, Copy)]
pub(crate) struct Named<'a> {
    pub(crate) name: &'a str,
    pub(crate) node: Node<'a>,
}

impl<'a> Node<'a> {
    /// The block's first words, without its body.
    pub(crate) fn header(&self) -> At {
        let start = self.block.ident.span().unwrap_or_default();
        let end = self.block.labels.last().and_then(Span::span).map_or(start.end, |label| label.end);
        At::new(self.file, start.start..end)
    }

    /// Where the name stands.
    pub(crate) fn name_at(&self) -> At {
        let span = self.block.labels.first().and_then(Span::span);
        span.map_or_else(|| self.header(), |span| At::new(self.file, span))
    }

    /// The value of an attribute.
    pub(crate) fn get(&self, name: &str) -> Option<Value<'a>> {
        let attribute = self.block.body.get_attribute(name)?;
        Some(Value { file: self.file, attribute: attribute.key.as_str(), expr: unwrapped(&attribute.value) })
    }

    /// The value of an attribute that must be there; `example` is what to write.
    pub(crate) fn required(&self, sink: &mut Sink<'_>, name: &str, example: &str) -> Option<Value<'a>> {
        let value = self.get(name);
        if value.is_none() && !self.misspells(name) {
            let message = format!("{} has no `{name}`", self.title());
            sink.push(
                Problem::error("missing-attribute", &self.header(), message)
                    .label(format!("`{name}` is missing"))
                    .help(format!("add {name} = {example}")),
            );
        }
        value
    }

    /// Whether an unknown attribute stands here that is taken for this one: that one mistake is reported already.
    fn misspells(&self, name: &str) -> bool {
        let known = shape(self.block.ident.as_str()).attributes;
        let mut keys = self.block.body.attributes().map(|attribute| attribute.key.as_str());
        keys.any(|key| !known.contains(&key) && closest(key, known.iter().copied()) == Some(name))
    }

    /// Inner blocks of one kind.
    pub(crate) fn blocks(&self, kind: &'static str) -> impl Iterator<Item = Self> + use<'a> {
        let file = self.file;
        self.block
            .body
            .blocks()
            .filter(move |block| block.has_ident(kind))
            .map(move |block| Node { file, block })
    }

    /// The block as a sentence names it: "source `web`".
    pub(crate) fn title(&self) -> String {
        match self.block.labels.first() {
            Some(label) => format!("{} `{}`", self.block.ident.as_str(), label.as_str()),
            None => format!("this `{}`", self.block.ident.as_str()),
        }
    }
}

/// Checks a block's labels and that it holds only what its kind may hold; gives its name.
pub(crate) fn checked<'a>(sink: &mut Sink<'_>, node: Node<'a>) -> Option<Named<'a>> {
    let shape = shape(node.block.ident.as_str());
    if shape.kind != "test" {
        check_body(sink, node.file, &node.block.body, shape);
    }
    name(sink, node, shape)
}

fn name<'a>(sink: &mut Sink<'_>, node: Node<'a>, shape: &Shape) -> Option<Named<'a>> {
    let kind = shape.kind;
    let labels = &node.block.labels;
    let (rule, label): (NameRule, &BlockLabel) = match (shape.name, labels.as_slice()) {
        (Some(rule), [label]) => (rule, label),
        (None, []) => return Some(Named { name: "", node }),
        (Some(_), []) => {
            let message = format!("this `{kind}` has no name");
            let help = format!("write {kind} \"some-name\" {{ … }}");
            sink.push(Problem::error("missing-name", &node.header(), message).label("no name").help(help));
            return None;
        }
        (wanted, [.., extra]) => {
            let count = usize::from(wanted.is_some());
            let message = format!("a `{kind}` block has {count} name{}", if count == 1 { "" } else { "s" });
            let at = At::new(node.file, extra.span().unwrap_or_default());
            sink.push(Problem::error("extra-name", &at, message).label("one too many"));
            return None;
        }
    };
    if let Some(problem) = name_problem(rule, label.as_str()) {
        sink.push(Problem::error("bad-name", &node.name_at(), problem).label("not a name for this"));
        // It is declared all the same: what refers to it need not be reported as well.
    }
    Some(Named { name: label.as_str(), node })
}

fn check_body(sink: &mut Sink<'_>, file: usize, body: &Body, shape: &Shape) {
    for structure in body {
        match structure {
            Structure::Attribute(attribute) => {
                let key = attribute.key.as_str();
                if !shape.attributes.contains(&key) {
                    let at = At::new(file, attribute.key.span().unwrap_or_default());
                    sink.push(unknown_attribute(&at, key, shape));
                }
            }
            Structure::Block(block) => {
                let kind = block.ident.as_str();
                if !shape.blocks.contains(&kind) {
                    let at = Node { file, block }.header();
                    sink.push(unknown_block(&at, kind, shape));
                }
            }
        }
    }
}

fn unknown_attribute(at: &At, key: &str, shape: &Shape) -> Problem {
    let kind = shape.kind;
    let problem = Problem::error("unknown-attribute", at, format!("`{kind}` has no attribute `{key}`"));
    if shape.blocks.contains(&key) {
        let help = if key == "rule" {
            "a rule is a block: rule \"deviates\" { … }".to_owned()
        } else {
            format!("`{key}` is a block: {key} \"name\" {{ … }}")
        };
        return problem.label("this is a block").help(help);
    }
    let problem = problem.label("unknown");
    match closest(key, shape.attributes.iter().copied()) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None if shape.attributes.is_empty() => problem,
        None => problem
            .help(format!("it has {}", listed(shape.attributes.iter().copied()).replace(" or ", " and "))),
    }
}

fn unknown_block(at: &At, kind: &str, shape: &Shape) -> Problem {
    let outer = shape.kind;
    let problem =
        Problem::error("unknown-block", at, format!("`{outer}` has no block `{kind}`")).label("unknown");
    if shape.attributes.contains(&kind) {
        return problem.label("this is an attribute").help(format!("write {kind} = …"));
    }
    if SHAPES.iter().any(|shape| shape.kind == kind) {
        return problem.help(format!("a `{kind}` block does not stand inside `{outer}`; see where it belongs in the guide to the language"));
    }
    match closest(kind, shape.blocks.iter().copied()) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None if shape.blocks.is_empty() => problem.help(format!("`{outer}` holds no blocks")),
        None => problem.help(format!("it holds {}", listed(shape.blocks.iter().copied()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_documents_every_block_and_attribute() {
        let guide = include_str!("../../../docs/topology-language.md");
        for shape in &SHAPES {
            let heading = guide.lines().position(|line| {
                line.starts_with("### ") && line.split(['`', ' ', '"']).any(|word| word == shape.kind)
            });
            let start = heading.unwrap_or_else(|| panic!("no section for `{}`", shape.kind));
            let section: Vec<&str> =
                guide.lines().skip(start + 1).take_while(|line| !line.starts_with('#')).collect();
            for attribute in shape.attributes {
                let row = format!("| `{attribute}` |");
                assert!(section.iter().any(|line| line.starts_with(&row)), "{}.{attribute}", shape.kind);
            }
            let rows = section.iter().filter(|line| line.starts_with("| `")).count();
            assert_eq!(rows, shape.attributes.len(), "rows of `{}`", shape.kind);
        }
    }

    #[test]
    fn every_inner_block_has_a_shape() {
        for inner in SHAPES.iter().flat_map(|shape| shape.blocks) {
            assert_eq!(shape(inner).kind, *inner);
        }
    }
}
