//! `w2s steer`: prompts from the shell or a file, one response each. Opens what the flags name and
//! hands it to the engine; what the flags mean is left to a recipe's rules (`steer/as_recipe.rs`).

mod as_recipe;
mod escapes;
mod folders;
mod gold;
mod printed;
mod served;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};

use self::folders::{Folders, Templates, check_lengths, check_vocabularies};
use self::gold::GoldFlags;
use self::printed::Printed;
use self::served::ServedFlags;
use super::hub;
use super::search_flags::{SearchFlags, top_k_kinds};
use super::settings::key_help;
use crate::artifacts::interrupt;
use crate::engine::{Base, Engine, SteerSettings};
use crate::error::{Error, Result};
use crate::http::address::is_address;
use crate::machine::device;
use crate::models::{check_lm_folders, open_with_tokenizer};
use crate::policy::LocalPolicy;
use crate::prompt::Prompt;
use crate::recipe::{Dtype, base_kinds};
use crate::score::{GuidePair, JudgeModel};
use crate::search::{CbsSettings, Search};
use crate::text::{PromptTemplate, Tokenizer, read_prompts};

#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct SteerCommand {
    /// The model to steer: a folder, a hub id `owner/name[@revision]`, or the address of a server,
    /// such as `http://127.0.0.1:8000/v1`
    #[arg(long, value_name = "MODEL")]
    base: String,
    #[command(flatten)]
    served: ServedFlags,
    /// The tuned guide: a folder or a hub id; may be repeated for several pairs
    #[arg(long, value_name = "MODEL", requires = "untuned")]
    tuned: Vec<String>,
    /// The untuned guide of the same pair
    #[arg(long, value_name = "MODEL", requires = "tuned")]
    untuned: Vec<String>,
    /// Weight of each pair's score, in their order; below 0 steers away
    #[arg(long, value_name = "WEIGHT", requires = "tuned")]
    guide_weight: Vec<f64>,
    #[command(flatten)]
    gold: GoldFlags,
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
    #[arg(long, value_enum, help = key_help("steer.semantics"))]
    semantics: Option<SemanticsName>,
    #[arg(
        long,
        help = key_help("steer.max_new_tokens"),
        default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    max_new_tokens: u32,
    #[arg(
        long,
        help = key_help("steer.prompts_in_flight"),
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    prompts_in_flight: Option<u32>,
    #[arg(long, help = key_help("steer.sampling.temperature"))]
    temperature: Option<f64>,
    #[arg(long, help = top_k_help())]
    top_k: Option<u32>,
    #[arg(long, help = key_help("steer.sampling.top_p"))]
    top_p: Option<f64>,
    /// A response ends before this text, such as '\n' for the end of a line; may be repeated
    #[arg(long, value_name = "TEXT", value_parser = escapes::read)]
    stop: Vec<String>,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i64).range(0..))]
    seed: i64,
    /// What the base reads; `{prompt}` is the prompt, `\n` the end of a line
    #[arg(long, default_value = "{prompt}", value_parser = escapes::read)]
    base_template: String,
    /// What the guides read
    #[arg(long, default_value = "{prompt}", value_parser = escapes::read)]
    guide_template: String,
    /// The filled base template is the user's turn of the base's chat template
    #[arg(long)]
    base_chat: bool,
    /// What the system says to the base before it; "" for an empty turn
    #[arg(long, value_name = "TEXT", requires = "base_chat", value_parser = escapes::read)]
    base_system: Option<String>,
    /// The filled guide template is the user's turn of the guides' chat template
    #[arg(long)]
    guide_chat: bool,
    /// What the system says to the guides before it; "" for an empty turn
    #[arg(long, value_name = "TEXT", requires = "guide_chat", value_parser = escapes::read)]
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
    /// With --json: the search tree too
    #[arg(long, requires = "json")]
    trace: bool,
    /// A file of prompts, `-` for standard input: rows in any layout that data files have, with
    /// `prompt`, `instruction` or `messages` and perhaps `id`; a JSON array of texts; or a prompt
    /// on each line
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// The column of the prompts in that file
    #[arg(long, value_name = "NAME", requires = "prompts")]
    prompt_column: Option<String>,
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
        // 1. What is asked for, by a recipe's rules.
        let (recipe, problems, words) = self.settings()?;
        let steer =
            recipe.steer.as_ref().filter(|_| problems.is_empty()).ok_or(Error::Recipe(problems))?;
        let settings = SteerSettings::of(steer, steer.answering(&recipe, "base"));
        let (_, method) = steer.method[0].methods().swap_remove(0);
        let prompts = self.all_prompts()?;
        // 2. Where the models lie, and whether they can be used, before any weights are read.
        let device = device::parse(&self.device)?;
        let folders = self.folders()?;
        let templates = self.templates();
        self.check_folders(&folders, &templates, &prompts[0])?;
        folders.tell_notes()?;
        check_vocabularies(&recipe, &words, &folders)?;
        check_lengths(&prompts, (&settings, method.proposal), &folders, &templates)?;
        // 3. The models.
        let kind = device::inference_kind(self.dtype.dtype(), device);
        let open = |folder: &PathBuf| {
            open_with_tokenizer(folder, device, kind)
                .map(|(lm, tokenizer)| (Rc::new(lm), Rc::new(tokenizer)))
        };
        let template = templates.base.clone();
        let base: Box<dyn Base> = match &folders.base {
            None => Box::new(self.served.open(&recipe, template, &settings)?),
            Some(folder) => {
                let (base, tokenizer) = open(folder)?;
                let (sampling, stop) = (settings.sampling, settings.stop.clone());
                Box::new(LocalPolicy::new(base, tokenizer, template, sampling, stop))
            }
        };
        let mut guides = Vec::new();
        for (pair, (tuned, untuned)) in steer.guide.iter().zip(&folders.pairs) {
            let guide = GuidePair::new(open(tuned)?, open(untuned)?, templates.guides.clone())?;
            guides.push((pair.weight, Rc::new(guide)));
        }
        let gold = self.gold.open(folders.gold.as_deref(), &recipe, device, kind)?;
        let mut engine = Engine::open(method, settings, base, guides)?;
        // 4. The answers.
        interrupt::install()?;
        let in_flight = engine.plan(&prompts)?;
        let mut desk = Printed::new(prompts, gold, self.json);
        engine.answer(recipe.run.seeds[0], in_flight, &mut desk)?;
        if desk.lost.is_empty() { Ok(()) } else { Err(Error::Lost(desk.lost)) }
    }

    /// The prompts of the command line, then those of the file.
    fn all_prompts(&self) -> Result<Vec<Prompt>> {
        let numbered = self.prompt.iter().enumerate();
        let mut prompts: Vec<Prompt> = numbered
            .map(|(i, prompt)| Prompt::new(format!("prompt-{i}"), prompt.as_str()))
            .collect();
        if let Some(file) = &self.prompts {
            let read = read_prompts(file, self.prompt_column.as_deref())?;
            if let Some(twice) = read.iter().find(|read| prompts.iter().any(|p| p.id == read.id)) {
                return Err(Error::recipe(format!(
                    "a prompt of {} has the id `{}`, which one of the command line has",
                    file.display(),
                    twice.id
                )));
            }
            prompts.extend(read);
        }
        if prompts.is_empty() {
            return Err(Error::recipe(
                "no prompt given\n\nhint: `w2s steer --base M … \"The film\"`, or --prompts FILE",
            ));
        }
        Ok(prompts)
    }

    /// The models as folders; those of the hub are fetched.
    fn folders(&self) -> Result<Folders> {
        let is_here = !is_address(&self.base);
        let base = is_here.then(|| hub::model(&self.base)).transpose()?;
        let pairs = self.tuned.iter().zip(&self.untuned);
        let pairs = pairs.map(|(tuned, untuned)| Ok((hub::model(tuned)?, hub::model(untuned)?)));
        let pairs = pairs.collect::<Result<_>>()?;
        Ok(Folders { base, pairs, gold: self.gold.folder()? })
    }

    fn templates(&self) -> Templates {
        let base = template_of(&self.base_template, self.base_chat, self.base_system.as_deref());
        let guides =
            template_of(&self.guide_template, self.guide_chat, self.guide_system.as_deref());
        Templates { base: base.with_bos(self.base_bos), guides: guides.with_bos(self.guide_bos) }
    }

    /// Whatever cannot be opened, or cannot chat, is told of all models at once.
    fn check_folders(
        &self,
        folders: &Folders,
        templates: &Templates,
        first: &Prompt,
    ) -> Result<()> {
        let Folders { base, pairs, gold } = folders;
        let models = folders.guides().chain(base.as_deref());
        let judge = gold.as_deref().map_or(Ok(()), JudgeModel::check_folder);
        // A tokenizer that does not open is told with its model.
        let chats = |folder: &Path, template: &PromptTemplate| {
            Tokenizer::open(folder)
                .map_or(Ok(()), |tokenizer| template.render(&tokenizer, &first.text).map(drop))
        };
        let chats = base
            .iter()
            .map(|base| chats(base, &templates.base))
            .chain(pairs.iter().map(|(tuned, _)| chats(tuned, &templates.guides)));
        Error::several([check_lm_folders(models), judge].into_iter().chain(chats))
    }
}

/// It is a key of the sampling, or of a search that does not draw.
fn top_k_help() -> String {
    let of_search = Search::key("top_k").map_or("", |key| key.help.as_str());
    let kinds = top_k_kinds().collect::<Vec<_>>().join(", ");
    format!("{}; {kinds}: {of_search}", key_help("steer.sampling.top_k"))
}

fn template_of(template: &str, chat: bool, system: Option<&str>) -> PromptTemplate {
    if chat { PromptTemplate::chat(template, system) } else { PromptTemplate::new(template, None) }
}
