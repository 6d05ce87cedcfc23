//! What `cargo metadata` says, as far as the checks need it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::shell::{cargo, command, output};

/// How a package is depended on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// `[dependencies]`
    Normal,
    /// `[dev-dependencies]`
    Dev,
    /// `[build-dependencies]`
    Build,
}

/// One package.
#[derive(Clone, Debug, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) licence: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) is_ours: bool,
    /// Direct dependencies by name.
    pub(crate) dependencies: Vec<(String, Kind)>,
}

/// All packages that this host's build can reach.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
}

impl Metadata {
    /// Asks cargo, for this host's target only: packages for other systems need not be downloaded.
    pub(crate) fn read() -> Result<Self> {
        let version = output(command("rustc", &["-vV"]))?;
        let host = version
            .lines()
            .find_map(|line| line.strip_prefix("host: "))
            .context("rustc -vV names no host")?;
        let text =
            output(cargo(&["metadata", "--format-version", "1", "--locked", "--filter-platform", host]))?;
        Self::parse(&serde_json::from_str(&text)?).context("cargo metadata has another shape than expected")
    }

    fn parse(value: &Value) -> Option<Self> {
        let ours: Vec<&str> =
            value["workspace_members"].as_array()?.iter().filter_map(Value::as_str).collect();
        let names: BTreeMap<&str, &str> = value["packages"]
            .as_array()?
            .iter()
            .filter_map(|package| Some((package["id"].as_str()?, package["name"].as_str()?)))
            .collect();
        let mut resolved = BTreeMap::new();
        for node in value["resolve"]["nodes"].as_array()? {
            resolved.insert(node["id"].as_str()?, dependencies(node, &names)?);
        }
        let packages = value["packages"].as_array()?.iter().map(|package| {
            let id = package["id"].as_str()?;
            Some(Package {
                name: package["name"].as_str()?.to_owned(),
                version: package["version"].as_str()?.to_owned(),
                licence: package["license"].as_str().map(str::to_owned),
                source: package["source"].as_str().map(str::to_owned),
                is_ours: ours.contains(&id),
                dependencies: resolved.remove(id).unwrap_or_default(),
            })
        });
        Some(Self { packages: packages.collect::<Option<_>>()? })
    }

    /// Packages of this workspace.
    pub(crate) fn ours(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.is_ours)
    }
}

fn dependencies(node: &Value, names: &BTreeMap<&str, &str>) -> Option<Vec<(String, Kind)>> {
    let mut found = Vec::new();
    for dependency in node["deps"].as_array()? {
        let name = names.get(dependency["pkg"].as_str()?)?;
        for kind in dependency["dep_kinds"].as_array()? {
            let kind = match kind["kind"].as_str() {
                None => Kind::Normal,
                Some("dev") => Kind::Dev,
                Some(_) => Kind::Build,
            };
            found.push(((*name).to_owned(), kind));
        }
    }
    Some(found)
}
