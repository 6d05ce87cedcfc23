//! Somebody follows a link of a mail: looks at what it is for, and does it.

use std::time::Duration;

use kinetic_wire::{
    Acknowledge, EpisodeState, FollowLink, LinkAct, LinkAction, Linked, RpcCode, Silence, Subscribe,
    Subscribed, Subscription, encode,
};

use crate::clock::Steady;
use crate::doors::{AUTHOR_BYTES_MAX, Answer, GLOBS_MAX, Refusal, check_line};
use crate::id::{GroupKey, StreamKey};
use crate::links::{BadToken, Claims, Keys};
use crate::machine::{Alert, Effect};
use crate::silences::Meant;
use crate::subscribe::{self, Leaving};

/// How long an acknowledgement lasts where nobody says so.
const ACKNOWLEDGE_USUAL: Duration = Duration::from_secs(4 * 3_600);
/// How long a silence lasts where nobody says so.
const SILENCE_USUAL: Duration = Duration::from_secs(2 * 3_600);
/// Longest silence by a link: a mail is forwarded more easily than a login.
const SILENCE_MAX: Duration = Duration::from_secs(86_400);
/// Reason where none is given.
const NO_REASON: &str = "by the link in the mail";
/// Characters of a token that tell the silences of different links apart.
const ID_CHARS: usize = 32;

fn refused<T>(code: RpcCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(code, message.into()))
}

/// The address within a mailbox, as an author's name.
fn author(mailbox: &str) -> String {
    let address = mailbox.rsplit_once('<').map_or(mailbox, |(_, rest)| rest.trim_end_matches('>')).trim();
    let end = address.floor_char_boundary(AUTHOR_BYTES_MAX);
    address[..end].to_owned()
}

/// What somebody has filled in, or what stands for it.
fn reason(given: Option<String>) -> String {
    given.filter(|given| !given.trim().is_empty()).unwrap_or_else(|| NO_REASON.to_owned())
}

/// A name that the same link always gives its silence: letters and digits of its signature.
fn silence_id(token: &str) -> String {
    let plain = token.chars().rev().filter(char::is_ascii_alphanumeric).take(ID_CHARS);
    format!("mail-{}", plain.collect::<String>())
}

impl Alert {
    /// `link`
    pub(crate) fn follow_link(
        &mut self,
        at: Steady,
        asked: FollowLink,
        effects: &mut Vec<Effect>,
    ) -> Result<Answer, Refusal> {
        let FollowLink { token, act, .. } = asked;
        let keys = Keys::new(&self.config.id_key);
        let claims = match keys.open(&token, at.wall()) {
            Ok(claims) => claims,
            Err(BadToken::Forged) => {
                self.stats.links_forged += 1;
                return refused(RpcCode::BadLink, "no link of this installation's mails reads so");
            }
            Err(BadToken::Expired) => {
                self.stats.links_expired += 1;
                return refused(RpcCode::ExpiredLink, "this link was made too long ago");
            }
        };
        if act.is_some() {
            self.stats.links_acted += 1;
        } else {
            self.stats.links_seen += 1;
        }
        match claims.action {
            LinkAction::Unsubscribe => self.unsubscribe(at, &keys, &claims, act.is_some(), effects),
            LinkAction::Acknowledge => self.acknowledge_by_link(at, &keys, &claims, act, effects),
            LinkAction::Silence => self.silence_by_link(at, &keys, &claims, &token, act, effects),
        }
    }

    /// The correspondence that the link is about, if what its recipient was told of goes on.
    fn meant(&self, keys: &Keys, claims: &Claims) -> Result<(GroupKey, StreamKey), Refusal> {
        let streams = self.groups.iter().flat_map(|(key, group)| {
            group.streams.iter().map(move |(stream, state)| (key, group, stream, state))
        });
        let mut found = streams
            .filter(|(.., state)| {
                state.thread.as_ref().is_some_and(|thread| thread.episode.as_ms() == claims.episode.as_ms())
            })
            .filter(|(key, _, stream, _)| keys.stream(key, stream) == claims.subject);
        match found.next() {
            // Where its recipient believes it to go on it does, though a feed may have flapped since; and where he is told
            // no more, as long as the group's own episode does.
            Some((key, group, stream, state))
                if group.firing() > 0
                    && (!state.told.is_empty() || claims.episode.as_ms() >= group.episode.wall().as_ms()) =>
            {
                Ok((GroupKey::clone(key), stream.clone()))
            }
            _ => refused(RpcCode::UnknownEpisode, "what this mail told of is over"),
        }
    }

