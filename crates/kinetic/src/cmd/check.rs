//! `kinetic check`: all problems of a schema folder at once.

use anyhow::Result;
use kinetic_schema::{DiagnosticSeverity, Loaded};

use crate::adapter::clock;
use crate::{cli, exit, schema_files, term};

/// Columns of rendered diagnostics.
pub(crate) const WIDTH: usize = 100;

/// `kinetic check`
pub(crate) fn run(args: &cli::Check) -> Result<u8> {
    let files = schema_files::read(&args.dir.to_string_lossy())?;
    let Loaded { schema, diagnostics } = kinetic_schema::load_at(&files, Some(clock::now().wall));
    let ok = schema.is_some();
    if args.json {
        let report = serde_json::json!({"ok": ok, "diagnostics": diagnostics});
        term::say(&format!("{report}\n"));
        return Ok(if ok { 0 } else { exit::NO });
    }
    let rendered = kinetic_schema::render(&diagnostics, &files, term::is_fancy(), WIDTH);
    term::warn(&rendered);
    match schema {
        Some(schema) => {
            let analytics: usize = schema.customers.values().map(|customer| customer.analytics.len()).sum();
            let sources: usize = schema.customers.values().map(|customer| customer.sources.len()).sum();
            let warnings =
                diagnostics.iter().filter(|one| one.severity == DiagnosticSeverity::Warning).count();
            term::say(&format!(
                "ok: {} customers, {sources} sources, {analytics} analytics, {warnings} warnings\n",
                schema.customers.len(),
            ));
            Ok(0)
        }
        None => Ok(exit::NO),
    }
}
