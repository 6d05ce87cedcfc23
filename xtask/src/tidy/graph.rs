//! Which crate may depend on which. The wall between the pure machines and the world is these two tables; adding a row
//! or an entry is a decision that belongs in `docs/adr/`.

use super::metadata::{Kind, Metadata, Package};

/// Our crates, with those of ours that each may use outside of its tests.
const EDGES: [(&str, &[&str]); 13] = [
    ("kinetic-wire", &[]),
    ("kinetic-schema", &["kinetic-wire"]),
    ("kinetic-access", &["kinetic-wire", "kinetic-schema"]),
    ("kinetic-redirector", &["kinetic-wire"]),
    ("kinetic-analyzer", &["kinetic-wire", "kinetic-schema"]),
    ("kinetic-plot", &["kinetic-wire"]),
    ("kinetic-alert", &["kinetic-wire", "kinetic-schema", "kinetic-plot"]),
    ("kinetic-agent", &["kinetic-wire", "kinetic-schema"]),
    (
        "kinetic-sim",
        &[
            "kinetic-wire",
            "kinetic-schema",
            "kinetic-redirector",
            "kinetic-analyzer",
            "kinetic-alert",
            "kinetic-agent",
        ],
    ),
    ("kinetic-amqp", &["kinetic-wire"]),
    ("kinetic-broker", &[]),
    ("kinetic-replica", &[]),
    ("kinetic-tests", &["kinetic-wire", "kinetic-amqp", "kinetic-broker"]),
];

/// Ours that only tests may use, beyond `EDGES`.
const DEV_EDGES: [(&str, &[&str]); 1] = [("kinetic-amqp", &["kinetic-broker"])];

/// Crates without I/O, clocks or randomness.
const PURE: [&str; 9] = [
    "kinetic-wire",
    "kinetic-schema",
    "kinetic-access",
    "kinetic-redirector",
    "kinetic-analyzer",
    "kinetic-plot",
    "kinetic-alert",
    "kinetic-agent",
    "kinetic-sim",
];

/// What pure crates may use: data structures, formats and arithmetic, nothing that opens, waits, reads a clock or rolls
/// dice by itself.
const PURE_THIRD_PARTY: [&str; 26] = [
    "base64",
    "bytes",
    "flate2",
    "foldhash",
    "globset",
    "hashbrown",
    "hcl-edit",
    "hmac",
    "jiff",
    "memchr",
    "miette",
    "minijinja",
    "resvg",
    "roxmltree",
    "ruzstd",
    "schemars",
    "serde",
    "serde_json",
    "sha2",
    "sketches-ddsketch",
    "statrs",
    "strsim",
    "thiserror",
    "time",
    "tracing",
    "uuid",
];

/// What their tests and benches may use besides.
const PURE_DEV_THIRD_PARTY: [&str; 4] = ["divan", "insta", "proptest", "tempfile"];

/// All wrong edges.
pub(crate) fn check(metadata: &Metadata) -> Vec<String> {
    let mut problems = Vec::new();
    for package in metadata.ours() {
        for (name, kind) in &package.dependencies {
            let is_ours = metadata.ours().any(|other| other.name == *name);
            let allowed = if is_ours {
                may_use_ours(package, name, *kind)
            } else {
                may_use_theirs(package, name, *kind)
            };
            if !allowed {
                problems.push(format!(
                    "crate {} must not depend on {name}: the allowed edges stand in xtask/src/tidy/graph.rs, and a new \
                     one needs an ADR",
                    package.name
                ));
            }
        }
    }
    problems.sort();
    problems.dedup();
    problems
}

fn may_use_ours(package: &Package, name: &str, kind: Kind) -> bool {
    match package.name.as_str() {
        // The composition root may use everything, chores nothing.
        "kinetic" => true,
        "xtask" => false,
        own => listed(&EDGES, own, name) || (kind == Kind::Dev && listed(&DEV_EDGES, own, name)),
    }
}

fn may_use_theirs(package: &Package, name: &str, kind: Kind) -> bool {
    !PURE.contains(&package.name.as_str())
        || PURE_THIRD_PARTY.contains(&name)
        || (kind == Kind::Dev && PURE_DEV_THIRD_PARTY.contains(&name))
}

fn listed(table: &[(&str, &[&str])], own: &str, name: &str) -> bool {
    table.iter().any(|(crate_name, allowed)| *crate_name == own && allowed.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(edges: &[(&str, &str, Kind)]) -> Metadata {
        let mut packages = Vec::<Package>::new();
        for (from, to, kind) in edges {
            for name in [from, to] {
                if !packages.iter().any(|package| package.name == **name) {
                    let is_ours = name.starts_with("kinetic") || **name == *"xtask";
                    packages.push(Package { name: (*name).to_string(), is_ours, ..Package::default() });
                }
            }
            let from = packages.iter_mut().find(|package| package.name == **from).expect("just pushed");
            from.dependencies.push(((*to).to_string(), *kind));
        }
        Metadata { packages }
    }

    #[test]
    fn edges_that_are_in_the_table_pass() {
        let edges = [
            ("kinetic-analyzer", "kinetic-schema", Kind::Normal),
            ("kinetic-amqp", "kinetic-broker", Kind::Dev),
            ("kinetic-analyzer", "proptest", Kind::Dev),
            ("kinetic", "tokio", Kind::Normal),
            ("kinetic", "kinetic-alert", Kind::Normal),
        ];
        assert_eq!(check(&workspace(&edges)), Vec::<String>::new());
    }

    #[test]
    fn each_wrong_edge_is_named() {
        for (from, to, kind) in [
            ("kinetic-analyzer", "kinetic-alert", Kind::Normal),
            ("kinetic-alert", "kinetic-amqp", Kind::Dev),
            ("kinetic-amqp", "kinetic-broker", Kind::Normal),
            ("kinetic-agent", "tokio", Kind::Normal),
            ("kinetic-redirector", "rand", Kind::Normal),
            ("kinetic-schema", "proptest", Kind::Normal),
            ("kinetic-board", "kinetic-alert", Kind::Normal),
            ("xtask", "kinetic-wire", Kind::Normal),
        ] {
            let problems = check(&workspace(&[(from, to, kind)]));
            assert!(
                problems.len() == 1 && problems[0].contains(from) && problems[0].contains(to),
                "{problems:?}"
            );
        }
    }
}
