//! Where the hash of a user's passcode is.

use std::sync::Arc;

use forwarder::Clock;
use topology::model::PasscodeHash;

use crate::users::hash_file::HashFile;
use crate::users::stored_hash::{HashFault, StoredHash};

/// A user's passcode, as far as the agent knows it.
#[derive(Debug)]
pub(super) enum Passcode {
    /// Its hash stands in the topology.
    Fixed(Arc<StoredHash>),
    /// Its hash stands in a file.
    File(HashFile),
}

impl Passcode {
    pub(super) fn new(login: &str, hash: &PasscodeHash, clock: &Clock) -> Result<Self, HashFault> {
        Ok(match hash {
            PasscodeHash::Text(text) => Self::Fixed(Arc::new(StoredHash::parse(text)?)),
            PasscodeHash::File(path) => {
                Self::File(HashFile::new(login.to_owned(), path.clone(), clock.clone()))
            }
        })
    }

    /// `None`: it is in a file that is of no use now.
    pub(super) async fn hash(&self) -> Option<Arc<StoredHash>> {
        match self {
            Self::Fixed(hash) => Some(Arc::clone(hash)),
            Self::File(file) => file.hash().await,
        }
    }
}
