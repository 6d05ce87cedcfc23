//! No bytes make the language panic, and formatting changes no meaning.

use kinetic_schema::{Files, format, fuzz_bytes, load, render};
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../../../topology-examples/one-file/kinetic.hcl");
const WHOLE: &str = include_str!("../../../topology-examples/telegraf-influx/customers/factory/factory.hcl");
const OPERATION: &str = include_str!("../../../fuzz/seeds/schema/operation");
const ALERTING: &str = include_str!("../../../fuzz/seeds/schema/alerting");
const IDENTITY: &str = include_str!("../../../fuzz/seeds/schema/identity");

fn one(text: &str) -> Files {
    Files::from([("kinetic.hcl".to_owned(), text.as_bytes().to_vec())])
}

/// A well-formed file with some of its pieces taken out, doubled, swapped or overwritten.
fn mangled() -> impl Strategy<Value = String> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0usize..40, 0usize..20), 1..6);
    let scraps = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        "\"",
        "=",
        ",",
        "\n",
        "${",
        "%{",
        "<<X\n",
        "<<-X\n",
        "X\n",
        "/*",
        "*/",
        "#",
        "//",
        "é",
        "null",
        "-1",
        "1e999",
        "\"\"",
        "\"*\"",
        "source.",
        "customer \"home\" {}\n",
        "\t",
        "\r\n",
        "deviations = 1\n",
        "\u{0}",
        "\u{1b}[31m",
        "\u{9b}",
    ]);
    (
        prop::sample::select(vec![EXAMPLE, WHOLE, OPERATION, ALERTING, IDENTITY]),
        edits,
        prop::collection::vec(scraps, 6),
    )
        .prop_map(|(text, edits, scraps)| {
            let mut text = text.to_owned();
            for ((index, cut, _), scrap) in edits.into_iter().zip(scraps) {
                let mut start = index.index(text.len() + 1);
                while !text.is_char_boundary(start) {
                    start -= 1;
                }
                let mut end = (start + cut).min(text.len());
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                text.replace_range(start..end.max(start), scrap);
            }
            text
        })
}

const TEMPLATE: &str = "{# é #}{%- for f in feeds if f.v > 1.5e3 and not f.off -%}{{ f.name|upper }} {{ f['v'] // 2 }}{% else %}none{% endfor %}{% if x is defined %}{{ x.a[1:] ~ 'q' }}{% elif y %}{% raw %}{{ {% endraw %}{% endif %}{{ z if z else 'n' }}{% if not a or b %}{{ loop.index|default(1) }}{% endif %}\n";

