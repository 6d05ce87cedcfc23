//! Cycles in `depends_on`.

use std::collections::{BTreeMap, BTreeSet};

/// Every cycle that a depth-first walk closes, each as its nodes in order, starting at the smallest name. Iterative, so
/// that a long chain costs no stack.
pub(crate) fn cycles<'a>(edges: &BTreeMap<&'a str, Vec<&'a str>>) -> Vec<Vec<&'a str>> {
    let mut found = BTreeSet::new();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for start in edges.keys().copied() {
        // The path from `start`, each node with the number of its next edge.
        let mut path: Vec<(&str, usize)> = vec![(start, 0)];
        let mut on_path: BTreeSet<&str> = BTreeSet::from([start]);
        if done.contains(start) {
            continue;
        }
        while let Some((node, next)) = path.last_mut() {
            let Some(to) = edges.get(*node).and_then(|targets| targets.get(*next)).copied() else {
                on_path.remove(*node);
                done.insert(*node);
                path.pop();
                continue;
            };
            *next += 1;
            if on_path.contains(to) {
                let from = path.iter().position(|(node, _)| *node == to).expect("it is on the path");
                found.insert(rotated(path[from..].iter().map(|(node, _)| *node).collect()));
            } else if !done.contains(to) {
                on_path.insert(to);
                path.push((to, 0));
            }
        }
    }
    found.into_iter().collect()
}

fn rotated(mut cycle: Vec<&str>) -> Vec<&str> {
    let smallest = cycle.iter().enumerate().min_by_key(|(_, name)| **name).map_or(0, |(at, _)| at);
    cycle.rotate_left(smallest);
    cycle
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(edges: &[(&'static str, &[&'static str])], expected: &[&[&str]]) {
        let edges = edges.iter().map(|(from, to)| (*from, to.to_vec())).collect();
        assert_eq!(cycles(&edges), expected);
    }

    #[test]
    fn finds_cycles_and_nothing_else() {
        check(&[("a", &["b"]), ("b", &["c"]), ("c", &[])], &[]);
        check(&[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d"]), ("d", &[])], &[]);
        check(&[("a", &["a"])], &[&["a"]]);
        check(&[("x", &["b"]), ("b", &["c"]), ("c", &["b"])], &[&["b", "c"]]);
        check(&[("a", &["b"]), ("b", &["a", "c"]), ("c", &["b"])], &[&["a", "b"], &["b", "c"]]);
    }

    #[test]
    fn long_chains_cost_no_stack() {
        let names: Vec<String> = (0..50_000).map(|at| format!("s{at:05}")).collect();
        let mut edges: BTreeMap<&str, Vec<&str>> =
            names.windows(2).map(|pair| (pair[0].as_str(), vec![pair[1].as_str()])).collect();
        edges.insert(&names[49_999], vec![&names[0]]);
        assert_eq!(cycles(&edges)[0].len(), 50_000);
    }
}
