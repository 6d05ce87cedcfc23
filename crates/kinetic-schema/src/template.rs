//! A customer's own mail templates: `customers/<name>/templates/{subject,text,html}.j2`. They are Jinja, as `minijinja`
//! reads it; here they are parsed, and rendered where mail is made, by the same [`environment`].

use std::collections::BTreeMap;
use std::ops::Range;

use minijinja::{AutoEscape, Environment, UndefinedBehavior};

use crate::diagnostic::{At, Problem, Sink};
use crate::limits::{REPOSITORY_BYTES_MAX, TEMPLATE_BYTES_MAX, TEMPLATE_FUEL};
use crate::load::Files;
use crate::schema::{TemplateKind, Templates};
use crate::suggest::{closest, listed};

/// What reads templates: HTML is escaped, what is not defined prints nothing but may not be looked into, what a template may cost is
/// bounded by [`TEMPLATE_FUEL`] (one unit an instruction), and nothing can be loaded from outside.
#[must_use]
pub fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|name| match TemplateKind::of_file(name) {
        Some(TemplateKind::Html) => AutoEscape::Html,
        _ => AutoEscape::None,
    });
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_debug(false);
    environment.set_fuel(Some(TEMPLATE_FUEL));
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment
}

/// Where a path that is a template, or wants to be one, belongs: the customer and the file's name.
fn place(path: &str) -> Option<(&str, &str)> {
    let (customer, rest) = path.strip_prefix("customers/")?.split_once('/')?;
    let name = rest.strip_prefix("templates/").filter(|name| name.ends_with(".j2") && !name.contains('/'))?;
    (!customer.is_empty()).then_some((customer, name))
}

/// Takes in all templates, by customer.
pub(crate) fn read<'f>(sink: &mut Sink<'f>, files: &'f Files) -> BTreeMap<&'f str, (At, Templates)> {
    let mut found: BTreeMap<&str, (At, Templates)> = BTreeMap::new();
    let environment = environment();
    let mut total = 0usize;
    for (path, bytes) in files.range("customers/".to_owned()..) {
        let Some((customer, name)) = place(path) else { continue };
        total = total.saturating_add(bytes.len());
        // What cannot be read is pointed at as a whole.
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        let readable = bytes.len() <= TEMPLATE_BYTES_MAX && total <= REPOSITORY_BYTES_MAX;
        let file = sink.add_file(path, if readable { text } else { "" });
        let at = At::new(file, 0..0);
        let kind = TemplateKind::of_file(name);
        if kind.is_none() {
            sink.push(unknown(&at, name));
        }
        if !readable {
            let message =
                format!("this template has {} bytes; {TEMPLATE_BYTES_MAX} are possible", bytes.len());
            sink.push(Problem::error("too-large", &at, message));
        } else if let Err(error) = std::str::from_utf8(bytes) {
            let message = format!("the file is not UTF-8 from byte {} on", error.valid_up_to());
            sink.push(Problem::error("not-utf-8", &at, message).help("save it as UTF-8"));
        } else if let Err(error) = environment.template_from_named_str(name, text) {
            sink.push(syntax(file, text, &error));
        } else if let Some((span, tag)) = reaches_outside(text) {
            let message = format!("a template stands by itself: there is nothing for `{tag}` to load");
            let problem =
                Problem::error("bad-template", &At::new(file, span), message).label("loads another one");
            sink.push(problem.help("write it out, or make a {% macro %} of what stands here twice"));
        }
        let (_, templates) = found.entry(customer).or_insert_with(|| (at, Templates::default()));
        if let Some(kind) = kind {
            *templates.slot(kind) = Some(text.to_owned());
        }
    }
    found
}

