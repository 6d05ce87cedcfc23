//! What a client asks for beside its customer's address, and what it is told where the schema has no such thing.

use std::collections::BTreeSet;
use std::ops::Deref;

use kinetic_wire::{DataType, RpcCode};

use crate::map::Map;
use crate::refusal::Refusal;
use crate::request::DataTypes;

/// Names that a refusal lists; of more it says how many.
const NAMED_MAX: usize = 8;
/// Characters of a profile that a refusal repeats.
const REPEATED_MAX: usize = 64;

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<P> {
    /// One of the customer's sources is to have this profile.
    pub(crate) profile: Option<P>,
    /// Each of these is to be taken by one of the customer's sources, of that profile where there is one.
    pub(crate) data_types: DataTypes,
}

/// What the schema lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// No source has the profile.
    Profile,
    /// No source takes these.
    Source(DataTypes),
}

impl<P: Deref<Target = str>> Wanted<P> {
    /// Whether a customer has sources for it.
    pub(crate) fn judge(&self, map: &Map, customer: u32) -> Result<(), Lack> {
        let mut missing = self.data_types;
        let mut known = self.profile.is_none();
        if known && missing.is_empty() {
            return Ok(());
        }
        // Most customers' sources are of one kind.
        let first = map.first_kind(customer).into_iter();
        for kind in first.chain(map.kinds_of(customer).map(|kind| map.kind_at(kind))) {
            if self.is_of_profile(kind.profile) {
                known = true;
                missing = missing.without(kind.data_type);
                if missing.is_empty() {
                    return Ok(());
                }
            }
        }
        Err(if known { Lack::Source(missing) } else { Lack::Profile })
    }

    fn is_of_profile(&self, profile: Option<&str>) -> bool {
        self.profile.as_deref().is_none_or(|wanted| profile == Some(wanted))
    }

    /// The refusal that says what the customer has, and what to do.
    pub(crate) fn refuse(&self, map: &Map, customer: u32, lack: Lack) -> Refusal {
        let name = map.customer_at(customer).name;
        let kinds = || map.kinds_of(customer).map(|kind| map.kind_at(kind));
        let shown = |profile: &str| format!("{:?}", profile.chars().take(REPEATED_MAX).collect::<String>());
        let wanted = self.profile.as_deref().map(shown).unwrap_or_default();
        match lack {
            Lack::Profile => {
                let profiles: BTreeSet<String> = kinds().filter_map(|kind| kind.profile.map(shown)).collect();
                let message = if profiles.is_empty() {
                    format!(
                        "no source of {name} has a profile: ask without {wanted}, or give it to a source in the schema"
                    )
                } else {
                    format!(
                        "no source of {name} has the profile {wanted}; there are {}: ask for one of these, or give {wanted} \
                         to a source in the schema",
                        list(&profiles)
                    )
                };
                Refusal::explained(RpcCode::UnknownProfile, message)
            }
            Lack::Source(missing) => {
                let mut of = name.to_owned();
                if self.profile.is_some() {
                    of = format!("{name} with the profile {wanted}");
                }
                let taken: BTreeSet<String> = kinds()
                    .filter(|kind| self.is_of_profile(kind.profile))
                    .map(|kind| type_name(kind.data_type).to_owned())
                    .collect();
                let missing: BTreeSet<String> =
                    missing.iter().map(|kind| type_name(kind).to_owned()).collect();
                let message = if taken.is_empty() {
                    format!("{of} has no source: add one to the schema")
                } else {
                    format!(
                        "no source of {of} takes {}; taken are {}: send one of these, or add a source to the schema",
                        list(&missing),
                        list(&taken)
                    )
                };
                Refusal::explained(RpcCode::NoSource, message)
            }
        }
    }
}

fn list(names: &BTreeSet<String>) -> String {
    let shown: Vec<&str> = names.iter().take(NAMED_MAX).map(String::as_str).collect();
    let shown = shown.join(", ");
    match names.len().saturating_sub(NAMED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// As it is written in messages and schemas.
pub(crate) fn type_name(data_type: DataType) -> &'static str {
    match data_type {
        DataType::Statsd => "statsd",
        DataType::Collectd => "collectd",
        DataType::Graphite => "graphite",
        DataType::Influx => "influx",
        DataType::Auto => "auto",
    }
}
