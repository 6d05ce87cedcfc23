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
    /// The label that this shape is for, where what a block may hold depends on its label: `rule "deviates"`.
    pub(crate) variant: Option<&'static str>,
    /// The block in which this shape is meant, `""` at the top of a file, where a block of this kind is another thing elsewhere.
    pub(crate) within: Option<&'static str>,
    /// The rule of its label; `None` where it has none.
    pub(crate) name: Option<NameRule>,
    /// Attributes that it shares with the kind's other variants.
    common: &'static [&'static str],
    /// Attributes of its own.
    own: &'static [&'static str],
    pub(crate) blocks: &'static [&'static str],
}

impl Shape {
    /// Whether blocks with this label have this shape.
    fn is_for(&self, label: Option<&str>) -> bool {
        self.variant.is_none_or(|variant| label == Some(variant))
    }

    /// All its attributes.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.common.iter().chain(self.own).copied()
    }

    fn has(&self, attribute: &str) -> bool {
        self.attributes().any(|known| known == attribute)
    }

    /// As a sentence names it: `rule "silent"`.
    fn title(&self) -> String {
        match self.variant {
            Some(variant) => format!("{} \"{variant}\"", self.kind),
            None => self.kind.to_owned(),
        }
    }
}

/// Blocks that belong to a customer, in the order of the documentation.
pub(crate) const OF_CUSTOMER: [&str; 7] =
    ["profile", "source", "service", "analytic", "hours", "alert", "test"];
/// Blocks that belong to the installation.
pub(crate) const OF_INSTALLATION: [&str; 9] =
    ["region", "mail", "watchdog", "provisioner", "tokens", "edge", "limits", "user", "customer"];
/// Blocks that stand once in an installation.
pub(crate) const SINGLE: [&str; 6] = ["mail", "watchdog", "provisioner", "tokens", "edge", "limits"];
/// Blocks that stand inside `customer`, and not at the top of a file in its folder: who somebody is and how much he may do
/// stands in one place.
pub(crate) const INSIDE_CUSTOMER: [&str; 4] = ["key", "certificate", "user", "limits"];

/// What every provisioner has, whatever its kind.
const OF_PROVISIONERS: &[&str] =
    &["min", "max", "scale_up_after", "idle_after", "cool_down", "load_high", "load_low", "dry_run"];

/// A shape of which every block of its kind is.
const fn plain(
    kind: &'static str,
    name: Option<NameRule>,
    own: &'static [&'static str],
    blocks: &'static [&'static str],
) -> Shape {
    Shape { kind, variant: None, within: None, name, common: &[], own, blocks }
}

/// A shape that blocks of a kind have inside another block.
const fn within(
    outer: &'static str,
    kind: &'static str,
    name: NameRule,
    own: &'static [&'static str],
) -> Shape {
    Shape { kind, variant: None, within: Some(outer), name: Some(name), common: &[], own, blocks: &[] }
}

/// A shape of the blocks of a kind that have this label.
const fn variant(
    kind: &'static str,
    label: &'static str,
    common: &'static [&'static str],
    own: &'static [&'static str],
) -> Shape {
    Shape { kind, variant: Some(label), within: None, name: Some(NameRule::Free), common, own, blocks: &[] }
}

