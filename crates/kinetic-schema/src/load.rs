//! A repository's files to a schema: every file is parsed, every block collected under its owner, then all are lowered.

use std::collections::BTreeMap;

use hcl_edit::structure::{Body, Structure};
use kinetic_wire::Wall;

use crate::block::{INSIDE_CUSTOMER, Named, Node, OF_CUSTOMER, OF_INSTALLATION, SHAPES, SINGLE, checked};
use crate::diagnostic::{At, Diagnostic, Problem, Sink, position};
use crate::edit;
use crate::limits::{
    BLOCKS_PER_KIND_MAX, CUSTOMERS_MAX, FILE_BYTES_MAX, FILES_MAX, REGIONS_MAX, REPOSITORY_BYTES_MAX,
    USERS_MAX,
};
use crate::lower;
use crate::notation::{NameRule, name_problem};
use crate::parse::parse;
use crate::reference::Names;
use crate::schema::{Schema, Templates};
use crate::suggest::closest;
use crate::template;

/// Files by path relative to the repository's root, with `/` between folders. Only `*.hcl` is read, and the templates
/// `customers/<name>/templates/*.j2`.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What a repository says.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The schema; `None` where there is any error.
    pub schema: Option<Schema>,
    /// All problems, by file and position.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a repository. All problems are reported at once; no bytes make it panic.
#[must_use]
pub fn load(files: &Files) -> Loaded {
    load_at(files, None)
}

/// Like [`load`], and warns of keys that have expired by `today`. (The crate has no clock: whoever has one says.)
#[must_use]
pub fn load_at(files: &Files, today: Option<Wall>) -> Loaded {
    let mut sink = Sink::new();
    read(&mut sink, files);
    let bodies: Vec<Body> = (0..sink.files.len()).map(|file| parse(&mut sink, file)).collect();
    let templates = template::read(&mut sink, files);
    let declared = collect(&mut sink, &bodies, templates);
    let schema = lower::schema(&mut sink, &declared, today);
    let schema = (!sink.failed()).then_some(schema);
    Loaded { schema, diagnostics: sink.finish() }
}

/// For fuzzing: loads one file, formats it and renders what there is to say; also as a template of mails.
pub fn fuzz_bytes(bytes: &[u8]) {
    let mut files = Files::new();
    files.insert("kinetic.hcl".to_owned(), bytes.to_vec());
    let loaded = load(&files);
    assert_eq!(
        loaded.schema.is_none(),
        loaded.diagnostics.iter().any(|diagnostic| diagnostic.severity == crate::DiagnosticSeverity::Error)
    );
    assert!(
        !crate::render(&loaded.diagnostics, &files, false, 80).contains('\u{1b}') || bytes.contains(&0x1b)
    );
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(formatted) = crate::format(text)
    {
        assert_eq!(crate::format(&formatted).as_ref(), Ok(&formatted), "formatting twice is formatting once");
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        edit::fuzz(text);
    }
    let template = Files::from([("customers/acme/templates/html.j2".to_owned(), bytes.to_vec())]);
    let loaded = load(&template);
    assert!(loaded.schema.is_none(), "its customer is declared nowhere");
    assert!(!crate::render(&loaded.diagnostics, &template, false, 80).is_empty());
}

/// The place of a problem that is a whole file, or all of them.
const WHOLE: (std::ops::Range<usize>, (u32, u32)) = (0..0, (1, 1));

/// Takes in the files that can be text at all.
fn read<'f>(sink: &mut Sink<'f>, files: &'f Files) {
    let mut total = 0usize;
    let sources = files.iter().filter(|(name, _)| name.ends_with(".hcl"));
    for (number, (name, bytes)) in sources.enumerate() {
        if number >= FILES_MAX {
            let message = format!("there are more than {FILES_MAX} files");
            sink.push_whole("too-many", "", message, WHOLE, "files beyond that are not read");
            return;
        }
        if bytes.len() > FILE_BYTES_MAX {
            let message = format!("this file has {} bytes; {FILE_BYTES_MAX} are possible", bytes.len());
            sink.push_whole("too-large", name, message, WHOLE, "split it into several files");
            continue;
        }
        total += bytes.len();
        if total > REPOSITORY_BYTES_MAX {
            let message = format!("all files together have more than {REPOSITORY_BYTES_MAX} bytes");
            sink.push_whole("too-large", name, message, WHOLE, "this file and those after it are not read");
            return;
        }
        match std::str::from_utf8(bytes) {
            Ok(text) if text.starts_with('\u{feff}') => {
                let message = "the file starts with a byte order mark".to_owned();
                sink.push_whole(
                    "syntax",
                    name,
                    message,
                    (0..3, (1, 1)),
                    "save it as UTF-8 without a byte order mark",
                );
            }
            Ok(text) => {
                sink.add_file(name, text);
            }
            Err(error) => {
                let start = error.valid_up_to();
                let valid = std::str::from_utf8(&bytes[..start]).unwrap_or_default();
                let place = position(valid, start);
                let message = format!("the file is not UTF-8 from byte {start} on");
                sink.push_whole("not-utf-8", name, message, (start..start + 1, place), "save it as UTF-8");
            }
        }
    }
}

