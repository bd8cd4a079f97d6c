//! The `alpaca_eval` package at work on one file of responses: what it is told, its end, and the
//! numbers that it leaves. Verdicts are kept in a file of the package's own below the run, so that
//! none is paid for twice. Whose responses are judged is left to `stages`.

mod left;

use std::path::Path;
use std::time::Duration;

use tracing::{debug, info};

use self::left::Left;
use super::program::last_words;
use super::program::process::{Heard, Process};
use crate::artifacts::{atomic, interrupt};
use crate::error::{Error, Result};
use crate::http::Secret;
use crate::monitor::Progress;
use crate::monitor::number::fixed;
use crate::recipe::AlpacaEvalTable;
use crate::report::WinRate;

/// How long a stop that was asked for may go unseen.
const GLANCE: Duration = Duration::from_millis(200);

/// The package, as the recipe has it.
pub struct AlpacaEvalProgram<'a> {
    table: &'a AlpacaEvalTable,
    /// Where the program is started, which is the recipe's folder.
    folder: &'a Path,
    key: Option<Secret>,
}

/// What is judged.
pub struct Outputs<'a> {
    /// What messages call it.
    pub name: &'a str,
    /// `model_outputs.json`, in a folder where the package's files may lie.
    pub file: &'a Path,
    /// The prompt id of each instruction.
    pub prompts: &'a [(&'a str, &'a str)],
    /// Where the package keeps its verdicts.
    pub verdicts: &'a Path,
}

/// What came of a run of the package.
pub struct Judged {
    pub win_rate: WinRate,
    /// Why there is no win rate at equal length, where one was asked for; or which verdicts are
    /// missing.
    pub trouble: Option<Error>,
}

/// Which number the package is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Metric {
    LengthControlled,
    Plain,
}

impl<'a> AlpacaEvalProgram<'a> {
    /// # Errors
    /// Where the variable that is to hold the key is not set.
    pub fn new(table: &'a AlpacaEvalTable, folder: &'a Path) -> Result<Self> {
        let key = table.key.as_deref().map(Secret::of_variable).transpose()?;
        Ok(Self { table, folder, key })
    }

    /// Has all of them judged that are not yet. What is known is told where the verdicts are there
    /// and the length control alone fails, or where some answers of the judge were no verdicts.
    ///
    /// # Errors
    /// Where the program cannot be started or fails.
    pub fn judge(&self, outputs: &Outputs) -> Result<Judged> {
        let left = Left::of(outputs.file, outputs.verdicts, self.table);
        left.drop_missing_verdicts()?;
        self.write_client(&left)?;
        let mut trouble = None;
        let metric = match self.table.length_control {
            true => Metric::LengthControlled,
            false => Metric::Plain,
        };
        if let Err(error) = self.run(outputs, &left, metric) {
            let is_of_metric = metric == Metric::LengthControlled
                && left.verdicts() >= outputs.prompts.len()
                && !matches!(error, Error::Interrupted);
            if !is_of_metric {
                return Err(error);
            }
            self.run(outputs, &left, Metric::Plain)?;
            trouble = Some(error);
        }
        let win_rate = left.win_rate(&self.table.annotators, outputs.prompts)?;
        let at_equal_length = win_rate
            .length_controlled_win_rate
            .map_or_else(String::new, |rate| format!(", at equal length {}", percentage(rate)));
        info!("{}: win rate {}{at_equal_length}", outputs.name, percentage(win_rate.win_rate));
        let missing = self.missing(outputs, &win_rate);
        let trouble = trouble.map(|error| without_length_control(&win_rate, &error));
        Ok(Judged { win_rate, trouble: missing.or(trouble) })
    }

    /// Says that the judge's answers were not all verdicts.
    fn missing(&self, outputs: &Outputs, win_rate: &WinRate) -> Option<Error> {
        let asked = outputs.prompts.len();
        (win_rate.judged < asked).then(|| {
            Error::failed(format!(
                "{}: {} of {asked} responses have a verdict of {}, and the judge's other answers \
                 were none\n\nhint: the same command asks for those again; the win rate so far is \
                 of the others",
                outputs.name, win_rate.judged, self.table.annotators
            ))
        })
    }

    fn run(&self, outputs: &Outputs, left: &Left, metric: Metric) -> Result<()> {
        let known = left.verdicts();
        info!(
            "{}: {} of {} responses are judged by {}",
            outputs.name,
            outputs.prompts.len().saturating_sub(known),
            outputs.prompts.len(),
            self.table.annotators
        );
        let words = self.words(outputs, left, metric);
        let (name, key) = (outputs.name.to_owned(), self.key.clone());
        let tell = move |line: &str| {
            let line = key.as_ref().map_or_else(|| line.to_owned(), |key| key.hide(line));
            debug!("{name}: {line}");
        };
        let mut process = Process::start_with(&words, self.folder, &self.environment(left), tell)
            .map_err(|error| {
            let hint = "`pip install alpaca-eval` puts it into a Python; ";
            self.failed(outputs, &format!("cannot be started: {error}"), hint)
        })?;
        let mut progress =
            Progress::start(outputs.name, outputs.prompts.len() as u64, known as u64);
        let (mut seen, mut bytes) = (known, left.verdict_bytes());
        loop {
            interrupt::check()?;
            match process.hear(GLANCE) {
                Heard::Line(line) => debug!("{}: {line}", outputs.name),
                Heard::Nothing => {
                    let now = left.verdict_bytes();
                    if now != bytes {
                        let verdicts = left.verdicts().max(seen);
                        progress.advance((verdicts - seen) as u64);
                        (seen, bytes) = (verdicts, now);
                    }
                }
                Heard::End => break,
            }
        }
        if process.succeeded() {
            progress.finish();
            return Ok(());
        }
        let (ended, lines) = process.last_words();
        let hidden =
            |line: &str| self.key.as_ref().map_or_else(|| line.to_owned(), |key| key.hide(line));
        let lines: Vec<String> = said(&lines).iter().map(|line| hidden(line)).collect();
        Err(self.failed(outputs, &format!("{ended}{}", last_words(&lines)), ""))
    }

