//! Crashes at every effect, and at random moments of random runs.
