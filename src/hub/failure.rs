//! What goes wrong between the program and the hub: what may pass by itself, and one clear sentence
//! with a way out for each.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::api::sync::ApiError;
use ureq::Body;
use ureq::http::Response;

use super::settings::HubSettings;
use crate::error::Error;
use crate::recipe::HubId;

#[derive(Debug)]
pub(super) enum Failure {
    /// An answer that is no success: its status, the hub's own word for it (`x-error-code`), and
    /// how long it asks to wait.
    Status {
        status: u16,
        code: Option<String>,
        wait: Option<Duration>,
    },
    /// No answer, or none that is HTTP.
    Unreachable(String),
    /// Another process has been fetching the same file.
    Locked(String),
    /// A file that ended too early; whether this attempt brought any of it.
    Cut {
        file: String,
        came: u64,
        size: u64,
        brought: bool,
        reason: String,
    },
    WrongSize {
        file: String,
        came: u64,
        announced: u64,
    },
    /// An answer that the program will not act on.
    Refused {
        problem: String,
        hint: String,
    },
    /// The cache cannot be read or written.
    Local {
        path: PathBuf,
        doing: &'static str,
        error: io::Error,
    },
}

impl Failure {
    pub fn refused(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { problem: problem.into(), hint: hint.into() }
    }

    pub fn local(path: &Path, doing: &'static str, error: io::Error) -> Self {
        Self::Local { path: path.to_owned(), doing, error }
    }

    pub fn of_status(response: &Response<Body>) -> Self {
        let header =
            |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let wait = header("retry-after")
            .or_else(|| {
                header("ratelimit").and_then(|limit| {
                    limit.split(';').find_map(|part| part.trim().strip_prefix("t="))
                })
            })
            .and_then(|seconds| seconds.trim().parse().ok())
            .map(Duration::from_secs);
        Self::Status {
            status: response.status().as_u16(),
            code: header("x-error-code").map(str::to_owned),
            wait,
        }
    }

