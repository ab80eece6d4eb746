//! Who may enter, and what they may do: the users of an agent.
//!
//! A session shows at CONNECT who it is ([`Claim`]): a login with a passcode, or the client certificate
//! of a user. [`Users::admit`] answers with its [`Rights`], of which the session asks at each SEND and
//! SUBSCRIBE; [`Peers`] tells whether its `packetboat-*` headers count.
//!
//! A passcode is stored as an argon2 hash (`stored_hash`, `hash_file`), which is meant to be slow to
//! check: `checker` bounds how many checks run and wait, `remembered` spares most of them, `penalties`
//! makes those wait who fail. An unknown login costs what a known one costs and gets the same answer.
//! No secret is in a log, an error or a `Debug`. It knows nothing of STOMP.

mod checker;
mod hash_file;
mod keyed;
mod passcode;
mod peers;
mod penalties;
mod remembered;
mod rights;
mod stored_hash;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use forwarder::Clock;
use topology::model::User;

pub use peers::{OtherNode, Peers, TrustedPeer};
pub use rights::Rights;
pub(crate) use stored_hash::make as hash_passcode;
#[cfg(test)]
pub(crate) use stored_hash::tests::quick as quick_hash;
pub use stored_hash::{HashFault, MakeError};

use checker::{Busy, Checker, Fits};
use keyed::{Key, Tag};
use passcode::Passcode;
use penalties::{Culprit, Penalties, TooOften, network};
use remembered::Remembered;
use stored_hash::StoredHash;

/// The users of one agent. Cheap to clone: all its listeners share one, and with it the bounds.
#[derive(Clone)]
pub struct Users(
    /// `None`: there are no users.
    Option<Arc<Gate>>,
);

struct Gate {
    users: Vec<KnownUser>,
    key: Key,
    checker: Checker,
    penalties: Penalties,
}

#[derive(Debug)]
struct KnownUser {
    login: String,
    certificate: Option<String>,
    passcode: Option<Passcode>,
    rights: Rights,
    remembered: Remembered,
}

/// What a session shows of who it is.
#[derive(Clone, Copy)]
pub struct Claim<'a> {
    /// The header `login` of CONNECT; an empty one counts as none.
    pub login: Option<&'a [u8]>,
    /// The header `passcode` of CONNECT.
    pub passcode: Option<&'a [u8]>,
    /// The names in the client's certificate, which was verified. Empty: there is none.
    pub certificate_names: &'a [String],
    /// Where it comes from.
    pub peer: IpAddr,
}

/// Login and passcode of a CONNECT, for who has to let go of the frame before it is admitted. `Debug`
/// does not show the passcode.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The header `login`.
    pub login: Option<Vec<u8>>,
    /// The header `passcode`.
    pub passcode: Option<Vec<u8>>,
}

/// Why a session is not admitted. It says nothing about which logins exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It does not say who it is.
    #[error(
        "only users are admitted: send login and passcode with CONNECT, or connect with the client certificate of a user"
    )]
    Anonymous,
    /// It is not who it says.
    #[error("login or passcode are wrong")]
    Wrong,
    /// It is not checked, for attempts like this one have failed lately.
    #[error("too many logins from this address have failed: try again in {seconds} s")]
    TooOften {
        /// When it might be worth while.
        seconds: u64,
    },
    /// It is not checked, for too many others are.
    #[error("too many logins wait to be checked: try again in a few seconds")]
    Busy,
}

/// The users of a topology are of no use.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// The hash of one.
    #[error("the passcode_hash of the user {login:?} {fault}")]
    Hash {
        /// Whose.
        login: String,
        /// What is wrong with it.
        fault: HashFault,
    },
    /// The system gives no random bytes.
    #[error("cannot draw a key")]
    Random(#[from] getrandom::Error),
}

/// What a passcode is checked against.
struct Suspect<'a> {
    /// `None`: nobody, but it is not to be noticed.
    user: Option<&'a KnownUser>,
    hash: Arc<StoredHash>,
    /// Of login, hash and passcode.
    tag: Tag,
}

impl Users {
    /// The users of an agent; without any, everybody is admitted.
    pub fn new(users: &[User], clock: Clock) -> Result<Self, UsersError> {
        Self::with_check(users, &clock, Arc::new(StoredHash::fits))
    }

    /// Admits everybody.
    pub fn everybody() -> Self {
        Self(None)
    }

    fn with_check(users: &[User], clock: &Clock, fits: Fits) -> Result<Self, UsersError> {
        if users.is_empty() {
            return Ok(Self::everybody());
        }
        let users = users.iter().map(|user| KnownUser::new(user, clock)).collect::<Result<_, _>>()?;
        let (key, checker) = (Key::draw()?, Checker::new(fits));
        Ok(Self(Some(Arc::new(Gate { users, key, checker, penalties: Penalties::default() }))))
    }

