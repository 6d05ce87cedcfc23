//! Checked blocks to the values of [`crate::schema`]. An error puts a placeholder in the value's place and goes on:
//! a schema with any error is thrown away as a whole, so that no placeholder is ever seen.

mod alert;
mod analytic;
mod customer;
mod installation;
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
    schema.mail = declared.mail.and_then(|mail| installation::mail(sink, mail.node));
    customer::all(sink, declared, &mut schema, today);
    schema
}
