//! The plan's models on this machine: their folders, how they are prompted, where they are put, and
//! how they are opened. How they are read is the room `models`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::placements::{Placement, Placements};
use super::tuning_plan::Pupil;
use crate::error::{Error, Result};
use crate::models::{Lm, open_with_tokenizer, tokenizer_and_context};
use crate::recipe::{
    GOLD, GuidePairSource, GuideSource, JudgeSource, Model, Plan, Recipe, tokenizer_folder,
};
use crate::score::{GuidePair, Judge, JudgeModel};
use crate::text::{PromptTemplate, Tokenizer};

/// A model and its tokenizer.
pub type Opened = (Rc<Lm>, Rc<Tokenizer>);

pub struct Models {
    plan: Rc<Plan>,
    run_dir: PathBuf,
    placements: Placements,
    /// How the vocabularies of two models differ, once it was asked for.
    differences: RefCell<HashMap<(String, String), Option<String>>>,
}

impl Models {
    pub fn new(plan: Rc<Plan>, run_dir: &Path) -> Result<Self> {
        let (placements, run_dir) = (Placements::of(&plan)?, run_dir.to_owned());
        Ok(Self { plan, run_dir, placements, differences: RefCell::default() })
    }

    fn recipe(&self) -> &Recipe {
        &self.plan.recipe
    }

    pub fn placements(&self) -> &Placements {
        &self.placements
    }

    /// Where the model `name` of the recipe is put; what descends from it goes with it.
    pub fn placement(&self, name: &str) -> Result<Placement> {
        self.placements.model(name)
    }

    /// The folder of a model of the recipe: its `id`, or where pretraining puts it; of one that
    /// others serve that of its tokenizer, if it has one.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let model = self.table(name)?;
        let tokenizer = model.api.as_ref().and_then(|api| api.tokenizer.as_ref());
        Ok(model
            .id
            .as_ref()
            .or(tokenizer)
            .map_or_else(|| self.run_dir.join("models").join(name), PathBuf::from))
    }

    pub fn guide_folder(&self, source: &GuideSource) -> Result<PathBuf> {
        match source {
            GuideSource::Model(name) => self.folder(name),
            GuideSource::Sft => Ok(self.run_dir.join(Pupil::Guide.folder("sft"))),
            GuideSource::Dpo(setting) => Ok(self.run_dir.join(Pupil::guide(setting).folder("dpo"))),
        }
    }

    /// The recipe's model that a guide descends from; its prompt template is the guide's.
    pub fn of_guide<'a>(&'a self, source: &'a GuideSource) -> Result<&'a str> {
        self.plan.model_of(source).ok_or_else(|| Error::recipe("the recipe has no model to tune"))
    }

    pub fn template(&self, name: &str) -> Result<PromptTemplate> {
        PromptTemplate::of(self.table(name)?)
    }

    /// What the recipe says of its model `name`.
    pub fn table(&self, name: &str) -> Result<&Model> {
        let model = self.recipe().models.get(name);
        model.ok_or_else(|| Error::recipe(format!("no model `{name}` in the recipe")))
    }

    /// How the vocabularies of two models of the recipe differ; `None` where they are one, and
    /// before both tokenizers are there.
    pub fn vocabularies_differ(&self, one: &str, other: &str) -> Result<Option<String>> {
        let folders = [self.folder(one)?, self.folder(other)?];
        let has = |folder: &PathBuf| tokenizer_folder(folder).join("tokenizer.json").is_file();
        if folders[0] == folders[1] || !folders.iter().all(has) {
            return Ok(None);
        }
        let key = (one.to_owned(), other.to_owned());
        if let Some(known) = self.differences.borrow().get(&key) {
            return Ok(known.clone());
        }
        let [mine, theirs] = folders.map(|folder| tokenizer_and_context(&folder));
        let (mine, theirs) = (mine?.0.vocabulary(), theirs?.0.vocabulary());
        let difference = mine.difference(&theirs).map(|difference| difference.to_string());
        self.differences.borrow_mut().insert(key, difference.clone());
        Ok(difference)
    }

    /// A frozen model and its tokenizer, put where the recipe puts its model `name`.
    pub fn open(&self, folder: &Path, name: &str) -> Result<Opened> {
        let Placement { device, kind } = self.placement(name)?;
        let (lm, tokenizer) = open_with_tokenizer(folder, device, kind)?;
        Ok((Rc::new(lm), Rc::new(tokenizer)))
    }

    /// A guide pair, its models opened by `open` from their folders and the recipe's models that
    /// these descend from.
    pub fn guide(
        &self,
        pair: &GuidePairSource,
        open: &mut dyn FnMut(&Path, &str) -> Result<Opened>,
    ) -> Result<Rc<GuidePair>> {
        let [tuned_name, untuned_name] =
            [self.of_guide(&pair.tuned)?, self.of_guide(&pair.untuned)?];
        let tuned = open(&self.guide_folder(&pair.tuned)?, tuned_name)?;
        let untuned = open(&self.guide_folder(&pair.untuned)?, untuned_name)?;
        Ok(Rc::new(GuidePair::new(tuned, untuned, self.template(tuned_name)?)?))
    }

    /// The judge `name` of the recipe; one that is not opened here is asked nothing yet.
    pub fn open_judge(&self, name: &str) -> Result<Judge> {
        let judge = self
            .recipe()
            .judge(name)
            .ok_or_else(|| Error::recipe(format!("the recipe has no judge `{name}`")))?;
        if let Some(outside) = Judge::outside(judge, &self.plan.folder)? {
            return Ok(outside);
        }
        let folder = match judge.source {
            JudgeSource::Model(id) => PathBuf::from(id),
            _ => self.run_dir.join(GOLD),
        };
        let Placement { device, kind } = self.placements.judge(name)?;
        let model = JudgeModel::open(&folder, device, kind, judge.text)?;
        Ok(Judge::Model(Box::new(model)))
    }

    /// The judge of `[gold]`.
    pub fn open_gold(&self) -> Result<Judge> {
        self.open_judge(GOLD)
    }
}
