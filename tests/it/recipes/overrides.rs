//! `--set`: values, places, and what is told of wrong ones.

use std::path::Path;

use w2s::recipe::{Recipe, load};

use super::{Written, fixture, problems, sets};

fn loaded(overrides: &[&str]) -> Recipe {
    load(&fixture(), &sets(overrides)).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn values_are_toml_or_else_text() {
    let recipe = loaded(&[
        "run.name=my-run",
        "run.seeds=[3, 4]",
        "dpo.beta=1",
        "steer.trace=false",
        "models.base.prompt=So: {prompt}",
    ]);
    assert_eq!(
        (recipe.run.name.as_str(), recipe.run.seeds.as_slice()),
        ("my-run", [3, 4].as_slice())
    );
    assert_eq!(recipe.dpo.unwrap().beta, 1.0);
    assert!(!recipe.steer.unwrap().trace);
    assert_eq!(recipe.models["base"].prompt.text(), Some("So: {prompt}"));
    assert_eq!(loaded(&["run.name='2024'"]).run.name, "2024");
    assert_eq!(loaded(&["run.name=a", "run.name=b"]).run.name, "b", "the last one counts");
    assert_eq!(
        loaded(&["models.base.prompt=a=b {prompt}"]).models["base"].prompt.text(),
        Some("a=b {prompt}")
    );
}

#[test]
fn list_items_go_by_index_and_one_past_the_end_appends() {
    let recipe = loaded(&[
        "steer.method.1.n=8",
        "steer.method.7.kind=cbs",
        "steer.method.7={kind='best_of_n', n=2, name='two'}",
    ]);
    let methods = recipe.steer.unwrap().method;
    assert_eq!(methods[1].rows[0].search.settings().samples(), 8);
    assert_eq!((methods.len(), methods[7].names()), (8, vec!["two".to_owned()]));
    assert_eq!(
        problems(&["steer.method.9.n=8"]),
        ["--set steer.method.9.n=8: `steer.method` is a list of 7, so `9` is no index into \
          it\n\nhint: 0 to 6 are there, 7 adds another"]
    );
}

#[test]
fn wrong_ones_are_told_as_they_were_typed() {
    assert_eq!(
        problems(&[
            "dpo.bata=1",
            "steer.method.2.chunk_length=5",
            "nonsense",
            "run.name.x=1",
            "run..name=x",
            "run.name=2024"
        ]),
        [
            "--set nonsense: not of the form key=value\n\nhint: for example --set run.name=trial",
            "--set run.name.x=1: `run.name` is a single value, not a table",
            "--set run..name=x: `run..name` is no key of a recipe\n\nhint: for example \
             steer.method.0.n",
            "--set dpo.bata=1: unknown key `bata` in `dpo`\n\nhint: did you mean `beta`?",
            "--set run.name=2024: `run.name` is `2024`, expected text: names the run directory \
             below `checkpoints/`\n\nhint: --set 'run.name=\"2024\"' makes it text",
            "--set steer.method.2.chunk_length=5: unknown key `chunk_length` in \
             `steer.method`\n\nhint: did you mean `chunk_len`?",
        ]
    );
    let whole_table = problems(&["modles.guide.id=x"]);
    assert_eq!(
        whole_table[0],
        "--set modles.guide.id=x: unknown key `modles`\n\nhint: did you mean `models`?"
    );
}

#[test]
fn an_id_takes_the_place_of_scratch_and_the_other_way_round() {
    let recipe = loaded(&["models.guide.id=some/folder", "gold.id=other"]);
    assert_eq!(
        (recipe.models["guide"].id.as_deref(), &recipe.models["guide"].scratch),
        (Some("some/folder"), &None)
    );
    assert_eq!(recipe.gold.as_ref().map(|gold| gold.scratch.is_none()), Some(true));
    let both = problems(&["gold.id=.", "gold.scratch.dim=64"]);
    assert!(both.iter().any(|problem| problem.contains("missing key")), "{both:?}");

    let written = Written::new(
        "[run]\nname='a'\n[data]\nsource='s'\ntrain=1\nvalidation=1\ntest=1\n[models.m]\nid='x'\n",
    );
    let scratch = "models.m.scratch={architecture='gpt2',n_layer=1,n_head=1,n_embd=8,\
                   tokenizer={kind='bpe',vocab_size=300}}";
    assert_eq!(load(&written.path(), &sets(&[scratch])).unwrap().models["m"].id, None);
}

#[test]
fn a_path_may_start_from_the_working_directory() {
    // Tests run in the package's folder, which is not the recipe's.
    let source = loaded(&["data.source=src"]).data.unwrap().source;
    assert_eq!(Path::new(&source), Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert_eq!(
        loaded(&["data.source=fixture.toml"]).data.unwrap().source,
        "fixture.toml",
        "left to the recipe's folder"
    );
}
