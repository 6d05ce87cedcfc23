//! Globs, compiled.

use globset::{GlobBuilder, GlobMatcher};

/// A shell-style pattern over origins or metric names, compiled. `*` matches any run of characters, dots included.
#[derive(Clone, Debug)]
pub struct Glob {
    /// As written.
    pub pattern: String,
    matcher: Matcher,
}

#[derive(Clone, Debug)]
enum Matcher {
    /// Nothing but text and single `*`, as nearly all are: the pattern itself says it. A regular expression takes 6 KB, and a large
    /// installation has some ten thousand globs on every node.
    Stars,
    /// Anything else.
    Full(Box<GlobMatcher>),
}

impl Glob {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// When it is not one: an unclosed bracket, for instance.
    pub fn parse(pattern: &str) -> Result<Self, globset::Error> {
        let plain = !pattern.contains(['?', '[', ']', '{', '}', '\\']) && !pattern.contains("**");
        let matcher = if plain { Matcher::Stars } else { Matcher::Full(Box::new(compiled(pattern)?)) };
        Ok(Self { pattern: pattern.to_owned(), matcher })
    }

    /// Whether a name is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Stars => matches_stars(&self.pattern, name),
            Matcher::Full(matcher) => matcher.is_match(name),
        }
    }
}

fn compiled(pattern: &str) -> Result<GlobMatcher, globset::Error> {
    let glob = GlobBuilder::new(pattern).literal_separator(false).backslash_escape(true).build()?;
    Ok(glob.compile_matcher())
}

/// Pieces between stars: the first begins the name, the last ends it, and those between stand in it one after the other. To take each as
/// early as can be leaves the most for those behind it.
fn matches_stars(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let (between, last) = rest.rsplit_once('*').map_or((None, rest), |(between, last)| (Some(between), last));
    let Some(inner) = name.strip_suffix(last) else { return false };
    name = inner;
    for piece in between.into_iter().flat_map(|between| between.split('*')) {
        let Some(at) = name.find(piece) else { return false };
        name = &name[at + piece.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stars_stand_for_any_run() {
        let matches = |pattern: &str, name: &str| Glob::parse(pattern).expect("a glob").matches(name);
        assert!(matches("web-*", "web-") && matches("web-*", "web-1.eu") && !matches("web-*", "xweb-1"));
        assert!(matches("*", "") && matches("*.latency", "a.b.latency") && !matches("*.latency", "latency"));
        assert!(matches("a*b*c", "abc") && matches("a*b*c", "axbxbc") && !matches("a*b*c", "ac"));
        assert!(!matches("ab*ba", "aba"), "no character serves two pieces");
        assert!(matches("web", "web") && !matches("web", "web2"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn what_is_matched_here_is_what_the_regular_expression_matches(
            pattern in "[ab./é*]{1,7}",
            name in "[ab./é\n]{0,8}",
        ) {
            let glob = Glob::parse(&pattern).unwrap();
            prop_assert_eq!(glob.matches(&name), compiled(&pattern).unwrap().is_match(&name), "{} {}", pattern, name);
        }
    }
}
