//! Paths that a customer's own push may touch: plain files with plain names in its own folder, and not too many of them.

use std::collections::BTreeMap;

use kinetic_replica::{Change, EntryKind};

/// Files in a customer's folder, so that one customer cannot use up what all have together.
const FILES_MAX: usize = 256;
/// Bytes in a customer's folder.
const BYTES_MAX: u64 = 8 << 20;
/// Bytes of a path.
const PATH_BYTES_MAX: usize = 512;
/// Refusals that are told; nobody reads more.
const TOLD_MAX: usize = 20;
/// Names that Windows takes for devices, with whatever extension.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "com", "lpt"];

/// What of a push's paths is refused.
pub(super) fn refusals(customer: &str, changes: &[Change]) -> Vec<String> {
    let refused = changes.iter().filter_map(|change| {
        let problem = problem(customer, change)?;
        Some(format!("{}: {problem}", change.path.escape_debug()))
    });
    let mut refused: Vec<String> = refused.collect();
    if refused.len() > TOLD_MAX {
        let more = refused.len() - TOLD_MAX;
        refused.truncate(TOLD_MAX);
        refused.push(format!("and {more} more paths"));
    }
    refused
}

fn problem(customer: &str, change: &Change) -> Option<String> {
    let inside = change.path.strip_prefix("customers/").and_then(|rest| rest.strip_prefix(customer));
    let Some(rest) = inside.and_then(|rest| rest.strip_prefix('/')) else {
        return Some(format!(
            "customer {customer} may change customers/{customer}/ alone; take this out of the push: git checkout origin/main -- PATH"
        ));
    };
    match change.after {
        // What is there already may go, whatever it is.
        None => return None,
        Some(EntryKind::Link) => return Some("a symbolic link; put a plain file in its place".to_owned()),
        Some(EntryKind::Submodule) => return Some("a submodule; put plain files in its place".to_owned()),
        Some(EntryKind::File { .. }) => {}
    }
    if change.path.len() > PATH_BYTES_MAX {
        return Some(format!("a path has at most {PATH_BYTES_MAX} bytes"));
    }
    let odd = rest.split('/').find(|name| !is_plain(name))?;
    Some(format!(
        "`{}` is no plain name: letters, digits, `-`, `_` and `.`, and neither a `.` at an end nor a device's name",
        odd.escape_debug()
    ))
}

/// Whether every file system and every tool takes a name for the same name.
pub(super) fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let stem = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let device = DEVICES.iter().any(|device| {
        stem.strip_prefix(device).is_some_and(|rest| {
            rest.is_empty() || rest.len() == 1 && rest.bytes().all(|digit| digit.is_ascii_digit())
        })
    });
    !name.is_empty()
        && name.len() <= 255
        && name.chars().all(plain)
        && !name.starts_with(['.', '-'])
        && !name.ends_with('.')
        && !device
}

/// What of a customer's folder, as it would stand, is too much or stands twice.
pub(super) fn too_much(customer: &str, contents: &[Change]) -> Vec<String> {
    let bytes: u64 = contents
        .iter()
        .map(|held| match held.after {
            Some(EntryKind::File { bytes }) => bytes,
            _ => 0,
        })
        .sum();
    let mut refused = Vec::new();
    if contents.len() > FILES_MAX {
        refused
            .push(format!("customers/{customer}/ holds {} files; {FILES_MAX} are possible", contents.len()));
    }
    if bytes > BYTES_MAX {
        refused.push(format!("customers/{customer}/ holds {bytes} bytes; {BYTES_MAX} are possible"));
    }
    let mut folded: BTreeMap<String, &str> = BTreeMap::new();
    for held in contents {
        if let Some(other) = folded.insert(held.path.to_ascii_lowercase(), &held.path) {
            refused.push(format!(
                "{} and {}: on many file systems these are one file; rename one",
                other.escape_debug(),
                held.path.escape_debug()
            ));
        }
    }
    refused.truncate(TOLD_MAX);
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Change {
        Change { path: path.to_owned(), before: None, after: Some(EntryKind::File { bytes: 1 }) }
    }

    #[test]
    fn plain_files_in_its_own_folder_pass_and_nothing_else() {
        for own in ["customers/acme/a.hcl", "customers/acme/templates/text.j2", "customers/acme/a_B-1/x.y.z"]
        {
            assert_eq!(refusals("acme", &[file(own)]), Vec::<String>::new(), "{own}");
        }
        for other in [
            "kinetic.hcl",
            "customers/acme",
            "customers/acme.hcl",
            "customers/acmex/a.hcl",
            "customers/ACME/a.hcl",
            "Customers/acme/a.hcl",
            "customers/globex/a.hcl",
            "customers/acme/../globex/a.hcl",
            "customers//acme/a.hcl",
            "/customers/acme/a.hcl",
            "customers/acme\u{200b}/a.hcl",
            "customers/acme/.git/config",
            "customers/acme/.GIT/config",
            "customers/acme/GIT~1/config",
            "customers/acme/.gitattributes",
            "customers/acme/.gitmodules",
            "customers/acme/git\u{200c}/x",
            "customers/acme/a\u{fffd}.hcl",
            "customers/acme/a\n.hcl",
            "customers/acme/a\u{1b}[2J.hcl",
            "customers/acme/a b.hcl",
            "customers/acme/a.hcl.",
            "customers/acme/a.hcl ",
            "customers/acme/a.hcl::$DATA",
            "customers/acme/a\\b.hcl",
            "customers/acme/con.hcl",
            "customers/acme/COM1",
            "customers/acme/-rf",
            "customers/acme/.",
            "customers/acme/",
        ] {
            let refused = refusals("acme", &[file(other)]);
            assert_eq!(refused.len(), 1, "{other}");
            assert!(!refused[0].contains(char::is_control), "{refused:?}");
        }
        for kind in [EntryKind::Link, EntryKind::Submodule] {
            let change = Change { after: Some(kind), ..file("customers/acme/a.hcl") };
            assert_eq!(refusals("acme", &[change]).len(), 1, "{kind:?}");
        }
        let gone = |path: &str| Change { before: Some(EntryKind::Link), after: None, ..file(path) };
        assert_eq!(refusals("acme", &[gone("customers/acme/old link")]).len(), 0);
        assert_eq!(refusals("acme", &[gone("customers/globex/a.hcl")]).len(), 1);
    }

    #[test]
    fn a_folder_is_bounded_and_has_each_name_once() {
        let many: Vec<Change> = (0..=FILES_MAX).map(|at| file(&format!("customers/acme/{at}.hcl"))).collect();
        assert_eq!(too_much("acme", &many[1..]), Vec::<String>::new());
        assert_eq!(too_much("acme", &many).len(), 1);
        let large =
            Change { after: Some(EntryKind::File { bytes: BYTES_MAX + 1 }), ..file("customers/acme/a") };
        assert_eq!(too_much("acme", &[large]).len(), 1);
        assert_eq!(too_much("acme", &[file("customers/acme/A.hcl"), file("customers/acme/a.hcl")]).len(), 1);
    }
}
