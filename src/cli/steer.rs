//! `w2s steer`: prompts from the shell or a file, one response each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::search_flags::SearchFlags;
use super::settings::{Settings, Words};
use super::{hub, print, to_json};
use crate::artifacts::interrupt;
use crate::engine::{Desk, Engine, PromptReader, SteerLine, SteerSettings, check_prompts};
use crate::error::{Error, Result};
use crate::machine::device;
use crate::models::{check_lm_folders, open_with_tokenizer};
use crate::policy::LocalPolicy;
use crate::prompt::Prompt;
use crate::recipe::{Dtype, EFT, Proposal, Recipe, base_kinds, takes_tilt};
use crate::score::{GuidePair, JudgeModel};
use crate::search::{CbsSettings, Kind, Search};
use crate::text::{PromptTemplate, Tokenizer, read_prompts, tilt_problems};

#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct SteerCommand {
    /// The model to steer: a folder, or a hub id `owner/name[@revision]`
    #[arg(long, value_name = "MODEL")]
    base: String,
    /// The tuned guide: a folder or a hub id; may be repeated for several pairs
    #[arg(long, value_name = "MODEL", requires = "untuned")]
    tuned: Vec<String>,
    /// The untuned guide of the same pair
    #[arg(long, value_name = "MODEL", requires = "tuned")]
    untuned: Vec<String>,
    /// Weight of each pair's score, in their order; below 0 steers away
    #[arg(long, value_name = "WEIGHT", requires = "tuned")]
    guide_weight: Vec<f64>,
    /// A gold classifier or reward model, a folder or a hub id; adds `gold_reward` to what --json
    /// prints
    #[arg(long, value_name = "MODEL")]
    gold: Option<String>,
    /// What the gold model reads, with `{prompt}` and `{response}`, instead of the layout it was
    /// trained with
    #[arg(long, requires = "gold")]
    gold_text: Option<String>,
    #[arg(
        long,
        value_parser = PossibleValuesParser::new(base_kinds()),
        default_value = CbsSettings::KIND.name
    )]
    method: String,
    #[command(flatten)]
    search: SearchFlags,
    /// For eft: 1 is the tuned guide's distribution where the base is the untuned guide, 0 the
    /// base's own [default: 1]
    #[arg(long)]
    weight: Option<f64>,
    /// For best_of_n and cbs: their samples are those of eft with this weight, instead of the
    /// base's own
    #[arg(long, value_name = "WEIGHT")]
    tilt: Option<f64>,
    /// For best_of_n and cbs; official: the edge cases as in the authors' release [default: paper]
    #[arg(long, value_enum)]
    semantics: Option<SemanticsName>,
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    max_new_tokens: u32,
    /// Prompts searched at once: more are faster and take more memory [default: 8]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    prompts_in_flight: Option<u32>,
    /// 0 is greedy [default: 0.7]
    #[arg(long)]
    temperature: Option<f64>,
    /// 0 is off [default: 50]
    #[arg(long)]
    top_k: Option<u32>,
    /// 1 is off [default: 1]
    #[arg(long)]
    top_p: Option<f64>,
    /// A response ends before this text; may be repeated
    #[arg(long)]
    stop: Vec<String>,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i64).range(0..))]
    seed: i64,
    /// What the base reads; `{prompt}` is the prompt
    #[arg(long, default_value = "{prompt}")]
    base_template: String,
    /// What the guides read
    #[arg(long, default_value = "{prompt}")]
    guide_template: String,
    /// The filled base template is the user's turn of the base's chat template
    #[arg(long)]
    base_chat: bool,
    /// What the system says to the base before it; "" for an empty turn
    #[arg(long, value_name = "TEXT", requires = "base_chat")]
    base_system: Option<String>,
    /// The filled guide template is the user's turn of the guides' chat template
    #[arg(long)]
    guide_chat: bool,
    /// What the system says to the guides before it; "" for an empty turn
    #[arg(long, value_name = "TEXT", requires = "guide_chat")]
    guide_system: Option<String>,
    /// Whether BOS stands before what the base reads [default: as its tokenizer has it, or the chat
    /// template]
    #[arg(long, value_name = "BOOL")]
    base_bos: Option<bool>,
    /// Whether BOS stands before what the guides read [default: as their tokenizer has it, or the
    /// chat template]
    #[arg(long, value_name = "BOOL", requires = "tuned")]
    guide_bos: Option<bool>,
    #[arg(long, default_value = "cpu")]
    device: String,
    #[arg(long, value_enum, default_value = "auto")]
    dtype: DtypeName,
    /// A steer line (JSON) for each prompt instead of its text
    #[arg(long)]
    json: bool,
    /// With --json: the search tree and the per-token rewards too
    #[arg(long, requires = "json")]
    trace: bool,
    /// JSONL of {"id", "prompt"}
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    #[arg(value_name = "PROMPT")]
    prompt: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SemanticsName {
    Paper,
    Official,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum DtypeName {
    Auto,
    #[value(alias = "f32")]
    Float32,
    #[value(alias = "bf16")]
    Bfloat16,
    #[value(alias = "f16")]
    Float16,
}

impl DtypeName {
    pub(super) fn dtype(self) -> Dtype {
        match self {
            Self::Auto => Dtype::Auto,
            Self::Float32 => Dtype::Float32,
            Self::Bfloat16 => Dtype::Bfloat16,
            Self::Float16 => Dtype::Float16,
        }
    }
}

impl SteerCommand {
    pub fn execute(self) -> Result<()> {
        let (recipe, problems, words) = self.settings()?;
        let steer =
            recipe.steer.as_ref().filter(|_| problems.is_empty()).ok_or(Error::Recipe(problems))?;
        let settings = SteerSettings::of(steer);
        let (_, method) = steer.method[0].methods().swap_remove(0);
        let mut prompts: Vec<Prompt> = self
            .prompt
            .iter()
            .enumerate()
            .map(|(i, prompt)| Prompt::new(format!("prompt-{i}"), prompt))
            .collect();
        if let Some(file) = &self.prompts {
            prompts.extend(read_prompts(file)?);
        }
        if prompts.is_empty() {
            return Err(Error::recipe(
                "no prompt given\n\nhint: `w2s steer --base M … \"The film\"`, or --prompts FILE",
            ));
        }
        let device = device::parse(&self.device)?;
        let base = hub::model(&self.base)?;
        let pairs: Vec<(PathBuf, PathBuf)> = self
            .tuned
            .iter()
            .zip(&self.untuned)
            .map(|(tuned, untuned)| Ok((hub::model(tuned)?, hub::model(untuned)?)))
            .collect::<Result<_>>()?;
        let gold = self.gold.as_deref().map(hub::model).transpose()?;
        let kind = device::inference_kind(self.dtype.dtype(), device);
        let template =
            template_of(&self.base_template, self.base_chat, self.base_system.as_deref())
                .with_bos(self.base_bos);
        let guide_template =
            template_of(&self.guide_template, self.guide_chat, self.guide_system.as_deref())
                .with_bos(self.guide_bos);
        // Whatever cannot be opened, or cannot chat, is told of all models at once, before any
        // weights are read.
        let folders = pairs
            .iter()
            .flat_map(|(tuned, untuned)| [tuned.as_path(), untuned])
            .chain([base.as_path()]);
        let judge = gold.as_deref().map_or(Ok(()), JudgeModel::check_folder);
        // A tokenizer that does not open is told with its model.
        let chats = |folder: &Path, template: &PromptTemplate| {
            Tokenizer::open(folder)
                .map_or(Ok(()), |tokenizer| template.render(&tokenizer, &prompts[0].text).map(drop))
        };
        let chats = [chats(&base, &template)]
            .into_iter()
            .chain(pairs.iter().map(|(tuned, _)| chats(tuned, &guide_template)));
        Error::several([check_lm_folders(folders), judge].into_iter().chain(chats))?;
        check_vocabularies(&recipe, &words, &base, &pairs)?;
        self.check_prompts(
            &prompts,
            (&settings, method.proposal),
            (&base, &template),
            (&pairs, &guide_template),
        )?;
        let open = |folder: &PathBuf| {
            open_with_tokenizer(folder, device, kind)
                .map(|(lm, tokenizer)| (Rc::new(lm), Rc::new(tokenizer)))
        };
        let (base, tokenizer) = open(&base)?;
        let mut guides = Vec::new();
        for (pair, (tuned, untuned)) in steer.guide.iter().zip(&pairs) {
            guides.push((
                pair.weight,
                Rc::new(GuidePair::new(open(tuned)?, open(untuned)?, guide_template.clone())?),
            ));
        }
        let gold = gold
            .as_ref()
            .map(|folder| JudgeModel::open(folder, device, kind, self.gold_text.as_deref()))
            .transpose()?;
        let base =
            LocalPolicy::new(base, tokenizer, template, settings.sampling, settings.stop.clone());
        let mut engine = Engine::open(method, settings, Box::new(base), guides)?;
        interrupt::install()?;
        let in_flight = engine.plan(&prompts)?;
        let mut desk = Printed {
            due: prompts.into_iter(),
            gold,
            json: self.json,
            waiting: BTreeMap::new(),
            next: 0,
            lost: Vec::new(),
        };
        engine.answer(recipe.run.seeds[0], in_flight, &mut desk)?;
        if desk.lost.is_empty() { Ok(()) } else { Err(Error::Lost(desk.lost)) }
    }

    /// Prompts that are too long, and a folder without a chat template, are told before any weights
    /// are read.
    fn check_prompts(
        &self,
        prompts: &[Prompt],
        (settings, proposal): (&SteerSettings, Proposal),
        (base, template): (&Path, &PromptTemplate),
        (pairs, guide_template): (&[(PathBuf, PathBuf)], &PromptTemplate),
    ) -> Result<()> {
        let mut readers = vec![PromptReader::open("the model".to_owned(), base, template.clone())?];
        for folder in pairs.iter().flat_map(|(tuned, untuned)| [tuned, untuned]) {
            let guide = PromptReader::open("the guide".to_owned(), folder, guide_template.clone())?;
            readers.push(if proposal.tilt().is_some() { guide } else { guide.scoring(&readers) });
        }
        check_prompts(prompts, settings.max_new_tokens, &readers)
    }

    /// What is asked for as a recipe says it, what is wrong with it, and the shell's words for a
    /// recipe's.
    fn settings(&self) -> Result<(Recipe, Vec<String>, Words)> {
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
        settings.flag("--top-k", "steer.sampling.top_k", self.top_k);
        settings.flag("--top-p", "steer.sampling.top_p", self.top_p);
        settings.flag("--stop", "steer.stop", Some(self.stop.clone()));
        settings.flag("--trace", "steer.trace", Some(self.trace));
        settings.flag("--seed", "run.seeds", Some(vec![self.seed]));
        settings.flag("--device", "run.device", Some(self.device.as_str()));
        settings.flag("--dtype", "run.dtype", Some(word(self.dtype)));
        settings.flag("--base", "models.base.id", Some(self.base.as_str()));
        settings.word("base `base`", "--base");
        settings.flag("--base-template", "models.base.prompt", Some(self.base_template.as_str()));
        settings.flag("--base-bos", "models.base.bos", self.base_bos);
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
        if let Some(gold) = &self.gold {
            settings.flag("--gold", "gold.id", Some(gold.as_str()));
            settings.flag("--gold-text", "gold.text", self.gold_text.as_deref());
        }
        let (recipe, mut problems, words) = settings.check()?;
        self.refuse_idle_flags(&mut problems);
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
        Ok((recipe, problems, words))
    }

    /// A flag that does nothing is a mistake about the method, or about the flag.
    fn refuse_idle_flags(&self, problems: &mut Vec<String>) {
        let of = |is_such: fn(&Kind) -> bool| named(is_such).collect::<Vec<_>>();
        let samples = [of(|kind| kind.draws), vec![EFT]].concat();
        let flags = [
            ("--weight", self.weight.is_some(), vec![EFT]),
            ("--tilt", self.tilt.is_some(), tiltable().collect()),
            ("--semantics", self.semantics.is_some(), of(|kind| kind.compares)),
            ("--temperature", self.temperature.is_some(), samples.clone()),
            ("--top-k", self.top_k.is_some(), samples.clone()),
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

/// An answer, and what the judge says of it.
#[derive(Serialize)]
struct RewardedLine {
    #[serde(flatten)]
    line: SteerLine,
    #[serde(skip_serializing_if = "Option::is_none")]
    gold_reward: Option<f64>,
}

/// Prompts whose answers come as they are found and are printed in the order of the prompts.
struct Printed {
    due: std::vec::IntoIter<Prompt>,
    gold: Option<JudgeModel>,
    json: bool,
    /// Outcomes by the prompts' numbers, those without an answer too.
    waiting: BTreeMap<usize, Option<RewardedLine>>,
    next: usize,
    /// Those without an answer, and why.
    lost: Vec<String>,
}

impl Printed {
    fn print(&mut self, number: usize, outcome: Option<RewardedLine>) -> Result<()> {
        self.waiting.insert(number, outcome);
        while let Some(outcome) = self.waiting.remove(&self.next) {
            if let Some(rewarded) = outcome {
                let line = &rewarded.line;
                print(&if self.json {
                    to_json(&rewarded)?
                } else {
                    format!("{}{}", line.prompt, line.response)
                })?;
            }
            self.next += 1;
        }
        Ok(())
    }
}

impl Desk for Printed {
    fn next(&mut self, _in_flight: usize) -> Result<Option<Prompt>> {
        Ok(self.due.next())
    }

    fn pause(&mut self) -> Result<()> {
        interrupt::check().map_err(|_| Error::failed("interrupted"))
    }

    fn done(&mut self, number: usize, line: SteerLine) -> Result<()> {
        let gold_reward = match &self.gold {
            Some(gold) => Some(gold.rewards(&[(&line.prompt, &line.response)])?[0]),
            None => None,
        };
        self.print(number, Some(RewardedLine { line, gold_reward }))
    }

    fn lost(&mut self, number: usize, prompt: Prompt, error: Error) -> Result<()> {
        self.lost.push(format!("prompt `{}` has no answer: {error}", prompt.id));
        self.print(number, None)
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

/// The rule of recipes on guides that propose, of the folders where the models lie.
fn check_vocabularies(
    recipe: &Recipe,
    words: &Words,
    base: &Path,
    pairs: &[(PathBuf, PathBuf)],
) -> Result<()> {
    let mut recipe = recipe.clone();
    let guides = pairs.iter().enumerate().flat_map(|(index, (tuned, untuned))| {
        [
            (format!("tuned-{index}"), tuned.as_path()),
            (format!("untuned-{index}"), untuned.as_path()),
        ]
    });
    for (name, folder) in guides.chain([("base".to_owned(), base)]) {
        if let (Some(model), Some(folder)) = (recipe.models.get_mut(&name), folder.to_str()) {
            model.id = Some(folder.to_owned());
        }
    }
    let problems: Vec<String> =
        tilt_problems(&recipe).into_iter().map(|problem| words.translated(problem)).collect();
    if problems.is_empty() { Ok(()) } else { Err(Error::Recipe(problems)) }
}

fn template_of(template: &str, chat: bool, system: Option<&str>) -> PromptTemplate {
    if chat { PromptTemplate::chat(template, system) } else { PromptTemplate::new(template, None) }
}