/// All that is declared, by owner.
#[derive(Default)]
pub(crate) struct Declared<'a> {
    pub(crate) regions: Names<'a>,
    /// `user` blocks at the top.
    pub(crate) operators: Names<'a>,
    /// Blocks that stand once in an installation, by kind.
    pub(crate) single: BTreeMap<&'a str, Named<'a>>,
    pub(crate) customers: BTreeMap<&'a str, Parts<'a>>,
}

/// What belongs to one customer.
#[derive(Default)]
pub(crate) struct Parts<'a> {
    /// The `customer` block; blocks in a customer's folder may lack one.
    pub(crate) customer: Option<Named<'a>>,
    /// By kind, then by name.
    pub(crate) kinds: BTreeMap<&'static str, Names<'a>>,
    /// First thing found in the customer's folder, to point at where the `customer` block is missing.
    folder: Option<At>,
    pub(crate) templates: Templates,
}

impl<'a> Parts<'a> {
    /// Declared blocks of a kind.
    pub(crate) fn names(&self, kind: &str) -> &Names<'a> {
        const NONE: &Names<'static> = &Names::new();
        self.kinds.get(kind).unwrap_or(NONE)
    }
}

/// The customer whose folder a file stands in: `customers/<name>/…`.
fn folder(path: &str) -> Option<&str> {
    let (customer, rest) = path.strip_prefix("customers/")?.split_once('/')?;
    (!customer.is_empty() && !rest.is_empty()).then_some(customer)
}

fn collect<'a>(
    sink: &mut Sink<'a>,
    bodies: &'a [Body],
    templates: BTreeMap<&'a str, (At, Templates)>,
) -> Declared<'a> {
    let mut declared = Declared::default();
    for (file, body) in bodies.iter().enumerate() {
        let folder = folder(sink.files[file].name);
        for structure in body {
            match structure {
                Structure::Block(block) => {
                    top_level(sink, &mut declared, folder, Node { file, outer: "", block })
                }
                Structure::Attribute(attribute) => {
                    let at = At::new(file, hcl_edit::Span::span(&attribute.key).unwrap_or_default());
                    let message = format!("`{}` stands outside any block", attribute.key.as_str());
                    sink.push(
                        Problem::error("misplaced-attribute", &at, message)
                            .label("belongs in a block")
                            .help("attributes stand inside a block such as source \"web\" { … }"),
                    );
                }
            }
        }
    }
    for (customer, (at, templates)) in templates {
        let parts = declared.customers.entry(customer).or_default();
        parts.folder.get_or_insert(at);
        parts.templates = templates;
    }
    missing_customers(sink, &declared);
    declared
}

/// One block at the top of a file.
fn top_level<'a>(sink: &mut Sink<'a>, declared: &mut Declared<'a>, folder: Option<&'a str>, node: Node<'a>) {
    let kind = node.block.ident.as_str();
    match (kind, folder) {
        (kind, Some(folder)) if INSIDE_CUSTOMER.contains(&kind) => {
            let message = format!("`{kind}` stands inside the block of customer `{folder}`");
            sink.push(
                Problem::error("misplaced-block", &node.header(), message)
                    .label("not at the top")
                    .help(format!("put it into customer \"{folder}\" {{ … }}")),
            );
        }
        (kind, Some(customer)) if kind == "region" || SINGLE.contains(&kind) => {
            let message =
                format!("`{kind}` describes the installation, and this folder is customer `{customer}`");
            sink.push(
                Problem::error("misplaced-block", &node.header(), message)
                    .label("not in a customer's folder")
                    .help("put it in kinetic.hcl at the top of the repository"),
            );
        }
        ("region", None) => {
            if let Some(named) = checked(sink, node) {
                declare(sink, &mut declared.regions, "region", named, REGIONS_MAX);
            }
        }
        ("user", None) => {
            if let Some(named) = checked(sink, node) {
                declare(sink, &mut declared.operators, "user", named, USERS_MAX);
            }
        }
        (kind, None) if SINGLE.contains(&kind) => single(sink, declared, node),
        ("customer", _) => customer(sink, declared, folder, node),
        (kind, Some(folder)) if OF_CUSTOMER.contains(&kind) => {
            let parts = declared.customers.entry(folder).or_default();
            parts.folder.get_or_insert_with(|| node.header());
            part(sink, parts, node);
        }
        (kind, None) if OF_CUSTOMER.contains(&kind) => {
            let message = format!("this `{kind}` belongs to no customer");
            sink.push(
                Problem::error("misplaced-block", &node.header(), message)
                    .label("whose is it?")
                    .help("put it inside the customer's block, or in a file under customers/<name>/"),
            );
        }
        _ => sink.push(unknown_at_top(node)),
    }
}

