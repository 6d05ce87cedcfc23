//! One test event, from its announcement to the relay's answer: publishes it and listens to what the nodes say of it.
//!
//! Nothing here is patient beyond the test's own time: what does not answer is a finding, and the test goes on as far as it can.
//! All times are taken by this process's clock.

mod verdict;

use std::time::Duration;

use kinetic_amqp::{
    Address, ConsumeOptions, Consumer, Event, LinkStatus, Outcome, Publisher, RpcClient, RpcFailed, Topology,
};
use kinetic_wire::{
    AnnounceTest, CustomerName, DataType, Envelope, Epoch, Locate, LocateReply, MapQuestion, MapReply, Mono,
    NodeId, Progress, RegionName, Reply, RpcCode, RpcError, SourceKey, SourceName, SourceState, Stage,
    TestAnnounced, TestStage, decode, encode, names,
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

pub(crate) use self::verdict::{Ending, Stopped};
use crate::adapter::clock;
use crate::{node, topology};

/// Longest time for one answer, and for a connection.
const ANSWER: Duration = Duration::from_secs(3);
/// Of the test's time, the share that one question may take: the test itself needs the rest.
const ANSWER_SHARE: u32 = 4;
/// Words of nodes on their way.
const PREFETCH: u16 = 64;
/// Stages kept of one test: more than there can be with any number of recipients and attempts within its time.
const STEPS_MAX: usize = 500;
/// Pages of the map that are read to find a source.
const PAGES_MAX: usize = 20;
/// Feeds of the burst beside the slow one.
const PEERS: usize = 5;

/// What is tested, and how.
#[derive(Clone, Debug)]
pub(crate) struct Test {
    /// The control vhost, with the login of a node.
    pub(crate) control: Address,
    /// Where the customer publishes, and as whom this does.
    pub(crate) ingress: Address,
    /// That is a login of the customer.
    pub(crate) as_customer: bool,
    /// Whose line.
    pub(crate) customer: CustomerName,
    /// Which source.
    pub(crate) source: SourceName,
    /// Its parts; 1 where it is not split.
    pub(crate) partitions: u16,
    /// A routing key that leads to it.
    pub(crate) routing_key: String,
    /// Where its queue is.
    pub(crate) region: RegionName,
    /// Mailboxes instead of those of the customer's alert blocks.
    pub(crate) to: Vec<String>,
    /// How long the test is followed.
    pub(crate) wait: Duration,
}

/// One stage, when this process knew of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Milliseconds since the test began.
    pub(crate) after_ms: u64,
    pub(crate) stage: Stage,
    pub(crate) progress: Progress,
    pub(crate) detail: String,
    pub(crate) node: Option<NodeId>,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) to: Option<String>,
    pub(crate) relay: Option<String>,
    pub(crate) message_id: Option<String>,
}

/// How a test went.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) trace: String,
    /// In the order in which they became known.
    pub(crate) steps: Vec<Step>,
    pub(crate) took_ms: u64,
    pub(crate) ending: Ending,
    /// It was not begun, because another test of the customer is under way.
    pub(crate) is_busy: bool,
}

/// What has been found out so far.
struct Journal<'a> {
    test: &'a Test,
    began: Mono,
    trace: String,
    steps: Vec<Step>,
    /// Who is to be mailed, once the alert node has said so.
    recipients: Option<Vec<String>>,
    is_busy: bool,
    say: &'a mut dyn FnMut(&Step),
}

/// Runs one test; each stage is said as soon as it is known.
pub(crate) async fn run(test: &Test, say: &mut dyn FnMut(&Step)) -> Report {
    let mut journal = Journal {
        test,
        began: clock::now().mono,
        trace: Uuid::now_v7().simple().to_string(),
        steps: Vec::new(),
        recipients: None,
        is_busy: false,
        say,
    };
    let options = ConsumeOptions {
        topology: topology::trace_subscription(&journal.trace),
        prefetch: PREFETCH,
        no_ack: true,
        ..ConsumeOptions::default()
    };
    let mut ears = Consumer::start(test.control.clone(), options);
    if journal.listens(&mut ears).await {
        let rpc = RpcClient::start(test.control.clone());
        if journal.announce(&rpc).await && journal.locate(&rpc).await && journal.publish().await {
            journal.follow(&mut ears).await;
        }
        rpc.close().await;
    }
    ears.close().await;
    let took_ms = journal.after_ms();
    let ending = verdict::of(test, &journal.steps, journal.recipients.as_deref());
    Report { trace: journal.trace, steps: journal.steps, took_ms, ending, is_busy: journal.is_busy }
}

