//! Repositories of a model hub as folders of the standard cache, whole or not at all.
//!
//! Names and addresses are hf-hub's; its downloads are not used, for they know no time-out and tell
//! the token to hosts that the hub sends on to. What the files mean is left to `models` and `text`.

mod client;
mod failure;
mod fetch;
mod files;
mod repository;
mod settings;

use std::path::PathBuf;

use hf_hub::RepoType;
use tracing::warn;

use self::client::Client;
pub use self::files::Choose;
pub use self::files::MODEL_FILES;
use self::files::Wanted;
use self::repository::Repository;
pub use self::settings::{HubSettings, Token};
use crate::error::{Error, Result};
use crate::recipe::HubId;

/// Which files of a model are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    All,
    /// Config and tokenizer, which are small.
    WithoutWeights,
}

/// The hub and its cache, as this program's settings have them.
pub struct Hub(Client);

impl Hub {
    pub fn from_env() -> Result<Self> {
        Ok(Self::new(HubSettings::from_env()?))
    }

    pub fn new(settings: HubSettings) -> Self {
        Self(Client::new(settings))
    }

    /// The folder of a model in the cache, fetched first where it is not there or not whole.
    pub fn model(&self, id: &HubId, files: Files) -> Result<PathBuf> {
        self.snapshot(id, RepoType::Model, Wanted::Model { weights: files == Files::All })
    }

    /// The folder of a data set in the cache with the data files that are chosen, fetched as
    /// [`Self::model`] does.
    pub fn dataset(&self, id: &HubId, choose: &Choose) -> Result<PathBuf> {
        self.snapshot(id, RepoType::Dataset, Wanted::Data(choose))
    }

    fn snapshot(&self, id: &HubId, kind: RepoType, wanted: Wanted) -> Result<PathBuf> {
        let repository = Repository { client: &self.0, id, kind };
        let cached = repository.cached(wanted);
        if self.0.settings.offline {
            let hint = "unset HF_HUB_OFFLINE, fetch it where there is a network, or give a local \
                        folder that exists"
                .to_owned();
            return cached.map_err(|why| Error::Hub {
                id: id.to_string(),
                problem: format!("{why}, and HF_HUB_OFFLINE allows no other place"),
                hint,
            });
        }
        // Where the cache can stand in, one refusal is enough.
        let attempts = if cached.is_ok() { 1 } else { self.0.settings.attempts };
        let failure = match repository.download(wanted, attempts) {
            Ok(snapshot) => return Ok(snapshot),
            Err(failure) => failure,
        };
        match repository.cached(wanted) {
            Ok(snapshot) if failure.may_pass() => {
                warn!("{id}: {failure}; using the copy in the cache, {}", snapshot.display());
                Ok(snapshot)
            }
            _ => Err(failure.into_error(id, &self.0.settings)),
        }
    }
}
