//! What each stage's table says of the stage: where its words and its memory are written.

use std::fmt;

use super::stage::StageTable;
use super::{
    Direct, Dpo, Evaluate, Gold, Plan, PpoTable, PreferenceLabel, Preferences, Pretrain, Recipe,
    RewardModelTable, Sft, Stage, StageMemory, Steer, estimate,
};

impl StageTable for Pretrain {
    /// Where there is a model to make.
    fn is_asked(&self, recipe: &Recipe) -> bool {
        recipe.models.values().any(|model| model.scratch.is_some())
    }

    fn words(&self, plan: &Plan, out: &mut String) -> fmt::Result {
        plan.write_pretrain(out)
    }

    fn memory(&self, plan: &Plan) -> Option<StageMemory> {
        estimate::pretrain(plan)
    }
}

impl StageTable for Gold {
    fn words(&self, plan: &Plan, out: &mut String) -> fmt::Result {
        plan.write_gold(out, self)
    }

    fn memory(&self, plan: &Plan) -> Option<StageMemory> {
        estimate::gold(plan)
    }
}

impl StageTable for Preferences {
    fn needs(&self) -> Vec<Stage> {
        if self.label == PreferenceLabel::Kept { Vec::new() } else { vec![Stage::Gold] }
    }

    fn words(&self, plan: &Plan, out: &mut String) -> fmt::Result {
        plan.write_preferences(out, self)
    }

    fn memory(&self, plan: &Plan) -> Option<StageMemory> {
        estimate::preferences(plan, self)
    }
}

impl StageTable for Sft {
    fn needs(&self) -> Vec<Stage> {
        vec![Stage::Preferences]
    }

    fn words(&self, plan: &Plan, out: &mut String) -> fmt::Result {
        plan.write_sft(out)
    }

    fn memory(&self, plan: &Plan) -> Option<StageMemory> {
        estimate::sft(plan)
    }
}

impl StageTable for RewardModelTable {
    fn needs(&self) -> Vec<Stage> {
        vec![Stage::Preferences]
    }

    fn words(&self, plan: &Plan, out: &mut String) -> fmt::Result {
        plan.write_reward_model(out, self)
    }

    fn memory(&self, plan: &Plan) -> Option<StageMemory> {
        estimate::reward_model(plan)
    }
}

impl StageTable for Dpo {
    fn needs(&self) -> Vec<Stage> {
        vec![Stage::Preferences]
    }

    fn words(&self, plan: &Plan, out: &mut String) -> fmt::Result {
        plan.write_dpo(out)
    }

    fn memory(&self, plan: &Plan) -> Option<StageMemory> {
        estimate::dpo(plan)
    }
}

impl StageTable for Direct {
    fn needs(&self) -> Vec<Stage> {
        vec![Stage::Preferences]
    }

    fn words(&self, plan: &Plan, out: &mut String) -> fmt::Result {
        plan.write_direct(out)
    }

    fn memory(&self, plan: &Plan) -> Option<StageMemory> {
        estimate::direct(plan)
    }
}

impl StageTable for PpoTable {
    fn words(&self, plan: &Plan, out: &mut String) -> fmt::Result {
        plan.write_ppo(out)
    }

    fn memory(&self, plan: &Plan) -> Option<StageMemory> {
        estimate::ppo(plan, self)
    }
}

impl StageTable for Steer {
    fn words(&self, plan: &Plan, out: &mut String) -> fmt::Result {
        plan.write_steer(out, self)
    }

    fn memory(&self, plan: &Plan) -> Option<StageMemory> {
        estimate::steer(plan, self)
    }
}

impl StageTable for Evaluate {
    fn needs(&self) -> Vec<Stage> {
        vec![Stage::Steer, Stage::Gold]
    }

    fn words(&self, plan: &Plan, out: &mut String) -> fmt::Result {
        plan.write_evaluate(out, self)
    }

    fn memory(&self, plan: &Plan) -> Option<StageMemory> {
        estimate::evaluate(plan)
    }
}
