//! The flags of `w2s steer` for who says what the answers are worth.

use std::path::{Path, PathBuf};

use clap::Args;
use tch::{Device, Kind};

use super::escapes;
use crate::cli::hub;
use crate::cli::settings::Settings;
use crate::error::Result;
use crate::http::address::is_address;
use crate::recipe::{GOLD, Recipe};
use crate::score::{Judge, JudgeModel};

#[derive(Debug, Args)]
pub(super) struct GoldFlags {
    /// A gold classifier or reward model, a folder or a hub id, or the address of a server of
    /// rewards; adds `gold_reward` to what --json prints
    #[arg(long, value_name = "MODEL")]
    gold: Option<String>,
    /// A program as the gold, by a line of the shell: it reads a line of JSON for each response and
    /// writes a number
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["gold", "gold_text"])]
    gold_command: Option<String>,
    /// What the gold reads, with `{prompt}` and `{response}`, instead of the layout it was trained
    /// with
    #[arg(long, requires = "gold", value_parser = escapes::read)]
    gold_text: Option<String>,
}

impl GoldFlags {
    /// As a recipe says it.
    pub fn put(&self, settings: &mut Settings) {
        if let Some(gold) = &self.gold {
            let key = if is_address(gold) { "gold.url" } else { "gold.id" };
            settings.flag("--gold", key, Some(gold.as_str()));
            settings.flag("--gold-text", "gold.text", self.gold_text.as_deref());
        }
        if let Some(command) = &self.gold_command {
            let words = vec!["sh".to_owned(), "-c".to_owned(), command.clone()];
            settings.flag("--gold-command", "gold.command", Some(words));
        }
    }

    /// The folder of a model that is opened here.
    pub fn folder(&self) -> Result<Option<PathBuf>> {
        let model = self.gold.as_deref().filter(|gold| !is_address(gold));
        model.map(hub::model).transpose()
    }

    /// The judge, where one is asked: the model of `folder`, or what `recipe` says, which these
    /// flags are.
    pub fn open(
        &self,
        folder: Option<&Path>,
        recipe: &Recipe,
        device: Device,
        kind: Kind,
    ) -> Result<Option<Judge>> {
        if let Some(folder) = folder {
            let model = JudgeModel::open(folder, device, kind, self.gold_text.as_deref())?;
            return Ok(Some(Judge::Model(Box::new(model))));
        }
        let judge = recipe.judge(GOLD);
        judge.map_or(Ok(None), |judge| Judge::outside(judge, Path::new(".")))
    }
}
