//! Harness for the cross-process stories.
