//! What the language can say and nothing does yet: it is checked like everything else, and its author is told.

use crate::block::Node;
use crate::diagnostic::{At, Problem, Sink};

/// Attributes and blocks of `customer`.
pub(super) const OF_CUSTOMER: [&str; 1] = ["silent_after"];

/// Says which of these a block has.
pub(super) fn report(sink: &mut Sink<'_>, node: Node<'_>, names: &[&'static str]) {
    for name in names {
        let attribute = node.get(name).map(|value| value.at());
        let blocks: Vec<At> = node.blocks(name).map(|block| block.header()).collect();
        for at in attribute.into_iter().chain(blocks) {
            let message = format!("`{name}` has no effect in this version");
            let problem =
                Problem::warning("no-effect-yet", &at, message).label("checked, and otherwise ignored");
            sink.push(problem.help("it may stay: a later version does what it says"));
        }
    }
}
