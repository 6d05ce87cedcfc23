//! The simulator at work: random seeds, scripted scenarios, planted bugs.

mod seeds;
