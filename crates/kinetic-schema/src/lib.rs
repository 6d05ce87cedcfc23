//! The HCL schema and topology language: text in, checked values and spanned diagnostics out.
//!
//! [`load`] is the whole of `kinetic check`, of the pre-receive hook and of boot; [`format()`] is `kinetic fmt`.
//! `docs/topology-language.md` describes the language for the people who write it.

mod advice;
mod block;
mod diagnostic;
pub mod edit;
pub mod expectation;
mod format;
mod graph;
pub mod limits;
mod load;
mod lower;
mod mailbox;
mod netblock;
mod network;
mod notation;
mod parse;
mod password;
mod reference;
mod render;
pub mod schema;
mod suggest;
pub mod template;
mod value;

pub use diagnostic::{Diagnostic, Related, Severity as DiagnosticSeverity};
pub use format::format;
pub use load::{Files, Loaded, fuzz_bytes, load, load_at};
pub use netblock::{Netblock, Netblocks};
pub use notation::login_problem;
pub use render::{render, summary};
pub use schema::Schema;
