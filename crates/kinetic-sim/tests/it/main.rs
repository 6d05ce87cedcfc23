//! The simulator at work: random seeds, scripted scenarios, planted bugs.

mod bugs;
mod scenarios;
mod seeds;
