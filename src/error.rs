//! The library's one error type: where, what was found, what was expected, and the way out.
//!
//! Messages are lowercase without a final period; a hint follows after an empty line. `main` maps
//! [`Error::exit_code`] to the process.

use std::path::{Path, PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The recipe or the command line is wrong; every problem at once.
    #[error("{}", join(.0))]
    Recipe(Vec<String>),

    /// A file could not be read or written.
    #[error("{}: {doing}: {source}{}", .path.display(), io_hint(.doing, .source))]
    Io { path: PathBuf, doing: &'static str, source: std::io::Error },

    /// A data file holds something that cannot be used; `line` counts from 1.
    #[error("{}{}: {message}", .path.display(), behind_colon(*.line))]
    Data { path: PathBuf, line: Option<usize>, message: String },

    /// A model folder does not hold what its config promises; every misfit at once.
    #[error("{}: {}", .path.display(), join(.problems))]
    Model { path: PathBuf, problems: Vec<String> },

    /// A repository of the model hub could not be had whole; `id` is what the user wrote.
    #[error("{id}: {problem}\n\nhint: {hint}")]
    Hub { id: String, problem: String, hint: String },

    #[error("{0}")]
    Tokenizer(String),

    #[error("{}", clean_torch_message(.0))]
    Torch(String),

    /// Another process holds the run directory, or the shard of it.
    #[error("{}: {holder} is using this directory\n\nhint: wait for it, or give this run another \
             --out", .dir.display())]
    Busy { dir: PathBuf, holder: String },

    #[error("interrupted; the same command continues from here")]
    Interrupted,

    /// Some of what was asked for could not be done and is named; the rest is done.
    #[error("{}\n\nhint: the same command asks for them again", .0.join("\n"))]
    Lost(Vec<String>),

    /// A program that judges beside the run failed; the summary is there without what it says.
    #[error("{0}")]
    Unjudged(String),

    /// Anything else that one clear sentence can say.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    pub fn io(
        path: impl Into<PathBuf>,
        doing: &'static str,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, doing, source }
    }

    pub fn data(path: &Path, line: Option<usize>, message: impl Into<String>) -> Self {
        Self::Data { path: path.to_owned(), line, message: message.into() }
    }

    pub fn model(path: &Path, problem: impl Into<String>) -> Self {
        Self::Model { path: path.to_owned(), problems: vec![problem.into()] }
    }

    pub fn recipe(problem: impl Into<String>) -> Self {
        Self::Recipe(vec![problem.into()])
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// All errors about what lies at `path` as one: an error that is alone stays itself.
    pub fn all(path: &Path, errors: impl IntoIterator<Item = Self>) -> Result<()> {
        let mut errors = errors.into_iter();
        errors.next().map_or(Ok(()), |first| Err(first.joined(path, errors)))
    }

    /// All errors of things that have nothing to do with each other as one.
    pub fn several(results: impl IntoIterator<Item = Result<()>>) -> Result<()> {
        let mut errors: Vec<Self> = results.into_iter().filter_map(Result::err).collect();
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Failed(join(&errors.iter().map(Self::to_string).collect::<Vec<_>>()))),
        }
    }

    /// `value` where there are no other errors about what lies at `path`; else its own and those as
    /// one.
    pub fn and_all<T>(
        path: &Path,
        value: Result<T>,
        others: impl IntoIterator<Item = Self>,
    ) -> Result<T> {
        match value {
            Ok(value) => Self::all(path, others).map(|()| value),
            Err(first) => Err(first.joined(path, others)),
        }
    }

    fn joined(self, path: &Path, others: impl IntoIterator<Item = Self>) -> Self {
        let mut others = others.into_iter().peekable();
        if others.peek().is_none() {
            return self;
        }
        let problems = |error| match error {
            Self::Model { path: own, problems } if own == path => problems,
            other => vec![other.to_string()],
        };
        Self::Model {
            path: path.to_owned(),
            problems: std::iter::once(self).chain(others).flat_map(problems).collect(),
        }
    }

    /// 2 for usage and recipe errors, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Recipe(_)) { 2 } else { 1 }
    }
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(error.to_string())
    }
}