/// A block that stands once in an installation.
fn single<'a>(sink: &mut Sink<'a>, declared: &mut Declared<'a>, node: Node<'a>) {
    let Some(named) = checked(sink, node) else { return };
    let kind = node.block.ident.as_str();
    match declared.single.get(kind) {
        None => {
            declared.single.insert(kind, named);
        }
        Some(first) => {
            let message = format!("`{kind}` is declared twice");
            sink.push(duplicate(&node.header(), &first.node.header(), &message));
        }
    }
}

fn unknown_at_top(node: Node<'_>) -> Problem {
    let kind = node.block.ident.as_str();
    let problem = Problem::error("unknown-block", &node.header(), format!("there is no block `{kind}`"));
    if let Some(outer) = SHAPES.iter().find(|shape| shape.blocks.contains(&kind)) {
        return problem.label("not here").help(format!("a `{kind}` block stands inside `{}`", outer.kind));
    }
    let candidates = OF_INSTALLATION.iter().chain(&OF_CUSTOMER).copied();
    match closest(kind, candidates) {
        Some(near) => problem.label("unknown").help(format!("did you mean `{near}`?")),
        None => problem
            .label("unknown")
            .help("blocks are region, mail, watchdog, provisioner, tokens, edge, limits, user, customer, profile, source, service, analytic, hours, alert and test"),
    }
}

/// A `customer` block, with what stands inside it.
fn customer<'a>(sink: &mut Sink<'a>, declared: &mut Declared<'a>, folder: Option<&'a str>, node: Node<'a>) {
    let Some(named) = checked(sink, node) else { return };
    if let Some(folder) = folder
        && folder != named.name
    {
        let message = format!("the folder customers/{folder}/ declares customer `{}`", named.name);
        sink.push(
            Problem::error("wrong-folder", &node.name_at(), message).label("not the folder's name").help(
                format!("rename the customer to \"{folder}\", or the folder to customers/{}/", named.name),
            ),
        );
        return;
    }
    if declared.customers.len() >= CUSTOMERS_MAX && !declared.customers.contains_key(named.name) {
        let message = format!("there are more than {CUSTOMERS_MAX} customers");
        sink.push(Problem::error("too-many", &node.header(), message));
        return;
    }
    let parts = declared.customers.entry(named.name).or_default();
    if let Some(first) = parts.customer {
        let message = format!("customer `{}` is declared twice", named.name);
        sink.push(duplicate(&node.name_at(), &first.node.name_at(), &message));
    } else {
        parts.customer = Some(named);
    }
    for kind in OF_CUSTOMER {
        for inner in node.blocks(kind) {
            part(sink, parts, inner);
        }
    }
}

/// A block that belongs to a customer.
fn part<'a>(sink: &mut Sink<'a>, parts: &mut Parts<'a>, node: Node<'a>) {
    let kind =
        OF_CUSTOMER.into_iter().find(|kind| node.block.has_ident(kind)).expect("callers ask for these kinds");
    if let Some(named) = checked(sink, node) {
        declare(sink, parts.kinds.entry(kind).or_default(), kind, named, BLOCKS_PER_KIND_MAX);
    }
}

/// Enters a name; a second one is reported, and the first stays.
pub(crate) fn declare<'a>(
    sink: &mut Sink<'_>,
    names: &mut Names<'a>,
    kind: &str,
    named: Named<'a>,
    max: usize,
) {
    if let Some(first) = names.get(named.name) {
        let message = format!("{kind} `{}` is declared twice", named.name);
        sink.push(duplicate(&named.node.name_at(), &first.node.name_at(), &message));
        return;
    }
    if names.len() == max {
        let message = format!("there are more than {max} blocks of kind `{kind}`");
        sink.push(Problem::error("too-many", &named.node.header(), message).label("one too many"));
    }
    if names.len() <= max {
        names.insert(named.name, named);
    }
}

fn duplicate(second: &At, first: &At, message: &str) -> Problem {
    Problem::error("duplicate-name", second, message).label("again here").related(first, "first here")
}

/// Folders whose customer is declared nowhere.
fn missing_customers(sink: &mut Sink<'_>, declared: &Declared<'_>) {
    for (name, parts) in &declared.customers {
        let (None, Some(at)) = (parts.customer, &parts.folder) else { continue };
        let message = format!("no `customer` block declares `{name}`, and this folder is its");
        let help = match name_problem(NameRule::Customer, name) {
            Some(problem) => format!("rename the folder: {problem}"),
            None => format!("add customers/{name}/customer.hcl with customer \"{name}\" {{ region = … }}"),
        };
        sink.push(Problem::error("missing-customer", at, message).label("whose is it?").help(help));
    }
}
