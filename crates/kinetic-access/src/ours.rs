//! What on a broker is ours, told by its name and its arguments: nothing else is ever removed.

use crate::objects::{Args, Destination, Value};

/// A name of the forms that belong to one customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name<'n> {
    /// `src.<customer>.<source>[.<part>]`.
    Source { customer: &'n str, source: &'n str },
    /// `snap.<customer>.<source>[.<part>]`.
    Snapshots { customer: &'n str, source: &'n str },
    /// `split.<customer>.<source>`.
    Split { customer: &'n str, source: &'n str },
    /// `dead.<customer>`.
    Dead { customer: &'n str },
    /// `out.<customer>`.
    Out { customer: &'n str },
    /// `in.<customer>`.
    In { customer: &'n str },
}

impl<'n> Name<'n> {
    /// What this name is, if it is one of ours.
    pub(crate) fn read(name: &'n str) -> Option<Self> {
        let mut words = name.split('.');
        let (kind, customer) = (words.next()?, words.next()?);
        let (source, part, more) = (words.next(), words.next(), words.next());
        let is_label = |word: &str| !word.is_empty();
        let part_is_fine = part.is_none_or(|part| part.parse::<u16>().is_ok_and(|part| part > 0));
        if !is_label(customer) || !source.is_none_or(is_label) || !part_is_fine || more.is_some() {
            return None;
        }
        match (kind, source, part) {
            ("src", Some(source), _) => Some(Self::Source { customer, source }),
            ("snap", Some(source), _) => Some(Self::Snapshots { customer, source }),
            ("split", Some(source), None) => Some(Self::Split { customer, source }),
            ("dead", None, None) => Some(Self::Dead { customer }),
            ("out", None, None) => Some(Self::Out { customer }),
            ("in", None, None) => Some(Self::In { customer }),
            _ => None,
        }
    }

    /// Whose it is.
    pub(crate) fn customer(self) -> &'n str {
        match self {
            Self::Source { customer, .. }
            | Self::Snapshots { customer, .. }
            | Self::Split { customer, .. }
            | Self::Dead { customer }
            | Self::Out { customer }
            | Self::In { customer } => customer,
        }
    }

    /// The source that it serves, if it serves one.
    pub(crate) fn source(self) -> Option<&'n str> {
        match self {
            Self::Source { source, .. } | Self::Snapshots { source, .. } | Self::Split { source, .. } => {
                Some(source)
            }
            Self::Dead { .. } | Self::Out { .. } | Self::In { .. } => None,
        }
    }

    /// Whether a queue of this name has the arguments that we give such.
    pub(crate) fn is_our_queue(self, args: &Args) -> bool {
        let text = |name: &str, want: &str| args.get(name) == Some(&Value::Text(want.to_owned()));
        let bounded = |name: &str| matches!(args.get(name), Some(Value::Number(_)));
        let drops = text("x-overflow", "drop-head") && bounded("x-max-length");
        match self {
            Self::Source { .. } => drops && text("x-dead-letter-exchange", "kin.dead"),
            Self::Snapshots { .. } => drops,
            Self::Dead { .. } => drops && bounded("x-max-length-bytes"),
            Self::Out { .. } => drops && bounded("x-max-length-bytes") && bounded("x-message-ttl"),
            Self::Split { .. } | Self::In { .. } => false,
        }
    }
}

/// The customer to whose queue or exchange a binding leads.
pub(crate) fn led_to(to: &Destination) -> Option<Name<'_>> {
    let name = Name::read(to.name())?;
    match (to, name) {
        (Destination::Exchange(_), Name::Split { .. }) => Some(name),
        (Destination::Queue(_), Name::Source { .. } | Name::Dead { .. } | Name::Out { .. }) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_our_forms_are_read_and_no_others() {
        let source = Name::Source { customer: "acme", source: "web" };
        assert_eq!(Name::read("src.acme.web"), Some(source));
        assert_eq!(Name::read("src.acme.web.12"), Some(source));
        assert_eq!(Name::read("out.acme"), Some(Name::Out { customer: "acme" }));
        for other in ["src.acme", "src.acme.web.x", "src.acme.web.0", "src..web", "in.", "in.a.b", "kin.dead"]
        {
            assert_eq!(Name::read(other), None, "{other}");
        }
    }
}
