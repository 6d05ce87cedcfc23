//! As much of JSON Schema as the files of `schemas/` use, to hold what is published against them.

use serde_json::Value;

/// The schema of what is published on `kin.notifications`.
pub(crate) const NOTIFICATION: &str = include_str!("../../../../schemas/notification.json");

/// Everything that is wrong with `value` by the schema of this text; also fields that it does not name.
pub(crate) fn problems(schema: &str, value: &Value) -> Vec<String> {
    let root: Value = serde_json::from_str(schema).unwrap();
    let mut problems = Vec::new();
    check(&root, &root, value, "$", &mut problems);
    problems
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, problems: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.strip_prefix('#').unwrap()).unwrap();
        return check(root, target, value, at, problems);
    }
    if let Some(choices) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
        let fits = |choice: &Value| {
            let mut found = Vec::new();
            check(root, choice, value, at, &mut found);
            found.is_empty()
        };
        if !choices.iter().any(fits) {
            problems.push(format!("{at}: {value} is none of what it may be"));
        }
        return;
    }
    if schema.get("const").is_some_and(|constant| constant != value)
        || schema["enum"].as_array().is_some_and(|all| !all.contains(value))
    {
        problems.push(format!("{at}: {value} is not one of the values"));
    }
    let is = |kind: &Value| match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("{at}: the schema says {other}"),
    };
    let right = match &schema["type"] {
        Value::Null => true,
        Value::Array(kinds) => kinds.iter().any(is),
        kind => is(kind),
    };
    if !right {
        problems.push(format!("{at}: {value} is not of type {}", schema["type"]));
    }
    if schema["minimum"].as_f64().is_some_and(|least| value.as_f64().is_some_and(|value| value < least)) {
        problems.push(format!("{at}: {value} is too small"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(root, &schema["items"], item, &format!("{at}[{index}]"), problems);
    }
    let Some(fields) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            problems.push(format!("{at}: lacks {name}"));
        }
    }
    for (name, field) in fields {
        match schema["properties"].get(name) {
            Some(schema) => check(root, schema, field, &format!("{at}.{name}"), problems),
            None => problems.push(format!("{at}: {name} is not in the schema")),
        }
    }
}

#[test]
fn it_finds_what_is_wrong() {
    let found = problems(
        NOTIFICATION,
        &serde_json::json!({"v": -1, "customer": 7, "state": "sleeping", "firing": [{"stale": 1}], "new": 1}),
    );
    for part in [
        "$.v: -1 is too small",
        "$.customer: 7 is not of type",
        "$.state: \"sleeping\" is n",
        "$.firing[0]: lacks feed",
        "$.firing[0].stale: 1 is not of type",
        "$: lacks seq",
        "$: new is not in the schema",
    ] {
        assert!(found.iter().any(|problem| problem.starts_with(part)), "{part}: {found:#?}");
    }
}
