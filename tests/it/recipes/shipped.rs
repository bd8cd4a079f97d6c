//! The recipes that are shipped.

use std::path::{Path, PathBuf};

use w2s::recipe::{Stage, load};

use super::{TINY_DISTILBERT, TINY_GPT2, model_folder, resolve, shipped};

fn below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            found.push(path);
        }
    }
}

/// Overrides that put folders in the place of what a recipe takes from elsewhere.
fn stand_ins(path: &Path, data: &Path) -> Vec<String> {
    let (guide, gold) = (data.join("guide"), data.join("gold"));
    model_folder(&guide, &TINY_GPT2.replace("64", "256"));
    model_folder(&gold, TINY_DISTILBERT);
    let recipe = load(path, &[]).unwrap_or_else(|error| panic!("{error}"));
    let models = recipe.models.iter().filter(|(_, model)| model.id.is_some());
    let models = models.map(|(name, _)| format!("models.{name}.id={}", guide.display()));
    let judge = recipe.gold.filter(|gold| gold.id.is_some());
    let judge = judge.map(|_| format!("gold.id={}", gold.display()));
    let is_built_in = recipe.data.unwrap().source.starts_with("builtin:");
    let source = (!is_built_in).then(|| format!("data.source={}", data.display()));
    models.chain(judge).chain(source).collect()
}

#[test]
fn every_recipe_parses_and_validates() {
    let mut paths = Vec::new();
    below(&shipped(""), &mut paths);
    assert_eq!(paths.len(), 7, "{paths:?}");
    for path in paths {
        let data = tempfile::tempdir().unwrap();
        let overrides = stand_ins(&path, data.path());
        let overrides: Vec<&str> = overrides.iter().map(String::as_str).collect();
        let plan = resolve(&path, &overrides).unwrap_or_else(|error| panic!("{error}"));
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert_eq!(plan.recipe.run.name, name);
        let stages: Vec<Stage> =
            Stage::ALL.into_iter().filter(|stage| !without(name).contains(stage)).collect();
        assert_eq!(plan.stages, stages, "{}", path.display());
        let head = std::fs::read_to_string(&path).unwrap();
        for promised in
            ["# Launch:", "# Needs:", "# Takes:", "# Expected:  table in docs/results.md"]
        {
            assert!(head.contains(promised), "{}: no {promised:?}", path.display());
        }
    }
}

/// The stages that a shipped recipe leaves out. Direct tuning would double the time of the demo;
/// published models need no pretraining, and the released command had no SFT. Where the gold is
/// there before the pairs, no reward model is due.
fn without(recipe: &str) -> &'static [Stage] {
    match recipe {
        "smoke" => &[],
        "demo" => &[Stage::RewardModel, Stage::Direct, Stage::Ppo],
        "ppo-sentiment" => &[Stage::Pretrain, Stage::RewardModel, Stage::Direct],
        "ppo-sentiment-small" => &[Stage::RewardModel, Stage::Direct],
        "sentiment-paper" => &[Stage::Pretrain, Stage::RewardModel, Stage::Direct, Stage::Ppo],
        "sentiment-released" => {
            &[Stage::Pretrain, Stage::Sft, Stage::RewardModel, Stage::Direct, Stage::Ppo]
        }
        _ => &[Stage::RewardModel, Stage::Ppo],
    }
}

#[test]
fn the_imdb_recipe_takes_models_and_gold_from_folders() {
    let folder = tempfile::tempdir().unwrap();
    let (guide, gold) = (folder.path().join("guide"), folder.path().join("gold"));
    model_folder(&guide, &TINY_GPT2.replace("64", "256"));
    model_folder(&gold, TINY_DISTILBERT);
    let overrides = [
        format!("data.source={}", folder.path().display()),
        format!("models.guide.id={}", guide.display()),
        format!("gold.id={}", gold.display()),
    ];
    let plan = resolve(&shipped("imdb.toml"), &overrides.each_ref().map(String::as_str))
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(plan.recipe.models["guide"].scratch, None);
    assert_eq!(plan.models["guide"].n_layer, 1);
    assert_eq!(plan.training.pretrain.keys().collect::<Vec<_>>(), ["base"]);
    assert_eq!(plan.training.gold, None);
    assert_eq!(plan.gold.unwrap().n_layers, 1);
}
