//! The redirector from outside: inputs in virtual time, answers as its peers would read them.

mod asking;
mod fleet;
mod harness;
mod leading;
mod property;
mod scaling;
mod several;
mod timeline;
