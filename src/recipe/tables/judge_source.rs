//! Where a judge's rewards come from: a model that is opened here, or a program of the user's or a
//! server that is asked. The rules that `[gold]` and `[judges.<name>]` share; asking is left to
//! `score`.

use serde_json::{Value, json};

use super::super::rules::Rules;
use super::super::words::listed;
use super::api::{ApiLimits, http_url, key_rule};

/// Where a judge's rewards come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum JudgeSource<'a> {
    /// A classifier or reward model that the run makes.
    Made,
    /// One in a folder, or a hub id.
    Model(&'a str),
    /// A program that reads responses line by line and writes a number for each.
    Program(ProgramWords<'a>),
    /// A server that is sent texts and answers with numbers.
    Server(RewardServer<'a>),
}

/// A program and how long it may be silent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProgramWords<'a> {
    /// The program and its arguments.
    pub words: &'a [String],
    pub seconds: u64,
}

/// A server, and how it is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RewardServer<'a> {
    pub url: &'a str,
    pub model: Option<&'a str>,
    /// The environment variable that holds the key.
    pub key: Option<&'a str>,
    pub limits: Option<&'a ApiLimits>,
}

/// What a server of rewards is sent, and what it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RewardShape {
    /// OpenRLHF's remote reward model: `query` and `prompts`, and `rewards` back.
    OpenRlhf,
    /// vLLM's `/classify`: `input`, and the `probs` of each text.
    Classify,
    /// vLLM's `/pooling`: `input`, and the `data` of each text.
    Pooling,
}

/// Seconds without an answer, where the recipe says nothing.
const SILENCE: u64 = 600;

/// The keys of a judge that is not opened here, whichever table has them.
#[derive(Clone, Copy)]
pub(super) struct OutsideKeys<'a> {
    pub command: &'a Option<Vec<String>>,
    pub seconds: Option<u64>,
    pub url: &'a Option<String>,
    pub model: &'a Option<String>,
    pub key: &'a Option<String>,
    pub limits: &'a Option<ApiLimits>,
}

impl<'a> OutsideKeys<'a> {
    pub fn source(self) -> Option<JudgeSource<'a>> {
        let Self { command, seconds, url, model, key, limits } = self;
        if let Some(words) = command {
            let seconds = seconds.unwrap_or(SILENCE);
            return Some(JudgeSource::Program(ProgramWords { words, seconds }));
        }
        let [model, key] = [model, key].map(Option::as_deref);
        let limits = limits.as_ref();
        Some(JudgeSource::Server(RewardServer { url: url.as_deref()?, model, key, limits }))
    }

    /// What is wrong with the keys of `table`. `local` are keys that only a model that is opened
    /// here has a use for, and whether they are given; `has_text` says whether its `text` is.
    pub fn rules(self, table: &str, local: &[(&str, bool)], has_text: bool, rules: &mut Rules) {
        let Self { command, seconds, url, model, key, limits } = self;
        if let Some(words) = command {
            program_rules(table, words, rules);
        }
        if let Some(url) = url {
            http_url(&format!("{table}.url"), url, rules);
        }
        if let Some(key) = key {
            key_rule(&format!("{table}.key"), key, rules);
        }
        if limits.as_ref().is_some_and(|limits| limits.tokens_per_minute.is_some()) {
            let key = format!("{table}.limits.tokens_per_minute");
            rules.problem_hint(
                format!("`{key}` does nothing: nobody counts the tokens of what is judged"),
                "`requests_per_minute` says how much is asked; a request is of up to 16 texts",
            );
        }
        let of_program = [("seconds", seconds.is_some())];
        let of_server =
            [("model", model.is_some()), ("key", key.is_some()), ("limits", limits.is_some())];
        for (needed, keys) in [("command", &of_program[..]), ("url", &of_server)] {
            let has = if needed == "url" { url.is_some() } else { command.is_some() };
            for (key, _) in keys.iter().filter(|(_, given)| *given && !has) {
                let what = format!("`{table}.{key}` does nothing without `{table}.{needed}`");
                rules.problem(what);
            }
        }
        let is_unnamed = url
            .as_deref()
            .is_some_and(|url| RewardShape::of(url) == RewardShape::OpenRlhf && model.is_some());
        if is_unnamed {
            rules.problem_hint(
                format!("`{table}.model` does nothing where a server has one model alone"),
                "vLLM, whose addresses end in `/classify` or `/pooling`, is told which model",
            );
        }
        let judging = ["command", "url"].into_iter().zip([command.is_some(), url.is_some()]);
        for (judging, _) in judging.filter(|(_, given)| *given) {
            let text = [("text", has_text && judging == "command")];
            for (key, _) in local.iter().chain(&text).filter(|(_, given)| *given) {
                rules.problem_hint(
                    format!("`{table}.{key}` does nothing where `{table}.{judging}` judges"),
                    "it is of models that are opened here; a program is given prompt and response \
                     apart, and a server the text that `text` makes of both",
                );
            }
        }
    }
}

impl RewardServer<'_> {
    pub fn shape(&self) -> RewardShape {
        RewardShape::of(self.url)
    }

    /// What its rewards depend on: the model, wherever it is served.
    pub fn outcome(&self) -> Value {
        json!({ "served": self.model.unwrap_or(self.url), "shape": self.shape().name() })
    }
}

impl RewardShape {
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenRlhf => "openrlhf",
            Self::Classify => "classify",
            Self::Pooling => "pooling",
        }
    }

    /// The shape that an address has by its end.
    fn of(url: &str) -> Self {
        let path = url.split('?').next().unwrap_or_default().trim_end_matches('/');
        match path.rsplit('/').next() {
            Some("classify") => Self::Classify,
            Some("pooling") => Self::Pooling,
            _ => Self::OpenRlhf,
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
            Self::Server(RewardServer { url, model: Some(model), .. }) => {
                format!("{model} served at {url}")
            }
            Self::Server(server) => format!("the server at {}", server.url),
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
pub(super) fn program_rules(table: &str, words: &[String], rules: &mut Rules) {
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
    // A script in the recipe's folder, by its usual ending.
    let script = words.get(1).filter(|word| word.ends_with(".py") || word.ends_with(".sh"));
    if let Some(script) = script.filter(|script| !rules.folder.join(script).is_file()) {
        rules.problem_hint(
            format!("`{table}.command`: there is no file `{script}` in the recipe's folder"),
            "the program is started there",
        );
    }
}