    /// Admits a session, or says why not. It may take some seconds: a passcode may have to wait to be
    /// checked, and an attempt after one that failed. Cancel-safe.
    pub async fn admit(&self, claim: Claim<'_>) -> Result<Rights, Denied> {
        let Some(gate) = &self.0 else { return Ok(Rights::of_everybody()) };
        let login = claim.login.filter(|login| !login.is_empty());
        if let Some(user) = gate.by_certificate(login, claim.certificate_names) {
            return Ok(user.rights.clone());
        }
        let (Some(login), Some(passcode)) = (login, claim.passcode) else {
            return Err(Denied::Anonymous);
        };
        gate.by_passcode(login, passcode, network(claim.peer)).await
    }
}

impl Gate {
    /// The first user whose certificate is among `names`, and whose login is not another one.
    fn by_certificate(&self, login: Option<&[u8]>, names: &[String]) -> Option<&KnownUser> {
        let is_shown = |user: &&KnownUser| {
            login.is_none_or(|login| login == user.login.as_bytes())
                && user.certificate.as_ref().is_some_and(|certificate| names.contains(certificate))
        };
        self.users.iter().find(is_shown)
    }

    async fn by_passcode(&self, login: &[u8], passcode: &[u8], network: IpAddr) -> Result<Rights, Denied> {
        let culprits =
            [Culprit::of_login(network, self.key.tag(&[b"login", login])), Culprit::of_network(network)];
        let of_login = &culprits[..1];
        // What is remembered costs nothing, so it waits only for guesses at the same login; but for those
        // it does, or a right guess would show by not waiting.
        let is_remembered =
            self.suspect(login, passcode).await.is_some_and(|suspect| suspect.is_remembered());
        self.penalties.wait(if is_remembered { of_login } else { &culprits }).await?;

        // Meanwhile the hash may have changed.
        let Some(suspect) = self.suspect(login, passcode).await else {
            self.penalties.failed(&culprits);
            return Err(Denied::Wrong);
        };
        if let Some(user) = suspect.user
            && suspect.is_remembered()
        {
            self.penalties.succeeded(of_login);
            return Ok(user.rights.clone());
        }
        let fits = self.checker.check(suspect.tag, network, &suspect.hash, passcode).await?;
        match suspect.user {
            Some(user) if fits => {
                user.remembered.note(suspect.tag);
                self.penalties.succeeded(&culprits);
                Ok(user.rights.clone())
            }
            _ => {
                self.penalties.failed(&culprits);
                Err(Denied::Wrong)
            }
        }
    }

    /// The user of that login with its hash; else nobody, with a hash that costs as much as that of the
    /// first user who has one. `None`: no user has one.
    async fn suspect(&self, login: &[u8], passcode: &[u8]) -> Option<Suspect<'_>> {
        let tag = |hash: &StoredHash| self.key.tag(&[b"passcode", login, hash.text().as_bytes(), passcode]);
        let known = self.users.iter().find(|user| user.login.as_bytes() == login);
        if let Some(user) = known
            && let Some(hash) = user.hash().await
        {
            return Some(Suspect { user: Some(user), tag: tag(&hash), hash });
        }
        for user in &self.users {
            if let Some(hash) = user.hash().await {
                let hash = Arc::new(hash.stand_in());
                return Some(Suspect { user: None, tag: tag(&hash), hash });
            }
        }
        None
    }
}

impl KnownUser {
    fn new(user: &User, clock: &Clock) -> Result<Self, UsersError> {
        let passcode = user.passcode.as_ref().map(|hash| Passcode::new(&user.login, hash, clock)).transpose();
        Ok(Self {
            login: user.login.clone(),
            certificate: user.certificate.clone(),
            passcode: passcode.map_err(|fault| UsersError::Hash { login: user.login.clone(), fault })?,
            rights: Rights::of(user),
            remembered: Remembered::default(),
        })
    }

    async fn hash(&self) -> Option<Arc<StoredHash>> {
        self.passcode.as_ref()?.hash().await
    }
}

impl Suspect<'_> {
    fn is_remembered(&self) -> bool {
        self.user.is_some_and(|user| user.remembered.knows(&self.tag))
    }
}

impl Credentials {
    /// With what else the session shows.
    pub fn claim<'a>(&'a self, certificate_names: &'a [String], peer: IpAddr) -> Claim<'a> {
        let (login, passcode) = (self.login.as_deref(), self.passcode.as_deref());
        Claim { login, passcode, certificate_names, peer }
    }
}

impl From<TooOften> for Denied {
    fn from(TooOften { seconds }: TooOften) -> Self {
        Self::TooOften { seconds }
    }
}

impl From<Busy> for Denied {
    fn from(_: Busy) -> Self {
        Self::Busy
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Users").field(&self.0.as_ref().map(|gate| &gate.users)).finish()
    }
}

impl fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("login", &self.login.map(String::from_utf8_lossy))
            .field("certificate_names", &self.certificate_names)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = self.login.as_deref().map(String::from_utf8_lossy);
        f.debug_struct("Credentials").field("login", &login).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
