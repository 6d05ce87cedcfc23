//! One loop per role: the world into inputs, effects into the world.

pub(crate) mod agent;
pub(crate) mod alert;
pub(crate) mod alive;
pub(crate) mod analyzer;
pub(crate) mod broker;
pub(crate) mod edge;
pub(crate) mod follow;
pub(crate) mod health;
pub(crate) mod links;
pub(crate) mod provision;
pub(crate) mod reconcile;
pub(crate) mod redirector;
pub(crate) mod token;
pub(crate) mod trace;
