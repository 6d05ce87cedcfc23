//! What a publisher puts on a body so that it arrives in a source.

use kinetic_wire::DataType;

use super::{Customer, Source};

impl Customer {
    /// The source that what is published as this data type belongs to: the first, by name, that has the type; otherwise the first
    /// that finds out for itself.
    #[must_use]
    pub fn source_of(&self, data_type: DataType) -> Option<&Source> {
        let of = |wanted| self.sources.values().find(|source| source.data_type == wanted);
        of(data_type).or_else(|| of(DataType::Auto))
    }
}

impl Source {
    /// A routing key that its first pattern matches.
    #[must_use]
    pub fn routing_key(&self) -> String {
        self.routing.first().map(|pattern| matching_key(pattern)).unwrap_or_default()
    }
}

/// A routing key that a topic pattern matches: `#` stands for nothing, `*` for a word.
#[must_use]
pub fn matching_key(pattern: &str) -> String {
    let words = pattern.split('.').filter(|word| *word != "#");
    let words: Vec<&str> = words.map(|word| if word == "*" { "any" } else { word }).collect();
    words.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_match_their_patterns() {
        assert_eq!(matching_key("web.#"), "web");
        assert_eq!(matching_key("#"), "");
        assert_eq!(matching_key("a.*.c"), "a.any.c");
        assert_eq!(matching_key("#.x"), "x");
    }
}