    pub fn of_request(error: &ureq::Error) -> Self {
        match error {
            ureq::Error::StatusCode(status) => {
                Self::Status { status: *status, code: None, wait: None }
            }
            ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
                Self::refused(
                    format!("no request can be made: {error}"),
                    "check HF_ENDPOINT (such as https://huggingface.co), HF_TOKEN and the proxy \
                     variables",
                )
            }
            other => Self::Unreachable(other.to_string()),
        }
    }

    /// What hf-hub says of a download that brought `came` of the `size` bytes of `file`, `start` of
    /// them earlier, on its way to `path`.
    pub fn of_download(
        error: ApiError,
        path: &Path,
        file: &str,
        (start, came, size): (u64, u64, u64),
    ) -> Self {
        let cut = |reason: String| Self::Cut {
            file: file.to_owned(),
            came: came.max(start),
            size,
            brought: came > start,
            reason,
        };
        match error {
            ApiError::LockAcquisition(_) => Self::Locked(file.to_owned()),
            // Its link was made by somebody else in the same moment.
            ApiError::IoError(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Self::Locked(file.to_owned())
            }
            ApiError::IoError(error) if is_local(&error) => Self::local(path, "writing", error),
            ApiError::IoError(error) => cut(error.to_string()),
            ApiError::RequestError(error) => match Self::of_request(&error) {
                Self::Unreachable(reason) if came > 0 => cut(reason),
                other => other,
            },
            other => Self::refused(
                format!("{file} cannot be fetched: {other}"),
                "check that HF_ENDPOINT names a hub",
            ),
        }
    }

    /// Whether the same request may succeed later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..),
            Self::Unreachable(_) | Self::Locked(_) | Self::Cut { .. } => true,
            Self::WrongSize { .. } | Self::Refused { .. } | Self::Local { .. } => false,
        }
    }

    /// Whether something came before it: then patience starts anew.
    pub fn brought_bytes(&self) -> bool {
        matches!(self, Self::Cut { brought: true, .. })
    }

    /// How long the hub asks to wait.
    pub fn asked_wait(&self) -> Option<Duration> {
        if let Self::Status { wait, .. } = self { *wait } else { None }
    }

    pub fn into_error(self, id: &HubId, settings: &HubSettings) -> Error {
        let hint = match &self {
            Self::Refused { hint, .. } => hint.clone(),
            other => other.hint(id, settings),
        };
        Error::Hub { id: id.to_string(), problem: self.to_string(), hint }
    }

    fn hint(&self, id: &HubId, settings: &HubSettings) -> String {
        let page = format!("{}/{}", settings.endpoint, id.repository);
        match self {
            Self::Status { status: 401 | 403, code, .. } => {
                match (code.as_deref(), &settings.token) {
                    (Some("GatedRepo"), _) => format!(
                        "accept its terms at {page}, and set HF_TOKEN to a token of that account"
                    ),
                    (_, None) => {
                        "set HF_TOKEN if it is private or gated; otherwise check the name, or that \
                         the local folder exists"
                            .to_owned()
                    }
                    (_, Some(_)) => format!(
                        "the token in use may not read it: check HF_TOKEN, and the terms at {page}"
                    ),
                }
            }
            Self::Status { status: 404, .. } => {
                format!(
                    "check the name and the revision at {page}; if a local folder was meant, there \
                     is none of this name"
                )
            }
            Self::Status { status: 429, .. } => "wait some minutes and start the same command \
                                                 again; HF_TOKEN raises the limit"
                .to_owned(),
            Self::Status { .. } => "start the same command again later".to_owned(),
            Self::Unreachable(_) => {
                "check the network, HF_ENDPOINT and the proxy variables, or the path if a local \
                 folder was meant; HF_HUB_OFFLINE=1 uses the cache alone"
                    .to_owned()
            }
            Self::Locked(_) => "wait for it, and start the same command again".to_owned(),
            Self::Cut { .. } => {
                "start the same command again: it continues where this ended".to_owned()
            }
            Self::WrongSize { .. } => {
                "nothing of it was kept; start the same command again later, or name another \
                 revision"
                    .to_owned()
            }
            Self::Local { .. } => "HF_HOME chooses another place for the cache".to_owned(),
            Self::Refused { hint, .. } => hint.clone(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { status: status @ (401 | 403), code, .. } => match code.as_deref() {
                Some("GatedRepo") => write!(f, "the repository is gated ({status})"),
                _ => write!(
                    f,
                    "the hub refuses access ({status}): the repository is private or gated, or \
                     there is none of this name"
                ),
            },
            Self::Status { status: 404, code, .. } => match code.as_deref() {
                Some("RevisionNotFound") => write!(f, "the repository has no such revision (404)"),
                _ => write!(f, "the hub has no such repository or revision (404)"),
            },
            Self::Status { status: 429, .. } => {
                write!(f, "the hub refuses: too many requests (429)")
            }
            Self::Status { status, .. } => write!(f, "the hub answered with status {status}"),
            Self::Unreachable(reason) => write!(f, "the hub cannot be reached: {reason}"),
            Self::Locked(file) => write!(f, "another process is fetching {file}"),
            Self::Cut { file, came, size, reason, .. } => {
                write!(f, "only {came} of {size} bytes of {file} came: {reason}")
            }
            Self::WrongSize { file, came, announced } => {
                write!(f, "{file} has {came} bytes, but {announced} were announced")
            }
            Self::Refused { problem, .. } => f.write_str(problem),
            Self::Local { path, doing, error } => write!(f, "{doing} {}: {error}", path.display()),
        }
    }
}

/// Whether the error is of the disk; hf-hub does not tell it from one of the connection.
fn is_local(error: &io::Error) -> bool {
    use io::ErrorKind::{
        FileTooLarge, IsADirectory, NotADirectory, NotFound, PermissionDenied, QuotaExceeded,
        ReadOnlyFilesystem, StorageFull,
    };
    matches!(
        error.kind(),
        StorageFull
            | QuotaExceeded
            | FileTooLarge
            | PermissionDenied
            | ReadOnlyFilesystem
            | NotFound
            | IsADirectory
            | NotADirectory
    )
}