    fn linked(&self, at: Steady, action: LinkAction, key: &GroupKey, stream: &StreamKey) -> Linked {
        Linked {
            ok: true,
            action,
            acted: false,
            customer: key.customer.clone(),
            alert: stream.alert.to_string(),
            to: stream.to.to_string(),
            // Who else is told is not for the page.
            episode: Some(EpisodeState { told: Vec::new(), ..self.episode(at, key) }),
            silence: None,
            silenced: false,
            unsubscribed: false,
            now_ms: at.wall().as_ms(),
        }
    }

    fn acknowledge_by_link(
        &mut self,
        at: Steady,
        keys: &Keys,
        claims: &Claims,
        act: Option<LinkAct>,
        effects: &mut Vec<Effect>,
    ) -> Result<Answer, Refusal> {
        let (key, stream) = self.meant(keys, claims)?;
        let Some(act) = act else {
            return Ok(Answer::Now(encode(&self.linked(at, claims.action, &key, &stream))));
        };
        let lasts = act.for_s.map_or(ACKNOWLEDGE_USUAL, Duration::from_secs);
        let asked = Acknowledge {
            v: 1,
            group: key.to_string(),
            episode_ms: None,
            author: author(&stream.to),
            reason: reason(act.reason),
            until_ms: (at.wall() + lasts).as_ms(),
        };
        self.take_care(at, asked, effects)?;
        let linked = Linked { acted: true, ..self.linked(at, claims.action, &key, &stream) };
        Ok(Answer::Recorded(encode(&linked)))
    }

    /// What fires in a group, as a silence means it.
    fn silence_of(&self, at: Steady, key: &GroupKey, id: String) -> Result<Silence, Refusal> {
        let firing = self.groups.get(key).into_iter().flat_map(|group| group.alerts.values());
        let homes: Vec<&GroupKey> = firing.filter(|alert| alert.firing).map(|alert| &*alert.home).collect();
        let names = |name: fn(&GroupKey) -> &str| {
            let mut names: Vec<String> = homes.iter().map(|home| name(home).to_owned()).collect();
            names.sort();
            names.dedup();
            names
        };
        let (services, clusters) = (names(|home| home.service.as_str()), names(|home| home.cluster.as_str()));
        let analytics = names(|home| home.analytic.as_str());
        if [&services, &clusters, &analytics].iter().any(|names| names.len() > GLOBS_MAX) {
            let message =
                format!("more than {GLOBS_MAX} clusters or rules fire: silence them by `kinetic silence`");
            return refused(RpcCode::Invalid, message);
        }
        let (from_ms, until_ms) = (at.wall().as_ms(), (at.wall() + SILENCE_USUAL).as_ms());
        let (author, reason) = (String::new(), String::new());
        Ok(Silence {
            id,
            customer: key.customer.clone(),
            services,
            clusters,
            analytics,
            origins: Vec::new(),
            metrics: Vec::new(),
            author,
            reason,
            from_ms,
            until_ms,
        })
    }

