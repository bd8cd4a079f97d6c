//! What goes wrong between the program and the hub: what may pass by itself, and one clear sentence
//! with a way out for each.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use ureq::Body;
use ureq::http::Response;

use super::settings::HubSettings;
use crate::error::Error;
use crate::http::{one_line, retry_after};
use crate::recipe::HubId;

/// The most bytes of a failure's body that are read.
const LARGEST_SENTENCE: u64 = 64 << 10;

#[derive(Debug)]
pub(super) enum Failure {
    /// An answer that is no success: its status, the hub's own word for it (`x-error-code`) and
    /// sentence, and how long it asks to wait.
    Status {
        status: u16,
        code: Option<String>,
        said: Option<String>,
        wait: Option<Duration>,
    },
    /// No answer, or none that is HTTP.
    Unreachable(String),
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
    /// A stop was asked for.
    Interrupted,
}

impl Failure {
    pub fn refused(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { problem: problem.into(), hint: hint.into() }
    }

    pub fn local(path: &Path, doing: &'static str, error: io::Error) -> Self {
        Self::Local { path: path.to_owned(), doing, error }
    }

    pub fn of_status(response: Response<Body>) -> Self {
        let header =
            |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let of_limit = |limit: &str| {
            let seconds = limit.split(';').find_map(|part| part.trim().strip_prefix("t="));
            Some(Duration::from_secs(seconds?.trim().parse().ok()?))
        };
        let wait =
            retry_after(response.headers()).or_else(|| header("ratelimit").and_then(of_limit));
        let (status, code) =
            (response.status().as_u16(), header("x-error-code").map(str::to_owned));
        let said = header("x-error-message").map(str::to_owned);
        let said = said.or_else(|| body_error(response)).map(|text| one_line(&text));
        Self::Status { status, code, said: said.filter(|text| !text.is_empty()), wait }
    }

    pub fn of_request(error: &ureq::Error) -> Self {
        match error {
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

    /// Whether the same request may succeed later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..),
            Self::Unreachable(_) | Self::Cut { .. } => true,
            Self::WrongSize { .. }
            | Self::Refused { .. }
            | Self::Local { .. }
            | Self::Interrupted => false,
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
        if let Self::Interrupted = self {
            return Error::Interrupted;
        }
        let hint = self.hint(id, settings);
        Error::Hub { id: id.to_string(), problem: self.to_string(), hint }
    }

    fn hint(&self, id: &HubId, settings: &HubSettings) -> String {
        let page = format!("{}/{}", settings.endpoint, id.repository);
        match self {
            Self::Status { status: 401, said: Some(_), code, .. }
                if !is_hidden(code.as_deref()) && settings.token.is_some() =>
            {
                let from = settings.token.as_ref().map_or("", |token| token.from.as_str());
                format!(
                    "the token that was sent is that of {from}: put a valid one there \
                     ({}/settings/tokens), or remove it where the repository is public",
                    settings.endpoint
                )
            }
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
                    (_, Some(token)) => format!(
                        "the token in use may not read it: check {}, and the terms at {page}",
                        token.from
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
            Self::Cut { .. } => {
                "start the same command again: it continues where this ended".to_owned()
            }
            Self::WrongSize { .. } => {
                "nothing of it was kept; start the same command again later, or name another \
                 revision"
                    .to_owned()
            }
            Self::Local { error, .. } if error.kind() == io::ErrorKind::FileTooLarge => {
                "raise the limit of the size of files (ulimit -f); the part that came is kept"
                    .to_owned()
            }
            Self::Local { .. } => "HF_HOME chooses another place for the cache".to_owned(),
            Self::Refused { hint, .. } => hint.clone(),
            Self::Interrupted => String::new(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { status: status @ (401 | 403), code, said, .. } => match (code, said) {
                (Some(code), _) if code == "GatedRepo" => {
                    write!(f, "the repository is gated ({status})")
                }
                (code, Some(said)) if !is_hidden(code.as_deref()) => {
                    write!(f, "the hub refuses access ({status}): {said}")
                }
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
            Self::Status { status, said, .. } => {
                write!(f, "the hub answered with status {status}")?;
                said.as_ref().map_or(Ok(()), |said| write!(f, ": {said}"))
            }
            Self::Unreachable(reason) => write!(f, "the hub cannot be reached: {reason}"),
            Self::Cut { file, came, size, reason, .. } => {
                write!(f, "only {came} of {size} bytes of {file} came: {reason}")
            }
            Self::WrongSize { file, came, announced } => {
                write!(f, "{file} has {came} bytes, but {announced} were announced")
            }
            Self::Refused { problem, .. } => f.write_str(problem),
            Self::Local { path, doing, error } => write!(f, "{doing} {}: {error}", path.display()),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

/// Whether the hub does not tell whether there is such a repository; its sentence then says less
/// than ours.
fn is_hidden(code: Option<&str>) -> bool {
    code == Some("RepoNotFound")
}

/// The hub's sentence in the body of a failure: `{"error": "…"}`.
fn body_error(mut response: Response<Body>) -> Option<String> {
    let body = response.body_mut().with_config().limit(LARGEST_SENTENCE).read_to_vec().ok()?;
    let body: Value = serde_json::from_slice(&body).ok()?;
    body["error"].as_str().map(str::to_owned)
}
