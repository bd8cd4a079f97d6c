//! `w2s steer`: prompts from the shell or a file, one response each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::{Args, ValueEnum};
use tracing::warn;

use super::{hub, print, to_json};
use crate::artifacts::interrupt;
use crate::error::{Error, Result};
use crate::models::{check_lm_folders, device, open_with_tokenizer};
use crate::recipe::Dtype;
use crate::sampling::Sampling;
use crate::score::{GoldReward, Guide};
use crate::search::Semantics;
use crate::stages::{LoadedGuide, Method, Parts, SteerSettings, check_prompt, proposer, steer_prompts};
use crate::text::{PromptTemplate, Tokenizer, read_prompts};

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
    /// A gold classifier or reward model, a folder or a hub id; adds `gold_reward`
    #[arg(long, value_name = "MODEL")]
    gold: Option<String>,
    /// What the gold model reads, with `{prompt}` and `{response}`, instead of the layout it was trained with
    #[arg(long, requires = "gold")]
    gold_text: Option<String>,
    #[arg(long, value_enum, default_value = "cbs")]
    method: MethodName,
    /// W of cbs: hypotheses kept after each chunk; B of beam [default: 4]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    beam_width: Option<u32>,
    /// K of cbs: continuations of each hypothesis [default: 4]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    successors: Option<u32>,
    /// L of cbs: tokens of a continuation [default: 5]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    chunk_len: Option<u32>,
    /// N of best_of_n [default: 16]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    n: Option<u32>,
    /// Of eft: 1 is the tuned guide's distribution where the base is the untuned guide, 0 the base's own [default: 1]
    #[arg(long)]
    weight: Option<f64>,
    /// Of beam: scores are divided by the length to this power [default: 1]
    #[arg(long)]
    length_penalty: Option<f64>,
    /// Of beam: end with the first B finished responses
    #[arg(long)]
    early_stopping: bool,
    /// Of cbs and best_of_n; official: the edge cases as in the authors' release [default: paper]
    #[arg(long, value_enum)]
    semantics: Option<SemanticsName>,
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    max_new_tokens: u32,
    /// Prompts searched at once: more are faster and take more memory
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    prompts_in_flight: u32,
    /// 0 is greedy [default: 0.7]
    #[arg(long)]
    temperature: Option<f64>,
    /// 0 is off [default: 50]
    #[arg(long)]
    top_k: Option<usize>,
    /// 1 is off [default: 1]
    #[arg(long)]
    top_p: Option<f64>,
    /// A response ends before this text; may be repeated
    #[arg(long)]
    stop: Vec<String>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
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
    /// No BOS token before plain prompts; before a chat only its template puts one
    #[arg(long)]
    no_bos: bool,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum MethodName {
    Base,
    BestOfN,
    Cbs,
    Eft,
    Beam,
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
        let method = self.method();
        self.refuse_bad_settings(&method)?;
        let mut prompts: Vec<(String, String)> =
            self.prompt.iter().enumerate().map(|(i, prompt)| (format!("prompt-{i}"), prompt.clone())).collect();
        if let Some(file) = &self.prompts {
            prompts.extend(read_prompts(file)?);
        }
        if prompts.is_empty() {
            return Err(Error::recipe("no prompt given\n\nhint: `w2s steer --base M … \"The film\"`, or --prompts FILE"));
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
        let template = self.template(&self.base_template, self.base_chat, self.base_system.as_deref());
        let guide_template = self.template(&self.guide_template, self.guide_chat, self.guide_system.as_deref());
        // Whatever cannot be opened, or cannot chat, is told of all models at once, before any weights are read.
        let folders = pairs.iter().flat_map(|(tuned, untuned)| [tuned.as_path(), untuned]).chain([base.as_path()]);
        let judge = gold.as_deref().map_or(Ok(()), GoldReward::check_folder);
        // A tokenizer that does not open is told with its model.
        let chats = |folder: &Path, template: &PromptTemplate| {
            Tokenizer::open(folder).map_or(Ok(()), |tokenizer| template.render(&tokenizer, &prompts[0].1).map(drop))
        };
        let chats = [chats(&base, &template)].into_iter().chain(pairs.iter().map(|(tuned, _)| chats(tuned, &guide_template)));
        Error::several([check_lm_folders(folders), judge].into_iter().chain(chats))?;
        let open = |folder: &PathBuf| open_with_tokenizer(folder, device, kind).map(|(lm, tokenizer)| (Rc::new(lm), Rc::new(tokenizer)));
        let (base, tokenizer) = open(&base)?;
        let mut guides = Vec::new();
        for (index, (tuned, untuned)) in pairs.iter().enumerate() {
            if tuned == untuned {
                warn!("{}: tuned and untuned are one model, so every score is 0", tuned.display());
            }
            let ((tuned, tokenizer), (untuned, other)) = (open(tuned)?, open(untuned)?);
            if let Some(difference) = tokenizer.vocabulary().difference(&other.vocabulary()) {
                return Err(Error::recipe(format!("the tuned and the untuned guide of a pair have two vocabularies: {difference}")));
            }
            let guide = Guide { tuned, untuned, tokenizer, template: guide_template.clone() };
            guides.push((self.guide_weight.get(index).copied().unwrap_or(1.0), Rc::new(guide)));
        }
        let mut guide = if guides.is_empty() { None } else { Some(LoadedGuide::for_base(guides, &tokenizer)?) };
        let gold = gold.as_ref().map(|folder| GoldReward::open(folder, device, kind, self.gold_text.as_deref())).transpose()?;
        let sampling = self.sampling();
        let settings = SteerSettings {
            sampling,
            max_new_tokens: self.max_new_tokens as usize,
            stop: self.stop.clone(),
            semantics: match self.semantics {
                Some(SemanticsName::Official) => Semantics::Official,
                Some(SemanticsName::Paper) | None => Semantics::Paper,
            },
            trace: self.trace,
            prompts_in_flight: self.prompts_in_flight as usize,
        };
        let mut policy = proposer(&method, (base, tokenizer, template), guide.as_ref(), &settings)?;
        for (id, prompt) in &prompts {
            check_prompt(&policy, guide.as_ref(), &settings, id, prompt)?;
        }
        interrupt::install()?;
        // Answers come as they are found and are printed in the order of the prompts.
        let (mut waiting, mut next) = (BTreeMap::new(), 0);
        let parts = Parts { policy: &mut policy, guide: guide.as_mut(), gold: gold.as_ref() };
        let pause = &mut || interrupt::check().map_err(|_| Error::failed("interrupted"));
        steer_prompts(&method, &settings, parts, self.seed, &prompts, pause, &mut |number, line| {
            waiting.insert(number, line);
            while let Some(line) = waiting.remove(&next) {
                print(&if self.json { to_json(&line)? } else { format!("{}{}", line.prompt, line.response) })?;
                next += 1;
            }
            Ok(())
        })
    }

    fn template(&self, template: &str, chat: bool, system: Option<&str>) -> PromptTemplate {
        if chat { PromptTemplate::chat(template, system) } else { PromptTemplate::new(template, !self.no_bos) }
    }

    fn method(&self) -> Method {
        match self.method {
            MethodName::Base => Method::Base,
            MethodName::BestOfN => Method::BestOfN { n: self.n.unwrap_or(16) as usize },
            MethodName::Cbs => Method::Cbs {
                beam_width: self.beam_width.unwrap_or(4) as usize,
                successors: self.successors.unwrap_or(4) as usize,
                chunk_len: self.chunk_len.unwrap_or(5) as usize,
            },
            MethodName::Eft => Method::Eft { weight: self.weight.unwrap_or(1.0) },
            MethodName::Beam => Method::Beam {
                beam_width: self.beam_width.unwrap_or(4) as usize,
                length_penalty: self.length_penalty.unwrap_or(1.0),
                early_stopping: self.early_stopping,
            },
        }
    }

    fn sampling(&self) -> Sampling {
        Sampling::new(self.temperature.unwrap_or(0.7), self.top_k.unwrap_or(50), self.top_p.unwrap_or(1.0))
    }

    /// A flag that does nothing is a mistake about the method, or about the flag.
    fn refuse_idle_flags(&self, problems: &mut Vec<String>) {
        use MethodName::{Base, Beam, BestOfN, Cbs, Eft};
        let all_but_beam = [Base, BestOfN, Cbs, Eft];
        let flags: [(&str, bool, &[MethodName]); 11] = [
            ("--beam-width", self.beam_width.is_some(), &[Cbs, Beam]),
            ("--successors", self.successors.is_some(), &[Cbs]),
            ("--chunk-len", self.chunk_len.is_some(), &[Cbs]),
            ("--n", self.n.is_some(), &[BestOfN]),
            ("--weight", self.weight.is_some(), &[Eft]),
            ("--length-penalty", self.length_penalty.is_some(), &[Beam]),
            ("--early-stopping", self.early_stopping, &[Beam]),
            ("--semantics", self.semantics.is_some(), &[Cbs, BestOfN]),
            ("--temperature", self.temperature.is_some(), &all_but_beam),
            ("--top-k", self.top_k.is_some(), &all_but_beam),
            ("--top-p", self.top_p.is_some(), &all_but_beam),
        ];
        let name = |method: &MethodName| method.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        for (flag, given, methods) in flags {
            if given && !methods.contains(&self.method) {
                let of = methods.iter().map(name).collect::<Vec<_>>().join(" and ");
                let meant = if flag == "--weight" { "; the weight of a guide pair is --guide-weight" } else { "" };
                problems.push(format!("{flag} is of --method {of}, not of {}{meant}", name(&self.method)));
            }
        }
    }

    fn refuse_bad_settings(&self, method: &Method) -> Result<()> {
        let mut problems = Vec::new();
        self.refuse_idle_flags(&mut problems);
        if method.needs_guides() && self.tuned.is_empty() {
            problems.push("this method needs a guide pair: give --tuned and --untuned, or --method base or beam".to_owned());
        }
        if self.tuned.len() != self.untuned.len() {
            problems.push(format!("--tuned is given {} times and --untuned {} times", self.tuned.len(), self.untuned.len()));
        }
        if !self.guide_weight.is_empty() && self.guide_weight.len() != self.tuned.len() {
            problems.push(format!("--guide-weight is given {} times for {} guide pairs", self.guide_weight.len(), self.tuned.len()));
        }
        for (flag, number) in [("--weight", self.weight), ("--length-penalty", self.length_penalty)] {
            if let Some(number) = number.filter(|number| !number.is_finite()) {
                problems.push(format!("{flag} must be a number, not {number}"));
            }
        }
        if let Some(weight) = self.guide_weight.iter().find(|weight| !weight.is_finite()) {
            problems.push(format!("--guide-weight must be a number, not {weight}"));
        }
        let (temperature, top_p) = (self.temperature.unwrap_or(0.7), self.top_p.unwrap_or(1.0));
        if !(temperature >= 0.0 && temperature.is_finite()) {
            problems.push(format!("--temperature must be 0 or more, not {temperature}"));
        }
        let samples = match *method {
            Method::BestOfN { n } => n,
            Method::Cbs { beam_width, successors, .. } => beam_width * successors,
            _ => 1,
        };
        if temperature == 0.0 && samples > 1 {
            problems.push(format!("--temperature 0 makes all {samples} samples of this method the same; --method base decodes greedily"));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            problems.push(format!("--top-p must be above 0 and at most 1, not {top_p}"));
        }
        for (flag, template) in [("--base-template", &self.base_template), ("--guide-template", &self.guide_template)] {
            if template.matches("{prompt}").count() != 1 {
                problems.push(format!("{flag} must hold `{{prompt}}` once: `{template}`"));
            }
        }
        for hole in ["{prompt}", "{response}"] {
            if self.gold_text.as_ref().is_some_and(|text| text.matches(hole).count() != 1) {
                problems.push(format!("--gold-text must hold `{hole}` once"));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Recipe(problems)) }
    }
}
