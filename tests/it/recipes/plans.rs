//! What a plan makes of a recipe: defaults, guides, paths, and the models that stages start from.

use std::path::Path;

use w2s::recipe::{GuideSource, Length, Plan, Recipe, Stage};

use super::{Written, fixture, memory_of, plan, problems, resolve};

#[test]
fn the_same_recipe_gives_the_same_plan_and_it_survives_json() {
    let planned = plan(&[]);
    let json = |plan: &Plan| serde_json::to_string_pretty(plan).unwrap();
    let text = json(&planned);
    let other_way = fixture().with_file_name("../recipes/./fixture.toml");
    assert_eq!(json(&resolve(&other_way, &[]).unwrap()), text);
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), planned);
    assert_ne!(json(&plan(&["dpo.beta=0.2"])), text);
}

#[test]
fn defaults_are_filled_in() {
    let plan = plan(&[]);
    let Recipe { run, data, dpo, preferences, .. } = &plan.recipe;
    assert_eq!(
        (run.seeds.as_slice(), run.device.as_str(), run.threads),
        ([1].as_slice(), "cpu", None)
    );
    let prompt = &data.as_ref().unwrap().prompt;
    assert_eq!((prompt.min_words, prompt.most_words()), (4, 8));
    assert_eq!(dpo.as_ref().unwrap().beta, 0.1);
    assert_eq!(preferences.as_ref().unwrap().sampling.temperature, 0.7);
    assert_eq!(plan.recipe.models["base"].prompt.text(), Some("{prompt}"));
    let sft = plan.training.sft.as_ref().unwrap();
    assert_eq!((sft.length, sft.batch_size, sft.micro_batch_size), (Length::Epochs(1.0), 16, 16));
    assert_eq!(sft.max_length, 96, "the default of 128 gives way to the model's context");
}

#[test]
fn a_model_can_have_its_own_steps() {
    let plan = plan(&["models.base.scratch.steps=7"]);
    assert_eq!(plan.training.pretrain["base"].length, Length::Steps(7));
    assert_eq!(plan.training.pretrain["guide"].length, Length::Steps(80));
}

#[test]
fn a_reward_model_stands_on_the_guides_model_unless_it_names_another() {
    let of_base = plan(&["reward_model={model='base'}"]);
    assert_eq!(
        (plan(&[]).recipe.reward_model_base(), of_base.recipe.reward_model_base()),
        (Some("guide"), Some("base"))
    );
    let training = of_base.training.reward_model.as_ref().unwrap();
    assert_eq!(
        (training.length, training.schedule, training.batch_size, training.learning_rate),
        (Length::Epochs(1.0), w2s::recipe::Schedule::Cosine, 32, 5e-6),
        "the paper's"
    );
    assert_eq!(
        (of_base.recipe.reward_model.as_ref().unwrap().head_learning_rate, training.max_length),
        (1e-5, 96)
    );
    assert!(
        plan(&[])
            .describe()
            .contains("reward_model: a scalar head on sft/; learning rate of the head 1e-3")
    );
    assert!(of_base.describe().contains("reward_model: a scalar head on models.base; "));
    let memory = |plan: &Plan| memory_of(plan, Stage::RewardModel);
    let bytes = |plan: &Plan| memory(plan).bytes();
    assert!(
        bytes(&of_base) > bytes(&plan(&["reward_model={model='guide'}"])),
        "the base is the larger model"
    );
    let adapted = plan(&["reward_model={model='base', lora={rank=2, save='adapter'}, \
                          training={activation_checkpointing=true}}"]);
    let parts: Vec<(&str, u64)> =
        memory(&adapted).parts.iter().map(|part| (part.name, part.bytes)).collect();
    assert!(
        parts.contains(&("optimizer", 8 * 1536)) && bytes(&adapted) < bytes(&of_base),
        "{parts:?}"
    );
    assert!(parts.iter().all(|(name, _)| *name != "logits"), "a head with one output: {parts:?}");
    let training = adapted.training.reward_model.as_ref().unwrap();
    assert!(
        training.activation_checkpointing
            && training.lora.as_ref().is_some_and(|lora| lora.targets == ["c_attn"])
    );
    assert!(
        adapted
            .describe()
            .contains("LoRA of rank 2, alpha 4, on c_attn: 1,536 trainable parameters over "),
        "{}",
        adapted.describe()
    );
}

#[test]
fn guides_come_from_stages_or_from_models() {
    let stages = plan(&[]);
    assert_eq!(
        (stages.tuned(), stages.untuned()),
        (Some(GuideSource::Dpo(None)), Some(GuideSource::Sft))
    );

    let named = plan(&["steer.tuned=base", "steer.untuned=guide"]);
    assert_eq!(
        (named.tuned(), named.untuned()),
        (Some(GuideSource::Model("base".into())), Some(GuideSource::Model("guide".into())))
    );
    assert_eq!(named.reference(), Some(GuideSource::Sft));

    let plan = Written::without(&["sft", "reward_model"]).plan(&[]);
    assert!(!plan.has(Stage::Sft));
    assert_eq!(plan.untuned(), Some(GuideSource::Model("guide".into())));
    assert_eq!(plan.reference(), plan.untuned());
}

#[test]
fn paths_start_from_the_recipe_and_become_absolute() {
    let written =
        Written::edited(&[("source = \"builtin:reviews\"", "source = \"rows/../rows/all.jsonl\"")]);
    assert!(written.problems(&[])[0].starts_with(
        "x.toml: `data.source` is `rows/../rows/all.jsonl`, but `rows/../rows/all.jsonl` does not \
         exist"
    ));
    let rows = written.folder.path().join("rows");
    std::fs::create_dir(&rows).unwrap();
    std::fs::write(rows.join("all.jsonl"), "").unwrap();
    let plan = written.plan(&[]);
    assert_eq!(
        Path::new(&plan.recipe.data.as_ref().unwrap().source),
        rows.canonicalize().unwrap().join("all.jsonl")
    );
}

#[test]
fn models_that_read_responses_again_count_for_evaluation() {
    let weights = |method: &str| {
        let method = format!("steer.method=[{method}]");
        let memory =
            memory_of(&plan(&[&method, "direct={}", "gold.scratch.dim=8"]), Stage::Evaluate);
        let models = memory.parts.into_iter().filter(|part| !part.grows());
        (memory.model, models.map(|part| (part.name, part.bytes)).collect::<Vec<_>>())
    };
    let (model, direct) = weights("{kind='direct'}");
    assert_eq!(model, "base");
    assert!(
        direct.iter().map(|(name, _)| *name).eq(["weights", "sampled model"])
            && direct[0].1 == direct[1].1,
        "{direct:?}"
    );
    let (_, mixed) = weights("{kind='eft', weights=[1.0]}");
    assert!(mixed.iter().map(|(name, _)| *name).eq(["weights", "tuned", "untuned"]), "{mixed:?}");
    assert_eq!(weights("{kind='cbs', beam_width=2, successors=2, chunk_len=5}").0, "gold");
}

#[test]
fn a_judge_has_no_folder_of_evaluations_own() {
    for name in ["likelihood", "figures", "alpaca_eval"] {
        let said = problems(&[&format!("judges.{name}={{id='/nowhere'}}")]);
        let own = "has the name of a folder that evaluation has of its own";
        assert!(said.iter().any(|problem| problem.contains(own)), "{said:?}");
    }
}
