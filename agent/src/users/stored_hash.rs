//! The hash of a passcode as it is stored: argon2id in PHC form, within bounds on what it may cost to
//! check, so that neither a topology nor a file can ask for gigabytes. argon2 is named here only.

use std::fmt;

use argon2::password_hash::phc::Output;
use argon2::{
    ARGON2ID_IDENT, Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version,
};
use topology::model::PASSCODE_COSTS_MAX;

/// A shorter output would be met by chance, or by a mistake.
const OUTPUT_BYTES_MIN: usize = 16;
/// What a new hash costs: 19 MiB and 2 passes, as OWASP recommends.
const NEW: (u32, u32, u32) = (19 * 1024, 2, 1);
const SALT_BYTES: usize = 16;

/// A passcode's hash that can be checked at a bounded cost. Neither `Debug` nor an error shows it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct StoredHash(PasswordHash);

/// The text is of no use as a hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashFault {
    /// It is something else, or cut.
    #[error(
        "is not a whole argon2id hash, $argon2id$v=19$m=19456,t=2,p=1$SALT$HASH: \
         paste the line that `packetboat passcode` prints"
    )]
    Form,
    /// It would take too much to check.
    #[error("asks for {what}={asked}, and at most {max} is allowed: make it with `packetboat passcode`")]
    Cost {
        /// The parameter, as it stands in the hash.
        what: &'static str,
        /// Its value.
        asked: u32,
        /// The most that is allowed.
        max: u32,
    },
}

/// A hash could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The system gives no random bytes.
    #[error("cannot draw a salt")]
    Random(#[from] getrandom::Error),
    /// argon2 could not run.
    #[error("cannot hash the passcode: {0}")]
    Hash(argon2::password_hash::Error),
}

impl StoredHash {
    /// Reads a PHC string.
    pub(super) fn parse(text: &str) -> Result<Self, HashFault> {
        let hash = PasswordHash::new(text).map_err(|_| HashFault::Form)?;
        let params = Params::try_from(&hash).map_err(|_| HashFault::Form)?;
        let version = hash.version.map_or(Ok(Version::default()), Version::try_from);
        let is_whole = hash.algorithm == ARGON2ID_IDENT
            && version.is_ok()
            && hash.salt.is_some()
            && hash.hash.is_some_and(|output| output.len() >= OUTPUT_BYTES_MIN);
        if !is_whole {
            return Err(HashFault::Form);
        }
        let costs = [("m", params.m_cost()), ("t", params.t_cost()), ("p", params.p_cost())];
        for ((what, asked), max) in costs.into_iter().zip(PASSCODE_COSTS_MAX) {
            if asked > max {
                return Err(HashFault::Cost { what, asked, max });
            }
        }
        Ok(Self(hash))
    }

    /// Whether `passcode` is the one. Takes tens of milliseconds and as much memory as the hash says;
    /// the comparison takes as long whatever differs.
    pub(super) fn fits(&self, passcode: &[u8]) -> bool {
        Argon2::default().verify_password(passcode, &self.0).is_ok()
    }

    /// A hash that costs as much to check, and that nobody has a passcode for: each bit of the output is
    /// the other one.
    pub(super) fn stand_in(&self) -> Self {
        let mut stand_in = self.0.clone();
        stand_in.hash = self.0.hash.and_then(|output| {
            let flipped: Vec<u8> = output.as_bytes().iter().map(|octet| !octet).collect();
            Output::new(&flipped).ok()
        });
        Self(stand_in)
    }

    /// Tells hashes apart, and one from the next of the same user.
    pub(super) fn text(&self) -> String {
        self.0.to_string()
    }
}

/// Hashes a new passcode: one PHC line, which takes 19 MiB and some 20 ms to check.
pub(crate) fn make(passcode: &[u8]) -> Result<String, MakeError> {
    make_at_cost(passcode, NEW)
}

/// `cost`: KiB of memory, passes, lanes.
fn make_at_cost(passcode: &[u8], (memory, passes, lanes): (u32, u32, u32)) -> Result<String, MakeError> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt)?;
    let params = Params::new(memory, passes, lanes, None).map_err(|error| MakeError::Hash(error.into()))?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password_with_salt(passcode, &salt).map_err(MakeError::Hash)?;
    Ok(hash.to_string())
}

