//! One file a stage: wires models, data and algorithms together and owns the loops; no maths.

mod context;
mod dpo;
mod evaluate;
mod gold;
mod language_task;
mod preferences;
mod pretrain;
mod sft;
mod steer;
mod steer_method;

pub use context::Context;
pub use steer_method::{LoadedGuide, Method, Parts, SteerLine, SteerSettings, check_prompt, steer_prompts};

use crate::error::Result;
use crate::recipe::Stage;

/// Does what is left of one stage.
pub fn run(stage: Stage, context: &Context) -> Result<()> {
    match stage {
        Stage::Pretrain => pretrain::run(context),
        Stage::Gold => gold::run(context),
        Stage::Preferences => preferences::run(context),
        Stage::Sft => sft::run(context),
        Stage::Dpo => dpo::run(context),
        Stage::Steer => steer::run(context),
        Stage::Evaluate => evaluate::run(context),
    }
}
