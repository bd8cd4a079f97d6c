//! `[run]`: what a run is called, and where and how often it computes.

use std::fmt::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::rules::{Rules, first_twice};

/// The run as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Names the run directory below `checkpoints/`. Letters, digits, `.`, `_` and `-`.
    #[schemars(extend("x-also" = ["run_name", "output_dir"]))]
    #[schemars(example = &"trial")]
    pub name: String,
    /// Where the random numbers start: the first seed drives data, training and preferences;
    /// steering and PPO are repeated for each.
    #[serde(default = "one_seed")]
    #[schemars(extend("x-also" = ["seed"]))]
    pub seeds: Vec<u64>,
    /// Where models are put: `cpu`, `cuda` or `cuda:N`.
    #[serde(default = "cpu")]
    pub device: String,
    /// The precision of weights at inference, and of the forward and backward passes of SFT and
    /// DPO, whose master weights are f32. What is trained whole keeps `float32` weights, which take
    /// the updates and are saved; f16 is for inference alone, and models and classifiers made from
    /// scratch train in `float32`.
    #[serde(default)]
    #[schemars(extend("x-also" = ["torch_dtype", "bf16", "fp16", "precision"]))]
    pub dtype: Dtype,
    /// CPU threads; by default one for each core that the process may use, within its CPU quota.
    /// `OMP_NUM_THREADS` in the environment wins.
    #[schemars(range(min = 1))]
    #[schemars(extend("x-hint" = "leave it out to use all that the machine allows"))]
    #[schemars(example = 8)]
    pub threads: Option<usize>,
}

/// The precision of a model's weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// bf16 where the processor multiplies it natively, f32 elsewhere.
    #[default]
    Auto,
    /// f32.
    #[serde(alias = "f32")]
    Float32,
    /// bf16.
    #[serde(alias = "bf16")]
    Bfloat16,
    /// f16.
    #[serde(alias = "f16")]
    Float16,
}

impl Run {
    /// Drives data, training and preferences; the other seeds are steered and rewarded with one by
    /// one.
    pub fn seed(&self) -> u64 {
        let Self { name: _, seeds, device: _, dtype: _, threads: _ } = self;
        seeds[0]
    }

    pub(in crate::recipe) fn rules(&self, rules: &mut Rules) {
        rules.folder_name("run.name", &self.name);
        if self.seeds.is_empty() {
            rules.problem("`run.seeds` is empty, expected one seed or more");
        }
        if let Some(twice) = first_twice(&self.seeds) {
            rules.problem(format!("`run.seeds` holds {twice} twice"));
        }
        rules.device("run.device", &self.device);
    }

    pub(in crate::recipe) fn words(&self, out: &mut String) -> fmt::Result {
        let Self { name, seeds, device, dtype, threads } = self;
        let seeds = seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let threads = threads.map_or_else(
            || "all threads that the machine allows".to_owned(),
            |threads| format!("{threads} threads"),
        );
        let dtype = format!("{dtype:?}").to_lowercase();
        writeln!(out, "run {name}\n  seeds {seeds}; device {device}; dtype {dtype}; {threads}")
    }
}

fn one_seed() -> Vec<u64> {
    vec![1]
}
fn cpu() -> String {
    "cpu".into()
}
