//! Bugs planted on purpose: each is something that a shell, a broker or a machine could do wrong, and each has a
//! checker that must notice. A simulator that has never failed has shown nothing.

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// The analyzer's shell acknowledges every delivery as it comes.
    AckOnReceipt,
    /// The analyzer's shell says that an alert event is confirmed as it sends it, and never sends it again.
    ConfirmedUnsent,
    /// The analyzer's shell does not tell its machine that a subscription was lost.
    LossUntold,
    /// The analyzer's shell acknowledges with `multiple` what it is asked to acknowledge one by one.
    AckTooMuch,
    /// The analyzer's shell says that a snapshot is kept, and throws it away.
    SnapshotDropped,
    /// The analyzer's monotonic clock stands still while its process does.
    SuspendedClock,
    /// The alert node takes every event for one of the highest epoch.
    EpochIgnored,
    /// The alert node's shell acknowledges an event before it is on disk.
    AckBeforeAppend,
    /// The relay takes mail and throws it away, and the shell says that it was delivered.
    MailForgotten,
    /// The redirector's shell says that its state is stored, and has not stored it.
    StoreForgotten,
    /// A redirector that is elected is not told what its predecessors have stored.
    TokenForgotten,
    /// A redirector that leads does not listen first.
    ListenSkipped,
    /// The redirector's clock runs at five times the speed.
    HastyRedirector,
    /// The redirector gives every ownership the same epoch.
    EpochRepeated,
    /// The broker delivers to all consumers of a single-active-consumer queue.
    SeveralActive,
    /// The broker forgets what was not settled when a channel ends.
    UnsettledForgotten,
    /// Analyzers are not told of grants: every answer comes without.
    GrantsLost,
    /// What a redirector nudges an analyzer for, it does not tell it any more.
    NudgeLosesGrants,
    /// The broker hands the leader's token, and with it the requests, to whoever wants them.
    TwoLeaders,
    /// The analyzer's shell says that a part's values are confirmed, and never sends them.
    PartialsUnsent,
    /// The analyzer's shell acknowledges the values of parts as they come.
    PartialsAcked,
    /// The broker sends what one host says to any part of a split source.
    Scattered,
    /// The client keeps a channel on which the broker refuses everything.
    RefusalsKept,
    /// The broker confirms what one host says, and keeps nothing of it from some time on.
    Swallowed,
    /// The analyzer's shell says at once that its message to itself has come back.
    ProbeForged,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::AckOnReceipt,
        Self::ConfirmedUnsent,
        Self::LossUntold,
        Self::AckTooMuch,
        Self::SnapshotDropped,
        Self::SuspendedClock,
        Self::EpochIgnored,
        Self::AckBeforeAppend,
        Self::MailForgotten,
        Self::StoreForgotten,
        Self::TokenForgotten,
        Self::ListenSkipped,
        Self::HastyRedirector,
        Self::EpochRepeated,
        Self::SeveralActive,
        Self::UnsettledForgotten,
        Self::GrantsLost,
        Self::NudgeLosesGrants,
        Self::TwoLeaders,
        Self::PartialsUnsent,
        Self::PartialsAcked,
        Self::Scattered,
        Self::RefusalsKept,
        Self::Swallowed,
        Self::ProbeForged,
    ];
}
