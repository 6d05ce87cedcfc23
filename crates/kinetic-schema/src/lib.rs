//! The HCL schema and topology language: text in, checked values and spanned diagnostics out.

pub mod schema;

pub use schema::Schema;
