//! Who is tuned on the preference pairs and how, as the plan says it: all that SFT and DPO know of
//! whom they tune.

use crate::error::{Error, Result};
use crate::losses::DpoObjective;
use crate::recipe::{LossOn, Plan, Training};

/// Who is tuned on the preference pairs.
#[derive(Debug, Clone, PartialEq)]
pub enum Pupil {
    Guide,
    /// The guide with this setting of `dpo.sweep`; before DPO it is [`Self::Guide`].
    Swept(String),
    /// A model that `[direct]` tunes.
    Direct(String),
}

/// SFT (where it is asked for) and DPO of one model of the recipe.
pub struct Tuning<'a> {
    /// Its template and its device count.
    pub model: &'a str,
    /// Where the loss is taken, and the optimisation.
    pub sft: Option<(LossOn, &'a Training)>,
    /// What is minimised, and the optimisation.
    pub dpo: Option<(DpoObjective, &'a Training)>,
}

impl<'a> Tuning<'a> {
    fn of_guide(plan: &'a Plan, setting: Option<&str>) -> Result<Self> {
        let (recipe, training) = (&plan.recipe, &plan.training);
        Ok(Self {
            model: recipe
                .guide_model()
                .ok_or_else(|| Error::recipe("the recipe has no model to tune"))?,
            sft: training.sft.as_ref().map(|training| (recipe.sft_on(), training)),
            dpo: training
                .dpo
                .iter()
                .find(|dpo| dpo.setting.as_deref() == setting)
                .map(|dpo| (dpo.objective, &dpo.training)),
        })
    }

    fn of_direct(plan: &'a Plan, model: &'a str) -> Result<Self> {
        let training = plan.training.direct.get(model);
        let training = training
            .ok_or_else(|| Error::recipe(format!("the recipe does not tune `{model}` directly")))?;
        Ok(Self {
            model,
            sft: training.sft.as_ref().map(|training| (plan.recipe.sft_on(), training)),
            dpo: Some((training.objective, &training.dpo)),
        })
    }
}

impl Pupil {
    /// The guide, with a setting of `dpo.sweep` where that has any.
    pub fn guide(setting: &Option<String>) -> Self {
        setting.clone().map_or(Self::Guide, Self::Swept)
    }

    /// Whose SFT its DPO starts from.
    pub fn before_dpo(&self) -> Self {
        match self {
            Self::Swept(_) => Self::Guide,
            pupil => pupil.clone(),
        }
    }

    /// The folder of what `stage`, `sft` or `dpo`, makes of it.
    pub fn folder(&self, stage: &str) -> String {
        match self {
            Self::Guide => stage.to_owned(),
            Self::Swept(setting) if stage == "dpo" => format!("{stage}/{setting}"),
            Self::Swept(_) => stage.to_owned(),
            Self::Direct(model) => format!("direct/{model}/{stage}"),
        }
    }

    /// How it is tuned.
    ///
    /// # Errors
    /// [`Error::Recipe`] where the recipe does not tune it.
    pub fn tuning<'a>(&'a self, plan: &'a Plan) -> Result<Tuning<'a>> {
        match self {
            Self::Guide => Tuning::of_guide(plan, None),
            Self::Swept(setting) => Tuning::of_guide(plan, Some(setting)),
            Self::Direct(model) => Tuning::of_direct(plan, model),
        }
    }
}
