//! A program of the user's as a judge: it reads a line of JSON for each response and writes a
//! number for each. Started at the first question and once more if it dies; what its lines mean is
//! told by `answers.rs`, its pipes and its end are `process.rs`'s.

mod answers;
pub(super) mod process;

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;
use tracing::warn;

use self::answers::Answers;
use self::process::{Heard, Process};
use super::to_judge::ToJudge;
use crate::artifacts::interrupt;
use crate::error::{Error, Result};

/// How long a stop that was asked for may go unseen.
const GLANCE: Duration = Duration::from_millis(100);

/// A judge that is a program; it ends with this value.
pub struct Program {
    /// What messages call the judge, such as `gold`.
    name: String,
    words: Vec<String>,
    folder: PathBuf,
    silence: Duration,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    process: Option<Process>,
    has_died: bool,
}

/// Why some answers did not come.
enum Trouble {
    /// The program did, and how.
    Died(String),
    Other(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl Program {
    /// A program that is not started yet: its words, where it is to be started, and how long it may
    /// be silent while answers are due. `name` is the judge's.
    pub fn new(name: &str, words: &[String], folder: PathBuf, silence: Duration) -> Self {
        let (name, words, state) = (name.to_owned(), words.to_vec(), RefCell::default());
        Self { name, words, folder, silence, state }
    }

    /// Tells one reward for each response, in order, as soon as it and those before it are there.
    ///
    /// # Errors
    /// Where the program cannot be started, dies twice, is silent for too long, or writes a line
    /// that is no finite number for a response that was asked about; and what `tell` fails of.
    pub fn each_reward(
        &self,
        all: &[ToJudge],
        tell: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<()> {
        let ids: Vec<&str> = all.iter().map(|one| one.id.as_ref()).collect();
        let mut answers = Answers::new(&ids);
        let state = &mut *self.state.borrow_mut();
        while !answers.are_all_there() {
            match self.ask(state, all, &mut answers, tell) {
                Ok(()) => {}
                Err(Trouble::Died(how)) if !state.has_died => {
                    state.has_died = true;
                    warn!("{}; it is started again, once", self.failed(how));
                }
                Err(Trouble::Died(how)) => {
                    return Err(self.failed(format!(
                        "{how}\n\nhint: this was the second time; feed it a line of JSON by hand, \
                         with `id`, `prompt` and `response`"
                    )));
                }
                Err(Trouble::Other(error)) => {
                    // What it still has to say would be taken for the answers of the next.
                    state.process = None;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Asks for what is not answered yet, and hears what comes.
    fn ask(
        &self,
        state: &mut State,
        all: &[ToJudge],
        answers: &mut Answers,
        tell: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<(), Trouble> {
        if state.process.is_none() {
            state.process = Some(self.start()?);
        }
        let Some(process) = &mut state.process else { return Ok(()) };
        self.refuse_unasked(process)?;
        process.write(lines(all, &answers.due()));
        let mut last = Instant::now();
        while !answers.are_all_there() {
            interrupt::check()?;
            match process.hear(GLANCE) {
                Heard::Line(line) => {
                    last = Instant::now();
                    let known = answers.take(&line);
                    known
                        .map_err(|wrong| self.failed(wrong))?
                        .into_iter()
                        .try_for_each(&mut *tell)?;
                }
                Heard::Nothing if last.elapsed() < self.silence => {}
                Heard::Nothing => {
                    let (due, seconds) = (answers.due_words(), self.silence.as_secs());
                    return Err(Trouble::Other(self.failed(format!(
                        "wrote nothing for {seconds} s and has yet to judge {due}\n\nhint: it is \
                         to write a line for each that it reads, at once (`flush=True`); `seconds` \
                         gives it longer"
                    ))));
                }
                Heard::End => {
                    let (ended, words) = process.last_words();
                    state.process = None;
                    let (due, words) = (answers.due_words(), last_words(&words));
                    return Err(Trouble::Died(format!(
                        "{ended} before it had judged {due}{words}"
                    )));
                }
            }
        }
        self.refuse_unasked(process)
    }

    fn refuse_unasked(&self, process: &Process) -> Result<(), Trouble> {
        match process.said_unasked() {
            None => Ok(()),
            Some(line) => Err(Trouble::Other(self.failed(format!(
                "wrote the line {line:?} when nothing was asked\n\nhint: it is to write one line \
                 for each that it reads, and all else to stderr"
            )))),
        }
    }

    fn start(&self) -> Result<Process> {
        Process::start(&self.name, &self.words, &self.folder).map_err(|error| {
            self.failed(format!(
                "cannot be started in {}: {error}\n\nhint: `command` is a program and its \
                 arguments, such as `[\"python3\", \"reward.py\"]`",
                self.folder.display()
            ))
        })
    }

    fn failed(&self, what: String) -> Error {
        Error::failed(format!(
            "judge `{}`: the program `{}` {what}",
            self.name,
            self.words.join(" ")
        ))
    }
}

/// What it wrote to stderr before its end, for messages.
pub(super) fn last_words(lines: &[String]) -> String {
    match lines {
        [] => ", and wrote nothing to stderr".to_owned(),
        lines => format!("; its last words:\n  {}", lines.join("\n  ")),
    }
}

/// What the program reads: of each a line of JSON, with how many are still to come.
fn lines(all: &[ToJudge], due: &[usize]) -> Vec<u8> {
    let mut lines = Vec::new();
    for (sent, ToJudge { id, prompt, response }) in due.iter().map(|&place| &all[place]).enumerate()
    {
        let left = due.len() - sent - 1;
        let line = json!({ "id": id, "prompt": prompt, "response": response, "left": left });
        lines.extend(line.to_string().into_bytes());
        lines.push(b'\n');
    }
    lines
}
