//! Whatever is changed in a file, everything else in it stays as it is, byte for byte.

use hcl_edit::Span;
use hcl_edit::structure::{Block, BlockLabel, Body};
use kinetic_schema::edit::{
    EditError, Literal, NewBlock, Step, add_block, remove_attribute, remove_block, set_attribute,
};
use proptest::prelude::*;

const ONE_FILE: &str = include_str!("../../../topology-examples/one-file/kinetic.hcl");
const FACTORY: &str =
    include_str!("../../../topology-examples/telegraf-influx/customers/factory/factory.hcl");
const CUSTOMER: &str = include_str!("../../../topology-examples/many-customers/customers/acme/customer.hcl");
const INSTALLATION: &str = include_str!("../../../topology-examples/many-customers/kinetic.hcl");
const WATCHING: &str =
    include_str!("../../../topology-examples/watching-kinetic/customers/kinetic/kinetic.hcl");

fn step(block: &Block) -> (String, String) {
    (
        block.ident.to_string(),
        block.labels.first().map_or(String::new(), |label: &BlockLabel| label.as_str().to_owned()),
    )
}

/// All blocks, each by its path, with its text.
fn blocks(text: &str) -> Vec<(Vec<(String, String)>, String)> {
    fn walk(
        text: &str,
        body: &Body,
        above: &[(String, String)],
        all: &mut Vec<(Vec<(String, String)>, String)>,
    ) {
        for block in body.blocks() {
            let mut path = above.to_vec();
            path.push(step(block));
            all.push((path.clone(), text[block.span().expect("it was parsed")].to_owned()));
            walk(text, &block.body, &path, all);
        }
    }
    let mut all = Vec::new();
    walk(text, &text.parse().expect("HCL"), &[], &mut all);
    all
}

/// A text with its lines' blanks, comments and gaps changed, so that it is not in canonical form.
fn untidy() -> impl Strategy<Value = String> {
    let texts = prop::sample::select(vec![ONE_FILE, FACTORY, CUSTOMER, INSTALLATION, WATCHING]);
    let mess = prop::collection::vec(0usize..12, 40);
    (texts, mess).prop_map(|(text, mess)| {
        let mut mess = mess.into_iter().cycle();
        let line = |line: &str| match mess.next() {
            Some(0) => format!("   {line}\n"),
            Some(1) => format!("# {{ a comment \"\n{line}\n"),
            Some(2) => format!("{line}\n\n\n"),
            Some(3) => format!("/* more\n # }} */\n{line}\r\n"),
            Some(4) if line.ends_with(['{', '}']) => format!("{line} // behind }}\n"),
            _ => format!("{line}\n"),
        };
        let untidy: String = text.lines().map(line).collect();
        // Lists over several lines and heredocs do not take all of it.
        if untidy.parse::<Body>().is_ok() { untidy } else { text.to_owned() }
    })
}

fn related(one: &[(String, String)], other: &[(String, String)]) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn all_that_was_not_meant_stays(text in untidy(), which in any::<prop::sample::Index>(), what in 0usize..4) {
        let before = blocks(&text);
        let (path, _) = &before[which.index(before.len())];
        let steps: Vec<Step<'_>> = path.iter().map(|(kind, label)| (kind.as_str(), label.as_str())).collect();
        let new = NewBlock { step: ("new", "one"), attributes: vec![("a", Literal::Text("${b}\"\\".to_owned()))] };
        let changed = match what {
            0 => remove_block(&text, &steps),
            1 => set_attribute(&text, &steps, "quite_new", &Literal::Text("x".to_owned())),
            2 => add_block(&text, &steps, &new),
            _ => remove_attribute(&text, &steps, "region"),
        };
        let changed = match changed {
            Ok(changed) => changed,
            Err(EditError::ByHand(_)) => return Ok(()),
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        };
        let after = blocks(&changed);
        // Blocks of one path (such as `escalate`) are told apart by their order alone: the first is meant.
        let others = |all: &[(Vec<(String, String)>, String)]| -> Vec<(Vec<(String, String)>, String)> {
            all.iter().filter(|(other, _)| !related(other, path)).cloned().collect()
        };
        prop_assert_eq!(others(&before), others(&after));
        let count = |all: &[(Vec<(String, String)>, String)]| all.iter().filter(|(other, _)| other == path).count();
        prop_assert_eq!(count(&before) - usize::from(what == 0), count(&after));
        match what {
            1 => prop_assert!(changed.contains("quite_new")),
            2 => {
                let mut inside = steps.clone();
                inside.push(("new", "one"));
                let removed = remove_block(&changed, &inside);
                prop_assert!(removed.is_ok());
                prop_assert_eq!(blocks(&removed.unwrap()).len(), before.len());
            }
            _ => {}
        }
    }
}
