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
                hex::<6>(&self.0).iter().map(|digit| char::from(*digit)).collect()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // In one piece: listings print some ten thousand.
                let digits = hex::<64>(&self.0);
                f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
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

/// The first `N` hexadecimal digits.
fn hex<const N: usize>(bytes: &[u8; 32]) -> [u8; N] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [b'0'; N];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    digits
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
        let counted = UnitHash::new(std::array::from_fn(|at| u8::try_from(at * 8 + 1).unwrap()));
        assert!(counted.to_string().starts_with("0109111921") && counted.to_string().ends_with("e9f1f9"));
        assert_eq!(counted.to_string().len(), 64);
        for bad in ["", "a1", &"g".repeat(64), &"A1".repeat(32)] {
            assert!(bad.parse::<UnitHash>().is_err(), "{bad}");
        }
    }
}
