//! Groups, history view, notification decisions and the text of the e-mail. A pure machine.
//!
//! An event takes this way: `intake` (decode, dedup, epoch) → history (`Append` … `Appended`) → `group` (what fires)
//! → `reason` (is a mail due, and why) → `notify` (one mail per recipient, recorded) → `outbox` (until the relay
//! has it). `history` rebuilds all of it from the records alone.

mod agenda;
mod announce;
mod breach;
mod breached;
mod circuit;
mod clock;
mod compact;
mod deadman;
mod deliver;
mod digest;
mod doors;
mod episodes;
mod escape;
mod flush;
mod fold;
mod follow;
mod format;
mod group;
mod headers;
mod history;
mod hours;
mod html;
mod id;
mod intake;
mod level;
mod links;
pub mod machine;
mod outbox;
mod preview;
mod quiet;
mod reason;
mod receivers;
mod record;
mod relays;
mod render;
mod returned;
mod route;
mod rule;
mod silences;
mod stats;
mod storm;
mod stream;
mod subscribe;
mod suppress;
mod template;
mod test_event;
mod test_mail;
mod text;
mod trail;
mod watchdog;
pub mod webhook;
mod why;
mod words;

pub use compact::Compaction;
pub use escape::html as html_escaped;
pub use links::fuzz_link;
pub use machine::{
    Alert, AlertConfig, Attempt, DigestPart, Effect, Email, Failed, Input, MailId, Record, RecordSeq,
    ReplyToken, Thread,
};
pub use preview::{NoPreview, preview, preview_post};
pub use reason::NotifyReason;
pub use stats::Stats;
