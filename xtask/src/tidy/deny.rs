//! `deny.toml`, checked against what cargo resolved, so that licences, wrappers, duplicates and sources are guarded on
//! machines without cargo-deny and without a network.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use toml::{Table, Value};

use super::licence;
use super::metadata::{Metadata, Package};
use crate::shell::read;

/// Crates that one wall holds. A `deny.toml` that forgets one would let everything through.
const MUST_BE_WRAPPED: [&str; 5] = ["axum", "git2", "lapin", "lettre", "rusqlite"];

/// All problems.
pub(crate) fn check(root: &Path, metadata: &Metadata) -> Result<Vec<String>> {
    let deny: Table = toml::from_str(&read(&root.join("deny.toml"))?)?;
    let mut problems = licences(&deny, metadata);
    problems.extend(wrappers(&deny, metadata));
    problems.extend(duplicates(&deny, metadata));
    problems.extend(sources(&deny, metadata));
    Ok(problems)
}

fn strings(value: Option<&Value>) -> Vec<&str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn tables(value: Option<&Value>) -> impl Iterator<Item = &Table> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table)
}

fn section<'t>(deny: &'t Table, name: &str, key: &str) -> Option<&'t Value> {
    deny.get(name)?.get(key)
}

fn theirs(metadata: &Metadata) -> impl Iterator<Item = &Package> {
    metadata.packages.iter().filter(|package| !package.is_ours)
}

fn licences(deny: &Table, metadata: &Metadata) -> Vec<String> {
    let allowed = strings(section(deny, "licenses", "allow"));
    theirs(metadata)
        .filter(|package| !package.licence.as_deref().is_some_and(|text| licence::is_allowed(text, &allowed)))
        .map(|package| {
            let licence = package.licence.as_deref().unwrap_or("none given");
            format!(
                "{} {} has a licence that deny.toml does not allow: {licence}",
                package.name, package.version
            )
        })
        .collect()
}

fn wrappers(deny: &Table, metadata: &Metadata) -> Vec<String> {
    let mut problems = Vec::new();
    let mut walls = BTreeMap::new();
    for entry in tables(section(deny, "bans", "deny")) {
        let name =
            entry.get("crate").or_else(|| entry.get("name")).and_then(Value::as_str).unwrap_or_default();
        walls.insert(name, strings(entry.get("wrappers")));
        if entry.get("reason").and_then(Value::as_str).is_none_or(str::is_empty) {
            problems.push(format!("deny.toml bans {name} without a reason"));
        }
    }
    for name in MUST_BE_WRAPPED {
        if walls.get(name).is_none_or(Vec::is_empty) {
            problems.push(format!("deny.toml must tie {name} to one crate with `wrappers`"));
        }
    }
    for package in &metadata.packages {
        for (name, _) in &package.dependencies {
            if walls.get(name.as_str()).is_some_and(|wrappers| !wrappers.contains(&package.name.as_str())) {
                let wrappers = walls[name.as_str()].join(", ");
                problems.push(format!("{} depends on {name}, which only {wrappers} may name", package.name));
            }
        }
    }
    problems.sort();
    problems.dedup();
    problems
}

fn duplicates(deny: &Table, metadata: &Metadata) -> Vec<String> {
    let mut skipped = BTreeSet::new();
    let mut problems = Vec::new();
    for entry in tables(section(deny, "bans", "skip")) {
        let spec = entry.get("crate").and_then(Value::as_str).unwrap_or_default();
        skipped.insert(spec.split('@').next().unwrap_or_default());
        if entry.get("reason").and_then(Value::as_str).is_none_or(str::is_empty) {
            problems.push(format!("deny.toml skips the duplicate {spec} without a reason"));
        }
    }
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in theirs(metadata) {
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    for (name, versions) in versions {
        if versions.len() > 1 && !skipped.contains(name) {
            let versions = versions.into_iter().collect::<Vec<_>>().join(" and ");
            problems.push(format!(
                "{name} is there as {versions}: unify them, or add it to `skip` in deny.toml with a reason"
            ));
        }
    }
    problems
}

fn sources(deny: &Table, metadata: &Metadata) -> Vec<String> {
    let allowed = strings(section(deny, "sources", "allow-registry"));
    theirs(metadata)
        .filter(|package| {
            let registry = package.source.as_deref().and_then(|source| source.strip_prefix("registry+"));
            !registry.is_some_and(|registry| allowed.contains(&registry))
        })
        .map(|package| {
            let source = package.source.as_deref().unwrap_or("a path outside of the workspace");
            format!("{} comes from {source}, which deny.toml does not allow", package.name)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::metadata::Kind;
    use super::*;

    const DENY: &str = r#"
        [licenses]
        allow = ["MIT"]
        [bans]
        deny = [
          { crate = "lapin", wrappers = ["kinetic-amqp"], reason = "r" },
          { crate = "git2", wrappers = ["kinetic-replica"], reason = "r" },
          { crate = "axum", wrappers = ["kinetic"], reason = "r" },
          { crate = "lettre", wrappers = ["kinetic"], reason = "r" },
          { crate = "rusqlite", wrappers = ["kinetic"], reason = "r" },
        ]
        skip = [{ crate = "nom@7", reason = "r" }]
        [sources]
        allow-registry = ["index"]
    "#;

    fn theirs(name: &str, version: &str) -> Package {
        let (licence, source) = (Some("MIT".to_owned()), Some("registry+index".to_owned()));
        Package { name: name.into(), version: version.into(), licence, source, ..Package::default() }
    }

    fn problems(packages: Vec<Package>) -> Vec<String> {
        let deny: Table = toml::from_str(DENY).expect("parses");
        let metadata = Metadata { packages };
        [
            licences(&deny, &metadata),
            wrappers(&deny, &metadata),
            duplicates(&deny, &metadata),
            sources(&deny, &metadata),
        ]
        .concat()
    }

    #[test]
    fn what_is_allowed_passes() {
        let ours = Package {
            name: "kinetic-amqp".into(),
            is_ours: true,
            dependencies: vec![("lapin".into(), Kind::Normal)],
            ..Package::default()
        };
        let packages = vec![ours, theirs("lapin", "4.0.0"), theirs("nom", "7.0.0"), theirs("nom", "8.0.0")];
        assert_eq!(problems(packages), Vec::<String>::new());
    }

    #[test]
    fn each_offence_is_found() {
        let ours = Package {
            name: "kinetic".into(),
            is_ours: true,
            dependencies: vec![("lapin".into(), Kind::Normal)],
            ..Package::default()
        };
        assert!(problems(vec![ours])[0].contains("kinetic depends on lapin"));
        let gpl = Package { licence: Some("GPL-3.0".into()), ..theirs("x", "1.0.0") };
        assert!(problems(vec![gpl])[0].contains("GPL-3.0"));
        let git = Package { source: Some("git+https://example".into()), ..theirs("x", "1.0.0") };
        assert!(problems(vec![git])[0].contains("git+https://example"));
        assert!(
            problems(vec![theirs("syn", "2.0.0"), theirs("syn", "3.0.0")])[0].contains("2.0.0 and 3.0.0")
        );
    }

    #[test]
    fn a_wall_cannot_be_forgotten() {
        let found = wrappers(&Table::new(), &Metadata::default());
        assert_eq!(found.len(), MUST_BE_WRAPPED.len(), "{found:?}");
    }
}