/// A template with some of its pieces taken out, doubled or overwritten.
fn mangled_template() -> impl Strategy<Value = String> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0usize..30), 1..6);
    let scraps = prop::sample::select(vec![
        "{",
        "}",
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "-",
        "+",
        "(",
        "[",
        "|",
        "'",
        "\"",
        ".",
        "**",
        "é",
        "\0",
        "\r\n",
        "endfor",
        "{% include 'x' %}",
        "9999999999999999999999999999999999999999999",
        "0x",
        "1e",
        "is not",
        "\\u{d800}",
    ]);
    (edits, prop::collection::vec(scraps, 6)).prop_map(|(edits, scraps)| {
        let mut text = TEMPLATE.to_owned();
        for ((index, cut), scrap) in edits.into_iter().zip(scraps) {
            let floor = |text: &str, at: usize| {
                (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
            };
            let start = floor(&text, index.index(text.len() + 1));
            let end = floor(&text, start + cut).max(start);
            text.replace_range(start..end, scrap);
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz_bytes(&bytes);
    }

    #[test]
    fn any_text_is_answered(text in "[a-z{}\\[\\]()\"=$%#/*<>\\\\\n .,é-]{0,200}") {
        fuzz_bytes(text.as_bytes());
    }

    #[test]
    fn mangled_files_are_answered(text in mangled()) {
        fuzz_bytes(text.as_bytes());
    }

    #[test]
    fn mangled_templates_are_answered(text in mangled_template()) {
        let mut files = one("region \"local\" {}\ncustomer \"acme\" { region = region.local }\n");
        files.insert("customers/acme/templates/text.j2".to_owned(), text.into_bytes());
        let loaded = load(&files);
        prop_assert!(!render(&loaded.diagnostics, &files, false, 80).is_empty());
    }

    #[test]
    fn formatting_keeps_the_meaning(text in mangled()) {
        if let Ok(formatted) = format(&text) {
            let (before, after) = (load(&one(&text)), load(&one(&formatted)));
            prop_assert_eq!(format!("{:?}", before.schema), format!("{:?}", after.schema));
            let told = |loaded: &kinetic_schema::Loaded| -> Vec<(&str, String)> {
                let mut told: Vec<_> =
                    loaded.diagnostics.iter().map(|told| (told.code, told.message.clone())).collect();
                told.sort();
                told
            };
            prop_assert_eq!(told(&before), told(&after));
        }
    }

    #[test]
    fn netblocks_of_two_customers_overlap_exactly_when_addresses_do(
        blocks in prop::collection::vec((0u32..3, 20u32..=32, 0u32..64), 1..14)
    ) {
        // Networks within 10.0.0.0/20 and smaller, so that overlaps are neither rare nor certain.
        let ranges: Vec<(u32, u32, u32)> = blocks.iter().map(|(customer, prefix, seed)| {
            let size = 1u32 << (32 - prefix);
            let first = 0x0a00_0000 + (seed * 64) / size * size;
            (*customer, first, first + size - 1)
        }).collect();
        // Each network is reported once if it overlaps one of another customer that starts before it.
        let mut sorted: Vec<(u32, u32, u32)> = ranges.iter().map(|(owner, first, last)| (*first, *last, *owner)).collect();
        sorted.sort_unstable();
        let overlaps = |at: &usize| sorted[..*at].iter().any(|other| other.2 != sorted[*at].2 && other.1 >= sorted[*at].0);
        let expected = (0..sorted.len()).filter(overlaps).count();
        let mut text = String::from("region \"local\" {}\n");
        for customer in 0..3 {
            let nets: Vec<String> = blocks.iter().zip(&ranges).filter(|((owner, _, _), _)| *owner == customer)
                .map(|((_, prefix, _), (_, first, _))| format!("\"{}/{prefix}\"", std::net::Ipv4Addr::from(*first)))
                .collect();
            text += &format!("customer \"c{customer}\" {{\n  region = region.local\n  netblocks = [{}]\n}}\n", nets.join(", "));
        }
        let told = load(&one(&text)).diagnostics;
        prop_assert!(told.iter().all(|told| told.code == "overlapping-netblock"), "{:?}", told);
        prop_assert_eq!(told.len(), expected);
    }

    #[test]
    fn blanks_do_not_matter_to_the_formatter(blanks in prop::collection::vec(0usize..4, 60)) {
        // Every run of blanks at a line's start or around `=` becomes another one: the canonical form is the same.
        let mut blanks = blanks.into_iter().cycle();
        let mut spread = |text: &str| text.lines().map(|line| {
            let more = " ".repeat(blanks.next().unwrap_or(0));
            let line = line.trim_start();
            let key = line.split(' ').next().unwrap_or_default();
            match line[key.len()..].trim_start().strip_prefix("= ") {
                Some(value) => format!("{more}{key}{more} ={more}{value}\n"),
                None => format!("{more}{line}\n"),
            }
        }).collect::<String>();
        let wide = spread(EXAMPLE);
        prop_assert_eq!(format(&wide).unwrap(), EXAMPLE);
    }
}

#[test]
fn the_template_that_is_mangled_is_well_formed() {
    let mut files = one("region \"local\" {}\ncustomer \"acme\" { region = region.local }\n");
    files.insert("customers/acme/templates/text.j2".to_owned(), TEMPLATE.as_bytes().to_vec());
    assert_eq!(load(&files).diagnostics, []);
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    for opening in [
        "[",
        "{",
        "(",
        "a {\n",
        "a = [",
        "a = {b=",
        "a = (",
        "a = \"${",
        "a = f(",
        "x = -",
        "x = !",
        "a = b[",
        "a = b ? ",
        "a = [for x in ",
    ] {
        for count in [40, 65, 100_000] {
            let text = format!("a = {}", opening.repeat(count));
            let bare = opening.repeat(count);
            for text in [text, bare] {
                let files = one(&text);
                let loaded = load(&files);
                assert!(loaded.schema.is_none(), "{opening:?} times {count}");
                assert!(!render(&loaded.diagnostics, &files, false, 80).is_empty());
                assert!(format(&text).is_err());
            }
        }
    }
}

#[test]
fn nesting_below_the_limit_takes_no_time() {
    // Alternatives that a parser tries one after the other could double the time at every level.
    for (open, close) in
        [("[", "]"), ("(", ")"), ("{a=", "}"), ("\"${", "}\""), ("[{a=(", ")}]"), ("f(", ")"), ("a[", "]")]
    {
        for closed in [true, false] {
            let depth = 60 / open.len().min(3);
            let mut text = format!("a {{\n  b = {}1", open.repeat(depth));
            if closed {
                text.push_str(&close.repeat(depth));
            }
            text.push_str("\n}\n");
            assert!(load(&one(&text)).schema.is_none());
        }
    }
}

#[test]
fn long_chains_of_operators_are_answered() {
    for link in ["1 + ", "x.", "x ? y : ", "-", "a && "] {
        let text = format!("customer \"a\" {{\n  region = {}1\n}}\n", link.repeat(50_000));
        assert!(load(&one(&text)).schema.is_none());
    }
}

#[test]
fn large_files_are_refused_by_name_of_the_limit() {
    let mut files = one(EXAMPLE);
    files.insert("big.hcl".to_owned(), vec![b'#'; kinetic_schema::limits::FILE_BYTES_MAX + 1]);
    files.insert("big.txt".to_owned(), vec![0xff; 10]);
    let loaded = load(&files);
    assert!(loaded.schema.is_none());
    assert_eq!(loaded.diagnostics.iter().map(|told| told.code).collect::<Vec<_>>(), ["too-large"]);
}
