//! Where every item of our crates stands: crate, modules, type, name. Read from the text, line by line, which works
//! because all of it went through rustfmt: an item's indentation says what it belongs to.

use super::source::File;

/// One item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Crate without the `kinetic-`, modules, perhaps a type, and the item's own name.
    pub(crate) path: Vec<String>,
}

/// All items.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    pub(crate) items: Vec<Item>,
}

impl Index {
    /// Reads all files under `crates/*/src`.
    pub(crate) fn of(files: &[File]) -> Self {
        let mut index = Self::default();
        for file in files {
            let Some(module) = module_path(&file.path) else { continue };
            for depth in 1..=module.len() {
                let item = Item { path: module[..depth].to_vec() };
                if !index.items.contains(&item) {
                    index.items.push(item);
                }
            }
            scan(&module, &file.text, &mut index.items);
        }
        index
    }

    /// Items that a written path may mean: the last two words adjacent, those before them in order.
    pub(crate) fn find<'i>(&'i self, written: &[&str]) -> Vec<&'i Item> {
        self.items.iter().filter(|item| means(&item.path, written)).collect()
    }
}

fn means(path: &[String], written: &[&str]) -> bool {
    let (Some((name, rest)), Some((written_name, written_rest))) = (path.split_last(), written.split_last())
    else {
        return false;
    };
    if name != written_name {
        return false;
    }
    let Some((container, outer)) = written_rest.split_last() else { return true };
    let Some((own_container, own_outer)) = rest.split_last() else { return false };
    if own_container != container {
        // A crate's name may stand for whatever the crate re-exports.
        return outer.is_empty() && rest.first().is_some_and(|own| own == container);
    }
    let mut remaining = own_outer.iter();
    outer.iter().all(|word| remaining.any(|own| own == word))
}

/// `crates/kinetic-amqp/src/publish.rs` is `amqp`, `publish`.
fn module_path(path: &str) -> Option<Vec<String>> {
    let rest = path.strip_prefix("crates/")?.strip_suffix(".rs")?;
    let (crate_name, inside) = rest.split_once("/src/")?;
    let mut module = vec![crate_name.strip_prefix("kinetic-").unwrap_or(crate_name).to_owned()];
    let words = inside.split('/').filter(|word| !["lib", "main", "mod"].contains(word));
    module.extend(words.map(str::to_owned));
    Some(module)
}

/// What an open block belongs to.
struct Open {
    indent: usize,
    /// `None` where nothing inside counts (a function's body, a test module).
    name: Option<String>,
    is_enum: bool,
}

fn scan(module: &[String], text: &str, items: &mut Vec<Item>) {
    let mut open: Vec<Open> = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        if trimmed.is_empty() || trimmed.starts_with("//") || trimmed.starts_with('#') {
            continue;
        }
        let indent = line.len() - trimmed.len();
        // The rest of a header that took several lines closes nothing.
        let goes_on = trimmed.starts_with([')', '{']) || trimmed.starts_with("where");
        open.retain(|block| block.indent < indent || (block.indent == indent && goes_on));
        if open.iter().any(|block| block.name.is_none()) {
            continue;
        }
        let inside_enum = open.last().is_some_and(|block| block.is_enum);
        let found =
            if inside_enum { variant(trimmed).map(|name| (Word::Variant, name)) } else { item(trimmed) };
        let Some((word, name)) = found else { continue };
        if word != Word::Impl {
            let mut path = module.to_vec();
            path.extend(open.iter().filter_map(|block| block.name.clone()));
            path.push(name.clone());
            items.push(Item { path });
        }
        // A block that ends on its own line holds nothing.
        if !trimmed.ends_with(['}', ';']) {
            let counts = matches!(word, Word::Container | Word::Enum | Word::Impl) && name != "tests";
            open.push(Open { indent, name: counts.then_some(name), is_enum: word == Word::Enum });
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Container,
    Enum,
    Impl,
    Leaf,
    Variant,
}

/// The item that a line begins.
fn item(line: &str) -> Option<(Word, String)> {
    let mut rest = line;
    if let Some(after) = rest.strip_prefix("pub") {
        rest = match after.strip_prefix('(') {
            Some(scope) => scope.split_once(')')?.1,
            None => after,
        };
    }
    loop {
        rest = rest.trim_start();
        let stripped = ["async ", "unsafe ", "default ", "extern \"C\" "]
            .iter()
            .find_map(|word| rest.strip_prefix(word));
        let stripped =
            stripped.or_else(|| rest.strip_prefix("const ").filter(|after| after.starts_with("fn ")));
        let Some(stripped) = stripped else { break };
        rest = stripped;
    }
    if let Some(header) = rest.strip_prefix("impl") {
        return Some((Word::Impl, impl_type(header)?));
    }
    let (word, after) = rest.split_once(' ')?;
    let kind = match word {
        "fn" | "const" | "static" | "type" => Word::Leaf,
        "struct" | "mod" | "trait" => Word::Container,
        "enum" => Word::Enum,
        _ => return None,
    };
    identifier(after).map(|name| (kind, name))
}

/// The type in `<T> Trait for Type<T> {`.
fn impl_type(header: &str) -> Option<String> {
    let header = match header.strip_prefix('<') {
        Some(_) => {
            let mut depth = 0_i32;
            let end = header.char_indices().find_map(|(at, c)| {
                depth += match c {
                    '<' => 1,
                    '>' => -1,
                    _ => 0,
                };
                (depth == 0).then_some(at + 1)
            })?;
            &header[end..]
        }
        None => header,
    };
    let subject = header
        .rsplit_once(" for ")
        .map_or(header, |(_, subject)| subject)
        .trim_start()
        .trim_start_matches('&');
    let path = subject.split(['<', ' ', '{']).next()?;
    identifier(path.rsplit("::").next()?)
}

fn variant(line: &str) -> Option<String> {
    identifier(line).filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase()))
}

fn identifier(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
//! x
pub enum Input<'a> {
    /// doc
    Tick,
    Delivery(Delivery<'a>),
    Located {
        Wrong: u8,
    },
}

impl<T: Into<u8>> Machine<T> for Agent<T>
where
    T: Copy,
{
    pub(crate) async fn handle(
        &mut self,
    ) {
        fn inner() {}
    }
    const fn small(&self) -> u8 { 1 }
}

pub(super) fn samples() {}

mod tests {
    fn hidden() {}
}
";

    fn index() -> Index {
        Index::of(&[File { path: "crates/kinetic-agent/src/decode/statsd.rs".into(), text: TEXT.into() }])
    }

    #[test]
    fn items_are_found_where_they_stand() {
        for written in [
            "Input::Tick",
            "Input::Delivery",
            "Input::Located",
            "Agent::handle",
            "Agent::small",
            "statsd::samples",
            "decode::statsd::samples",
            "agent::statsd::samples",
            "agent::samples",
            "agent::Agent::handle",
            "decode::statsd",
        ] {
            let words: Vec<&str> = written.split("::").collect();
            assert!(!index().find(&words).is_empty(), "{written} not found in {:#?}", index().items);
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for written in [
            "Input::Tock",
            "Input::Wrong",
            "Agent::inner",
            "Agent::samples",
            "tests::hidden",
            "statsd::handle",
            "alert::samples",
            "statsd::decode::samples",
        ] {
            let words: Vec<&str> = written.split("::").collect();
            assert!(index().find(&words).is_empty(), "{written} found: {:?}", index().find(&words));
        }
    }
}
