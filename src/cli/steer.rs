//! `w2s steer`: prompts from the shell or a file, one response each.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use clap::{Args, ValueEnum};

use super::{hub, print, to_json};
use crate::artifacts::interrupt;
use crate::error::{Error, Result};
use crate::models::{device, open_with_tokenizer};
use crate::recipe::Dtype;
use crate::sampling::Sampling;
use crate::score::{GoldReward, Guide};
use crate::search::Semantics;
use crate::stages::{LoadedGuide, Method, Parts, SteerSettings, check_prompt, proposer, steer_prompts};
use crate::text::{PromptTemplate, Tokenizer, read_prompts};

#[derive(Debug, Args)]
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
    #[arg(long, value_name = "WEIGHT", requires = "tuned", allow_negative_numbers = true)]
    guide_weight: Vec<f64>,
    /// A gold classifier or reward model, a folder or a hub id; adds `gold_reward`
    #[arg(long, value_name = "MODEL")]
    gold: Option<String>,
    /// What the gold model reads, with `{prompt}` and `{response}`, instead of the layout it was trained with
    #[arg(long, requires = "gold")]
    gold_text: Option<String>,
    #[arg(long, value_enum, default_value = "cbs")]
    method: MethodName,
    /// W of cbs: hypotheses kept after each chunk; B of beam
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    beam_width: u32,
    /// K of cbs: continuations of each hypothesis
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    successors: u32,
    /// L of cbs: tokens of a continuation
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    chunk_len: u32,
    /// N of best_of_n
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    n: u32,
    /// Of eft: 1 is the tuned guide's distribution where the base is the untuned guide, 0 the base's own
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    weight: f64,
    /// Of beam: scores are divided by the length to this power
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    length_penalty: f64,
    /// Of beam: end with the first B finished responses
    #[arg(long)]
    early_stopping: bool,
    /// official: the edge cases as in the authors' release
    #[arg(long, value_enum, default_value = "paper")]
    semantics: SemanticsName,
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    max_new_tokens: u32,
    /// Prompts searched at once: more are faster and take more memory
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    prompts_in_flight: u32,
    /// 0 is greedy
    #[arg(long, default_value_t = 0.7, allow_negative_numbers = true)]
    temperature: f64,
    /// 0 is off
    #[arg(long, default_value_t = 50)]
    top_k: usize,
    /// 1 is off
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
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

#[derive(Debug, Clone, Copy, ValueEnum)]
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
        // A folder without a chat template is told before any weights are read.
        template.render(&Tokenizer::open(&base)?, &prompts[0].1)?;
        pairs.iter().try_for_each(|(tuned, _)| guide_template.render(&Tokenizer::open(tuned)?, &prompts[0].1).map(drop))?;
        let open = |folder: &PathBuf| open_with_tokenizer(folder, device, kind).map(|(lm, tokenizer)| (Rc::new(lm), Rc::new(tokenizer)));
        let (base, tokenizer) = open(&base)?;
        let mut guides = Vec::new();
        for (index, (tuned, untuned)) in pairs.iter().enumerate() {
            let ((tuned, tokenizer), (untuned, _)) = (open(tuned)?, open(untuned)?);
            let guide = Guide { tuned, untuned, tokenizer, template: guide_template.clone() };
            guides.push((self.guide_weight.get(index).copied().unwrap_or(1.0), Rc::new(guide)));
        }
        let mut guide = if guides.is_empty() { None } else { Some(LoadedGuide::for_base(guides, &tokenizer)?) };
        let gold = gold.as_ref().map(|folder| GoldReward::open(folder, device, kind, self.gold_text.as_deref())).transpose()?;
        let sampling = Sampling::new(self.temperature, self.top_k, self.top_p);
        let settings = SteerSettings {
            sampling,
            max_new_tokens: self.max_new_tokens as usize,
            stop: self.stop.clone(),
            semantics: match self.semantics {
                SemanticsName::Paper => Semantics::Paper,
                SemanticsName::Official => Semantics::Official,
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
            MethodName::BestOfN => Method::BestOfN { n: self.n as usize },
            MethodName::Cbs => Method::Cbs {
                beam_width: self.beam_width as usize,
                successors: self.successors as usize,
                chunk_len: self.chunk_len as usize,
            },
            MethodName::Eft => Method::Eft { weight: self.weight },
            MethodName::Beam => Method::Beam {
                beam_width: self.beam_width as usize,
                length_penalty: self.length_penalty,
                early_stopping: self.early_stopping,
            },
        }
    }

    fn refuse_bad_settings(&self, method: &Method) -> Result<()> {
        let mut problems = Vec::new();
        if method.needs_guides() && self.tuned.is_empty() {
            problems.push("this method needs a guide pair: give --tuned and --untuned, or --method base".to_owned());
        }
        if self.tuned.len() != self.untuned.len() {
            problems.push(format!("--tuned is given {} times and --untuned {} times", self.tuned.len(), self.untuned.len()));
        }
        if !self.guide_weight.is_empty() && self.guide_weight.len() != self.tuned.len() {
            problems.push(format!("--guide-weight is given {} times for {} guide pairs", self.guide_weight.len(), self.tuned.len()));
        }
        for (flag, number) in [("--weight", self.weight), ("--length-penalty", self.length_penalty)] {
            if !number.is_finite() {
                problems.push(format!("{flag} must be a number, not {number}"));
            }
        }
        if let Some(weight) = self.guide_weight.iter().find(|weight| !weight.is_finite()) {
            problems.push(format!("--guide-weight must be a number, not {weight}"));
        }
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            problems.push(format!("--temperature must be 0 or more, not {}", self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            problems.push(format!("--top-p must be above 0 and at most 1, not {}", self.top_p));
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
