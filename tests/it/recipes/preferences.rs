//! Rules of pairs, of samples and of a source, and of the reward models that learn them.

use super::{Written, fixture, only, problems, resolve};

#[test]
fn preferences_of_samples() {
    only(
        &["preferences.samples_per_prompt=3"],
        "`preferences.samples_per_prompt` is 3, expected an even number",
    );
    only(
        &["preferences.prompts=401"],
        "`preferences.prompts` = 401 is more than `data.train` = 400",
    );
    only(
        &["preferences.policy=gude"],
        "`preferences.policy` is `gude`, but there is no `[models.gude]`\n\nhint: did you mean \
         `guide`?",
    );
    only(&["preferences.sampling.temperature=0"], "`preferences.sampling.temperature` is 0");
}

#[test]
fn pairs_of_samples_and_of_a_source() {
    only(
        &["preferences.samples_per_prompt=1", "preferences.pairing=all"],
        "`preferences.samples_per_prompt` is 1, expected 2 or more",
    );
    let three = resolve(
        &fixture(),
        &["preferences.samples_per_prompt=3", "preferences.pairing=best_worst"],
    )
    .unwrap();
    assert!(
        three.describe().contains("the best and the worst a pair")
            && three.describe().contains("at most 64 pairs and 16 for")
    );
    only(
        &["preferences.label=kept"],
        "`preferences.label` is `kept`, but samples have no labels to keep\n\nhint: ",
    );
    only(
        &["preferences.train_pairs=3"],
        "`preferences.train_pairs` is about a file of pairs, but there is no `preferences.source`",
    );
    let without_policy = Written::edited(&[("policy = \"guide\"\n", "")]).problems(&[]);
    assert!(
        without_policy[0]
            .starts_with("x.toml: missing key `policy` in `preferences`\n\nhint: a model"),
        "{without_policy:?}"
    );

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pairs.jsonl");
    std::fs::write(&file, "").unwrap();
    let sampled = "policy = \"guide\"\nprompts = 64\nvalidation_prompts = 16\nmax_new_tokens = \
                   24\n";
    let table = |keys: &str| {
        Written::edited(&[(
            sampled,
            &format!("source = {:?}\n{keys}\n", file.display().to_string()),
        )])
    };
    let problems = |keys: &str| table(keys).problems(&[]);
    table("policy = 'guide'\nvalidation_pairs = 9").plan(&[]);
    let both = problems("policy = 'guide'\nvalidation_pairs = 9\nprompts = 3\nmax_new_tokens = 4");
    assert!(
        both[0].contains(
            "but the recipe gives `preferences.prompts`, `preferences.max_new_tokens`\n\nhint: "
        ),
        "{both:?}"
    );
    assert!(
        problems("policy = 'guide'")[0]
            .contains("`preferences.validation_pairs` is 0, but one file is split by size")
    );
    let nothing = problems("validation_pairs = 9");
    assert!(
        nothing[0]
            .contains("`[sft]` has no model to tune, because `preferences.source` has no policy"),
        "{nothing:?}"
    );
    let columns = problems(
        "policy = 'guide'\nvalidation_pairs = 9\ncolumns = { chosen = 'prompt', rejected = '' }",
    );
    assert!(
        columns[0].contains("`preferences.columns.rejected` is empty")
            && columns[1].contains("names a column twice"),
        "{columns:?}"
    );
    // What is kept needs no judge.
    let kept = table("policy = 'guide'\nvalidation_pairs = 9\nlabel = 'kept'");
    let plan = resolve(
        &kept.path(),
        &["models.guide.scratch.n_positions=600", "models.base.scratch.n_positions=64"],
    )
    .unwrap();
    assert_eq!(
        plan.training.first_dpo().unwrap().max_length,
        512,
        "of a file nothing is known before it is read"
    );
    assert_eq!(plan.training.direct["base"].dpo.max_length, 64, "no more than the model sees");
    assert!(
        plan.describe()
            .contains("columns `prompt`, `chosen`, `rejected`; chosen is as the source has it"),
        "{}",
        plan.describe()
    );
}

#[test]
fn reward_models() {
    only(
        &["reward_model.head_learning_rate=0"],
        "`reward_model.head_learning_rate` is 0, expected a number above 0",
    );
    only(
        &["reward_model.training.learning_rate=0"],
        "`reward_model.training.learning_rate` is 0, expected a number above 0",
    );
    assert!(
        problems(&["reward_model.from=dpo"])[0]
            .ends_with("`reward_model.from` is `dpo`, expected one of `model`, `sft`")
    );
    only(
        &["reward_model.model=bose", "reward_model.from=model"],
        "`reward_model.model` is `bose`, but there is no `[models.bose]`\n\nhint: did you mean \
         `base`?",
    );
    only(
        &["reward_model.model=base"],
        "`reward_model.from` is `sft`, which tunes `guide`, but `reward_model.model` is \
         `base`\n\nhint: leave one of them out",
    );
    only(
        &["reward_model.training.max_length=97"],
        "`reward_model.training.max_length` = 97 is more than the 96 tokens that `models.guide` \
         sees",
    );
    only(
        &["gold.training.activation_checkpointing=true"],
        "`gold.training.activation_checkpointing` is for language and reward models, not for \
         classifiers",
    );
    let problems = Written::without(&["sft"]).problems(&[]);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(problems[0].ends_with(
        "`reward_model.from` is `sft`, and there is no `[sft]`\n\nhint: add `[sft]`, or leave \
         `from` out"
    ));
}