    fn silence_by_link(
        &mut self,
        at: Steady,
        keys: &Keys,
        claims: &Claims,
        token: &str,
        act: Option<LinkAct>,
        effects: &mut Vec<Effect>,
    ) -> Result<Answer, Refusal> {
        let (key, stream) = self.meant(keys, claims)?;
        let id = silence_id(token);
        let name = (key.customer.clone(), id.clone());
        let standing = self.silences.get(&name).cloned();
        let Some(act) = act else {
            let silenced = standing.is_some();
            let silence = standing.map_or_else(|| self.silence_of(at, &key, id), Ok)?;
            let silence = Some(silence);
            let linked = Linked { silence, silenced, ..self.linked(at, claims.action, &key, &stream) };
            return Ok(Answer::Now(encode(&linked)));
        };
        let lasts = act.for_s.map_or(SILENCE_USUAL, Duration::from_secs);
        if lasts > SILENCE_MAX {
            return refused(
                RpcCode::Invalid,
                "a silence by a link ends within a day; an operator's may last longer",
            );
        }
        // The same link used again sets another end to the same silence.
        let silence = Silence {
            author: author(&stream.to),
            reason: reason(act.reason),
            until_ms: (at.wall() + lasts).as_ms(),
            ..self.silence_of(at, &key, id)?
        };
        let silence = self.silence_anew(at, silence, effects)?;
        let linked = Linked {
            acted: true,
            silence: Some(silence),
            silenced: true,
            ..self.linked(at, claims.action, &key, &stream)
        };
        Ok(Answer::Recorded(encode(&linked)))
    }

    fn unsubscribe(
        &mut self,
        at: Steady,
        keys: &Keys,
        claims: &Claims,
        act: bool,
        effects: &mut Vec<Effect>,
    ) -> Result<Answer, Refusal> {
        let mut all = subscribe::all(&self.schema);
        let Some(subscription) = all.find(|subscription| keys.recipient(subscription) == claims.subject)
        else {
            let message = "the alert block of this mail names its recipient no more";
            return refused(RpcCode::UnknownSubscription, message);
        };
        drop(all);
        let Subscription { customer, alert, to } = subscription.clone();
        let leaving = self.leaving(&subscription);
        let left = match (act, leaving) {
            (_, Some(Leaving::Has)) => true,
            (false, _) => false,
            (true, Some(Leaving::May)) => {
                self.leave(at, subscription, effects);
                true
            }
            (true, Some(Leaving::IsLast)) => {
                self.stats.unsubscribes_refused += 1;
                let message =
                    format!("alert {alert} of {customer} tells nobody else: name somebody there first");
                return refused(RpcCode::LastRecipient, message);
            }
            (true, Some(Leaving::NoRoom) | None) => {
                self.stats.unsubscribes_refused += 1;
                return refused(
                    RpcCode::Overload,
                    "too many recipients have taken themselves off alert blocks",
                );
            }
        };
        let linked = Linked {
            ok: true,
            action: LinkAction::Unsubscribe,
            acted: act && left,
            customer,
            alert,
            to,
            episode: None,
            silence: None,
            silenced: false,
            unsubscribed: left,
            now_ms: at.wall().as_ms(),
        };
        Ok(Answer::Recorded(encode(&linked)))
    }

    /// `subscribe`
    pub(crate) fn subscribe(
        &mut self,
        at: Steady,
        asked: Subscribe,
        effects: &mut Vec<Effect>,
    ) -> Result<Answer, Refusal> {
        check_line("the author", &asked.author, AUTHOR_BYTES_MAX)?;
        let Some(unsubscription) = self.come_back(at, &asked.subscription, asked.author, effects) else {
            let Subscription { customer, alert, to } = &asked.subscription;
            let message = format!("{to} has not taken himself off alert {alert} of {customer}");
            return refused(RpcCode::UnknownSubscription, message);
        };
        let now_ms = at.wall().as_ms();
        Ok(Answer::Recorded(encode(&Subscribed { ok: true, unsubscription, now_ms })))
    }

    /// Makes a silence, or gives the one of this name another end.
    fn silence_anew(
        &mut self,
        at: Steady,
        mut silence: Silence,
        effects: &mut Vec<Effect>,
    ) -> Result<Silence, Refusal> {
        let key = (silence.customer.clone(), silence.id.clone());
        let meant: Meant = self.checked_silence(&mut silence, at)?;
        if self.silences.get(&key).is_some() {
            self.end_silence(at, &key, silence.author.clone(), effects);
        } else {
            self.check_silences(&key.0)?;
        }
        self.add_silence(at, silence.clone(), meant, effects);
        Ok(silence)
    }
}
