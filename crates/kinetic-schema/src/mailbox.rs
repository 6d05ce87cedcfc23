//! RFC 5322 mailboxes, as much of them as mail relays of today take: `user@host` or `Name <user@host>`.

/// Why a mailbox cannot be, if it cannot.
pub(crate) fn problem(written: &str) -> Option<String> {
    if written.chars().any(char::is_control) {
        return Some("an address holds no line break or other control character".to_owned());
    }
    let address = match written.trim().strip_suffix('>') {
        None => written.trim(),
        Some(rest) => {
            let Some((name, address)) = rest.rsplit_once('<') else {
                return Some("`>` without `<`".to_owned());
            };
            if let Some(problem) = display_name_problem(name.trim()) {
                return Some(problem);
            }
            address
        }
    };
    let Some((local, domain)) = address.rsplit_once('@') else {
        return Some("there is no `@` in it".to_owned());
    };
    if !address.is_ascii() {
        return Some("an address is written in ASCII; for a domain, that is its `xn--` form".to_owned());
    }
    local_problem(local).or_else(|| domain_problem(domain))
}

/// `user@host` of a mailbox that has no problem, the host in lower case: where two are the same, so is who is meant.
pub(crate) fn address(written: &str) -> String {
    let written = written.trim();
    let bare =
        written.strip_suffix('>').and_then(|rest| rest.rsplit_once('<')).map_or(written, |(_, bare)| bare);
    match bare.rsplit_once('@') {
        Some((local, domain)) => format!("{local}@{}", domain.to_ascii_lowercase()),
        None => bare.to_owned(),
    }
}

/// The domain of a mailbox that has no problem, in lower case.
pub(crate) fn domain(written: &str) -> String {
    let address = address(written);
    address.rsplit_once('@').map_or("", |(_, domain)| domain).to_owned()
}

fn display_name_problem(name: &str) -> Option<String> {
    let quoted = name.len() >= 2 && name.starts_with('"') && name.ends_with('"');
    let inner = if quoted { &name[1..name.len() - 1] } else { name };
    if quoted && !inner.contains(['"', '\\']) {
        return None;
    }
    inner
        .contains(['(', ')', '<', '>', '[', ']', ':', ';', '@', '\\', ',', '"'])
        .then(|| "a display name with one of ( ) < > [ ] : ; @ \\ , \" stands in double quotes".to_owned())
}

fn local_problem(local: &str) -> Option<String> {
    let atom = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    if local.is_empty() {
        Some("there is nothing before the `@`".to_owned())
    } else if local.len() > 64 {
        Some("more than 64 characters stand before the `@`".to_owned())
    } else if local.split('.').any(|word| word.is_empty() || !word.chars().all(atom)) {
        Some(format!("`{local}` cannot stand before the `@`"))
    } else {
        None
    }
}

/// Why a domain cannot be, if it cannot.
pub(crate) fn domain_problem(domain: &str) -> Option<String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if domain.is_empty() {
        Some("there is nothing after the `@`".to_owned())
    } else if domain.len() > 253 || !domain.split('.').all(label) {
        Some(format!("`{domain}` is not a host name"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{address, domain, problem};

    #[test]
    fn real_addresses_pass() {
        for right in [
            "oncall@acme.example",
            "alerts@example",
            "a.b+c@x-y.example",
            "On Call <oncall@acme.example>",
            "\"Doe, J.\" <j@acme.example>",
            "Žofie <z@acme.example>",
        ] {
            assert_eq!(problem(right), None, "{right}");
        }
        assert_eq!(domain("Doe <j@Acme.example>"), "acme.example");
        assert_eq!(domain("a@b "), "b");
        assert_eq!(address("\"Doe <x@y>\" <J@Acme.example>"), "J@acme.example");
    }

    #[test]
    fn wrong_and_dangerous_ones_do_not() {
        for wrong in [
            "",
            "oncall",
            "@acme.example",
            "a@",
            "a@b@c",
            "a b@c",
            "a..b@c",
            "a@-b.example",
            "a@b..c",
            "a@b\r\nBcc: x@y",
            "A\n <a@b>",
            "a@b, c@d",
            "Doe, J. <j@b>",
            "x <a@b",
            "a@b>",
            "é@b",
        ] {
            assert!(problem(wrong).is_some(), "{wrong:?}");
        }
    }
}
