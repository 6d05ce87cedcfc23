//! The redirector from outside: inputs in virtual time, answers as its peers would read them.

mod harness;
mod property;
mod timeline;
