//! Checked blocks to the values of [`crate::schema`]. An error puts a placeholder in the value's place and goes on:
//! a schema with any error is thrown away as a whole, so that no placeholder is ever seen.

mod alert;
mod analytic;
mod customer;
mod hours;
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
use crate::schema::Schema;

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
    customer::all(sink, declared, &mut schema, today);
    schema
}
