//! The pages themselves: what would be done, that it was done, or why not. They read on a phone, in the light and in the
//! dark, and need nothing from outside and no script.

use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::StatusCode;
use kinetic_alert::html_escaped;
use kinetic_wire::{AcknowledgementState, EpisodeState, LinkAction, Linked, RpcCode, RpcError};
use sha2::{Digest, Sha256};

use super::{Refusal, form, is_unsubscribe};
use crate::cmd::moment::{span, utc};
use crate::cmd::silence::meant;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;max-width:36rem;margin:0 auto;padding:1.25rem;\
overflow-wrap:anywhere;background:Canvas;color:CanvasText}\
h1{font-size:1.3rem;line-height:1.3;border-left:.3rem solid #8888;padding-left:.75rem;margin:.5rem 0 1rem}\
h1.fires{border-color:#cf222e}h1.done{border-color:#1a7f37}\
dl{display:grid;grid-template-columns:auto 1fr;gap:.15rem 1rem;margin:1rem 0}\
dt{opacity:.7}dd{margin:0}\
ul{list-style:none;padding:0;margin:1rem 0;border-top:1px solid #8886}\
li{border-bottom:1px solid #8886;padding:.45rem 0}\
li span{display:block;opacity:.7;font-size:.875rem}\
form{border:1px solid #8886;border-radius:.6rem;padding:1rem;margin:1.25rem 0}\
label{display:block;margin:0 0 .9rem}\
input,select{display:block;box-sizing:border-box;width:100%;font:inherit;padding:.6rem;margin-top:.2rem;border:1px solid #8888;\
border-radius:.4rem;background:Field;color:FieldText}\
button{width:100%;font:inherit;font-weight:600;padding:.8rem;border:0;border-radius:.4rem;background:#0b5cad;color:#fff}\
:focus-visible{outline:3px solid #4c9aff;outline-offset:2px}\
.note{border-left:.3rem solid #bf8700;padding-left:.75rem}\
small{opacity:.7;font-size:.875rem}";

/// What may be chosen for how long: seconds, and in words. The usual one comes with `true`.
type Spans = &'static [(u64, &'static str, bool)];
const ACKNOWLEDGE_SPANS: Spans = &[
    (3_600, "1 hour", false),
    (14_400, "4 hours", true),
    (43_200, "12 hours", false),
    (86_400, "1 day", false),
    (259_200, "3 days", false),
    (604_800, "7 days", false),
];
const SILENCE_SPANS: Spans = &[
    (1_800, "30 minutes", false),
    (3_600, "1 hour", false),
    (7_200, "2 hours", true),
    (14_400, "4 hours", false),
    (28_800, "8 hours", false),
    (86_400, "1 day", false),
];

/// What the pages may load and do: their own style, and to be posted back.
pub(super) fn policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
        format!(
            "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
    });
    &POLICY
}

/// What a heading's colour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    Fires,
    Done,
    Plain,
}

/// A page: its title, which is its heading, and what stands below, as HTML.
#[derive(Clone, Debug)]
pub(super) struct Page {
    tone: Tone,
    title: String,
    body: String,
}

impl Page {
    fn new(tone: Tone, title: impl Into<String>) -> Self {
        Self { tone, title: title.into(), body: String::new() }
    }

    fn text(mut self, text: &str) -> Self {
        self.body.push_str(&format!("<p>{}</p>\n", html_escaped(text)));
        self
    }

    fn note(mut self, text: &str) -> Self {
        self.body.push_str(&format!("<p class=\"note\">{}</p>\n", html_escaped(text)));
        self
    }

    fn small(mut self, text: &str) -> Self {
        self.body.push_str(&format!("<p><small>{}</small></p>\n", html_escaped(text)));
        self
    }

    fn facts(mut self, facts: &[(&str, String)]) -> Self {
        let rows =
            facts.iter().map(|(label, value)| format!("<dt>{label}</dt><dd>{}</dd>\n", html_escaped(value)));
        self.body.push_str(&format!("<dl>\n{}</dl>\n", rows.collect::<String>()));
        self
    }

    /// The whole of it.
    pub(super) fn html(&self) -> String {
        let tone = match self.tone {
            Tone::Fires => "fires",
            Tone::Done => "done",
            Tone::Plain => "plain",
        };
        let title = html_escaped(&self.title);
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <meta name=\"color-scheme\" content=\"light dark\"><meta name=\"robots\" content=\"noindex\">\
             <title>{title}</title><style>{STYLE}</style></head>\n\
             <body><main>\n<h1 class=\"{tone}\">{title}</h1>\n{}</main></body></html>\n",
            self.body
        )
    }
}

/// `1 alert fires`, `3 alerts fire`.
fn fires(count: u64) -> String {
    if count == 1 { "1 alert fires".to_owned() } else { format!("{count} alerts fire") }
}

/// Where a group is, as people name it: a block's own group has marks in the place of names (`docs/alerting.md`).
fn place(episode: &EpisodeState) -> String {
    let service = episode.service.as_str();
    match (episode.analytic.as_str().starts_with('@'), service.strip_prefix('@')) {
        (false, _) => format!("{service}/{}", episode.cluster),
        (true, Some("")) => format!("what of {} has no site", episode.customer),
        (true, Some(site)) => format!("site {site}"),
        (true, None) if service == "*" => episode.customer.to_string(),
        (true, None) => service.to_owned(),
    }
}

fn when(ms: i64, now_ms: i64) -> String {
    let ago = now_ms - ms;
    if ago >= 0 {
        format!("{} ({} ago)", utc(ms), span(ago))
    } else {
        format!("{} (in {})", utc(ms), span(-ago))
    }
}

/// Whose, where, since when, and what.
fn about(page: Page, linked: &Linked, episode: &EpisodeState) -> Page {
    let mut facts = vec![("Customer", linked.customer.to_string()), ("Where", place(episode))];
    if !episode.analytic.as_str().starts_with('@') {
        facts.push(("Rule", episode.analytic.to_string()));
    }
    facts.push(("Since", when(episode.since_ms, linked.now_ms)));
    let mut page = page.facts(&facts);
    let rows = episode.feeds.iter().map(|feed| {
        let deviations = feed.deviations.map(|deviations| format!(", {:.1} deviations", deviations.abs()));
        let silenced = if feed.silenced { ", silenced" } else { "" };
        format!(
            "<li><bdi>{}</bdi><span><bdi>{}</bdi>{}, for {}{silenced}</span></li>\n",
            html_escaped(&feed.feed.origin),
            html_escaped(&feed.feed.metric),
            deviations.unwrap_or_default(),
            span(linked.now_ms - feed.since_ms),
        )
    });
    page.body.push_str(&format!("<ul>\n{}</ul>\n", rows.collect::<String>()));
    let more = episode.firing.saturating_sub(episode.feeds.len() as u64);
    if more > 0 { page.small(&format!("and {more} more")) } else { page }
}

/// The form: for how long, why, and a button. It posts to where it came from.
fn form(mut page: Page, spans: Spans, button: &str, who: &str) -> Page {
    let option = |(secs, words, usual): &(u64, &str, bool)| {
        let usual = if *usual { " selected" } else { "" };
        format!("<option value=\"{secs}\"{usual}>{words}</option>")
    };
    page.body.push_str(&format!(
        "<form method=\"post\">\n<label>For how long<select name=\"{}\">{}</select></label>\n\
         <label>Why, for others to read<input name=\"{}\" maxlength=\"200\" autocomplete=\"off\" placeholder=\"on it\"></label>\n\
         <button>{button}</button>\n</form>\n",
        form::FOR,
        spans.iter().map(option).collect::<String>(),
        form::REASON,
    ));
    page.small(&format!("This is done in the name of {who}, to whom the mail was sent."))
}

fn acknowledged(state: &AcknowledgementState) -> String {
    let AcknowledgementState { author, reason, until_ms, .. } = state;
    format!("Acknowledged by {author} until {}: {reason}", utc(*until_ms))
}

/// What the link would do.
pub(super) fn look(linked: &Linked) -> Page {
    let Some(episode) = linked.episode.as_ref().filter(|_| !is_unsubscribe(linked)) else {
        return look_unsubscribe(linked);
    };
    let mut page = Page::new(Tone::Fires, format!("{} in {}", fires(episode.firing), place(episode)));
    page = about(page, linked, episode);
    match linked.action {
        LinkAction::Silence => {
            if let Some(silence) = linked.silence.as_ref().filter(|_| linked.silenced) {
                let until = utc(silence.until_ms);
                page =
                    page.note(&format!("Silenced by {} until {until}: {}", silence.author, silence.reason));
            }
            let all = linked.silence.as_ref().map(meant).unwrap_or_default();
            page = page.text(&format!(
                "For as long as you choose nobody is mailed about this: {all}. What still fires when the silence ends is mailed."
            ));
            form(page, SILENCE_SPANS, "Silence", &linked.to)
        }
        LinkAction::Acknowledge | LinkAction::Unsubscribe => {
            if let Some(state) = &episode.acknowledged {
                page = page.note(&acknowledged(state));
            }
            page = page.text(
                "You take care of it. For as long as you choose nobody is reminded, and nobody else is called in. What begins \
                 to fire is mailed as ever. It ends by itself when all is back.",
            );
            form(page, ACKNOWLEDGE_SPANS, "Acknowledge", &linked.to)
        }
    }
}

fn look_unsubscribe(linked: &Linked) -> Page {
    let Linked { customer, alert, to, .. } = linked;
    if linked.unsubscribed {
        return done_unsubscribe(linked);
    }
    let (key, value) = form::ONE_CLICK;
    let mut page = Page::new(Tone::Plain, format!("No more mails of alert {alert}?"))
        .facts(&[("Customer", customer.to_string()), ("Alert", alert.clone()), ("Recipient", to.clone())])
        .text("Others whom this alert names are told as before. To be told again, ask whoever runs this installation.");
    page.body.push_str(&format!(
        "<form method=\"post\">\n<input type=\"hidden\" name=\"{key}\" value=\"{value}\">\n<button>Unsubscribe</button>\n</form>\n"
    ));
    page
}

/// What it has done.
pub(super) fn done(linked: &Linked) -> Page {
    let Some(episode) = linked.episode.as_ref().filter(|_| !is_unsubscribe(linked)) else {
        return done_unsubscribe(linked);
    };
    let page = match (linked.action, &linked.silence, &episode.acknowledged) {
        (LinkAction::Silence, Some(silence), _) => {
            Page::new(Tone::Done, format!("Silenced: {}", place(episode)))
                .text(&format!("Until {}, by {}: {}", utc(silence.until_ms), silence.author, silence.reason))
                .small(&format!("To end it sooner: kinetic silence end {} {}", linked.customer, silence.id))
        }
        (_, _, Some(state)) => {
            Page::new(Tone::Done, format!("Acknowledged: {}", place(episode))).text(&acknowledged(state))
        }
        _ => Page::new(Tone::Done, "Done"),
    };
    about(page, linked, episode)
}

fn done_unsubscribe(linked: &Linked) -> Page {
    Page::new(Tone::Done, "You are unsubscribed")
        .facts(&[
            ("Customer", linked.customer.to_string()),
            ("Alert", linked.alert.clone()),
            ("Recipient", linked.to.clone()),
        ])
        .text("This alert sends you no more mails. A mail that was on its way may still arrive.")
        .small("To be told again, ask whoever runs this installation (kinetic mail subscribe).")
}

/// Why the alert node does not do it.
pub(super) fn refused(error: &RpcError) -> Page {
    match error.code {
        RpcCode::BadLink => Page::new(Tone::Plain, "This link is none of ours")
            .text("It was not made by this installation, or not all of it has arrived here. Copy it from the mail as a whole.")
            .small("If it is whole, the key under which it was made has been changed since."),
        RpcCode::ExpiredLink => Page::new(Tone::Plain, "This link has expired")
            .text("What still fires is mailed again, with a new link."),
        RpcCode::UnknownEpisode => Page::new(Tone::Done, "This is over")
            .text("Nothing of what this mail told of fires any more. If it fires again, there will be another mail."),
        RpcCode::UnknownSubscription => Page::new(Tone::Done, "You are not told by this alert any more")
            .text("Its schema has been changed, and names you no longer."),
        RpcCode::LastRecipient => Page::new(Tone::Fires, "You are the last who is told")
            .text("Without you this alert would reach nobody, so you stay on it.")
            .small(&format!("{}.", error.message)),
        _ => Page::new(Tone::Plain, "This was not done").text(&format!("{}.", error.message)),
    }
}

/// The alert node says nothing.
pub(super) fn unanswered() -> Page {
    Page::new(Tone::Plain, "Not now")
        .text("The alert node does not answer. If you had asked for something, it may have been done or not: look again in half a minute.")
}

/// Why a request does not get as far as the alert node: also what that is called and counted as.
pub(super) fn not_passed_on(refusal: Refusal) -> (StatusCode, &'static str, Page) {
    let page = |title, text| Page::new(Tone::Plain, title).text(text);
    match refusal {
        Refusal::TooFast => (
            StatusCode::TOO_MANY_REQUESTS,
            "too_fast",
            page("Too many requests", "Wait half a minute, and try again."),
        ),
        Refusal::NotFound => {
            (StatusCode::NOT_FOUND, "not_found", page("Nothing here", "Links in mails are longer than this."))
        }
        Refusal::Method => (
            StatusCode::METHOD_NOT_ALLOWED,
            "bad_request",
            page("Not like this", "A link is looked at with GET and used with POST."),
        ),
        Refusal::TooLarge => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "bad_request",
            page("Too much", "What was posted is larger than any form of these pages."),
        ),
        Refusal::Body => (
            StatusCode::BAD_REQUEST,
            "bad_request",
            page("Not like this", "What was posted is no form of these pages."),
        ),
    }
}
