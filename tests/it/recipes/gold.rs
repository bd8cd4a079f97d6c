//! `[gold]`: where the judge comes from, and a reward model that is trained as one.

use w2s::recipe::{Length, Schedule, Stage};

use super::{Written, memory_of, only, plan};

/// The fixture with a reward model as its gold, on pairs beside it.
fn recipe(keys: &str) -> Written {
    let mut recipe: toml::Table =
        std::fs::read_to_string(super::fixture()).unwrap().parse().unwrap();
    recipe["gold"] = toml::Value::Table(
        format!("reward_model = {{ model = 'base', source = 'pairs.jsonl', {keys} }}")
            .parse()
            .unwrap(),
    );
    let written = Written::new(recipe.to_string());
    let pair = "{\"prompt\":\"p\",\"chosen\":\"a\",\"rejected\":\"b\"}\n";
    std::fs::write(written.folder.path().join("pairs.jsonl"), pair).unwrap();
    written
}

#[test]
fn the_judge_comes_from_one_place() {
    let problems = Written::edited(&[]).problems(&["gold={}"]);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(
        problems[0].contains(
            "`gold` has none of `id`, `scratch`, `reward_model`, `command`, `url`\n\nhint: "
        ),
        "{problems:#?}"
    );
    let both = Written::edited(&[("[gold.scratch]", "[gold]\nid = '.'\n[gold.scratch]")]);
    let both = both.problems(&[]);
    let said = "x.toml: `gold` has `id`, `scratch`, expected one of them";
    assert!(both.iter().any(|problem| problem == said), "{both:#?}");
    // One that is set by hand takes the place of the file's.
    let replaced = recipe("validation_pairs = 5").problems(&["gold.id=gone"]);
    assert_eq!(replaced.len(), 1, "{replaced:#?}");
    assert!(replaced[0].starts_with("x.toml: `gold.id` is `gone`, but `"), "{replaced:#?}");
    let table = "gold.reward_model={model='base',source='gone.jsonl',validation_pairs=2}";
    only(&[table], "`gold.reward_model.source` is `gone.jsonl`, but `");
}

#[test]
fn a_reward_model_is_trained_as_the_paper_trains_it() {
    let recipe = recipe("train_pairs = 640, validation_pairs = 5");
    let plan = recipe.plan(&["gold.training.activation_checkpointing=true"]);
    let training = plan.training.gold.as_ref().unwrap();
    assert_eq!(
        (training.length, training.schedule, training.batch_size, training.learning_rate),
        (Length::Epochs(1.0), Schedule::Cosine, 32, 5e-6)
    );
    let table = plan.recipe.gold_reward_model().unwrap();
    let context = plan.models["base"].context;
    assert_eq!((table.head_learning_rate, training.max_length as u64), (1e-5, context.min(512)));
    assert!(training.activation_checkpointing);
    let gold = plan.gold.as_ref().unwrap();
    assert!(gold.causal && gold.parameters == plan.models["base"].parameters);
    let said = plan.describe();
    for words in [
        "gold: trains a reward model: a scalar head on models.base; learning rate of the head 1e-5",
        "pairs.jsonl, columns `prompt`, `chosen`, `rejected`; chosen is as the source has it",
        "pairs: train 640, validation 5",
        "1 epoch of 640 examples = 20 steps",
    ] {
        assert!(said.contains(words), "{said}\nlacks {words}");
    }
    let memory = memory_of(&plan, Stage::Gold);
    assert_eq!(memory.model, "base");
    assert!(memory.parts.iter().all(|part| part.name != "logits"), "a head with one output");
    let adapted = recipe.plan(&["gold.reward_model.lora={rank=2}"]);
    assert!(adapted.training.gold.as_ref().unwrap().lora.is_some());
    assert!(
        memory_of(&adapted, Stage::Gold).bytes()
            < memory_of(&recipe.plan(&[]), Stage::Gold).bytes()
    );
}

#[test]
fn what_a_reward_model_lacks_is_told() {
    for (keys, starts) in [
        ("", "`gold.reward_model.validation_pairs` is 0, but one file is split by size"),
        (
            "validation_pairs = 5, splits = { train = 'a' }",
            "`gold.reward_model.splits` chooses files of a folder, but `gold.reward_model.source`",
        ),
        (
            "validation_pairs = 5, columns = { chosen = 'prompt' }",
            "`gold.reward_model.columns` names a column twice",
        ),
        (
            "validation_pairs = 5, head_learning_rate = 0",
            "`gold.reward_model.head_learning_rate` is 0, expected a number above 0",
        ),
        (
            "validation_pairs = 5, lora = { targets = ['q_proj'] }",
            "`gold.reward_model.lora.targets` holds `q_proj`, but `models.base` has no",
        ),
    ] {
        let problems = recipe(keys).problems(&[]);
        assert_eq!(problems.len(), 1, "{keys}: {problems:#?}");
        assert!(problems[0].contains(&format!("x.toml: {starts}")), "{keys}: {problems:#?}");
    }
    let unknown = recipe("validation_pairs = 5").problems(&["gold.reward_model.model=bose"]);
    assert_eq!(
        unknown,
        ["x.toml: `gold.reward_model.model` is `bose`, but there is no `[models.bose]`\n\nhint: \
          did you mean `base`?"]
    );
    let gone = recipe("validation_pairs = 5").problems(&["gold.reward_model.source=gone.jsonl"]);
    assert_eq!(gone.len(), 1, "{gone:#?}");
    assert!(gone[0].contains("`gold.reward_model.source` is `gone.jsonl`, but `"), "{gone:#?}");
    let long = recipe("validation_pairs = 5").problems(&["gold.training.max_length=4096"]);
    assert_eq!(long.len(), 1, "{long:#?}");
    assert!(long[0].contains("`gold.training.max_length` = 4096 is more than the "), "{long:#?}");
    assert_eq!(plan(&[]).recipe.gold_reward_model(), None);
}