impl fmt::Debug for StoredHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredHash(..)")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A hash that is quick to check.
    pub(crate) fn quick(passcode: &str) -> String {
        make_at_cost(passcode.as_bytes(), (8, 1, 1)).unwrap()
    }

    #[test]
    fn only_the_passcode_itself_fits() {
        let hash = StoredHash::parse(&quick("correct horse")).unwrap();
        assert!(hash.fits(b"correct horse"));
        for wrong in [&b""[..], b"correct hors", b"correct horse ", b"Correct horse", &[0xff; 5000]] {
            assert!(!hash.fits(wrong));
        }
    }

    #[test]
    fn a_hash_of_the_reference_implementation_fits() {
        // echo -n password | argon2 somesalt -id -m 16 -t 2 -p 1 -e (from argon2's own test vectors).
        let reference =
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(StoredHash::parse(reference).unwrap().fits(b"password"));
    }

    #[test]
    fn a_new_hash_costs_what_owasp_recommends() {
        let text = make(b"correct horse").unwrap();
        assert!(text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{text}");
        assert!(StoredHash::parse(&text).unwrap().fits(b"correct horse"));
        assert_ne!(make(b"correct horse").unwrap(), text, "each has its own salt");
    }

    #[test]
    fn a_stand_in_costs_as_much_and_fits_nothing() {
        let hash = StoredHash::parse(&quick("correct horse")).unwrap();
        let stand_in = hash.stand_in();
        assert!(!stand_in.fits(b"correct horse"));
        let shape = |hash: &StoredHash| {
            let PasswordHash { algorithm, version, params, salt, hash } = hash.0.clone();
            let lengths = (salt.map(|salt| salt.len()), hash.map(|output| output.len()));
            (algorithm, version, params.to_string(), lengths)
        };
        assert_eq!(shape(&stand_in), shape(&hash));
        assert_ne!(stand_in, hash);
        assert!(StoredHash::parse(&stand_in.text()).is_ok());
    }

    #[test]
    fn what_is_no_hash_or_costs_too_much_is_refused_without_showing_it() {
        const SALT: &str = "c29tZXNhbHQ";
        const HASH: &str = "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let cost = |params: &str| format!("$argon2id$v=19${params}${SALT}${HASH}");
        let check = |text: &str, expected: HashFault| {
            let fault = StoredHash::parse(text).unwrap_err();
            assert!(!fault.to_string().contains(HASH), "{fault}");
            assert_eq!(fault, expected, "{text}");
        };
        for text in [
            "",
            "correct horse",
            "$argon2id$v=19$m=8,t=1,p=1",
            &format!("$argon2id$v=19$m=8,t=1,p=1${SALT}"),
            &format!("$argon2i$v=19$m=8,t=1,p=1${SALT}${HASH}"),
            &format!("$argon2id$v=18$m=8,t=1,p=1${SALT}${HASH}"),
            &format!("$argon2id$v=19$m=8,t=1,p=1${SALT}$CTFhFdXPJO1aFaMaO6M"),
            &format!("$2b$12${SALT}${HASH}"),
            &cost("m=4,t=1,p=1"),
            &cost("m=8,t=0,p=1"),
            &cost("m=x,t=1,p=1"),
            &format!("{} ", cost("m=8,t=1,p=1")),
        ] {
            check(text, HashFault::Form);
        }
        check(&cost("m=4194304,t=1,p=1"), HashFault::Cost { what: "m", asked: 4_194_304, max: 65_536 });
        check(&cost("m=65536,t=11,p=1"), HashFault::Cost { what: "t", asked: 11, max: 10 });
        check(&cost("m=1024,t=1,p=17"), HashFault::Cost { what: "p", asked: 17, max: 16 });
    }

    #[test]
    fn a_hash_is_not_shown() {
        let text = quick("correct horse");
        assert_eq!(format!("{:?}", StoredHash::parse(&text).unwrap()), "StoredHash(..)");
    }
}
