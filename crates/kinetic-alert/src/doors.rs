//! Requests of operators: silences, acknowledgements, what fires. What changes something is answered once it is on disk.

use std::collections::BTreeMap;
use std::time::Duration;

use kinetic_schema::limits::GLOB_BYTES_MAX;
use kinetic_schema::schema::INSTALLATION;
use kinetic_wire::names::rpc;
use kinetic_wire::{
    Acknowledge, Acknowledged, AskSilence, CustomerName, EpisodesQuestion, Login, RpcCode, RpcError, Silence,
    SilenceName, Silenced, SilencesQuestion, SilencesReply, Unsilence, Wall, decode, encode,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::clock::Steady;
use crate::id::GroupKey;
use crate::machine::{Alert, Effect, Record, RecordSeq, ReplyToken};
use crate::quiet::Acknowledgement;
use crate::silences::{Meant, SILENCES_ALL_MAX, SILENCES_MAX};

/// Message version spoken.
const VERSION: u32 = 1;
/// Largest request.
const BODY_MAX: usize = 64 << 10;
/// Globs of one list of a silence.
pub(crate) const GLOBS_MAX: usize = 50;
/// Bytes of a silence's name.
const ID_BYTES_MAX: usize = 40;
/// Bytes of an author's name.
pub(crate) const AUTHOR_BYTES_MAX: usize = 100;
/// Bytes of a reason.
const REASON_BYTES_MAX: usize = 500;
/// Longest silence.
const SILENCE_MAX: Duration = Duration::from_secs(366 * 86_400);
/// Longest acknowledgement: history that is replayed must know of it.
const ACKNOWLEDGE_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Silences on one page.
const SILENCES_PAGE: usize = 200;

/// A request that is not granted: why, for code and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) RpcCode, pub(crate) String);

impl Refusal {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self(RpcCode::Invalid, message.into())
    }

    fn body(self) -> Vec<u8> {
        encode(&RpcError { ok: false, code: self.0, message: self.1, retry_s: 60 })
    }
}

/// Answers that wait until a record is safe.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    waiting: BTreeMap<RecordSeq, Vec<(ReplyToken, Vec<u8>)>>,
    /// The last record that is known to be safe.
    safe: RecordSeq,
}

/// What is to be answered, and when.
pub(crate) enum Answer {
    /// At once.
    Now(Vec<u8>),
    /// Once all that has been decided so far is on disk.
    Recorded(Vec<u8>),
}

/// The message, or why not: a version that we do not know may have any shape.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    #[derive(Deserialize)]
    struct Versioned {
        v: u32,
    }
    let version = decode::<Versioned>(body).ok().map(|Versioned { v }| v);
    match (version, decode(body)) {
        (Some(VERSION), Ok(message)) => Ok(message),
        (Some(v), _) if v != VERSION => {
            Err(Refusal(RpcCode::Version, "this alert node speaks version 1".into()))
        }
        _ => {
            Err(Refusal(RpcCode::Malformed, "the body is not the message that the routing key names".into()))
        }
    }
}