impl Journal<'_> {
    fn after_ms(&self) -> u64 {
        u64::try_from(clock::now().mono.since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    fn ends(&self) -> Mono {
        self.began + self.test.wait
    }

    /// How long one answer is awaited.
    fn patience(&self) -> Duration {
        let left = self.ends().since(clock::now().mono);
        ANSWER.min(self.test.wait / ANSWER_SHARE).min(left)
    }

    fn push(&mut self, step: Step) {
        if self.steps.len() < STEPS_MAX {
            (self.say)(&step);
            self.steps.push(step);
        }
    }

    fn found(&mut self, stage: Stage, progress: Progress, detail: impl Into<String>) {
        self.push(Step {
            after_ms: self.after_ms(),
            stage,
            progress,
            detail: detail.into(),
            node: None,
            epoch: None,
            to: None,
            relay: None,
            message_id: None,
        });
    }

    /// What a node says; the same thing said again is passed over.
    fn heard(&mut self, said: TestStage) {
        let TestStage { trace, stage, progress, detail, node, epoch, to, relay, message_id, .. } = said;
        let is_known = |step: &Step| {
            step.stage == stage && step.progress == progress && step.to == to && step.detail == detail
        };
        if trace == self.trace && !self.steps.iter().any(is_known) {
            let after_ms = self.after_ms();
            self.push(Step { after_ms, stage, progress, detail, node, epoch, to, relay, message_id });
        }
    }

    /// Waits until what nodes say can be heard.
    async fn listens(&mut self, ears: &mut Consumer) -> bool {
        let until = clock::now().mono + self.patience();
        loop {
            tokio::select! {
                event = ears.next() => match event {
                    Event::Subscribed => return true,
                    Event::Lost { reason } => {
                        let detail = format!("the control broker cannot be used: {reason}");
                        self.found(Stage::Announced, Progress::Failed, detail);
                        return false;
                    }
                    Event::Delivery(_) | Event::Cancelled => {}
                },
                () = clock::sleep_until(Some(until)) => {
                    self.found(Stage::Announced, Progress::Failed, "the control broker does not answer");
                    return false;
                }
            }
        }
    }

    /// Tells the alert node what will come. Without an answer the test goes on, to see how far the line works.
    async fn announce(&mut self, rpc: &RpcClient) -> bool {
        let wait_ms = u64::try_from(self.test.wait.as_millis()).unwrap_or(u64::MAX);
        let body = encode(&AnnounceTest {
            v: 1,
            customer: self.test.customer.clone(),
            trace: self.trace.clone(),
            to: self.test.to.clone(),
            wait_ms,
        });
        match ask::<TestAnnounced>(rpc, names::rpc::TEST_EVENT, body, self.patience()).await {
            Ok(reply) => {
                let cut = if reply.cut > 0 {
                    format!(" (and {} more, who are not mailed)", reply.cut)
                } else {
                    String::new()
                };
                let detail =
                    format!("will mail {}{cut}; relays: {}", reply.to.join(", "), reply.relays.join(", "));
                self.recipients = Some(reply.to);
                self.found(Stage::Announced, Progress::Passed, detail);
                true
            }
            Err(Unanswered::Refused(RpcError { code, message, .. })) => {
                self.is_busy = code == RpcCode::TestUnderWay;
                self.found(Stage::Announced, Progress::Failed, message);
                false
            }
            Err(Unanswered::Silent(why)) => {
                self.found(Stage::Announced, Progress::Waits, format!("no alert node answers: {why}"));
                true
            }
        }
    }

    /// Asks who owns the source and, with a customer's login, where that may publish.
    async fn locate(&mut self, rpc: &RpcClient) -> bool {
        if self.test.as_customer && !self.locate_as_customer().await {
            return false;
        }
        let (progress, detail, owner) = match self.owners(rpc).await {
            Err(Unanswered::Refused(RpcError { message: why, .. }) | Unanswered::Silent(why)) => {
                (Progress::Waits, format!("no redirector says who owns the source: {why}"), None)
            }
            Ok(parts) if parts.is_empty() => {
                let why = format!("the redirector does not know {} (yet)", self.key());
                (Progress::Waits, why, None)
            }
            Ok(parts) => located(&self.key(), &parts),
        };
        self.push(Step {
            after_ms: self.after_ms(),
            stage: Stage::Located,
            progress,
            detail,
            node: owner.as_ref().map(|(node, _)| node.clone()),
            epoch: owner.map(|(_, epoch)| epoch),
            to: None,
            relay: None,
            message_id: None,
        });
        true
    }

    fn key(&self) -> SourceKey {
        SourceKey { customer: self.test.customer.clone(), source: self.test.source.clone(), part: 0 }
    }

    /// The source, or its parts, as the redirector sees them.
    async fn owners(&self, rpc: &RpcClient) -> Result<Vec<SourceState>, Unanswered> {
        let mut after = Some(SourceKey { source: "".into(), ..self.key() });
        let mut found = Vec::new();
        for _ in 0..PAGES_MAX {
            let body = encode(&MapQuestion { v: 1, after, limit: None });
            let page: MapReply = ask(rpc, names::rpc::MAP, body, self.patience()).await?;
            let is_past = page.sources.last().is_some_and(|last| {
                (&last.source.customer, &last.source.source) > (&self.test.customer, &self.test.source)
            });
            let is_meant = |state: &SourceState| {
                state.source.customer == self.test.customer
                    && state.source.source == self.test.source
                    && (state.source.part > 0) == (self.test.partitions > 1)
            };
            found.extend(page.sources.into_iter().filter(is_meant));
            after = page.next;
            if is_past || after.is_none() {
                break;
            }
        }
        Ok(found)
    }

    async fn locate_as_customer(&mut self) -> bool {
        let rpc = RpcClient::start(self.test.ingress.clone());
        let question = Locate {
            v: 1,
            client: node::new_incarnation(),
            origin: None,
            profile: None,
            data_types: vec![DataType::Auto],
            have_epoch: None,
            listen: false,
        };
        let answer: Result<LocateReply, _> =
            ask(&rpc, names::rpc::LOCATE, encode(&question), self.patience()).await;
        let login = &self.test.ingress.login;
        let goes_on = match answer {
            Ok(_) => true,
            Err(Unanswered::Refused(RpcError { message, .. })) => {
                self.found(Stage::Located, Progress::Failed, format!("refused as {login}: {message}"));
                false
            }
            Err(Unanswered::Silent(why)) => {
                let detail = format!("no redirector tells {login} where to publish: {why}");
                self.found(Stage::Located, Progress::Waits, detail);
                true
            }
        };
        rpc.close().await;
        goes_on
    }

    /// Publishes the burst, as data is published.
    async fn publish(&mut self) -> bool {
        let publisher = Publisher::start(self.test.ingress.clone(), Topology::default(), 1);
        let exchange = names::ingress_exchange(&self.test.customer);
        let span = &Uuid::now_v7().simple().to_string()[16..];
        let envelope = Envelope {
            content_type: Some("text/x-statsd".into()),
            kind: Some(names::TYPE_TEST.into()),
            message_id: Some(Uuid::now_v7().to_string().into()),
            correlation_id: Some(self.test.source.as_str().into()),
            app_id: Some(concat!("kinetic-test-event/", env!("CARGO_PKG_VERSION")).into()),
            user_id: self.test.as_customer.then(|| self.test.ingress.login.as_str().into()),
            origin: Some(names::TEST.into()),
            ts: Some(clock::now().wall),
            traceparent: Some(format!("00-{}-{span}-01", self.trace).into()),
            ..Envelope::default()
        };
        let publish = publisher.publish(&exchange, &self.test.routing_key, &envelope, burst(), true);
        let outcome = tokio::time::timeout(self.patience(), publish).await;
        let key = &self.test.routing_key;
        let (progress, detail) = match outcome {
            Ok(Ok(Outcome::Confirmed)) => {
                let who = &self.test.ingress.login;
                (
                    Progress::Passed,
                    format!("{exchange}, routing key {key:?}, as {who}: confirmed by the broker"),
                )
            }
            Ok(Ok(Outcome::Unroutable)) => {
                (Progress::Failed, format!("no queue is bound to {exchange} for routing key {key:?}"))
            }
            Ok(Err(error)) => (Progress::Failed, format!("{:#}", anyhow::Error::new(error))),
            Err(_) => (Progress::Failed, unconnected(publisher.status())),
        };
        publisher.close().await;
        self.found(Stage::Published, progress, detail);
        progress == Progress::Passed
    }

    /// Listens until all has been said or the time is up.
    async fn follow(&mut self, ears: &mut Consumer) {
        let ends = self.ends();
        while !verdict::is_final(&self.steps, self.recipients.as_deref()) {
            tokio::select! {
                event = ears.next() => match event {
                    Event::Delivery(delivery) => {
                        if let Ok(said) = decode::<TestStage>(delivery.body()) {
                            self.heard(said);
                        }
                    }
                    Event::Lost { reason } => tracing::warn!(reason, "nodes cannot be heard for now"),
                    Event::Subscribed | Event::Cancelled => {}
                },
                () = clock::sleep_until(Some(ends)) => return,
            }
        }
    }
}

/// Why a request got no answer that helps.
enum Unanswered {
    Refused(RpcError),
    Silent(String),
}

async fn ask<T: DeserializeOwned>(
    rpc: &RpcClient,
    kind: &str,
    body: Vec<u8>,
    patience: Duration,
) -> Result<T, Unanswered> {
    match rpc.request(names::RPC_EXCHANGE, kind, body, patience).await {
        Ok(answer) => match decode::<Reply<T>>(&answer) {
            Ok(Reply::Ok(reply)) => Ok(reply),
            Ok(Reply::Refused(refused)) => Err(Unanswered::Refused(refused)),
            Err(error) => Err(Unanswered::Silent(format!("the answer cannot be read: {error}"))),
        },
        Err(RpcFailed::Disconnected) => Err(Unanswered::Silent(unconnected(rpc.status()))),
        Err(failed) => Err(Unanswered::Silent(failed.to_string())),
    }
}

fn unconnected(status: LinkStatus) -> String {
    match status {
        LinkStatus { blocked: true, .. } => "the broker takes no publishes for now".to_owned(),
        LinkStatus { error: Some(error), .. } => error,
        LinkStatus { .. } => "the broker did not confirm in time".to_owned(),
    }
}

/// Who owns a source, in words; the owner, where there is one part.
fn located(key: &SourceKey, parts: &[SourceState]) -> (Progress, String, Option<(NodeId, Epoch)>) {
    let owned = parts.iter().filter_map(|part| part.owner.as_ref());
    let owners: Vec<_> = owned.map(|owner| (owner.node.clone(), owner.epoch)).collect();
    let region = &parts[0].region;
    match (owners.as_slice(), parts.len()) {
        ([], _) => (Progress::Waits, format!("region {region}; nobody owns {key}"), None),
        ([owner], 1) => {
            (Progress::Passed, format!("region {region}; {} owns {key}", owner.0), Some(owner.clone()))
        }
        (owners, parts) if owners.len() < parts => {
            let detail = format!("region {region}; of {parts} parts of {key} {} have an owner", owners.len());
            (Progress::Waits, detail, None)
        }
        (_, parts) => {
            (Progress::Passed, format!("region {region}; all {parts} parts of {key} have an owner"), None)
        }
    }
}

/// A statsd datagram of six feeds, one of them slow.
fn burst() -> Vec<u8> {
    let mut lines: String = (1..=PEERS)
        .map(|peer| format!("kinetic.test:100|ms|#{}:peer-{peer}\n", names::TEST_FEED_TAG))
        .collect();
    lines.push_str(&format!("kinetic.test:900|ms|#{}:slow\n", names::TEST_FEED_TAG));
    lines.into_bytes()
}