/// Every kind of block; `docs/topology-language.md` documents each attribute (a test holds the two together).
pub(crate) const SHAPES: [Shape; 31] = [
    plain(
        "region",
        Some(NameRule::Region),
        &["amqp", "order", "vhost", "queues", "management", "tokens", "zones"],
        &[],
    ),
    plain(
        "mail",
        None,
        &["relay", "from", "tls", "username", "password_file", "bounces", "public_url"],
        &["fallback", "dkim"],
    ),
    plain("fallback", Some(NameRule::Other), &["relay", "tls", "username", "password_file"], &[]),
    plain("dkim", None, &["domain", "selector", "key_file"], &[]),
    plain(
        "watchdog",
        None,
        &[
            "to",
            "analyzer_silent_after",
            "redirector_silent_after",
            "group_wait",
            "group_interval",
            "repeat_interval",
            "send_resolved",
        ],
        &[],
    ),
    variant("provisioner", "process", OF_PROVISIONERS, &["data_dir"]),
    variant("provisioner", "docker", OF_PROVISIONERS, &["image", "socket", "network", "env"]),
    variant("provisioner", "exec", OF_PROVISIONERS, &["start", "stop", "timeout"]),
    plain(
        "customer",
        Some(NameRule::Customer),
        &["region", "netblocks", "disabled", "silent_after"],
        &[
            "limits",
            "key",
            "certificate",
            "user",
            "profile",
            "source",
            "service",
            "analytic",
            "hours",
            "alert",
            "test",
        ],
    ),
    within(
        "customer",
        "key",
        NameRule::Other,
        &["salted_sha256", "purpose", "starts", "expires", "may_declare"],
    ),
    plain("certificate", Some(NameRule::Other), &["sha256", "expires"], &[]),
    within("customer", "user", NameRule::User, &["password", "role"]),
    plain(
        "limits",
        None,
        &[
            "connections",
            "channels",
            "message_size",
            "samples_per_second",
            "feeds",
            "series",
            "clusters",
            "mails_per_hour",
        ],
        &[],
    ),
    plain("tokens", None, &["ttl"], &["key"]),
    within("tokens", "key", NameRule::Other, &["public", "starts"]),
    plain("edge", None, &["public"], &[]),
    within("", "user", NameRule::User, &["password"]),
    plain("profile", Some(NameRule::Other), &["data_type"], &[]),
    plain(
        "source",
        Some(NameRule::Other),
        &[
            "profile",
            "data_type",
            "routing",
            "partitions",
            "lateness",
            "name",
            "origin_tag",
            "gauge_sign",
            "precision",
            "max_length",
            "max_length_bytes",
        ],
        &[],
    ),
    plain("service", Some(NameRule::Other), &["depends_on", "site", "labels"], &["cluster"]),
    plain("cluster", Some(NameRule::Other), &["source", "members", "site", "labels"], &[]),
    plain(
        "analytic",
        Some(NameRule::Other),
        &["on", "metric", "value", "window", "for", "severity", "description", "labels"],
        &["rule"],
    ),
    variant(
        "rule",
        "deviates",
        &[],
        &["deviations", "direction", "deviation", "min_feeds", "min_effect", "min_effect_absolute"],
    ),
    variant("rule", "silent", &[], &["after", "each"]),
    plain("hours", Some(NameRule::Other), &["time_zone"], &["span"]),
    plain("span", None, &["days", "from", "to"], &[]),
    plain(
        "alert",
        Some(NameRule::Other),
        &[
            "analytics",
            "to",
            "continue",
            "group_by",
            "during",
            "except",
            "group_wait",
            "group_interval",
            "repeat_interval",
            "send_resolved",
        ],
        &["match", "escalate", "webhook"],
    ),
    plain("match", None, &["services", "clusters", "sites", "severities", "labels"], &[]),
    plain("escalate", None, &["after", "to"], &[]),
    plain("webhook", Some(NameRule::Other), &["url", "secret_file", "format"], &[]),
    plain("test", Some(NameRule::Free), &[], &[]),
];

/// The shape of a block: that of its kind and label, and of where it stands. A label that its kind does not have gives another
/// one of the kind.
pub(crate) fn shape(node: Node<'_>) -> &'static Shape {
    let kind = node.block.ident.as_str();
    let label = node.block.labels.first().map(BlockLabel::as_str);
    let here = |shape: &&Shape| shape.kind == kind && shape.within.is_none_or(|outer| outer == node.outer);
    let mut of_kind = SHAPES.iter().filter(here);
    let first = of_kind.next().expect("callers hand over kinds of the table, from where they stand");
    std::iter::once(first).chain(of_kind).find(|shape| shape.is_for(label)).unwrap_or(first)
}

/// The shapes of a kind of block that differ by its label.
pub(crate) fn variants(kind: &str) -> impl Iterator<Item = &'static Shape> {
    SHAPES.iter().filter(move |shape| shape.kind == kind && shape.variant.is_some())
}

/// A block and where it stands.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    pub(crate) file: usize,
    /// The kind of the block that it stands in; empty at the top of a file.
    pub(crate) outer: &'a str,
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
        let known = shape(*self);
        let mut keys = self.block.body.attributes().map(|attribute| attribute.key.as_str());
        keys.any(|key| !known.has(key) && closest(key, known.attributes()) == Some(name))
    }

    /// Inner blocks of one kind.
    pub(crate) fn blocks(&self, kind: &'static str) -> impl Iterator<Item = Self> + use<'a> {
        let (file, outer) = (self.file, self.block.ident.as_str());
        self.block.body.blocks().filter(move |block| block.has_ident(kind)).map(move |block| Node {
            file,
            outer,
            block,
        })
    }

    /// The one inner block of a kind, checked; a second one is reported.
    pub(crate) fn only(&self, sink: &mut Sink<'_>, kind: &'static str) -> Option<Self> {
        let mut found = self.blocks(kind);
        let first = found.next()?;
        if let Some(second) = found.next() {
            let message = format!("{} has one `{kind}`", self.title());
            let problem = Problem::error("duplicate-block", &second.header(), message).label("a second one");
            sink.push(problem.related(&first.header(), "first here"));
        }
        checked(sink, first).map(|named| named.node)
    }

    /// Inner blocks of one kind, checked, each name once, in the order written.
    pub(crate) fn inner(&self, sink: &mut Sink<'_>, kind: &'static str, max: usize) -> Vec<Named<'a>> {
        let mut found: Vec<Named<'a>> = Vec::new();
        for node in self.blocks(kind) {
            let Some(named) = checked(sink, node) else { continue };
            let first = found.iter().find(|other| !named.name.is_empty() && other.name == named.name);
            if let Some(first) = first {
                let message = format!("{kind} `{}` is declared twice", named.name);
                let problem = Problem::error("duplicate-name", &node.name_at(), message).label("again here");
                sink.push(problem.related(&first.node.name_at(), "first here"));
                continue;
            }
            if found.len() == max {
                let message = format!("{} has more than {max} blocks of kind `{kind}`", self.title());
                sink.push(Problem::error("too-many", &node.header(), message).label("one too many"));
                break;
            }
            found.push(named);
        }
        found
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
    let shape = shape(node);
    // Nobody can say what a block of an unknown variant holds; that there is none is said when it is lowered.
    let known = shape.is_for(node.block.labels.first().map(BlockLabel::as_str));
    if shape.kind != "test" && known {
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
            let help = match shape.variant {
                Some(_) => {
                    let titles: Vec<String> = variants(kind).map(Shape::title).collect();
                    format!("it is one of {}", listed(titles.iter().map(String::as_str)))
                }
                None => format!("write {kind} \"some-name\" {{ … }}"),
            };
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
                if !shape.has(key) {
                    let at = At::new(file, attribute.key.span().unwrap_or_default());
                    sink.push(unknown_attribute(&at, key, shape));
                }
            }
            Structure::Block(block) => {
                let kind = block.ident.as_str();
                if !shape.blocks.contains(&kind) {
                    let at = Node { file, outer: "", block }.header();
                    sink.push(unknown_block(&at, kind, shape));
                }
            }
        }
    }
}

