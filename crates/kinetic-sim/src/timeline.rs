//! The story of a run, for people: what was told to whom, when. Kept only where somebody asks for it.

use std::fmt::Write;

use crate::message::{MS, Time};

/// Longest text of one entry.
const ENTRY_MAX: usize = 600;

/// See the module.
#[derive(Debug, Default)]
pub struct Timeline {
    /// Whether anything is kept.
    pub is_kept: bool,
    text: String,
}

impl Timeline {
    pub(crate) fn note(&mut self, at: Time, who: &str, what: impl FnOnce() -> String) {
        if !self.is_kept {
            return;
        }
        let mut entry = what();
        if entry.len() > ENTRY_MAX {
            let end = (0..=ENTRY_MAX).rev().find(|at| entry.is_char_boundary(*at)).unwrap_or(0);
            entry.truncate(end);
        }
        let ms = at / MS;
        writeln!(self.text, "{:>5}.{:03} {who:<8} {entry}", ms / 1000, ms % 1000)
            .expect("text takes whatever is written");
    }

    /// All of it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}
