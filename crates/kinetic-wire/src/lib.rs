//! The envelope and every message that crosses a process, with ids, names and time types.
//!
//! This crate is the compatibility boundary: what is declared here is what other processes, other versions and
//! other people's tools see. It does no I/O and knows no clock.

mod alerting;
mod breach;
mod codec;
mod control;
mod envelope;
mod id;
mod message;
pub mod names;
mod notification;
mod partial;
mod returned;
mod state;
mod test_event;
mod time;

pub use alerting::{
    Acknowledge, Acknowledged, AcknowledgementState, AskSilence, EpisodeState, EpisodesQuestion,
    EpisodesReply, FiringFeed, FollowLink, LinkAct, LinkAction, Linked, Silence, SilenceName, Silenced,
    SilencesQuestion, SilencesReply, Subscribe, Subscribed, Subscription, ToldState, Unsilence,
    UnsubscribedQuestion, UnsubscribedReply, Unsubscription,
};
pub use breach::{Breach, BreachKind, Breached};
pub use codec::{CodecError, decode, encode};
pub use control::{
    AnalyzerState, Beacon, Change, LeaderToken, Listening, MapChange, MapQuestion, MapReply, MoveRecord,
    MoveWhy, Nudge, OwnerState, Relieve, Relieved, Role, SourceState,
};
pub use envelope::Envelope;
pub use id::{
    AlertId, AnalyticName, ClusterName, CustomerName, Epoch, Incarnation, LeaseId, Login, NodeId, RegionName,
    ServiceName, SourceKey, SourceName, Term, Token,
};
pub use message::{
    AlertEvent, AlertState, Credential, DataType, Direction, Drain, Endpoint, Evacuated, Feed, Goodbye,
    Grant, Heartbeat, Hold, LeaseReply, Limits, Locate, LocateReply, Numbers, Register, Released, Reply,
    RpcCode, RpcError, SchemaNotice, Serves, TrailPoint, credit,
};
pub use notification::{AnnouncedAlert, AnnouncedFold, Announcement};
pub use partial::{PARTIAL_VERSION, Partial, PartialFeed, PartialGroup};
pub use returned::{
    Bounce, Bounced, SuppressionState, SuppressionsQuestion, SuppressionsReply, Unsuppress, Unsuppressed,
};
pub use state::{FeedState, LaneState, MetricState, SNAPSHOT_VERSION, Snapshot, WatchState};
pub use test_event::{
    AnnounceTest, Progress, Stage, TRACE_DIGITS, TestAnnounced, TestStage, is_trace, trace_of,
};
pub use time::{Mono, Now, Wall};
