//! Keyed hashes (HMAC-SHA256) of what is not to be kept as it is. The key is drawn at each start and
//! never leaves the process, so that a core dump of one table tells nothing that could be guessed at
//! without the other.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// The key of this process.
#[derive(Clone)]
pub(super) struct Key(Hmac<Sha256>);

/// The keyed hash of something.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Tag([u8; 32]);

impl Key {
    /// Draws a new one.
    pub(super) fn draw() -> Result<Self, getrandom::Error> {
        let mut key = [0; 64];
        getrandom::fill(&mut key)?;
        Ok(Self(Hmac::new(&key.into())))
    }

    /// The tag of `parts`, which are told apart: moving a byte from one to the next makes another tag.
    pub(super) fn tag(&self, parts: &[&[u8]]) -> Tag {
        let mut hmac = self.0.clone();
        for part in parts {
            hmac.update(&(part.len() as u64).to_le_bytes());
            hmac.update(part);
        }
        Tag(hmac.finalize().into_bytes().into())
    }
}

impl Tag {
    /// Whether both are of the same; takes as long whatever they are.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tag(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_depends_on_the_key_and_on_each_part() {
        let key = Key::draw().unwrap();
        let tag = key.tag(&[b"web", b"secret"]);
        assert!(tag.is(&key.tag(&[b"web", b"secret"])));
        for other in [&[&b"webs"[..], b"ecret"][..], &[b"websecret"], &[b"web", b"secret", b""], &[]] {
            assert!(!tag.is(&key.tag(other)), "{other:?}");
        }
        assert!(!tag.is(&Key::draw().unwrap().tag(&[b"web", b"secret"])));
    }
}
