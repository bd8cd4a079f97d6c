//! Where the hub and its cache are, and who asks: the environment variables that all programs of
//! the Hugging Face world share.
//!
//! `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN` (or the file that `HF_TOKEN_PATH` names, or
//! `token` in `HF_HOME`), `HF_HUB_OFFLINE`, `HF_HUB_ETAG_TIMEOUT`, `HF_HUB_DOWNLOAD_TIMEOUT`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::recipe::{hub_cache, hub_home};

const ENDPOINT: &str = "https://huggingface.co";

/// How long the hub's own tools wait for an answer, and for each further piece of it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What opens private and gated repositories.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub secret: String,
    /// The variable or the file that it was read from, for messages.
    pub from: String,
}

#[derive(Clone)]
pub struct HubSettings {
    /// The folder of `models--owner--name` and `datasets--owner--name`.
    pub cache: PathBuf,
    pub endpoint: String,
    /// Told to the host of the endpoint alone.
    pub token: Option<Token>,
    /// Asks nothing of the network.
    pub offline: bool,
    /// Failures in a row, without a byte between them, after which a request is given up.
    pub attempts: u32,
    /// The wait after the first failure; each further one doubles it, and a `Retry-After` replaces
    /// it.
    pub first_wait: Duration,
    /// For the answer to a question about a repository or a file, and each further piece of it.
    pub etag_timeout: Duration,
    /// The same for the bytes of a file, which may then take as long as they take.
    pub download_timeout: Duration,
}

impl HubSettings {
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// As [`Self::from_env`], from any other place that has variables. Empty ones count as not set.
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let text = |name: &str| {
            variable(name)
                .and_then(|value| value.into_string().ok())
                .filter(|value| !value.trim().is_empty())
        };
        let (Some(home), Some(cache)) = (hub_home(&variable), hub_cache(&variable)) else {
            return Err(Error::failed(
                "no folder for the hub cache: neither HF_HOME nor HOME is set\n\nhint: set HF_HOME",
            ));
        };
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        let token = text("HF_TOKEN").map(|secret| (secret, "HF_TOKEN".to_owned())).or_else(|| {
            let secret = std::fs::read_to_string(&token_file).ok()?;
            Some((secret, format!("the file {}", token_file.display())))
        });
        let timeout = |name: &'static str| match text(name) {
            Some(written) => seconds(name, &written),
            None => Ok(TIMEOUT),
        };
        Ok(Self {
            cache,
            endpoint: text("HF_ENDPOINT").map_or(ENDPOINT.to_owned(), |endpoint| {
                endpoint.trim().trim_end_matches('/').to_owned()
            }),
            token: token
                .map(|(secret, from)| Token { secret: secret.trim().to_owned(), from })
                .filter(|token| !token.secret.is_empty()),
            offline: text("HF_HUB_OFFLINE").is_some_and(|value| is_true(value.trim())),
            attempts: 5,
            first_wait: Duration::from_secs(1),
            etag_timeout: timeout("HF_HUB_ETAG_TIMEOUT")?,
            download_timeout: timeout("HF_HUB_DOWNLOAD_TIMEOUT")?,
        })
    }
}

/// As huggingface_hub reads its switches.
fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

/// A number of seconds; 0 means the default, as for the hub's own tools.
fn seconds(name: &str, written: &str) -> Result<Duration> {
    let number = written.trim().parse().ok().filter(|number: &f64| *number >= 0.0);
    let duration = number.and_then(|number| Duration::try_from_secs_f64(number).ok());
    match duration {
        Some(duration) if duration.is_zero() => Ok(TIMEOUT),
        Some(duration) => Ok(duration),
        None => Err(Error::recipe(format!(
            "{name} = `{written}` is no number of seconds\n\nhint: such as {name}=30"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn settings(variables: &[(&str, &str)]) -> HubSettings {
        let find = |name: &str| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| OsString::from(value))
        };
        HubSettings::from_variables(find).unwrap()
    }

    #[test]
    fn the_cache_is_where_other_programs_look() {
        let cache = |variables: &[(&str, &str)]| settings(variables).cache;
        assert_eq!(cache(&[("HOME", "/h")]), Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(
            cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]),
            Path::new("/x/huggingface/hub")
        );
        assert_eq!(
            cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/f")]),
            Path::new("/f/hub")
        );
        assert_eq!(
            cache(&[("HOME", "/h"), ("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]),
            Path::new("/c")
        );
        assert_eq!(
            cache(&[("HOME", "/h"), ("HF_HOME", "")]),
            Path::new("/h/.cache/huggingface/hub")
        );
        assert!(
            HubSettings::from_variables(|_| None)
                .err()
                .unwrap()
                .to_string()
                .contains("hint: set HF_HOME")
        );
    }

    #[test]
    fn switches_and_endpoints_are_read_as_they_are_written() {
        for (value, offline) in [
            ("1", true),
            ("TRUE", true),
            ("yes", true),
            ("0", false),
            ("false", false),
            ("", false),
        ] {
            assert_eq!(
                settings(&[("HOME", "/h"), ("HF_HUB_OFFLINE", value)]).offline,
                offline,
                "{value}"
            );
        }
        assert_eq!(settings(&[("HOME", "/h")]).endpoint, "https://huggingface.co");
        assert_eq!(
            settings(&[("HOME", "/h"), ("HF_ENDPOINT", "http://mirror:8080/")]).endpoint,
            "http://mirror:8080"
        );
    }

    #[test]
    fn a_token_in_the_environment_wins_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        let token = |variables: &[(&str, &str)]| {
            settings(variables).token.map(|token| (token.secret, token.from))
        };
        let read = |secret: &str, from: &str| Some((secret.to_owned(), from.to_owned()));
        assert_eq!(token(&[("HF_HOME", home)]), None);
        std::fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(token(&[("HF_HOME", home)]), read("hf_file", &format!("the file {home}/token")));
        assert_eq!(
            token(&[("HF_HOME", home), ("HF_TOKEN", " hf_variable ")]),
            read("hf_variable", "HF_TOKEN")
        );
        let other = folder.path().join("other");
        std::fs::write(&other, "hf_other").unwrap();
        let other = other.to_str().unwrap();
        assert_eq!(
            token(&[("HF_HOME", home), ("HF_TOKEN_PATH", other)]),
            read("hf_other", &format!("the file {other}"))
        );
    }

    #[test]
    fn patience_is_a_number_of_seconds() {
        let read = |value: &str| {
            let settings = settings(&[("HOME", "/h"), ("HF_HUB_DOWNLOAD_TIMEOUT", value)]);
            assert_eq!(settings.etag_timeout, TIMEOUT);
            settings.download_timeout.as_millis()
        };
        assert_eq!(["", "0", "30", " 0.5 "].map(read), [10_000, 10_000, 30_000, 500]);
        for wrong in ["soon", "-1", "NaN", "1e99"] {
            let find = |name: &str| {
                [("HOME", "/h"), ("HF_HUB_ETAG_TIMEOUT", wrong)]
                    .into_iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| OsString::from(value))
            };
            let error = HubSettings::from_variables(find).err().unwrap();
            assert_eq!(error.exit_code(), 2);
            assert!(
                error.to_string().contains(&format!(
                    "HF_HUB_ETAG_TIMEOUT = `{wrong}` is no number of seconds\n\nhint: "
                )),
                "{error}"
            );
        }
    }
}
