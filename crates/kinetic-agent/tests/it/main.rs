//! The agent from outside: inputs in virtual time, effects as its shell would carry them out.

mod credentials;
mod harness;
mod property;
mod timeline;