fn join(problems: &[String]) -> String {
    match problems {
        [one] => one.clone(),
        many => format!("{} problems\n  {}", many.len(), many.join("\n").replace('\n', "\n  ")),
    }
}

fn behind_colon(line: Option<usize>) -> String {
    line.map(|line| format!(":{line}")).unwrap_or_default()
}

/// The way out of an error of the disk, for one who was `doing` this.
fn io_hint(doing: &str, error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    let reads = ["reading", "opening the data", "opening the preference pairs", "mapping"];
    let is_reading = doing == "opening" || reads.iter().any(|word| doing.starts_with(word));
    match error.kind() {
        ErrorKind::StorageFull => {
            "\n\nhint: free some space; the same command continues from the last finished write"
        }
        ErrorKind::QuotaExceeded => {
            "\n\nhint: remove some of your files, or ask for a larger quota; the same command \
             continues from the last finished write"
        }
        ErrorKind::FileTooLarge => {
            "\n\nhint: raise the limit of the size of files (`ulimit -f`, or that of the file \
             system); the same command continues from the last finished write"
        }
        ErrorKind::PermissionDenied if is_reading => {
            "\n\nhint: this user may not read it: `ls -l` shows who may, `chmod` changes it"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "\n\nhint: choose a writable folder with --out"
        }
        _ => "",
    }
}

/// The one line of a libtorch error that a person can use: its C++ stack is cut off, and known
/// failures get a hint.
fn clean_torch_message(message: &str) -> String {
    let stack =
        ["Exception raised from", "\nframe #"].iter().filter_map(|mark| message.find(mark)).min();
    let first = message[..stack.unwrap_or(message.len())].trim();
    let line = first.trim_start_matches("Internal torch error:").trim();
    if line.contains("out of memory") || line.contains("can't allocate memory") {
        format!(
            "{line}\n\nhint: lower the batch size or the prompts in flight, or choose dtype = \
             \"bfloat16\""
        )
    } else if line.contains("CUDA error") {
        format!("{line}\n\nhint: the CUDA context is lost; start the same command again")
    } else {
        line.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torch_messages_lose_their_stack_and_gain_a_hint() {
        let raw = "Internal torch error: [enforce fail] DefaultCPUAllocator: can't allocate \
                   memory: you tried 12 bytes\nException raised from alloc at x.cpp:1\nframe #0: \
                   foo";
        let clean = clean_torch_message(raw);
        assert!(
            clean.contains("you tried 12 bytes") && clean.contains("hint: lower the batch size"),
            "{clean}"
        );
        assert!(!clean.contains("frame #0"), "{clean}");
        // The allocator's has no such words before its stack.
        let clean = clean_torch_message(
            "DefaultCPUAllocator: can't allocate memory: error code 12\nframe #31: foo\n",
        );
        assert!(
            clean.starts_with("DefaultCPUAllocator: can't allocate memory: error code 12\n\nhint"),
            "{clean}"
        );
    }

    #[test]
    fn several_problems_are_listed_together() {
        let error = Error::Recipe(vec!["a".into(), "b".into()]);
        assert_eq!(error.to_string(), "2 problems\n  a\n  b");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn the_way_out_of_a_disks_error_depends_on_what_was_done() {
        let told = |doing, number| {
            Error::io("x/model.safetensors", doing)(std::io::Error::from_raw_os_error(number))
                .to_string()
        };
        for (doing, number, hint) in [
            ("opening", libc::EACCES, "hint: this user may not read it"),
            ("reading", libc::EACCES, "hint: this user may not read it"),
            ("writing", libc::EACCES, "hint: choose a writable folder with --out"),
            ("opening the journal", libc::EACCES, "hint: choose a writable folder with --out"),
            ("writing", libc::EROFS, "hint: choose a writable folder with --out"),
            ("writing", libc::ENOSPC, "hint: free some space; the same command continues"),
            ("writing", libc::EDQUOT, "hint: remove some of your files, or ask for a larger quota"),
            ("writing", libc::EFBIG, "hint: raise the limit of the size of files (`ulimit -f`"),
        ] {
            let told = told(doing, number);
            assert!(
                told.starts_with(&format!("x/model.safetensors: {doing}: ")) && told.contains(hint),
                "{told}"
            );
        }
        assert!(!told("reading", libc::ENOENT).contains("hint"));
    }
}
