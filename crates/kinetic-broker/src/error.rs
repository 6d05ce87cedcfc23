//! The refusals of AMQP: a reply code, a text, and whether the channel or the connection ends by it.

/// What ends by a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The channel is closed, the connection goes on.
    Channel,
    /// The connection is closed.
    Connection,
}

/// A refusal with its AMQP reply code (AMQP 0-9-1, section 1.2, "soft" and "hard" errors).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: u16,
    pub(crate) text: String,
    pub(crate) scope: Scope,
}

pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    fn new(code: u16, name: &str, text: &str) -> Self {
        let scope = match code {
            311 | 312 | 313 | 403..=406 => Scope::Channel,
            _ => Scope::Connection,
        };
        // A reply text is a short string: cut to 255 bytes at a character boundary.
        let mut text = format!("{name} - {text}");
        let mut end = text.len().min(255);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        Self { code, text, scope }
    }

    pub(crate) fn access_refused(text: &str) -> Self {
        Self::new(403, "ACCESS_REFUSED", text)
    }
    pub(crate) fn not_found(text: &str) -> Self {
        Self::new(404, "NOT_FOUND", text)
    }
    pub(crate) fn locked(text: &str) -> Self {
        Self::new(405, "RESOURCE_LOCKED", text)
    }
    pub(crate) fn precondition(text: &str) -> Self {
        Self::new(406, "PRECONDITION_FAILED", text)
    }
    pub(crate) fn forced(text: &str) -> Self {
        Self::new(320, "CONNECTION_FORCED", text)
    }
    pub(crate) fn frame(text: &str) -> Self {
        Self::new(501, "FRAME_ERROR", text)
    }
    pub(crate) fn syntax(text: &str) -> Self {
        Self::new(502, "SYNTAX_ERROR", text)
    }
    pub(crate) fn command_invalid(text: &str) -> Self {
        Self::new(503, "COMMAND_INVALID", text)
    }
    pub(crate) fn channel_error(text: &str) -> Self {
        Self::new(504, "CHANNEL_ERROR", text)
    }
    pub(crate) fn unexpected_frame(text: &str) -> Self {
        Self::new(505, "UNEXPECTED_FRAME", text)
    }
    pub(crate) fn resource(text: &str) -> Self {
        Self::new(506, "RESOURCE_ERROR", text)
    }
    pub(crate) fn not_allowed(text: &str) -> Self {
        Self::new(530, "NOT_ALLOWED", text)
    }
    pub(crate) fn not_implemented(text: &str) -> Self {
        Self::new(540, "NOT_IMPLEMENTED", text)
    }

    /// The same refusal, ending the connection.
    pub(crate) fn hard(mut self) -> Self {
        self.scope = Scope::Connection;
        self
    }

    pub(crate) fn no_queue(queue: &str, vhost: &str) -> Self {
        Self::not_found(&format!("no queue '{queue}' in vhost '{vhost}'"))
    }
    pub(crate) fn no_exchange(exchange: &str, vhost: &str) -> Self {
        Self::not_found(&format!("no exchange '{exchange}' in vhost '{vhost}'"))
    }
}
