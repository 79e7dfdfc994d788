//! SHA-256 values, told apart by what they are taken over. Computing one is `plan::hash`'s work.

use std::fmt;

/// Why a text is not a hash.
#[derive(Debug, thiserror::Error)]
#[error("not a SHA-256 in 64 hexadecimal digits")]
pub struct NotAHash;

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps the 32 bytes of a finished SHA-256.
            #[must_use]
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            #[must_use]
            pub const fn bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first 6 hexadecimal digits, as logs and tables show it.
            #[must_use]
            pub fn short(&self) -> String {
                self.to_string()[..6].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.short())
            }
        }

        impl std::str::FromStr for $name {
            type Err = NotAHash;

            fn from_str(text: &str) -> Result<Self, NotAHash> {
                parse_hex(text).map(Self)
            }
        }
    };
}

digest! {
    /// SHA-256 of a file's bytes; of a link, of its target's text.
    ContentHash
}
digest! {
    /// SHA-256 of a unit: its resolved spec and every file (see `plan::hash`).
    UnitHash
}

fn parse_hex(text: &str) -> Result<[u8; 32], NotAHash> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return Err(NotAHash);
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Ok(bytes)
}

fn nibble(digit: u8) -> Result<u8, NotAHash> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(NotAHash),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        let hash = UnitHash::new([0xa1; 32]);
        assert_eq!(hash.to_string().parse::<UnitHash>().unwrap(), hash);
        assert_eq!(hash.short(), "a1a1a1");
        for bad in ["", "a1", &"g".repeat(64), &"A1".repeat(32)] {
            assert!(bad.parse::<UnitHash>().is_err(), "{bad}");
        }
    }
}
