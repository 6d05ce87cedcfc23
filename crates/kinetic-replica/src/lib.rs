//! The only code that names git2: clone, fetch, check, swap, commit; hands out revisions.
