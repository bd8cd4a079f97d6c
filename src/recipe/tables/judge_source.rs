//! Where a judge's rewards come from: a model that is opened here, or a program of the user's that
//! is asked. The rules that `[gold]` and `[judges.<name>]` share; asking is left to `score`.

use super::super::rules::Rules;
use super::super::words::listed;

/// Where a judge's rewards come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum JudgeSource<'a> {
    /// A classifier or reward model that the run makes.
    Made,
    /// One in a folder, or a hub id.
    Model(&'a str),
    /// A program that reads responses line by line and writes a number for each.
    Program(ProgramWords<'a>),
}

/// A program and how long it may be silent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProgramWords<'a> {
    /// The program and its arguments.
    pub words: &'a [String],
    pub seconds: u64,
}

/// Seconds without an answer, where the recipe says nothing.
const SILENCE: u64 = 600;

/// The keys of a judge that is not opened here, whichever table has them.
#[derive(Clone, Copy)]
pub(super) struct OutsideKeys<'a> {
    pub command: &'a Option<Vec<String>>,
    pub seconds: Option<u64>,
}

impl<'a> OutsideKeys<'a> {
    pub fn source(self) -> Option<JudgeSource<'a>> {
        let words = self.command.as_deref()?;
        Some(JudgeSource::Program(ProgramWords { words, seconds: self.seconds.unwrap_or(SILENCE) }))
    }

    /// What is wrong with the keys of `table`. `idle` are keys that only a model that is opened
    /// here has a use for, and whether they are given.
    pub fn rules(self, table: &str, idle: &[(&str, bool)], rules: &mut Rules) {
        let has_program = self.command.is_some();
        if let Some(words) = self.command {
            program_rules(table, words, rules);
        }
        let lacks = |key: &str, needed: &str| {
            format!("`{table}.{key}` does nothing without `{table}.{needed}`")
        };
        if self.seconds.is_some() && !has_program {
            rules.problem(lacks("seconds", "command"));
        }
        if has_program {
            for (key, _) in idle.iter().filter(|(_, given)| *given) {
                rules.problem_hint(
                    format!("`{table}.{key}` does nothing where `{table}.command` judges"),
                    "a program is given the prompt and the response, and does the rest itself",
                );
            }
        }
    }
}

impl JudgeSource<'_> {
    /// What the plan and cards call it; `made` is what the run makes.
    pub fn words(&self, made: &str) -> String {
        match self {
            Self::Made => made.to_owned(),
            Self::Model(id) => (*id).to_owned(),
            Self::Program(program) => format!("the program `{}`", program.words.join(" ")),
        }
    }
}

/// A judge comes from one place. `origins` are the keys that say so, and whether they are given.
pub(super) fn one_origin(table: &str, origins: &[(&str, bool)], hint: &str, rules: &mut Rules) {
    let keys = origins.iter().map(|(key, _)| *key);
    let given: Vec<&str> =
        origins.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
    match given.as_slice() {
        [] => rules.problem_hint(format!("`{table}` has none of {}", listed(keys)), hint),
        [_] => {}
        given => rules.problem(format!(
            "`{table}` has {}, expected one of them",
            listed(given.iter().copied())
        )),
    }
}

/// There is a program, and it can be found.
fn program_rules(table: &str, words: &[String], rules: &mut Rules) {
    let Some(program) = words.first().filter(|program| !program.is_empty()) else {
        return rules.problem_hint(
            format!("`{table}.command` names no program"),
            "a program and its arguments, such as `[\"python3\", \"reward.py\"]`",
        );
    };
    let is_there = match program.contains('/') {
        true => rules.folder.join(program).is_file(),
        false => std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
        }),
    };
    if !is_there {
        rules.problem_hint(
            format!("`{table}.command`: there is no program `{program}`"),
            "a name is looked for in `PATH`, and a path such as `./judge` starts from the \
             recipe's folder",
        );
    }
}