/// One line of text that people wrote.
pub(crate) fn check_line(what: &str, text: &str, max: usize) -> Result<(), Refusal> {
    if text.trim().is_empty() {
        return Err(Refusal::invalid(format!("{what} is missing")));
    }
    if text.len() > max {
        return Err(Refusal::invalid(format!("{what} has more than {max} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(Refusal::invalid(format!("{what} holds control characters")));
    }
    Ok(())
}

fn check_globs(what: &str, globs: &[String]) -> Result<(), Refusal> {
    if globs.len() > GLOBS_MAX {
        return Err(Refusal::invalid(format!("a silence has at most {GLOBS_MAX} globs of {what}")));
    }
    globs.iter().try_for_each(|glob| check_line(&format!("a glob of {what}"), glob, GLOB_BYTES_MAX))
}

/// Compiles a silence, or says what is wrong with it. One that should have begun begins now.
fn checked(silence: &mut Silence, now: Wall) -> Result<Meant, Refusal> {
    let id = &silence.id;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if id.is_empty() || id.len() > ID_BYTES_MAX || !id.chars().all(plain) {
        return Err(Refusal::invalid(format!(
            "the name of a silence is of 1 to {ID_BYTES_MAX} letters, digits and dashes"
        )));
    }
    check_line("the author", &silence.author, AUTHOR_BYTES_MAX)?;
    check_line("the reason", &silence.reason, REASON_BYTES_MAX)?;
    check_globs("services", &silence.services)?;
    check_globs("clusters", &silence.clusters)?;
    check_globs("analytics", &silence.analytics)?;
    check_globs("origins", &silence.origins)?;
    check_globs("metrics", &silence.metrics)?;
    silence.from_ms = silence.from_ms.max(now.as_ms());
    if silence.until_ms <= silence.from_ms {
        return Err(Refusal::invalid("it would end before it begins"));
    }
    if Wall::from_ms(silence.until_ms).since(now) > SILENCE_MAX {
        return Err(Refusal::invalid(
            "a silence ends within 366 days; what is never to be told belongs out of the schema",
        ));
    }
    Meant::of(silence).map_err(Refusal::invalid)
}

impl Alert {
    /// A message of `kin.alert`.
    pub(crate) fn request(
        &mut self,
        at: Steady,
        token: ReplyToken,
        kind: &str,
        login: Option<&Login>,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) {
        self.stats.requests += 1;
        let answer = self.answer(at, kind, login, body, effects).unwrap_or_else(|refusal| {
            self.stats.requests_refused += 1;
            Answer::Now(refusal.body())
        });
        match answer {
            Answer::Now(body) => effects.push(Effect::Reply { token, body }),
            Answer::Recorded(body) => self.answer_when_recorded(token, body, effects),
        }
    }

    fn answer_when_recorded(&mut self, token: ReplyToken, body: Vec<u8>, effects: &mut Vec<Effect>) {
        let last = RecordSeq(self.next_seq.0 - 1);
        if last <= self.answers.safe {
            effects.push(Effect::Reply { token, body });
        } else {
            self.answers.waiting.entry(last).or_default().push((token, body));
        }
    }

    /// Records up to `seq` are safe: what waited for them is answered.
    pub(crate) fn answer_recorded(&mut self, seq: RecordSeq, effects: &mut Vec<Effect>) {
        self.answers.safe = self.answers.safe.max(seq);
        while let Some(first) = self.answers.waiting.first_entry().filter(|first| *first.key() <= seq) {
            effects.extend(first.remove().into_iter().map(|(token, body)| Effect::Reply { token, body }));
        }
    }

    fn answer(
        &mut self,
        at: Steady,
        kind: &str,
        login: Option<&Login>,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<Answer, Refusal> {
        let unauthenticated = |message: &str| Refusal(RpcCode::Unauthenticated, message.into());
        let login = login.ok_or_else(|| unauthenticated("set user_id to the login of the connection"))?;
        // A customer may write to `kin.rpc`, with any routing key: the login alone tells it from an operator.
        if login.as_str().contains('.') {
            return Err(unauthenticated("a customer's login may locate and nothing else"));
        }
        if body.len() > BODY_MAX {
            return Err(Refusal(RpcCode::Malformed, "the body is larger than any request".into()));
        }
        match kind {
            rpc::SILENCE => self.silence(at, parse::<AskSilence>(body)?.silence, effects),
            rpc::UNSILENCE => self.unsilence(at, parse(body)?, effects),
            rpc::SILENCES => self.list_silences(at, parse(body)?),
            rpc::ACKNOWLEDGE => self.acknowledge(at, parse(body)?, effects),
            rpc::TEST_EVENT => self.announce_test(at, parse(body)?),
            rpc::EPISODES => {
                let question: EpisodesQuestion = parse(body)?;
                Ok(Answer::Now(encode(&self.episodes(at, &question)?)))
            }
            rpc::BOUNCE => self.bounce(at, &parse(body)?, effects),
            rpc::SUPPRESSIONS => Ok(self.list_suppressions(at, parse(body)?)),
            rpc::UNSUPPRESS => self.lift_suppression(at, &parse(body)?, effects),
            rpc::LINK => self.follow_link(at, parse(body)?, effects),
            rpc::UNSUBSCRIBED => Ok(Answer::Now(encode(&self.unsubscribed(at, parse(body)?)))),
            rpc::SUBSCRIBE => self.subscribe(at, parse(body)?, effects),
            _ => Err(Refusal(RpcCode::Malformed, "no request has this routing key".into())),
        }
    }

    fn check_customer(&self, customer: &CustomerName) -> Result<(), Refusal> {
        if self.schema.customers.contains_key(customer) || customer.as_str() == INSTALLATION {
            return Ok(());
        }
        Err(Refusal(RpcCode::UnknownCustomer, "the schema has no customer of this name".into()))
    }

    fn silenced_reply(&self, at: Steady, silence: Silence) -> Answer {
        let silenced = self.silenced_now(&silence.customer);
        let now_ms = at.wall().as_ms();
        Answer::Recorded(encode(&Silenced { ok: true, silence, silenced, now_ms }))
    }

    fn silence(
        &mut self,
        at: Steady,
        mut silence: Silence,
        effects: &mut Vec<Effect>,
    ) -> Result<Answer, Refusal> {
        let meant = self.checked_silence(&mut silence, at)?;
        let key = (silence.customer.clone(), silence.id.clone());
        if let Some(standing) = self.silences.get(&key) {
            // Asked again because the answer was lost; when it began was for us to say.
            let asked = Silence { from_ms: standing.from_ms, ..silence };
            if *standing == asked {
                return Ok(self.silenced_reply(at, asked));
            }
            return Err(Refusal::invalid("another silence of this name stands"));
        }
        self.check_silences(&key.0)?;
        self.add_silence(at, silence.clone(), meant, effects);
        Ok(self.silenced_reply(at, silence))
    }

    /// The same check for a silence that a link asks for.
    pub(crate) fn checked_silence(&self, silence: &mut Silence, at: Steady) -> Result<Meant, Refusal> {
        self.check_customer(&silence.customer)?;
        checked(silence, at.wall())
    }

    /// Whether a customer may have one more.
    pub(crate) fn check_silences(&mut self, customer: &CustomerName) -> Result<(), Refusal> {
        let of_customer = self.silences.of_customer(customer).count();
        if of_customer < SILENCES_MAX && self.silences.len() < SILENCES_ALL_MAX {
            return Ok(());
        }
        self.stats.silences_refused += 1;
        let message = format!("there are {of_customer} silences of this customer: end some first");
        Err(Refusal(RpcCode::Overload, message))
    }

    fn unsilence(
        &mut self,
        at: Steady,
        asked: Unsilence,
        effects: &mut Vec<Effect>,
    ) -> Result<Answer, Refusal> {
        check_line("the author", &asked.author, AUTHOR_BYTES_MAX)?;
        let key = (asked.customer, asked.id);
        let Some(silence) = self.silences.get(&key).cloned() else {
            let message = format!("no silence `{}` of {} stands", key.1, key.0);
            return Err(Refusal(RpcCode::UnknownSilence, message));
        };
        self.end_silence(at, &key, asked.author, effects);
        Ok(self.silenced_reply(at, silence))
    }

    fn list_silences(&self, at: Steady, asked: SilencesQuestion) -> Result<Answer, Refusal> {
        let after = asked.after.map(|SilenceName { customer, id }| (customer, id));
        let begin = match (after, &asked.customer) {
            (Some(after), _) => Some(after),
            // No silence has an empty name.
            (None, customer) => customer.clone().map(|customer| (customer, String::new())),
        };
        let wanted = |silence: &&Silence| asked.customer.as_ref().is_none_or(|c| *c == silence.customer);
        let mut silences: Vec<Silence> =
            self.silences.after(begin).take_while(wanted).take(SILENCES_PAGE + 1).cloned().collect();
        let more = silences.len() > SILENCES_PAGE;
        silences.truncate(SILENCES_PAGE);
        let last = silences.last().filter(|_| more);
        let next =
            last.map(|silence| SilenceName { customer: silence.customer.clone(), id: silence.id.clone() });
        Ok(Answer::Now(encode(&SilencesReply { ok: true, silences, next, now_ms: at.wall().as_ms() })))
    }

    fn acknowledge(
        &mut self,
        at: Steady,
        asked: Acknowledge,
        effects: &mut Vec<Effect>,
    ) -> Result<Answer, Refusal> {
        let key = self.take_care(at, asked, effects)?;
        let episode = self.episode(at, &key);
        Ok(Answer::Recorded(encode(&Acknowledged { ok: true, episode, now_ms: at.wall().as_ms() })))
    }

    /// Somebody takes care of what fires in a group.
    pub(crate) fn take_care(
        &mut self,
        at: Steady,
        asked: Acknowledge,
        effects: &mut Vec<Effect>,
    ) -> Result<GroupKey, Refusal> {
        check_line("the author", &asked.author, AUTHOR_BYTES_MAX)?;
        check_line("the reason", &asked.reason, REASON_BYTES_MAX)?;
        let now = at.wall();
        let until = Wall::from_ms(asked.until_ms);
        if until <= now {
            return Err(Refusal::invalid("it would end before it begins"));
        }
        if until.since(now) > ACKNOWLEDGE_MAX {
            return Err(Refusal::invalid("an acknowledgement ends within 7 days; a silence may last longer"));
        }
        let key = self.firing_group(&asked.group, asked.episode_ms)?;
        let record = Record::Acknowledged {
            at: now,
            group: key.to_string(),
            author: asked.author.clone(),
            reason: asked.reason.clone(),
            until,
            seen: self.intake.applied,
        };
        self.append(record, effects);
        self.stats.acknowledgements += 1;
        if let Some(group) = self.groups.get_mut(&key) {
            let Acknowledge { author, reason, .. } = asked;
            group.acknowledged = Some(Acknowledgement { author, reason, at: now, until: until.into() });
        }
        self.schedule(&key);
        Ok(key)
    }

    /// The group of this name, if something fires in it, and in that episode where one is meant.
    fn firing_group(&self, name: &str, episode_ms: Option<i64>) -> Result<GroupKey, Refusal> {
        let unknown = |message: String| Refusal(RpcCode::UnknownEpisode, message);
        let key = GroupKey::parse(name)
            .ok_or_else(|| unknown(format!("`{name}` is no group: CUSTOMER/ANALYTIC/SERVICE/CLUSTER")))?;
        let group = self.groups.get(&key).filter(|group| group.firing() > 0);
        let group = group.ok_or_else(|| unknown(format!("nothing fires in {name}")))?;
        if episode_ms.is_some_and(|episode| episode != group.episode.wall().as_ms()) {
            return Err(unknown(format!("what was meant in {name} has ended; another episode has begun")));
        }
        Ok(key)
    }

    /// What came out of history is safe.
    pub(crate) fn boot_answers(&mut self) {
        self.answers.safe = RecordSeq(self.next_seq.0 - 1);
    }
}
