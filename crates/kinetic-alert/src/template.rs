//! A customer's own forms of a mail: what templates are given, and what stands in for one that fails.

use std::io::{self, Write};

use kinetic_schema::schema::TemplateKind;
use kinetic_schema::template::environment;
use minijinja::{Environment, Value, context};

use crate::group::AlertView;
use crate::machine::Email;
use crate::render::{self, Notification, SENTENCE_NAME_MAX};
use crate::{escape, format, text};

/// Bytes that a template may write. Gmail cuts HTML off after 102 kB.
const OUTPUT_MAX: usize = 96 << 10;
/// Feeds of either kind that a template is given; their number is told besides.
const ROWS_MAX: usize = 40;
/// Characters of a subject.
const SUBJECT_MAX: usize = 300;
/// Characters of what is said about a template that fails.
const REASON_MAX: usize = 300;

/// Puts the customer's own forms in the place of the usual ones. Returns how many of its templates failed: their parts stay
/// as they are, with a note.
pub(crate) fn apply(email: &mut Email, notification: &Notification<'_>) -> usize {
    let Some(templates) = notification.templates() else { return 0 };
    let sources = TemplateKind::ALL.map(|kind| templates.get(kind).map(|source| (kind, source)));
    if sources.iter().all(Option::is_none) {
        return 0;
    }
    let environment = environment();
    let given = given(email, notification);
    let mut notes = Vec::new();
    for (kind, source) in sources.into_iter().flatten() {
        match rendered(&environment, kind, source, &given, email) {
            Ok(output) => put(email, kind, output),
            Err(why) => notes.push(format!(
                "The template {} could not be used, so this part has its usual form: {}",
                kind.file(),
                escape::line(&why, REASON_MAX)
            )),
        }
    }
    for note in &notes {
        email.text.push_str(&format!("\n{note}\n"));
        let note = format!("<p>{}</p>\n", escape::html(note));
        let end = email.html.rfind("</body>").unwrap_or(email.html.len());
        email.html.insert_str(end, &note);
    }
    if !email.html.contains(&format!("cid:{}", email.picture_id())) {
        // A form without the picture need not carry it.
        email.plot = None;
    }
    notes.len()
}

fn put(email: &mut Email, kind: TemplateKind, output: String) {
    match kind {
        TemplateKind::Subject => email.subject = escape::line(output.trim(), SUBJECT_MAX),
        TemplateKind::Text => email.text = output,
        TemplateKind::Html => email.html = output,
    }
}

fn rendered(
    environment: &Environment<'_>,
    kind: TemplateKind,
    source: &str,
    given: &Value,
    email: &Email,
) -> Result<String, String> {
    let usual = match kind {
        TemplateKind::Subject => Value::from(email.subject.as_str()),
        TemplateKind::Text => Value::from(email.text.as_str()),
        TemplateKind::Html => Value::from_safe_string(email.html.clone()),
    };
    let mut page = Page::default();
    let told = |error: minijinja::Error| match (error.detail(), error.line()) {
        (detail, Some(line)) => format!("{} in line {line}", detail.unwrap_or(&error.kind().to_string())),
        (detail, None) => detail.map_or_else(|| error.kind().to_string(), str::to_owned),
    };
    let template = environment.template_from_named_str(kind.file(), source).map_err(told)?;
    let outcome = template.render_captured_to(context! { usual, ..given.clone() }, &mut page).map(drop);
    if page.is_full {
        return Err(format!("it writes more than {OUTPUT_MAX} bytes"));
    }
    outcome.map_err(told)?;
    let output = String::from_utf8(page.bytes).map_err(|_| "it writes no text".to_owned())?;
    if output.trim().is_empty() { Err("it writes nothing".to_owned()) } else { Ok(output) }
}

/// What a template writes, as far as there is room.
#[derive(Default)]
struct Page {
    bytes: Vec<u8>,
    is_full: bool,
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > OUTPUT_MAX {
            self.is_full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The values of a notification. Every name is one line without characters that hide or reorder others; docs/alerting-mail.md
/// lists them.
fn given(email: &Email, notification: &Notification<'_>) -> Value {
    let Notification { group, thread, reason, at, firing, resolved, .. } = notification;
    let facts: Vec<Value> =
        notification.facts().into_iter().map(|(label, value)| context! { label, value }).collect();
    let rows = |alerts: &[&AlertView]| -> Vec<Value> {
        alerts.iter().take(ROWS_MAX).map(|alert| feed(alert, notification)).collect()
    };
    let picture = email.plot.as_ref().map(|plot| {
        let (width, height) = kinetic_plot::SIZE;
        context! { src => format!("cid:{}", email.picture_id()), alt => render::picture_words(plot), width, height }
    });
    let links = notification.links.as_ref().map(|links| {
        let mut actions = notification.actions().into_iter().map(|(_, url)| url);
        context! { acknowledge => actions.next(), silence => actions.next(), unsubscribe => links.unsubscribe }
    });
    context! {
        links,
        customer => group.customer.as_str(),
        analytic => group.analytic.as_str(),
        service => group.service.as_str(),
        cluster => group.cluster.as_str(),
        alert => thread.alert,
        severity => notification.analytic.map(|analytic| analytic.severity.as_str()),
        state => notification.state(),
        reason => reason.to_string(),
        why => notification.why(),
        rule => notification.rule(),
        headline => notification.headline(),
        also => notification.also(),
        facts,
        firing => rows(firing),
        firing_count => firing.len(),
        resolved => rows(resolved),
        resolved_count => resolved.len(),
        picture,
        mail_number => thread.seq,
        episode => format::time_utc(thread.episode.as_ms(), *at),
        now => format::time_utc(at.as_ms(), *at),
    }
}

fn feed(alert: &AlertView, notification: &Notification<'_>) -> Value {
    let name = |text: &str| escape::line(text, SENTENCE_NAME_MAX);
    let [_, _, value, peers, deviations, since, place] = text::columns(alert, notification);
    context! {
        origin => name(&alert.origin),
        metric => name(&alert.metric),
        kind => name(&alert.value_kind),
        value,
        peers,
        deviations,
        since,
        ending => (!alert.firing).then(|| text::ending(alert, notification)),
        numbers => alert.numbers,
        place,
        since_ms => alert.since_ms,
        window_end_ms => alert.window_end_ms,
    }
}