fn unknown_attribute(at: &At, key: &str, shape: &Shape) -> Problem {
    let problem =
        Problem::error("unknown-attribute", at, format!("`{}` has no attribute `{key}`", shape.title()));
    if shape.blocks.contains(&key) {
        let help = if key == "rule" {
            "a rule is a block: rule \"deviates\" { … }".to_owned()
        } else {
            let unnamed = SHAPES.iter().any(|shape| shape.kind == key && shape.name.is_none());
            let name = if unnamed { "" } else { " \"name\"" };
            format!("`{key}` is a block: {key}{name} {{ … }}")
        };
        return problem.label("this is a block").help(help);
    }
    let problem = problem.label("unknown");
    let elsewhere =
        |other: &&Shape| other.kind == shape.kind && other.within != shape.within && other.has(key);
    if let Some(outer) = SHAPES.iter().find(elsewhere).and_then(|other| other.within) {
        return problem.help(match (shape.kind, outer) {
            ("user", _) => "at the top of the repository a user is an operator; a customer's people stand inside its block".to_owned(),
            (kind, outer) => format!("a `{kind}` inside `{outer}` has it"),
        });
    }
    if let Some(other) = variants(shape.kind).find(|other| other.has(key)) {
        return problem.help(format!("`{}` has it", other.title()));
    }
    let inner = SHAPES.iter().find(|inner| shape.blocks.contains(&inner.kind) && inner.has(key));
    if let (Some(inner), None) = (inner, closest(key, shape.attributes())) {
        return problem.help(format!("it stands in the block `{}`", inner.title()));
    }
    match closest(key, shape.attributes()) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None if shape.attributes().next().is_none() => problem,
        None => problem.help(format!("it has {}", listed(shape.attributes()).replace(" or ", " and "))),
    }
}

fn unknown_block(at: &At, kind: &str, shape: &Shape) -> Problem {
    let outer = shape.title();
    let problem =
        Problem::error("unknown-block", at, format!("`{outer}` has no block `{kind}`")).label("unknown");
    if shape.has(kind) {
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

    /// The rows of the guide's table of attributes under a heading.
    fn rows(heading: &str) -> Vec<&'static str> {
        let guide = include_str!("../../../docs/topology-language.md");
        let mut lines = guide.lines();
        assert!(lines.any(|line| line == heading), "no section {heading}");
        let section = lines.take_while(|line| !line.starts_with('#'));
        section.filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
    }

    #[test]
    fn the_guide_documents_every_block_and_attribute() {
        for shape in &SHAPES {
            let kind = shape.kind;
            let label = match (shape.variant, shape.name) {
                (Some(variant), _) => format!(" \"{variant}\""),
                (None, None) => String::new(),
                (None, Some(_)) if kind == "test" => " \"SENTENCE\"".to_owned(),
                (None, Some(_)) => " \"NAME\"".to_owned(),
            };
            let place = match shape.within {
                None | Some("customer") => String::new(),
                Some("") => " at the top".to_owned(),
                Some(outer) => format!(" of `{outer}`"),
            };
            assert_eq!(rows(&format!("### `{kind}{label}`{place}")), shape.own);
            if !shape.common.is_empty() {
                assert_eq!(rows(&format!("### `{kind} \"KIND\"`")), shape.common);
            }
        }
    }

    #[test]
    fn every_inner_block_has_a_shape() {
        for inner in SHAPES.iter().flat_map(|shape| shape.blocks) {
            assert!(SHAPES.iter().any(|shape| shape.kind == *inner), "{inner}");
        }
    }

    #[test]
    fn an_attribute_is_common_or_own_and_stands_once() {
        for shape in &SHAPES {
            let mut names: Vec<&str> = shape.attributes().collect();
            names.sort_unstable();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{}", shape.title());
        }
    }
}
