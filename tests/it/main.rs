//! Stories across processes, one module each.
