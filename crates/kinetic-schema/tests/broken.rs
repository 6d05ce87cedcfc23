//! Every mistake of `tests/broken`, with what is said about it. A changed sentence is a changed snapshot.

mod common;

use std::path::Path;

use kinetic_schema::{DiagnosticSeverity, Files, load, render};

fn cases() -> Vec<(String, Files)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut cases = common::folders(&root);
    for (path, bytes) in common::files(&root).into_iter().filter(|(path, _)| !path.contains('/')) {
        let name = path.trim_end_matches(".hcl").to_owned();
        cases.push((name, Files::from([("kinetic.hcl".to_owned(), bytes)])));
    }
    cases.sort();
    assert!(cases.len() >= 40, "the cases are where this test looks");
    cases
}

#[test]
fn every_mistake_is_shown_at_its_place() {
    for (name, files) in cases() {
        let loaded = load(&files);
        assert!(!loaded.diagnostics.is_empty(), "{name} is not broken");
        let errors = loaded.diagnostics.iter().any(|told| told.severity == DiagnosticSeverity::Error);
        assert_eq!(loaded.schema.is_none(), errors, "{name}: errors and nothing else withhold the schema");
        for told in &loaded.diagnostics {
            let bytes = &files[&told.file];
            assert!(told.span.start <= told.span.end && told.span.end <= bytes.len(), "{name}: {told:?}");
            let line = 1 + bytes[..told.span.start].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(u32::try_from(line), Ok(told.line), "{name}: {told:?}");
        }
        insta::assert_snapshot!(name, render(&loaded.diagnostics, &files, false, 100));
    }
}

#[test]
fn diagnostics_are_sorted_and_serialise() {
    for (name, files) in cases() {
        let told = load(&files).diagnostics;
        let places: Vec<_> = told.iter().map(|told| (&told.file, told.span.start)).collect();
        assert!(places.is_sorted(), "{name}: {places:?}");
        let json = serde_json::to_value(&told).expect("diagnostics are JSON");
        for field in ["severity", "code", "message", "file", "line", "column", "span", "label"] {
            assert!(json[0].get(field).is_some(), "{name}: `{field}` in {json}");
        }
    }
}

#[test]
fn the_guide_explains_every_code() {
    let guide = include_str!("../../../docs/topology-language.md");
    for (name, files) in cases() {
        for told in load(&files).diagnostics {
            assert!(
                guide.contains(&format!("`{}`", told.code)),
                "{name}: `{}` is not in the guide",
                told.code
            );
        }
    }
}
