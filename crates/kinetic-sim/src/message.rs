//! What travels between processes and the broker: messages, and the frames that carry them.

use std::rc::Rc;

use kinetic_wire::Envelope;

/// Nanoseconds of true time since the world began. Processes see it through their own clocks.
pub type Time = u64;
/// One second of [`Time`].
pub const SECOND: Time = 1_000_000_000;
/// One millisecond of [`Time`].
pub const MS: Time = 1_000_000;

/// One connection between a process and the broker, from its opening to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// A message as the broker keeps it.
#[derive(Clone, Debug)]
pub struct Message {
    /// Exchange it was published to; the default exchange is "".
    pub exchange: Rc<str>,
    /// Routing key.
    pub key: Rc<str>,
    /// Properties that the machines look at.
    pub envelope: Envelope<'static>,
    /// Body.
    pub body: Rc<[u8]>,
    /// Where the answer goes, of a request.
    pub reply_to: Option<ConnId>,
    /// The requester's name for its request.
    pub correlation: u64,
    /// The publisher waits this long; `None` for ever.
    pub expires: Option<Time>,
    /// Numbers of the samples in it, of a publisher's body: their places in the ledger.
    pub samples: Vec<usize>,
    /// When the broker took this copy of it, of a publisher's body.
    pub entered: Option<Time>,
}

impl Message {
    /// A message without properties.
    #[must_use]
    pub fn new(exchange: &str, key: &str, body: Vec<u8>) -> Self {
        Self {
            exchange: exchange.into(),
            key: key.into(),
            envelope: Envelope::default(),
            body: body.into(),
            reply_to: None,
            correlation: 0,
            expires: None,
            samples: Vec::new(),
            entered: None,
        }
    }
}

/// From a client to the broker.
#[derive(Clone, Debug)]
pub enum Up {
    /// Begin to consume a queue; one subscription a connection.
    Consume {
        /// The queue.
        queue: String,
        /// Deliveries unsettled at once; 0 is without bound.
        prefetch: usize,
    },
    /// End the subscription, keep the channel.
    Cancel,
    /// Publish.
    Publish {
        /// Confirm under this number, where wanted.
        confirm: Option<u64>,
        /// Return what no queue takes.
        mandatory: bool,
        /// The message.
        message: Rc<Message>,
    },
    /// Acknowledge.
    Ack {
        /// Delivery tag.
        tag: u64,
        /// And all before it.
        multiple: bool,
    },
    /// Refuse; the broker dead-letters it.
    Reject {
        /// Delivery tag.
        tag: u64,
    },
    /// Take all that is ready in a queue, to give it back when the connection closes (`basic.get` in a row).
    Peek {
        /// The queue.
        queue: String,
    },
    /// Consume a queue of one's own, bound to a fanout exchange, without acknowledgements.
    Listen {
        /// The exchange.
        exchange: String,
    },
    /// Be second in line at a node's witness queue.
    Watch {
        /// The queue.
        queue: String,
    },
    /// Be first in line at one's own witness queue, with a message of one's own in it.
    Witness {
        /// The queue.
        queue: String,
    },
    /// A message to a reply-to address that answers nothing.
    Push {
        /// The address.
        to: ConnId,
    },
    /// Answer a request.
    Reply {
        /// The requester's connection.
        to: ConnId,
        /// Its name for the request.
        correlation: u64,
        /// The answer.
        body: Vec<u8>,
    },
    /// The client has closed in good order, or its process has ended and the kernel says so.
    Close {
        /// In good order.
        gracefully: bool,
    },
}

/// From the broker to a client.
#[derive(Clone, Debug)]
pub enum Down {
    /// The subscription stands.
    Consuming,
    /// The subscription has ended as asked.
    Cancelled,
    /// A delivery.
    Deliver {
        /// Delivery tag.
        tag: u64,
        /// Delivered before.
        redelivered: bool,
        /// The message.
        message: Rc<Message>,
    },
    /// Taken.
    Confirm(u64),
    /// Not taken.
    Nack(u64),
    /// No queue takes it; the confirm follows.
    Returned(u64),
    /// Nobody else is at the watched queue.
    Handed,
    /// A message to our reply-to address that answers nothing.
    Pushed,
    /// What was ready in the queue.
    Peeked(Vec<Rc<Message>>),
    /// An answer.
    Reply {
        /// The request.
        correlation: u64,
        /// The answer.
        body: Vec<u8>,
    },
    /// The broker has closed the connection, or confirms that it is closed.
    Closed,
}
