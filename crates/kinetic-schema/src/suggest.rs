//! "Did you mean …?"

/// The candidate closest to what was written, if one is close enough to be a slip rather than another word.
pub(crate) fn closest<'c>(written: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let lower = written.to_lowercase();
    // A third of the letters may be wrong: `wbe` is `web`, `x` is nothing in particular.
    let tolerance = (lower.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| *candidate != written)
        .map(|candidate| (strsim::osa_distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= tolerance && *distance < lower.chars().count())
        .min()
        .map(|(_, candidate)| candidate)
}

/// Names in backticks, as `a`, `b` or `c`; after some, "and N more".
pub(crate) fn listed<'c>(names: impl IntoIterator<Item = &'c str>) -> String {
    const SHOWN: usize = 12;
    let names: Vec<&str> = names.into_iter().collect();
    let quoted: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        _ if names.len() > SHOWN => format!("{} and {} more", quoted.join(", "), names.len() - SHOWN),
        [head @ .., last] => format!("{} or {last}", head.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        assert_eq!(closest("wbe", ["web", "db"]), Some("web"));
        assert_eq!(closest("Routing", ["routing", "name"]), Some("routing"));
        assert_eq!(closest("x", ["y", "z"]), None);
        assert_eq!(closest("frontends", ["backends-eu"]), None);
    }

    #[test]
    fn lists_read_as_sentences() {
        assert_eq!(listed(["a"]), "`a`");
        assert_eq!(listed(["a", "b", "c"]), "`a`, `b` or `c`");
    }
}
