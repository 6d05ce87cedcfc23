//! A customer's own mail templates: `customers/<name>/templates/{subject,text,html}.j2`. They are Jinja, as `minijinja`
//! reads it; here they are parsed, and rendered where mail is made, by the same [`environment`].

use std::collections::BTreeMap;
use std::ops::Range;

use minijinja::{AutoEscape, Environment, UndefinedBehavior, filters};

use crate::diagnostic::{At, Problem, Sink};
use crate::limits::{REPOSITORY_BYTES_MAX, TEMPLATE_BYTES_MAX, TEMPLATE_FUEL};
use crate::load::Files;
use crate::schema::{TemplateKind, Templates};
use crate::suggest::{closest, listed};

/// Tags that a template may have. There are none that keep a value: a text that is put together from itself doubles with
/// every step, and memory would end before the fuel does.
const TAGS: [&str; 8] = ["if", "elif", "else", "endif", "for", "endfor", "raw", "endraw"];

/// What reads templates: HTML is escaped, what is not defined prints nothing but may not be looked into, what a template may cost is
/// bounded by [`TEMPLATE_FUEL`] (one unit an instruction), and nothing can be loaded from outside. Of the usual filters there are
/// those that make little out of little.
#[must_use]
pub fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.add_filter("upper", filters::upper);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("length", filters::length);
    environment.add_filter("default", filters::default);
    environment.add_filter("round", filters::round);
    environment.add_test("defined", minijinja::tests::is_defined);
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
        } else if let Some((span, tag)) = goes_too_far(text) {
            let message = format!("a template shows what it is given: `{tag}` has no place in it");
            let problem = Problem::error("bad-template", &At::new(file, span), message).label("not possible");
            sink.push(
                problem.help("its tags are if, for and raw; values are shown as they are, not multiplied"),
            );
        }
        let (_, templates) = found.entry(customer).or_insert_with(|| (at, Templates::default()));
        if let Some(kind) = kind {
            *templates.slot(kind) = Some(text.to_owned());
        }
    }
    found
}

/// The first tag that templates do not have, or the first `*` between braces, which repeats a text.
fn goes_too_far(text: &str) -> Option<(Range<usize>, &str)> {
    let mut at = 0;
    while let Some(found) = text[at..].find('{') {
        let start = at + found;
        let (closing, is_tag) = match text[start..].get(..2) {
            Some("{#") => ("#}", false),
            Some("{{") => ("}}", false),
            Some("{%") => ("%}", true),
            _ => {
                at = start + 1;
                continue;
            }
        };
        let end = text[start + 2..].find(closing).map_or(text.len(), |end| start + 2 + end);
        let inner = text[start + 2..end].trim_start_matches(['-', '+']).trim_start();
        let begin = end - inner.len();
        at = end;
        if closing == "#}" {
            continue;
        }
        let word = inner.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        if is_tag && !TAGS.contains(&word) {
            return Some((begin..begin + word.len(), word));
        }
        if let Some(found) = inner.find('*') {
            let star = begin + found;
            return Some((star..star + 1, &text[star..=star]));
        }
        if word == "raw" && is_tag {
            at = text[end..].find("endraw").map_or(text.len(), |raw| end + raw);
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
    fn a_template_shows_what_it_is_given_and_no_more() {
        let rows: Vec<u32> = (0..9_999).collect();
        let environment = environment();
        let endless = "{% for a in rows %}{% for b in rows %}{{ a }}{% endfor %}{% endfor %}";
        let endless = environment.template_from_named_str("text.j2", endless).expect("well formed");
        let out = endless.render(minijinja::context! { rows }).expect_err("too much").kind();
        assert_eq!(out, minijinja::ErrorKind::OutOfFuel);
        for grows in ["{{ range(9) }}", "{{ 'a'|indent(9) }}", "{{ '%9s'|format(1) }}", "{{ [1]|join }}"] {
            let template = environment.template_from_named_str("text.j2", grows);
            assert!(template.and_then(|template| template.render(())).is_err(), "{grows}");
        }
        for (text, at, what) in [
            ("é{%-\n include 'x' %}", 7, "include"),
            ("{% import '/etc/passwd' as x %}", 3, "import"),
            ("{% extends 'x' %}", 3, "extends"),
            ("{# #}{% if a %}{# {% include 'x' %} #}{% from 'x' import y %}", 41, "from"),
            ("{% set a = a ~ a %}", 3, "set"),
            ("{% with a = a ~ a %}", 3, "with"),
            ("{% macro m() %}", 3, "macro"),
            ("{% filter upper %}", 3, "filter"),
            ("{{ 'a' * 1000000000 }}", 7, "*"),
            ("{% if 'a' * 9 %}", 10, "*"),
            ("{% raw %}{% set %}{% endraw %}{% set a = 1 %}", 33, "set"),
        ] {
            let found = goes_too_far(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(found, (at..at + what.len(), what), "{text}");
        }
        for plain in [
            "",
            "{%",
            "{#",
            "{ * }",
            "* {{ a }} *",
            "{# {% include 'x' %} #}",
            "{% raw %}{% include 'x' %}{% endraw %}",
            "{% if a %}{% elif b %}{% else %}{% endif %}",
            "{%- for a in b -%}{% endfor %}",
            "include",
            "{{ include }}",
        ] {
            let found = goes_too_far(plain);
            assert!(found.is_none() || plain == "{%", "{plain}: {found:?}");
        }
    }
}
