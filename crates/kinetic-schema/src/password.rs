//! Hashes of passwords, by their shape: PHC strings of argon2id (RFC 9106), as strong as they have to be and no dearer than a
//! board can pay.

use crate::limits::{ARGON2_LANES, ARGON2_MEMORY_KIB, ARGON2_PASSES};

/// Why a text is no hash to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// Not `$argon2id$v=19$m=…,t=…,p=…$salt$hash`.
    Shape,
    /// Too cheap to guess against.
    Weak,
    /// Whoever has it checked costs the board too much.
    Costly,
}

impl Unfit {
    /// Code, message and help of its diagnostic.
    pub(crate) fn said(self) -> (&'static str, String, String) {
        let (memory, passes, lanes) = (ARGON2_MEMORY_KIB, ARGON2_PASSES, ARGON2_LANES);
        let (code, message) = match self {
            Self::Shape => ("bad-hash", "`password` must be an argon2id hash as a PHC string"),
            Self::Weak => ("weak-hash", "this hash is too cheap to guess against"),
            Self::Costly => ("costly-hash", "this hash would take the board too long to check"),
        };
        let help = match self {
            Self::Shape => "`kinetic user passwd` makes it: \"$argon2id$v=19$m=…,t=…,p=…$salt$hash\"; never the password itself".to_owned(),
            Self::Weak | Self::Costly => format!(
                "m is from {} to {} KiB, t from {} to {} passes, p from {} to {} lanes, the salt from 8 bytes and the hash from 16",
                memory.0, memory.1, passes.0, passes.1, lanes.0, lanes.1
            ),
        };
        (code, message.to_owned(), help)
    }
}

/// Whether a text is a hash to keep.
pub(crate) fn check(written: &str) -> Result<(), Unfit> {
    let fields: Vec<&str> = written.split('$').collect();
    let ["", "argon2id", "v=19", parameters, salt, hash] = fields[..] else { return Err(Unfit::Shape) };
    let parts: Vec<&str> = parameters.split(',').collect();
    let [m, t, p] = parts[..] else { return Err(Unfit::Shape) };
    let number = |part: &str, name: &str| -> Result<u32, Unfit> {
        let digits = part.strip_prefix(name).ok_or(Unfit::Shape)?;
        let plain = digits.bytes().all(|digit| digit.is_ascii_digit()) && !digits.starts_with('0');
        if !plain || digits.is_empty() {
            return Err(Unfit::Shape);
        }
        // Digits that are too many for a number are too much of anything.
        Ok(digits.parse().unwrap_or(u32::MAX))
    };
    let (m, t, p) = (number(m, "m=")?, number(t, "t=")?, number(p, "p=")?);
    let (salt, hash) = (bytes(salt).ok_or(Unfit::Shape)?, bytes(hash).ok_or(Unfit::Shape)?);
    let bounds = [(m, ARGON2_MEMORY_KIB), (t, ARGON2_PASSES), (p, ARGON2_LANES)];
    if bounds.iter().any(|(found, (least, _))| found < least) || salt < 8 || hash < 16 {
        return Err(Unfit::Weak);
    }
    if bounds.iter().any(|(found, (_, most))| found > most) || salt > 48 || hash > 64 {
        return Err(Unfit::Costly);
    }
    Ok(())
}

/// How many bytes a text in base64 without padding holds (RFC 4648, alphabet of section 4).
fn bytes(written: &str) -> Option<usize> {
    let digit = |c: u8| c.is_ascii_alphanumeric() || c == b'+' || c == b'/';
    (written.len() % 4 != 1 && written.bytes().all(digit)).then_some(written.len() * 3 / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: &str = "c2FsdHNhbHQ";
    const HASH: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn a_hash_is_argon2id_and_neither_cheap_nor_dear() {
        let with = |parameters: &str| check(&format!("$argon2id$v=19${parameters}${SALT}${HASH}"));
        assert_eq!(with("m=19456,t=2,p=1"), Ok(()));
        assert_eq!(with("m=131072,t=10,p=4"), Ok(()));
        for weak in ["m=19455,t=2,p=1", "m=19456,t=1,p=1", "m=8,t=2,p=1"] {
            assert_eq!(with(weak), Err(Unfit::Weak), "{weak}");
        }
        for costly in ["m=131073,t=2,p=1", "m=19456,t=11,p=1", "m=19456,t=2,p=5", "m=99999999999,t=2,p=1"] {
            assert_eq!(with(costly), Err(Unfit::Costly), "{costly}");
        }
        for wrong in
            ["m=19456,t=2", "t=2,m=19456,p=1", "m=+19456,t=2,p=1", "m=,t=2,p=1", "m=019456,t=2,p=1", ""]
        {
            assert_eq!(with(wrong), Err(Unfit::Shape), "{wrong}");
        }
        for wrong in [
            "hunter2".to_owned(),
            format!("$argon2i$v=19$m=19456,t=2,p=1${SALT}${HASH}"),
            format!("$argon2id$v=16$m=19456,t=2,p=1${SALT}${HASH}"),
            format!("$argon2id$m=19456,t=2,p=1${SALT}${HASH}"),
            format!("$argon2id$v=19$m=19456,t=2,p=1${SALT}${HASH}="),
            format!("$argon2id$v=19$m=19456,t=2,p=1${SALT}${HASH}$"),
            format!("x$argon2id$v=19$m=19456,t=2,p=1${SALT}${HASH}"),
        ] {
            assert_eq!(check(&wrong), Err(Unfit::Shape), "{wrong}");
        }
        assert_eq!(check(&format!("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA${HASH}")), Err(Unfit::Weak));
        assert_eq!(check(&format!("$argon2id$v=19$m=19456,t=2,p=1${SALT}$AAAA")), Err(Unfit::Weak));
    }
}
