//! Checked blocks to the values of [`crate::schema`]. An error puts a placeholder in the value's place and goes on:
//! a schema with any error is thrown away as a whole, so that no placeholder is ever seen.

mod alert;
mod analytic;
mod customer;
mod hours;
mod identity;
mod installation;
mod labels;
mod mail;
mod operation;
mod receiver;
mod rule;
mod service;
mod source;

use kinetic_wire::Wall;

use crate::diagnostic::Sink;
use crate::load::Declared;
use crate::schema::{Limits, Schema};

/// Lowers everything.
pub(crate) fn schema(sink: &mut Sink<'_>, declared: &Declared<'_>, today: Option<Wall>) -> Schema {
    let mut schema = Schema::default();
    for named in declared.regions.values() {
        let region = installation::region(sink, *named);
        schema.regions.insert(region.name.clone(), region);
    }
    let single = |kind| declared.single.get(kind).copied();
    schema.mail = single("mail").and_then(|named| mail::mail(sink, named.node));
    schema.watchdog = single("watchdog").and_then(|named| operation::watchdog(sink, named.node));
    schema.provisioner = single("provisioner").and_then(|named| operation::provisioner(sink, named));
    schema.operators = identity::operators(sink, declared);
    schema.tokens = single("tokens").and_then(|named| identity::tokens(sink, named.node));
    let limits = single("limits").map(|named| identity::limits(sink, named.node, Limits::DEFAULT));
    customer::all(sink, declared, &mut schema, limits.unwrap_or(Limits::DEFAULT), today);
    schema.edge = single("edge").map(|named| identity::edge(sink, named.node, declared)).unwrap_or_default();
    schema
}
