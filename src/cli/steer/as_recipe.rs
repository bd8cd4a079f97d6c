//! The flags of `w2s steer` as a recipe says them, so that a recipe's rules judge them, and the
//! flags that are a mistake.

use clap::ValueEnum;

use super::SteerCommand;
use crate::cli::search_flags::top_k_kinds;
use crate::cli::settings::{Settings, Words};
use crate::error::Result;
use crate::http::address::is_address;
use crate::recipe::{EFT, Recipe, takes_tilt};
use crate::search::{Kind, Search};

impl SteerCommand {
    /// What is asked for as a recipe says it, what is wrong with it, and the shell's words for a
    /// recipe's.
    pub(super) fn settings(&self) -> Result<(Recipe, Vec<String>, Words)> {
        let method = self.method.as_str();
        let mut settings = Settings::new(method);
        settings.flag(format!("--method {method}"), "steer.method.0", None::<bool>);
        self.search.put(method, &mut settings);
        settings.flag(
            "--weight",
            "steer.method.0.weights",
            Some(vec![self.weight.unwrap_or(1.0)]).filter(|_| method == EFT),
        );
        settings.flag(
            "--tilt",
            "steer.method.0.tilt",
            self.tilt.filter(|_| tiltable().any(|kind| kind == method)),
        );
        settings.word("`tilt`", "--tilt");
        settings.flag("--semantics", "steer.semantics", self.semantics.map(word));
        settings.flag("--max-new-tokens", "steer.max_new_tokens", Some(self.max_new_tokens));
        settings.flag("--prompts-in-flight", "steer.prompts_in_flight", self.prompts_in_flight);
        settings.flag("--temperature", "steer.sampling.temperature", self.temperature);
        let of_search = top_k_kinds().any(|kind| kind == method);
        let top_k = if of_search { "steer.method.0.top_k" } else { "steer.sampling.top_k" };
        settings.flag("--top-k", top_k, self.top_k);
        settings.flag("--top-p", "steer.sampling.top_p", self.top_p);
        settings.flag("--stop", "steer.stop", Some(self.stop.clone()));
        settings.flag("--trace", "steer.trace", Some(self.trace));
        settings.flag("--seed", "run.seeds", Some(vec![self.seed]));
        settings.flag("--device", "run.device", Some(self.device.as_str()));
        settings.flag("--dtype", "run.dtype", Some(word(self.dtype)));
        match is_address(&self.base) {
            true => self.served.put(&self.base, &mut settings),
            false => settings.flag("--base", "models.base.id", Some(self.base.as_str())),
        }
        settings.word("base `base`", "--base");
        settings.flag("--base-template", "models.base.prompt", Some(self.base_template.as_str()));
        settings.flag("--base-bos", "models.base.bos", self.base_bos);
        self.put_guides(&mut settings);
        self.gold.put(&mut settings);
        let (recipe, mut problems, words) = settings.check()?;
        self.refuse_idle_flags(&mut problems);
        self.refuse_uneven_guides(&mut problems);
        self.refuse_unserved(&mut problems);
        Ok((recipe, problems, words))
    }

    /// The guide pairs, each flag with its number where there are several.
    fn put_guides(&self, settings: &mut Settings) {
        for (index, (tuned, untuned)) in self.tuned.iter().zip(&self.untuned).enumerate() {
            // The place is said only where there are several.
            let flag = |flag: &str| {
                if self.tuned.len() == 1 {
                    flag.to_owned()
                } else {
                    format!("{flag} number {}", index + 1)
                }
            };
            for (which, id) in [("tuned", tuned), ("untuned", untuned)] {
                let name = format!("{which}-{index}");
                settings.flag(
                    flag(&format!("--{which}")),
                    &format!("steer.guide.{index}.{which}"),
                    Some(name.as_str()),
                );
                settings.word(format!("guide `{name}`"), flag(&format!("--{which}")));
                settings.put(&format!("models.{name}.id"), id.as_str().into());
                settings.flag(
                    "--guide-template",
                    &format!("models.{name}.prompt"),
                    Some(self.guide_template.as_str()),
                );
                settings.flag("--guide-bos", &format!("models.{name}.bos"), self.guide_bos);
            }
            settings.flag(
                flag("--guide-weight"),
                &format!("steer.guide.{index}.weight"),
                self.guide_weight.get(index).copied(),
            );
            settings.flag(
                format!("pair {}", index + 1),
                &format!("steer.guide.{index}"),
                None::<bool>,
            );
        }
    }

    /// What is said of a server where there is none.
    fn refuse_unserved(&self, problems: &mut Vec<String>) {
        if is_address(&self.base) {
            if self.base_chat && self.served.needs_template() {
                problems.push(
                    "--base-chat of a served --base needs --base-tokenizer, whose chat template \
                     it is, or --base-dialect chat, where the server makes the text"
                        .to_owned(),
                );
            }
            return;
        }
        for flag in self.served.idle() {
            problems
                .push(format!("{flag} is of a served --base, and `{}` is no address", self.base));
        }
    }

    /// A pair is two models and at most one weight.
    fn refuse_uneven_guides(&self, problems: &mut Vec<String>) {
        if self.tuned.len() != self.untuned.len() {
            problems.push(format!(
                "--tuned is given {} times and --untuned {} times",
                self.tuned.len(),
                self.untuned.len()
            ));
        }
        if !self.guide_weight.is_empty() && self.guide_weight.len() != self.tuned.len() {
            problems.push(format!(
                "--guide-weight is given {} times for {} guide pairs",
                self.guide_weight.len(),
                self.tuned.len()
            ));
        }
    }

    /// A flag that does nothing is a mistake about the method, or about the flag.
    fn refuse_idle_flags(&self, problems: &mut Vec<String>) {
        let of = |is_such: fn(&Kind) -> bool| named(is_such).collect::<Vec<_>>();
        let samples = [of(|kind| kind.draws), vec![EFT]].concat();
        let top_k = samples.iter().copied().chain(top_k_kinds()).collect();
        let flags = [
            ("--weight", self.weight.is_some(), vec![EFT]),
            ("--tilt", self.tilt.is_some(), tiltable().collect()),
            ("--semantics", self.semantics.is_some(), of(|kind| kind.compares && kind.draws)),
            ("--temperature", self.temperature.is_some(), samples.clone()),
            ("--top-k", self.top_k.is_some(), top_k),
            ("--top-p", self.top_p.is_some(), samples),
        ];
        let flags = flags
            .into_iter()
            .filter(|(_, given, _)| *given)
            .map(|(flag, _, kinds)| (flag.to_owned(), kinds));
        for (flag, kinds) in self.search.given().into_iter().chain(flags) {
            if !kinds.contains(&self.method.as_str()) {
                let meant = if flag == "--weight" {
                    "; the weight of a guide pair is --guide-weight"
                } else {
                    ""
                };
                problems.push(format!(
                    "{flag} is of --method {}, not of {}{meant}",
                    kinds.join(" and "),
                    self.method
                ));
            }
        }
    }
}

fn tiltable() -> impl Iterator<Item = &'static str> {
    named(takes_tilt)
}

fn named(is_such: fn(&Kind) -> bool) -> impl Iterator<Item = &'static str> {
    Search::KINDS.iter().filter(move |kind| is_such(kind)).map(|kind| kind.name)
}

/// As it is written on the command line, and in a recipe.
fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
