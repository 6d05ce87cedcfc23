//! The agent and the edge from outside: inputs in virtual time, effects as its shell would carry them out.

mod credentials;
mod edge;
mod harness;
mod property;
mod timeline;
