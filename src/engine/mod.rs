//! One object that answers prompts: a base that proposes, guides that score or are mixed in, and
//! the method that joins them. Stages, the shell and benches are its guests, and so is whoever else
//! has prompts.
//!
//! ```text
//! // A base and guides, opened once.
//! let mut engine = Engine::open(method, settings, Box::new(policy), pairs)?;
//! // As many prompts at once as memory has room for.
//! let in_flight = engine.plan(&prompts)?;
//! // Prompts are pulled, and answers come as they are found.
//! engine.answer(seed, in_flight, &mut desk)?;
//! ```
//!
//! Judges are none of its parts: what an answer is worth to others is asked of its text, at any
//! time.

mod base;
mod desk;
mod guides;
mod line;
mod memory;
mod prompt_room;
mod settings;

use std::rc::Rc;

pub use base::Base;
pub use desk::Desk;
pub use guides::Guides;
pub use line::{SteerLine, TokenCounts};
pub use memory::{Reader, Sizes};
pub use prompt_room::{Part, PromptReader, WordBound, check as check_prompts, refuse_long};
pub use settings::SteerSettings;

use crate::error::{Error, Result};
use crate::machine::memory::free_bytes;
use crate::prompt::Prompt;
use crate::recipe::{Method, served_guides_only_score, two_vocabularies};
use crate::score::{Guide, GuidePair, NoGuide};
use crate::search::{Drive, Scorer};
use desk::{Asking, Manner};

pub struct Engine {
    method: Method,
    pub settings: SteerSettings,
    base: Box<dyn Base>,
    guides: Option<Guides>,
    readers: Vec<PromptReader>,
}

impl Engine {
    /// Joins a base and guide pairs with their weights for one method; where the method tilts, the
    /// guides are mixed into the base.
    ///
    /// # Errors
    /// [`Error::Recipe`] where the method needs guides and there are none, or mixes in guides that
    /// cannot be: of another vocabulary, or into a base that does not tell its next tokens.
    pub fn open(
        method: Method,
        settings: SteerSettings,
        base: Box<dyn Base>,
        pairs: Vec<(f64, Rc<GuidePair>)>,
    ) -> Result<Self> {
        let pairs = pairs.into_iter().map(|(weight, pair)| (weight, Guide::Here(pair)));
        Self::join(method, settings, base, pairs.collect())
    }

    /// [`Self::open`] with pairs that others may serve.
    ///
    /// # Errors
    /// [`Error::Recipe`] also where the method asks such a pair for more than scores.
    pub fn join(
        method: Method,
        settings: SteerSettings,
        mut base: Box<dyn Base>,
        pairs: Vec<(f64, Guide)>,
    ) -> Result<Self> {
        if method.needs_guides() && pairs.is_empty() {
            return Err(Error::recipe(
                "this method needs a guide pair\n\nhint: give a tuned and an untuned model",
            ));
        }
        let vocabulary = base.vocabulary();
        let guides = if pairs.is_empty() {
            None
        } else {
            Some(Guides::for_base(pairs, vocabulary.as_ref())?)
        };
        let difference = guides.as_ref().and_then(Guides::difference);
        if let Some(difference) = difference.filter(|_| method.needs_one_vocabulary()) {
            let how = format!("two: {difference}");
            let what = two_vocabularies(&method.search, "base", "guide", &how);
            return Err(Error::recipe(what));
        }
        let asks_for_all = method.needs_one_vocabulary();
        if guides.as_ref().is_some_and(|guides| asks_for_all && !guides.are_here()) {
            return Err(Error::recipe(served_guides_only_score(method.search.kind().name)));
        }
        if let (Some(weight), Some(guides)) = (method.proposal.tilt(), &guides) {
            base = base.mix(guides.members(weight))?;
        }
        let readers = base
            .prompt_readers()
            .into_iter()
            .chain(guides.iter().flat_map(Guides::prompt_readers))
            .collect();
        Ok(Self { method, settings, base, guides, readers })
    }

    /// Refuses a prompt that leaves the models too little room to answer.
    pub fn check(&self, prompt: &Prompt) -> Result<()> {
        refuse_long(std::slice::from_ref(prompt), self.settings.max_new_tokens, &self.readers, None)
    }

    /// How many of such prompts are to be answered at once: as many as the settings say, or as fit
    /// into memory.
    ///
    /// # Errors
    /// [`Error::Failed`] with the arithmetic where one prompt does not fit.
    pub fn plan(&self, prompts: &[Prompt]) -> Result<usize> {
        // A base with latency is kept busy: each prompt has a request under way.
        let busy = self.base.at_once().unwrap_or(0);
        let most = self.settings.prompts_in_flight.max(busy).min(prompts.len());
        // The longest text stands for the prompt with the most tokens.
        let Some(longest) = prompts.iter().max_by_key(|prompt| prompt.text.len()) else {
            return Ok(most);
        };
        let sizes = Sizes::of(&self.method.search, self.settings.max_new_tokens);
        let mut readers = self.base.footprint(&longest.text, &sizes)?;
        if let Some(guides) = &self.guides {
            readers.extend(guides.footprint(&longest.text, &sizes)?);
        }
        memory::prompts_in_flight(most, &readers, free_bytes)
    }

    /// Tells at any time what is under way with a base that others serve, and what it costs.
    pub fn meter(&self) -> Option<Box<dyn Fn() -> String>> {
        self.base.meter()
    }

    /// Answers the prompts of the desk, `in_flight` of them at once. The random numbers of a
    /// response depend on the seed and the prompt's id alone, so neither the company of other
    /// prompts nor their order changes an answer.
    ///
    /// # Errors
    /// Those of the desk, and where base or guides fail altogether. What concerns one prompt loses
    /// that prompt alone.
    pub fn answer(&mut self, seed: u64, in_flight: usize, desk: &mut dyn Desk) -> Result<()> {
        let Self { method, settings, base, guides, readers } = self;
        let mut no_guide = NoGuide;
        let is_guided = guides.is_some();
        let scorer: &mut dyn Scorer = match guides {
            Some(guides) => &mut guides.scorer,
            None => &mut no_guide,
        };
        let check = |prompt: &Prompt| {
            refuse_long(std::slice::from_ref(prompt), settings.max_new_tokens, readers, None)
        };
        let manner = Manner { seed, stop: &settings.stop, is_guided, with_trace: settings.trace };
        let mut asking = Asking::new(desk, &check, manner);
        let (search, asked) = (method.search.settings(), settings.asked());
        Drive { proposer: &mut **base, scorer, in_flight }
            .run(&|opened| search.begin(&asked, opened), &mut asking)?;
        asking.tell();
        Ok(())
    }
}
