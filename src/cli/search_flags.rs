//! Flags of `w2s steer` for the settings of all searches, made from the searches' own keys: a
//! search that is added has its flags.

use std::sync::LazyLock;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};
use toml::Value;

use super::settings::Settings;
use crate::search::{Key, KeyValue, Search};

/// The values of the flags that were given.
#[derive(Debug, Clone, Default)]
pub(super) struct SearchFlags {
    given: Vec<(&'static str, Value)>,
}

/// The flag of a key, which several searches may share.
struct Flag {
    key: &'static Key,
    /// `--beam-width`.
    name: String,
    /// `BEAM_WIDTH`.
    value_name: String,
    /// The searches that have the key.
    kinds: Vec<&'static str>,
    help: String,
}

/// The key of searches whose flag is that of the sampling: none of them draws.
pub(super) const TOP_K: &str = "top_k";

static FLAGS: LazyLock<Vec<Flag>> = LazyLock::new(|| {
    let mut flags: Vec<Flag> = Vec::new();
    for (kind, key) in Search::keys().iter().filter(|(_, key)| key.name != TOP_K) {
        match flags.iter_mut().find(|flag| flag.key.name == key.name) {
            Some(flag) => flag.also_of(kind, key),
            None => flags.push(Flag::of(key, kind)),
        }
    }
    flags
});

impl Flag {
    fn of(key: &'static Key, kind: &'static str) -> Self {
        let (name, value_name) =
            (format!("--{}", key.name.replace('_', "-")), key.name.to_uppercase());
        Self { key, name, value_name, kinds: vec![kind], help: format!("{kind}: {}", key.help) }
    }

    fn also_of(&mut self, kind: &'static str, key: &Key) {
        self.kinds.push(kind);
        self.help += &format!("; {kind}: {}", key.help);
    }

    fn arg(&'static self) -> Arg {
        let Self { key, name, value_name, kinds: _, help } = self;
        let arg = Arg::new(key.name.as_str()).long(name.trim_start_matches('-'));
        let (usual, parser): (String, ValueParser) = match key.value {
            KeyValue::Count(usual) => (usual.to_string(), value_parser!(u32).range(1..).into()),
            KeyValue::Limit(usual) => (usual.to_string(), value_parser!(u32).into()),
            KeyValue::Length(usual) => (usual.to_string(), ValueParser::new(chunk_len)),
            KeyValue::Number(usual) => (usual.to_string(), value_parser!(f64).into()),
            KeyValue::Switch => return arg.action(ArgAction::SetTrue).help(help),
        };
        let help = format!("{help} [default: {usual}]");
        arg.value_name(value_name.as_str()).value_parser(parser).help(help)
    }

    fn given(&self, matches: &ArgMatches) -> Option<Value> {
        match self.key.value {
            KeyValue::Count(_) | KeyValue::Limit(_) => {
                matches.get_one::<u32>(&self.key.name).map(|count| i64::from(*count).into())
            }
            KeyValue::Length(_) => matches.get_one::<Value>(&self.key.name).cloned(),
            KeyValue::Number(_) => {
                matches.get_one::<f64>(&self.key.name).map(|number| (*number).into())
            }
            KeyValue::Switch => matches.get_flag(&self.key.name).then(|| true.into()),
        }
    }

    /// The value where the flag is not given.
    fn usual(&self) -> Value {
        match self.key.value {
            KeyValue::Count(count) | KeyValue::Limit(count) | KeyValue::Length(count) => {
                i64::from(count).into()
            }
            KeyValue::Number(number) => number.into(),
            KeyValue::Switch => false.into(),
        }
    }
}

/// A number of tokens, at least 1, or `inf`.
fn chunk_len(word: &str) -> Result<Value, String> {
    match word.parse::<u32>() {
        _ if word == "inf" => Ok(word.into()),
        Ok(tokens @ 1..) => Ok(i64::from(tokens).into()),
        _ => Err(format!("{word} is not in 1..={}, nor inf", u32::MAX)),
    }
}

/// The kinds of searches whose `top_k` the flag of the sampling gives.
pub(super) fn top_k_kinds() -> impl Iterator<Item = &'static str> {
    Search::keys().iter().filter(|(_, key)| key.name == TOP_K).map(|(kind, _)| *kind)
}

impl SearchFlags {
    /// Gives the settings of a method of this kind their values.
    pub fn put(&self, kind: &str, settings: &mut Settings) {
        for flag in FLAGS.iter() {
            let value = || self.value(flag).unwrap_or_else(|| flag.usual());
            let value = flag.kinds.contains(&kind).then(value);
            settings.flag(&flag.name, &format!("steer.method.0.{}", flag.key.name), value);
        }
    }

    /// The flags that were given, and the kinds of methods that take them.
    pub fn given(&self) -> Vec<(String, Vec<&'static str>)> {
        FLAGS
            .iter()
            .filter(|flag| self.value(flag).is_some())
            .map(|flag| (flag.name.clone(), flag.kinds.clone()))
            .collect()
    }

    fn value(&self, flag: &Flag) -> Option<Value> {
        self.given.iter().find(|(name, _)| *name == flag.key.name).map(|(_, value)| value.clone())
    }
}

impl FromArgMatches for SearchFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = FLAGS
            .iter()
            .filter_map(|flag| Some((flag.key.name.as_str(), flag.given(matches)?)))
            .collect();
        Ok(Self { given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for SearchFlags {
    fn augment_args(command: Command) -> Command {
        command.args(FLAGS.iter().map(Flag::arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::Cli;

    /// Flags that are made of keys are no other flags, nor an id twice.
    #[test]
    fn the_command_line_is_whole() {
        Cli::command().debug_assert();
    }
}