/// The first tag that would load another template. (The engine's features for these come with its bounds, so that they
/// parse, and would fail only when a mail is made.)
fn reaches_outside(text: &str) -> Option<(Range<usize>, &str)> {
    let mut at = 0;
    while let Some(found) = text[at..].find("{%").into_iter().chain(text[at..].find("{#")).min() {
        let start = at + found;
        if text[start..].starts_with("{#") {
            at = text[start..].find("#}").map_or(text.len(), |end| start + end);
            continue;
        }
        let inner = text[start + 2..].trim_start_matches(['-', '+']).trim_start();
        let word = inner.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        let begin = text.len() - inner.len();
        match word {
            "include" | "import" | "from" | "extends" => return Some((begin..begin + word.len(), word)),
            "raw" => at = text[begin..].find("endraw").map_or(text.len(), |end| begin + end),
            _ => at = begin,
        }
    }
    None
}

fn unknown(at: &At, name: &str) -> Problem {
    let names = || TemplateKind::ALL.into_iter().map(TemplateKind::file);
    let message = format!("there is no template `{name}`");
    let problem = Problem::error("unknown-template", at, message).label("a file of this name");
    match closest(name, names()) {
        Some(near) => problem.help(format!("did you mean {near}?")),
        None => problem.help(format!("templates are {}", listed(names()).replace(" or ", " and "))),
    }
}

fn syntax(file: usize, text: &str, error: &minijinja::Error) -> Problem {
    let line = error.line().unwrap_or(1).saturating_sub(1);
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let whole = start..start + text[start..].lines().next().unwrap_or_default().len();
    let span = error.range().filter(|range| text.get(range.clone()).is_some()).unwrap_or(whole);
    let said = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let problem =
        Problem::error("bad-template", &At::new(file, span), format!("this template cannot be read: {said}"));
    problem
        .label("here")
        .help("templates are written in Jinja: {{ value }}, {% if … %} … {% endif %}, {# comment #}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_have_their_place() {
        assert_eq!(place("customers/acme/templates/html.j2"), Some(("acme", "html.j2")));
        assert_eq!(place("customers/acme/templates/htm.j2"), Some(("acme", "htm.j2")));
        for other in [
            "templates/html.j2",
            "customers/html.j2",
            "customers/acme/html.j2",
            "customers/acme/templates/deep/html.j2",
            "customers/acme/templates/html.txt",
            "customers//templates/html.j2",
            "x/customers/acme/templates/html.j2",
        ] {
            assert_eq!(place(other), None, "{other}");
        }
    }

    #[test]
    fn only_html_is_escaped() {
        let environment = environment();
        let render = |name| {
            let template =
                environment.template_from_named_str(name, "{{ '<' }}{{ nothing }}").expect("well formed");
            template.render(()).expect("renders")
        };
        assert_eq!(render("html.j2"), "&lt;");
        assert_eq!((render("text.j2"), render("subject.j2")), ("<".to_owned(), "<".to_owned()));
    }

    #[test]
    fn no_template_runs_for_ever_or_reaches_outside() {
        let environment = environment();
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}";
        let endless = environment.template_from_named_str("text.j2", endless).expect("well formed");
        assert_eq!(endless.render(()).expect_err("too much").kind(), minijinja::ErrorKind::OutOfFuel);
        for outside in ["{% include 'html.j2' %}", "{% import '/etc/passwd' as x %}", "{% extends 'x' %}"] {
            let template = environment.template_from_named_str("text.j2", outside);
            assert!(template.and_then(|template| template.render(())).is_err(), "{outside}");
            assert!(reaches_outside(outside).is_some(), "{outside}");
        }
        assert_eq!(reaches_outside("é{%-\n include 'x' %}"), Some((7..14, "include")));
        assert_eq!(
            reaches_outside("{# #}{% if a %}{# {% include 'x' %} #}{% from 'x' import y %}")
                .map(|(_, tag)| tag),
            Some("from")
        );
        for inside in [
            "",
            "{%",
            "{#",
            "{# {% include 'x' %} #}",
            "{% raw %}{% include 'x' %}{% endraw %}",
            "{% if a %}{% endif %}",
            "include",
            "{{ include }}",
            "{% set included = 1 %}",
            "{% raw %}",
        ] {
            assert_eq!(reaches_outside(inside), None, "{inside}");
        }
    }
}
