//! Plain counters and gauges; whoever embeds the broker exports them.

/// Counters since start and gauges of now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Open connections that finished the handshake (gauge).
    pub connections: u64,
    /// Open channels (gauge).
    pub channels: u64,
    /// Queues (gauge).
    pub queues: u64,
    /// Consumers (gauge).
    pub consumers: u64,
    /// Messages ready in queues (gauge).
    pub messages_ready: u64,
    /// Messages delivered and not yet acknowledged (gauge).
    pub messages_unacked: u64,
    /// Bytes of messages held, each body counted once however many queues hold it (gauge).
    pub bytes_held: u64,
    /// Connections accepted since start.
    pub connections_total: u64,
    /// Messages published.
    pub published: u64,
    /// Copies put into queues.
    pub routed: u64,
    /// Messages that no queue took.
    pub unroutable: u64,
    /// Messages handed to consumers, and answers to `basic.get`.
    pub delivered: u64,
    /// Messages acknowledged by clients, automatic acknowledgement included.
    pub acked: u64,
    /// Deliveries with the redelivered flag.
    pub redelivered: u64,
    /// Messages sent on to a dead-letter exchange.
    pub dead_lettered: u64,
    /// Messages dropped from the head of a full queue.
    pub dropped_overflow: u64,
    /// Messages refused by a full queue (`reject-publish`).
    pub rejected_overflow: u64,
    /// Messages whose time to live ended.
    pub expired: u64,
    /// Refusals by reason.
    pub refused: Refused,
    /// Connections ended by frames that are not AMQP.
    pub malformed_frames: u64,
    /// Connections ended because nothing was heard for two heartbeats.
    pub heartbeats_missed: u64,
    /// Times that dispatching to a connection stopped because it reads too slowly.
    pub slow_readers: u64,
    /// Times that a publisher was stopped because too many bytes are held.
    pub publishers_blocked: u64,
}

/// Refusals since start, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    /// Logins with a wrong user or password.
    pub login: u64,
    /// Connections above a bound: of the broker or of the user.
    pub connections: u64,
    /// Handshakes of TLS that failed.
    pub tls: u64,
    /// Connections closed before they had shown who they are, to make room for others or for want of it.
    pub crowded: u64,
    /// Handshakes that were wrong, too slow, or named a vhost that is not open to the user.
    pub handshake: u64,
    /// Operations without permission (403).
    pub access: u64,
    /// Operations on what does not exist (404).
    pub not_found: u64,
    /// Operations on another connection's exclusive queue (405).
    pub locked: u64,
    /// Operations whose precondition does not hold (406).
    pub precondition: u64,
    /// Everything else (5xx).
    pub other: u64,
}

impl Refused {
    /// All of them.
    pub fn total(&self) -> u64 {
        let Self {
            login,
            connections,
            tls,
            crowded,
            handshake,
            access,
            not_found,
            locked,
            precondition,
            other,
        } = *self;
        login + connections + tls + crowded + handshake + access + not_found + locked + precondition + other
    }

    pub(crate) fn count(&mut self, code: u16) {
        let counter = match code {
            403 => &mut self.access,
            404 => &mut self.not_found,
            405 => &mut self.locked,
            406 => &mut self.precondition,
            _ => &mut self.other,
        };
        *counter += 1;
    }

    fn add(&mut self, other: &Self) {
        self.login += other.login;
        self.connections += other.connections;
        self.tls += other.tls;
        self.crowded += other.crowded;
        self.handshake += other.handshake;
        self.access += other.access;
        self.not_found += other.not_found;
        self.locked += other.locked;
        self.precondition += other.precondition;
        self.other += other.other;
    }
}

impl Stats {
    /// Adds the figures of another part of the broker.
    pub(crate) fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.channels += other.channels;
        self.queues += other.queues;
        self.consumers += other.consumers;
        self.messages_ready += other.messages_ready;
        self.messages_unacked += other.messages_unacked;
        self.bytes_held += other.bytes_held;
        self.connections_total += other.connections_total;
        self.published += other.published;
        self.routed += other.routed;
        self.unroutable += other.unroutable;
        self.delivered += other.delivered;
        self.acked += other.acked;
        self.redelivered += other.redelivered;
        self.dead_lettered += other.dead_lettered;
        self.dropped_overflow += other.dropped_overflow;
        self.rejected_overflow += other.rejected_overflow;
        self.expired += other.expired;
        self.refused.add(&other.refused);
        self.malformed_frames += other.malformed_frames;
        self.heartbeats_missed += other.heartbeats_missed;
        self.slow_readers += other.slow_readers;
        self.publishers_blocked += other.publishers_blocked;
    }
}

/// What one owner of users takes of the broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnerStats {
    /// Bytes of its messages that are held (gauge).
    pub bytes_held: u64,
    /// Times that one of its publishers was stopped because it holds its share of memory.
    pub publishers_blocked: u64,
    /// Refusals to its users.
    pub refused: Refused,
}

/// What one queue holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Messages ready to be delivered.
    pub ready: u64,
    /// Messages delivered and not yet acknowledged.
    pub unacked: u64,
    /// Consumers.
    pub consumers: u64,
    /// Bytes of the ready messages' bodies.
    pub ready_bytes: u64,
}