    /// `hint` comes before that of all failures.
    fn failed(&self, outputs: &Outputs, what: &str, hint: &str) -> Error {
        Error::failed(format!(
            "{}: the program `{}` {what}\n\nhint: {hint}the same command goes on from the \
             verdicts that are there",
            outputs.name,
            self.table.command.join(" ")
        ))
    }

    /// The program with its arguments, as Python's fire reads them.
    fn words(&self, outputs: &Outputs, left: &Left, metric: Metric) -> Vec<String> {
        let (metric, sort) = match metric {
            Metric::LengthControlled => {
                ("get_length_controlled_winrate", "length_controlled_winrate")
            }
            Metric::Plain => ("get_winrate", "win_rate"),
        };
        let path = |path: &Path| path.display().to_string();
        let arguments = [
            ("model_outputs", path(outputs.file)),
            ("reference_outputs", self.table.reference.clone()),
            ("annotators_config", self.table.annotators.clone()),
            ("output_path", path(left.folder())),
            ("caching_path", path(left.verdicts_file())),
            // Nothing of the package's own is read or written: its leaderboards, its weights.
            ("precomputed_leaderboard", "None".to_owned()),
            ("is_cache_leaderboard", "False".to_owned()),
            ("fn_metric", metric.to_owned()),
            ("sort_by", sort.to_owned()),
        ];
        let arguments = arguments.into_iter().map(|(key, value)| format!("--{key}={value}"));
        let weights =
            (sort != "win_rate").then(|| "--metric_kwargs={'save_weights_dir': None}".to_owned());
        self.table.command.iter().cloned().chain(arguments).chain(weights).collect()
    }

    /// The key goes by the environment alone, and to a server that the recipe names none but its
    /// own.
    fn environment(&self, left: &Left) -> Vec<(&'static str, String)> {
        let mut variables = vec![("OPENAI_MAX_CONCURRENCY", self.table.at_once.to_string())];
        let key = self.key.as_ref().map(|key| key.reveal().to_owned());
        if self.table.url.is_some() {
            let client = left.client_file().display().to_string();
            variables.push(("OPENAI_CLIENT_CONFIG_PATH", client));
            // The client wants one, whether the server does or not.
            let key = key.clone().unwrap_or_else(|| "none".to_owned());
            variables.push(("OPENAI_API_KEY", key));
        } else if let Some(key) = key {
            variables.extend([("OPENAI_API_KEY", key.clone()), ("OPENAI_API_KEYS", key)]);
        }
        variables
    }

    /// Where the judge is served, as the package wants it; JSON is YAML.
    fn write_client(&self, left: &Left) -> Result<()> {
        let Some(url) = &self.table.url else { return Ok(()) };
        let client = serde_json::json!({
            "default": [{ "client_class": "openai.OpenAI", "base_url": url }]
        });
        atomic::write(&left.client_file(), format!("{client}\n").as_bytes())
    }
}

/// What a program of Python's said at its end: the error behind its traceback, where it is one. A
/// bar that is drawn over itself is one line.
fn said(lines: &[String]) -> Vec<&str> {
    let lines: Vec<&str> = lines.iter().filter_map(|line| line.rsplit('\r').next()).collect();
    let is_frame = |line: &&str| line.starts_with([' ', '\t']);
    let frames = lines.iter().rposition(is_frame).map_or(0, |last| last + 1);
    if frames < lines.len() { lines[frames..].to_vec() } else { lines }
}

/// That the package judged and could not control for length.
fn without_length_control(win_rate: &WinRate, error: &Error) -> Error {
    let error = error.to_string();
    let error = error.split("\n\nhint: ").next().unwrap_or_default();
    Error::failed(format!(
        "{error}\n\nthe win rate is {}; there is none at equal length\n\nhint: the package fetches \
         a table for it from the hub, or from where `HF_ENDPOINT` says; the same command tries \
         again without asking the judge, and `evaluate.alpaca_eval.length_control = false` goes \
         without",
        percentage(win_rate.win_rate)
    ))
}

fn percentage(rate: f64) -> String {
    format!("{} %", fixed(rate, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_pythons_is_told_without_its_frames() {
        let lines =
            |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let traceback = lines(&["Traceback", "  File \"a.py\"", "    x()", "KeyError: 'a'", "why"]);
        assert_eq!(said(&traceback), ["KeyError: 'a'", "why"]);
        let bar = lines(&["bar: 1%\rbar: 2%", "done"]);
        assert_eq!(said(&bar), ["bar: 2%", "done"]);
        assert_eq!(said(&lines(&[" all", " within"])), [" all", " within"]);
    }
}
