//! The recipes that are shipped: what they are called, what their heads say, and that the index has
//! them all. Full-size ones are tried in `full_size.rs`, their twins in `twins.rs`.

use std::collections::BTreeSet;
use std::path::Path;

use w2s::recipe::{Stage, load};

use super::full_size::FULL_SIZE;
use super::{TINY_DISTILBERT, TINY_GPT2, model_folder, resolve, shipped};

/// The recipes that have no part in the paper's tables, or not at full size.
const OTHERS: [&str; 4] = ["demo", "imdb", "ppo-sentiment-small", "smoke"];

/// The names of the recipes in a folder below `recipes/`.
fn names(folder: &str) -> BTreeSet<String> {
    let files = std::fs::read_dir(shipped(folder)).unwrap().map(|entry| entry.unwrap().path());
    let recipes = files.filter(|path| path.extension().is_some_and(|ending| ending == "toml"));
    recipes.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_recipe_is_known_and_each_large_one_has_a_twin() {
    let owned = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(names(""), owned(&[&FULL_SIZE[..], &OTHERS[..]].concat()));
    assert_eq!(names("small"), owned(&FULL_SIZE));
}

#[test]
fn the_index_lists_every_recipe_once() {
    let index = std::fs::read_to_string(shipped("README.md")).unwrap();
    for name in names("") {
        let row = format!("| [{name}.toml]({name}.toml) |");
        assert_eq!(index.matches(&row).count(), 1, "{row}");
    }
    for link in index.split("](").skip(1).filter_map(|rest| rest.split_once(')')) {
        let file = link.0.split('#').next().unwrap();
        assert!(shipped(file).exists(), "{file}");
    }
}

#[test]
fn every_head_says_what_is_needed_and_what_to_expect() {
    let small = names("small").into_iter().map(|name| format!("small/{name}"));
    for name in names("").into_iter().chain(small) {
        let text = std::fs::read_to_string(shipped(&format!("{name}.toml"))).unwrap();
        let head: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
        let head = head.join("\n");
        let launch = format!("# Launch:    w2s run recipes/{name}.toml");
        for promised in [&launch, "# Needs:     ", "# Takes:     ", "# Expected:  "] {
            assert!(head.contains(promised), "{name}: no {promised:?}");
        }
        let is_large = FULL_SIZE.contains(&name.as_str());
        assert!(!is_large || head.contains(&format!("small/{name}.toml")), "{name}: no twin");
    }
}

/// Values that the paper states name their place in it, and the others say that they are ours.
#[test]
fn methods_and_trainings_name_their_place_in_the_paper() {
    for name in FULL_SIZE {
        let text = std::fs::read_to_string(shipped(&format!("{name}.toml"))).unwrap();
        assert!(text.contains("ours"), "{name}");
        let places = ["B.1.", "B.2.", "Table 3", "Table 4", "Fig. ", "Figs. "];
        assert!(places.iter().any(|place| text.contains(place)), "{name}");
    }
}

/// Overrides that put folders in the place of what a recipe takes from elsewhere.
fn stand_ins(path: &Path, data: &Path) -> Vec<String> {
    let recipe = load(path, &[]).unwrap_or_else(|error| panic!("{error}"));
    let is_built_in = recipe.data.unwrap().source.starts_with("builtin:");
    (!is_built_in).then(|| format!("data.source={}", data.display())).into_iter().collect()
}

#[test]
fn every_other_recipe_parses_and_validates() {
    for name in OTHERS {
        let path = shipped(&format!("{name}.toml"));
        let data = tempfile::tempdir().unwrap();
        let overrides = stand_ins(&path, data.path());
        let overrides: Vec<&str> = overrides.iter().map(String::as_str).collect();
        let plan = resolve(&path, &overrides).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(plan.recipe.run.name, name);
        let stages: Vec<Stage> =
            Stage::ALL.into_iter().filter(|stage| !without(name).contains(stage)).collect();
        assert_eq!(plan.stages, stages, "{}", path.display());
    }
}

/// The stages that a recipe leaves out. Direct tuning would double the time of the demo; where the
/// gold is there before the pairs, no reward model is due.
fn without(recipe: &str) -> &'static [Stage] {
    match recipe {
        "smoke" => &[],
        "demo" => &[Stage::RewardModel, Stage::Direct, Stage::Ppo],
        "ppo-sentiment-small" => &[Stage::RewardModel, Stage::Direct],
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
