//! Topic matching: a trie of binding patterns by word (`*` one word, `#` any number of words, none included).
//!
//! Words are parted by dots and may be empty; an empty key or pattern has no word at all, as in RabbitMQ.

use std::collections::BTreeMap;

/// Patterns and what is bound by them. Values are few per pattern.
#[derive(Debug)]
pub(crate) struct Trie<T> {
    root: Node<T>,
}

#[derive(Debug)]
struct Node<T> {
    words: BTreeMap<Box<str>, Self>,
    values: Vec<T>,
    /// Reached by a `#`: stays here for any word.
    any: bool,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { words: BTreeMap::new(), values: Vec::new(), any: false }
    }
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self { root: Node::default() }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split('.').take(if text.is_empty() { 0 } else { usize::MAX })
}

impl<T: PartialEq> Trie<T> {
    /// Adds `value` under `pattern`; once however often it is added.
    pub(crate) fn insert(&mut self, pattern: &str, value: T) {
        let mut node = &mut self.root;
        for word in words(pattern) {
            node = node.words.entry(word.into()).or_default();
            node.any = word == "#";
        }
        if !node.values.contains(&value) {
            node.values.push(value);
        }
    }

    /// Removes `value` under `pattern`, and branches that hold nothing any more.
    pub(crate) fn remove(&mut self, pattern: &str, value: &T) {
        let words: Vec<&str> = words(pattern).collect();
        self.root.remove(&words, value);
    }

    /// Calls `found` for the values of every pattern that matches `key`, once per pattern.
    ///
    /// Walks all branches in step, one word at a time, so the work is at most words times nodes: a pattern of many
    /// `#` cannot make it explode.
    pub(crate) fn matches<'a>(&'a self, key: &str, found: &mut impl FnMut(&'a T)) {
        let mut here: Vec<&Node<T>> = Vec::with_capacity(8);
        let mut next: Vec<&Node<T>> = Vec::with_capacity(8);
        self.root.enter(&mut here);
        for word in words(key) {
            for node in here.drain(..) {
                node.step(word, &mut next);
            }
            if next.is_empty() {
                return;
            }
            if next.len() > 1 {
                next.sort_unstable_by_key(|node| std::ptr::from_ref(*node).addr());
                next.dedup_by(|a, b| std::ptr::eq(*a, *b));
            }
            std::mem::swap(&mut here, &mut next);
        }
        for node in here {
            node.values.iter().for_each(&mut *found);
        }
    }
}

impl<T: PartialEq> Node<T> {
    /// Returns whether the node is empty afterwards.
    fn remove(&mut self, words: &[&str], value: &T) -> bool {
        match words.split_first() {
            None => self.values.retain(|other| other != value),
            Some((word, rest)) => {
                if self.words.get_mut(*word).is_some_and(|child| child.remove(rest, value)) {
                    self.words.remove(*word);
                }
            }
        }
        self.values.is_empty() && self.words.is_empty()
    }

    /// Adds this node, and what a `#` reaches from here without a word.
    fn enter<'a>(&'a self, nodes: &mut Vec<&'a Self>) {
        nodes.push(self);
        if let Some(child) = self.words.get("#") {
            child.enter(nodes);
        }
    }

    /// Adds what one word reaches from here.
    fn step<'a>(&'a self, word: &str, nodes: &mut Vec<&'a Self>) {
        if self.any {
            nodes.push(self);
        }
        // A word of the key may itself read `#`; that branch was entered already.
        if word != "#"
            && let Some(child) = self.words.get(word)
        {
            child.enter(nodes);
        }
        if word != "*"
            && let Some(child) = self.words.get("*")
        {
            child.enter(nodes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern.split_first(), key.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), None) => naive(rest, key),
            (Some((&"#", rest)), Some((_, others))) => naive(rest, key) || naive(pattern, others),
            (Some((&"*", rest)), Some((_, others))) => naive(rest, others),
            (Some((word, rest)), Some((other, others))) => word == other && naive(rest, others),
            _ => false,
        }
    }

    fn check(pattern: &str, key: &str, expect: bool) {
        let mut trie = Trie::default();
        trie.insert(pattern, 1);
        let mut count = 0;
        trie.matches(key, &mut |_| count += 1);
        assert_eq!(count > 0, expect, "{pattern} {key}");
    }

    #[test]
    fn edges() {
        check("#", "", true);
        check("#", "a.b", true);
        check("*", "", false);
        check("*", ".", false);
        check("*.*", ".", true);
        check("*.#", "", false);
        check("*", "a.b", false);
        check("a.#", "a", true);
        check("a.#", "a.b.c", true);
        check("a.#", "ab", false);
        check("#.a", "a", true);
        check("#.a", "b.c.a", true);
        check("a.#.b", "a.b", true);
        check("a.#.b", "a.x.y.b", true);
        check("#.#", "", true);
        check("*.#", "a", true);
        check("#.*", "a.b", true);
        check("a..b", "a..b", true);
        check("a.*.b", "a..b", true);
        check("", "", true);
        check("", "a", false);
        check("a.b", "a.*", false);
    }

    #[test]
    fn many_hashes_stay_cheap() {
        let mut trie = Trie::default();
        trie.insert(&["#.a"; 60].join("."), 1);
        let mut count = 0;
        trie.matches(&["a"; 127].join("."), &mut |_| count += 1);
        assert_eq!(count, 1);
    }

    #[test]
    fn removal_prunes() {
        let mut trie = Trie::default();
        trie.insert("a.#.b", 1);
        trie.insert("a.#.b", 2);
        trie.insert("a.#.b", 2);
        trie.remove("a.#.b", &1);
        trie.remove("a.c", &2);
        let mut found = Vec::new();
        trie.matches("a.x.b", &mut |v| found.push(*v));
        assert_eq!(found, [2]);
        trie.remove("a.#.b", &2);
        assert!(trie.root.words.is_empty());
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_matcher(
            patterns in proptest::collection::vec("([ab]|\\*|#|)(\\.([ab]|\\*|#|)){0,5}", 1..8),
            key in "([abc*]|)(\\.[abc]|\\.){0,6}",
        ) {
            let mut trie = Trie::default();
            for (index, pattern) in patterns.iter().enumerate() {
                trie.insert(pattern, index);
            }
            let mut found = std::collections::BTreeSet::new();
            trie.matches(&key, &mut |index| { found.insert(*index); });
            let key_words: Vec<&str> = if key.is_empty() { Vec::new() } else { key.split('.').collect() };
            for (index, pattern) in patterns.iter().enumerate() {
                let parts: Vec<&str> = if pattern.is_empty() { Vec::new() } else { pattern.split('.').collect() };
                prop_assert_eq!(found.contains(&index), naive(&parts, &key_words), "{} {}", pattern, key);
            }
        }
    }
}
