//! The recipes that are shipped, and what a wrong recipe is told.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use w2s::error::{Error, Result};
use w2s::losses::{DpoObjective, PreferenceLoss};
use w2s::recipe::{
    Chat, DirectTraining, Dtype, GuideSource, Length, LoraSave, Plan, Recipe, Stage, StageTraining,
    Training, load, memory_estimate, validate,
};
use w2s::search::Search;
use w2s::text::{PromptTemplate, Tokenizer};

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes").join(name)
}

fn document(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}

fn sets(overrides: &[&str]) -> Vec<String> {
    overrides.iter().map(|text| (*text).to_owned()).collect()
}

fn resolve(path: &Path, overrides: &[&str]) -> Result<Plan> {
    Plan::new(load(path, &sets(overrides))?, path)
}

/// The problems, with the folder of the recipe cut off.
fn problems_of(path: &Path, overrides: &[&str]) -> Vec<String> {
    match resolve(path, overrides) {
        Err(Error::Recipe(problems)) => {
            let folder = format!("{}/", path.parent().unwrap().display());
            problems.iter().map(|problem| problem.replace(&folder, "")).collect()
        }
        other => panic!("expected recipe problems, got {other:?}"),
    }
}

/// Of the smoke recipe with overrides.
fn smoke_problems(overrides: &[&str]) -> Vec<String> {
    problems_of(&shipped("smoke.toml"), overrides)
}

struct Written {
    folder: tempfile::TempDir,
}

impl Written {
    fn new(text: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.toml"), text).unwrap();
        Self { folder }
    }

    /// The smoke recipe with each of `edits` made once.
    fn smoke(edits: &[(&str, &str)]) -> Self {
        let mut text = std::fs::read_to_string(shipped("smoke.toml")).unwrap();
        for (from, to) in edits {
            assert!(text.contains(from), "the smoke recipe has no {from:?}");
            text = text.replacen(from, to, 1);
        }
        Self::new(text)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("x.toml")
    }

    fn problems(&self, overrides: &[&str]) -> Vec<String> {
        problems_of(&self.path(), overrides)
    }
}

fn line_of(text: &str) -> usize {
    1 + std::fs::read_to_string(shipped("smoke.toml"))
        .unwrap()
        .lines()
        .position(|line| line.contains(text))
        .unwrap()
}

fn model_folder(folder: &Path, config: &str) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("config.json"), config).unwrap();
    std::fs::write(folder.join("tokenizer.json"), "{}").unwrap();
}

const TINY_GPT2: &str =
    r#"{"model_type":"gpt2","vocab_size":300,"n_positions":64,"n_embd":8,"n_layer":1,"n_head":2}"#;

mod shipped_recipes {
    use super::*;

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

    #[test]
    fn every_recipe_parses_and_validates() {
        let mut paths = Vec::new();
        below(&shipped(""), &mut paths);
        assert_eq!(paths.len(), 7, "{paths:?}");
        let data = tempfile::tempdir().unwrap();
        let source = format!("data.source={}", data.path().display());
        // In the place of what comes from the hub.
        let (guide, gold) = (data.path().join("guide"), data.path().join("gold"));
        model_folder(&guide, &TINY_GPT2.replace("64", "256"));
        model_folder(
            &gold,
            r#"{"vocab_size":300,"max_position_embeddings":64,"dim":8,"n_layers":1,"n_heads":2,"hidden_dim":16}"#,
        );
        let folders = [
            ("guide", &guide),
            ("large", &guide),
            ("xl", &guide),
            ("base", &guide),
            ("gold", &gold),
        ];
        for path in paths {
            let text = std::fs::read_to_string(&path).unwrap();
            let from_hub = text.contains("come from the hub");
            let mut overrides = Vec::new();
            if from_hub || text.contains("--set data.source=DIR") {
                overrides.push(source.as_str());
            }
            let named =
                |name: &str| text.contains(&format!("[models.{name}]\nid = ")) || name == "gold";
            let folders = folders.iter().filter(|(name, _)| from_hub && named(name));
            let folders: Vec<String> = folders
                .map(|(name, folder)| {
                    format!(
                        "{}{name}.id={}",
                        if *name == "gold" { "" } else { "models." },
                        folder.display()
                    )
                })
                .collect();
            overrides.extend(folders.iter().map(String::as_str));
            let plan = resolve(&path, &overrides).unwrap_or_else(|error| panic!("{error}"));
            // Direct tuning would double the time of the demo; published models need no
            // pretraining, and the released command had no SFT. Where the gold is there before the
            // pairs, no reward model is due.
            let without: &[Stage] = match path.file_stem().unwrap().to_str().unwrap() {
                "smoke" => &[],
                "demo" => &[Stage::RewardModel, Stage::Direct, Stage::Ppo],
                "ppo-sentiment" => &[Stage::Pretrain, Stage::RewardModel, Stage::Direct],
                "ppo-sentiment-small" => &[Stage::RewardModel, Stage::Direct],
                "sentiment-paper" => {
                    &[Stage::Pretrain, Stage::RewardModel, Stage::Direct, Stage::Ppo]
                }
                "sentiment-released" => {
                    &[Stage::Pretrain, Stage::Sft, Stage::RewardModel, Stage::Direct, Stage::Ppo]
                }
                _ => &[Stage::RewardModel, Stage::Ppo],
            };
            let stages: Vec<Stage> =
                Stage::ALL.into_iter().filter(|stage| !without.contains(stage)).collect();
            assert_eq!(plan.stages, stages, "{}", path.display());
            assert_eq!(plan.recipe.run.name, path.file_stem().unwrap().to_str().unwrap());
            let head = std::fs::read_to_string(&path).unwrap();
            for promised in
                ["# Launch:", "# Needs:", "# Takes:", "# Expected:  table in docs/results.md"]
            {
                assert!(head.contains(promised), "{}: no {promised:?}", path.display());
            }
        }
    }

    #[test]
    fn every_key_is_documented() {
        let page = std::fs::read_to_string(document("keys-old.md")).unwrap();
        let file = |name: &str| {
            std::fs::read_to_string(
                Path::new(env!("CARGO_MANIFEST_DIR")).join("src/recipe").join(name),
            )
            .unwrap()
        };
        let schema = [
            "schema.rs",
            "tuning_tables.rs",
            "preference_tables.rs",
            "reward_model.rs",
            "steering.rs",
            "ppo.rs",
        ]
        .map(file)
        .concat();
        let keys: Vec<&str> = schema
            .lines()
            .filter_map(|line| line.trim().strip_prefix("pub "))
            .filter_map(|line| line.split_once(": "))
            .map(|(key, _)| key)
            .filter(|key| {
                key.chars().all(|character| character.is_ascii_lowercase() || character == '_')
            })
            .chain(Search::KINDS.iter().flat_map(|kind| kind.keys).map(|key| key.name))
            .chain(["tilt", "weights"])
            .collect();
        assert!(keys.len() > 50, "the schema was not understood: {keys:?}");
        for key in keys {
            let named = [
                format!("`{key}`"),
                format!("`{key}."),
                format!(".{key}`"),
                format!("[{key}]"),
                format!("[{key}."),
                format!(".{key}]"),
            ];
            assert!(
                named.iter().any(|form| page.contains(form)),
                "docs/keys-old.md does not name `{key}`"
            );
        }
    }

    #[test]
    fn the_imdb_recipe_takes_models_and_gold_from_folders() {
        let folder = tempfile::tempdir().unwrap();
        let (guide, gold) = (folder.path().join("guide"), folder.path().join("gold"));
        model_folder(&guide, &TINY_GPT2.replace("64", "256"));
        model_folder(
            &gold,
            r#"{"vocab_size":300,"max_position_embeddings":64,"dim":8,"n_layers":1,"n_heads":2,"hidden_dim":16}"#,
        );
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
}

mod plans {
    use super::*;

    #[test]
    fn the_same_recipe_gives_the_same_plan_and_it_survives_json() {
        let plan = resolve(&shipped("smoke.toml"), &[]).unwrap();
        let json = serde_json::to_string_pretty(&plan).unwrap();
        let other_way = shipped("").join("../recipes/./smoke.toml");
        assert_eq!(serde_json::to_string_pretty(&resolve(&other_way, &[]).unwrap()).unwrap(), json);
        assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
        assert_ne!(
            serde_json::to_string_pretty(
                &resolve(&shipped("smoke.toml"), &["dpo.beta=0.2"]).unwrap()
            )
            .unwrap(),
            json
        );
    }

    #[test]
    fn defaults_are_filled_in() {
        let plan = resolve(&shipped("smoke.toml"), &[]).unwrap();
        let Recipe { run, data, dpo, preferences, .. } = &plan.recipe;
        assert_eq!(
            (run.seeds.as_slice(), run.device.as_str(), run.threads),
            ([1].as_slice(), "cpu", None)
        );
        assert_eq!((data.prompt.min_words, data.prompt.max_words), (4, 8));
        assert_eq!(dpo.as_ref().unwrap().beta, 0.1);
        assert_eq!(preferences.as_ref().unwrap().sampling.temperature, 0.7);
        assert_eq!(plan.recipe.models["base"].prompt, "{prompt}");
        let sft = plan.training.sft.as_ref().unwrap();
        assert_eq!(
            (sft.length, sft.batch_size, sft.micro_batch_size),
            (Length::Epochs(1.0), 16, 16)
        );
        assert_eq!(sft.max_length, 96, "the default of 128 gives way to the model's context");
    }

    #[test]
    fn a_model_can_have_its_own_steps() {
        let plan = resolve(&shipped("smoke.toml"), &["models.base.scratch.steps=7"]).unwrap();
        assert_eq!(plan.training.pretrain["base"].length, Length::Steps(7));
        assert_eq!(plan.training.pretrain["guide"].length, Length::Steps(80));
    }

    #[test]
    fn direct_tuning_is_as_the_guides_but_for_what_it_says() {
        let plan = |overrides: &[&str]| {
            resolve(&shipped("smoke.toml"), overrides).unwrap_or_else(|error| panic!("{error}"))
        };
        let training = plan(&[
            "sft.training.warmup_ratio=0.2",
            "dpo.beta=0.3",
            "dpo.training.micro_batch_size=8",
        ])
        .training;
        assert_eq!(training.direct.keys().collect::<Vec<_>>(), ["base", "other"]);
        for direct in training.direct.values() {
            assert_eq!(
                (&direct.sft, direct.objective.beta, Some(&direct.dpo)),
                (&training.sft, 0.3, training.dpo.as_ref())
            );
        }
        let own = [
            "direct.models=['other']",
            "direct.beta=0.5",
            "direct.sft.steps=3",
            "direct.dpo.batch_size=12",
            "direct.dpo.learning_rate=1e-5",
            "steer.method.5.kind=base",
            "steer.method.5.name=twice",
        ];
        let own = plan(&own).training;
        assert_eq!(own.direct.keys().collect::<Vec<_>>(), ["other"]);
        let DirectTraining { sft: Some(sft), objective, dpo } = &own.direct["other"] else {
            panic!("no sft")
        };
        assert_eq!((sft.length, sft.learning_rate, objective.beta), (Length::Steps(3), 1e-4, 0.5));
        assert_eq!(
            (dpo.length, dpo.batch_size, dpo.micro_batch_size, dpo.learning_rate),
            (Length::Epochs(2.0), 12, 12, 1e-5)
        );
        assert_eq!(
            (own.sft, own.dpo.map(|dpo| dpo.batch_size)),
            (training_of("sft"), Some(16)),
            "the guide's own stays"
        );

        // A length is the model's own: the prompt around the raw one makes it longer, and another
        // vocabulary the response.
        let lengths = |overrides: &[&str]| {
            let short = ["dpo.training.max_length=50", "sft.training.max_length=50"];
            let direct = plan(&[&short[..], overrides].concat()).training.direct;
            ["base", "other"].map(|model| direct[model].dpo.max_length)
        };
        assert_eq!(
            lengths(&[]),
            [50, 62],
            "25 tokens of a prompt, 24 new ones or half as many \
                                            again, and an end token"
        );
        assert_eq!(lengths(&["models.base.prompt=Here is a film review: {prompt}"]), [60, 62]);
        assert_eq!(lengths(&["preferences.max_new_tokens=70"]), [96, 96], "no more than they see");
        assert_eq!(lengths(&["direct.dpo.max_length=40"]), [40, 40]);
    }

    #[test]
    fn direct_tuning_takes_the_guides_loss_and_its_smoothing_with_it() {
        let objective = |overrides: &[&str]| {
            let plan = resolve(&shipped("smoke.toml"), overrides)
                .unwrap_or_else(|error| panic!("{error}"));
            plan.training.direct["base"].objective
        };
        let smooth = ["dpo.beta=0.2", "dpo.label_smoothing=0.1"];
        let with = |more: &[&str]| objective(&[&smooth[..], more].concat());
        let expected = |loss, beta, label_smoothing| DpoObjective { loss, beta, label_smoothing };
        assert_eq!(with(&[]), expected(PreferenceLoss::Sigmoid, 0.2, 0.1));
        assert_eq!(
            with(&["direct.label_smoothing=0"]),
            expected(PreferenceLoss::Sigmoid, 0.2, 0.0)
        );
        assert_eq!(with(&["direct.loss=hinge"]), expected(PreferenceLoss::Hinge, 0.2, 0.0));
        assert_eq!(objective(&["dpo.loss=ipo"]), expected(PreferenceLoss::Ipo, 0.1, 0.0));
        let own =
            ["dpo.loss=ipo", "direct.loss=sigmoid", "direct.label_smoothing=0.3", "direct.beta=1"];
        assert_eq!(objective(&own), expected(PreferenceLoss::Sigmoid, 1.0, 0.3));
    }

    #[test]
    fn direct_tuning_has_sft_where_the_guide_has_or_where_it_is_asked_for() {
        let text = std::fs::read_to_string(shipped("smoke.toml")).unwrap();
        let (before, rest) = text.split_once("[sft.training]").unwrap();
        let without_sft =
            format!("{before}[dpo.training]{}", rest.split_once("[dpo.training]").unwrap().1);
        let direct = |text: &str| {
            let plan =
                resolve(&Written::new(text).path(), &[]).unwrap_or_else(|error| panic!("{error}"));
            assert!(plan.training.sft.is_none());
            plan.training.direct["base"].clone()
        };
        assert_eq!(direct(&without_sft).sft, None);
        let asked = direct(&without_sft.replace("[direct]", "[direct.sft]"));
        assert_eq!(asked.sft.map(|sft| (sft.batch_size, sft.learning_rate)), Some((64, 2e-5)));
        // Without a guide's DPO too, all defaults are the stages' own.
        let (before, rest) = without_sft.split_once("[dpo.training]").unwrap();
        let alone = format!("{before}[direct]{}", rest.split_once("[direct]").unwrap().1);
        let alone = format!(
            "{}[steer]{}",
            alone.split_once("[ppo]").unwrap().0,
            alone.split_once("[steer]").unwrap().1
        );
        let alone = alone.split_once("[[steer.method]]").unwrap().0.to_owned()
            + "[[steer.method]]\nkind = \"direct\"\n\n[evaluate]\n";
        let DirectTraining { sft, objective, dpo } = direct(&alone);
        assert_eq!(objective, DpoObjective::plain(0.1));
        assert_eq!((sft, dpo.batch_size, dpo.learning_rate), (None, 256, 1e-6));
    }

    #[test]
    fn a_reward_model_stands_on_the_guides_model_unless_it_names_another() {
        let plan = |overrides: &[&str]| {
            resolve(&shipped("smoke.toml"), overrides).unwrap_or_else(|error| panic!("{error}"))
        };
        let of_base = plan(&["reward_model={model='base'}"]);
        assert_eq!(
            (plan(&[]).recipe.reward_model_base(), of_base.recipe.reward_model_base()),
            (Some("guide"), Some("base"))
        );
        let training = of_base.training.reward_model.as_ref().unwrap();
        assert_eq!(
            (training.length, training.schedule),
            (Length::Epochs(1.0), w2s::recipe::Schedule::Cosine)
        );
        assert_eq!(
            (of_base.recipe.reward_model.as_ref().unwrap().head_learning_rate, training.max_length),
            (1e-3, 96)
        );
        assert!(plan(&[]).describe().contains(
            "reward_model: a scalar head on sft/; learning rate \
                                               of the head 1e-3"
        ));
        assert!(of_base.describe().contains("reward_model: a scalar head on models.base; "));
        let memory = |plan: &Plan| {
            memory_estimate(plan)
                .into_iter()
                .find(|memory| memory.stage == Stage::RewardModel)
                .unwrap()
        };
        let bytes = |plan: &Plan| memory(plan).bytes();
        assert!(
            bytes(&of_base) > bytes(&plan(&["reward_model={model='guide'}"])),
            "the base is the larger model"
        );
        let adapted = plan(&[
            "reward_model={model='base', lora={rank=2, save='adapter'}, training={activation_checkpointing=true}}",
        ]);
        let parts: Vec<(&str, u64)> =
            memory(&adapted).parts.iter().map(|part| (part.name, part.bytes)).collect();
        assert!(
            parts.contains(&("optimizer", 8 * 1536)) && bytes(&adapted) < bytes(&of_base),
            "{parts:?}"
        );
        assert!(
            parts.iter().all(|(name, _)| *name != "logits"),
            "a head with one output: \
                                                                  {parts:?}"
        );
        let training = adapted.training.reward_model.as_ref().unwrap();
        assert!(
            training.activation_checkpointing
                && training.lora.as_ref().is_some_and(|lora| lora.targets == ["c_attn"])
        );
        assert!(
            adapted.describe().contains(
                "LoRA of rank 2, alpha 4, on c_attn: 1,536 trainable \
                                         parameters over "
            ),
            "{}",
            adapted.describe()
        );
    }

    fn training_of(stage: &str) -> Option<Training> {
        let training = resolve(&shipped("smoke.toml"), &[]).unwrap().training;
        if stage == "sft" { training.sft } else { training.dpo }
    }

    #[test]
    fn guides_come_from_stages_or_from_models() {
        let stages = resolve(&shipped("smoke.toml"), &[]).unwrap();
        assert_eq!(
            (stages.tuned(), stages.untuned()),
            (Some(GuideSource::Dpo), Some(GuideSource::Sft))
        );

        let named =
            resolve(&shipped("smoke.toml"), &["steer.tuned=base", "steer.untuned=guide"]).unwrap();
        assert_eq!(
            (named.tuned(), named.untuned()),
            (Some(GuideSource::Model("base".into())), Some(GuideSource::Model("guide".into())))
        );
        assert_eq!(named.reference(), Some(GuideSource::Sft));

        let text = std::fs::read_to_string(shipped("smoke.toml")).unwrap();
        let (before, rest) = text.split_once("[sft.training]").unwrap();
        let without_sft = Written::new(format!(
            "{before}[dpo.training]{}",
            rest.split_once("[dpo.training]").unwrap().1
        ));
        let plan = resolve(&without_sft.path(), &[]).unwrap();
        assert!(!plan.has(Stage::Sft));
        assert_eq!(plan.untuned(), Some(GuideSource::Model("guide".into())));
        assert_eq!(plan.reference(), plan.untuned());
    }

    #[test]
    fn paths_start_from_the_recipe_and_become_absolute() {
        let written = Written::smoke(&[(
            "source = \"builtin:reviews\"",
            "source = \
                                                                         \"rows/../rows/all.jsonl\"",
        )]);
        assert!(written.problems(&[])[0].starts_with(
            "x.toml: `data.source` is `rows/../rows/all.jsonl`, but \
                              `rows/../rows/all.jsonl` does not exist"
        ));
        let rows = written.folder.path().join("rows");
        std::fs::create_dir(&rows).unwrap();
        std::fs::write(rows.join("all.jsonl"), "").unwrap();
        let plan = resolve(&written.path(), &[]).unwrap();
        assert_eq!(
            Path::new(&plan.recipe.data.source),
            rows.canonicalize().unwrap().join("all.jsonl")
        );
    }

    #[test]
    fn describe_shows_defaults_and_sizes() {
        let mut overrides =
            vec!["run.seeds=[1,2,3]", "preferences.prompts=1500", "steer.prompts=100"];
        overrides.extend([
            "models.base.scratch.n_layer=4",
            "models.base.scratch.n_head=6",
            "models.base.scratch.n_embd=192",
        ]);
        overrides.extend([
            "models.other.scratch.n_layer=4",
            "models.other.scratch.n_head=6",
            "models.other.scratch.n_embd=192",
        ]);
        let plan = resolve(&shipped("demo.toml"), &overrides).unwrap();
        let text = plan.describe();
        for shown in [
            "seeds 1, 2, 3; device cpu; dtype float32; all threads that the machine allows",
            "guide: 675,328 parameters, 2 layers × 128 wide, 4 heads, context 128, vocabulary \
             2,048",
            "base: 2,197,632 parameters",
            "1 epoch of 3,000 examples = 47 steps, batch 64 = 4 × 16",
            "from sft/, which stays the reference; beta 0.1",
            "guides: dpo/ over sft/ with weight 1",
            "temperature 0.7, top-k 50, top-p off",
            "chunk-level beam search, beam width 4, 4 successors, chunks of 5 tokens; bases 2 × \
             seeds 3 × prompts 100 × samples 16 × tokens 50 = 480,000",
            "optimizer: 2295936 parameters × 2 moments × 4 B = 17.5 MiB",
            "warm-up 0.05, weight decay 0.1, gradient norm up to 1",
        ] {
            assert!(text.contains(shown), "{shown:?} is not in\n{text}");
        }
    }

    #[test]
    fn describe_shows_what_is_minimised() {
        let shows = |overrides: &[&str], shown: &[&str]| {
            let text = resolve(&shipped("smoke.toml"), overrides).unwrap().describe();
            for shown in shown {
                assert!(text.contains(shown), "{shown:?} is not in\n{text}");
            }
        };
        let defaults = [
            "guide on both answers of every pair; loss on the answers",
            "reference; beta 0.1, sigmoid loss, label smoothing 0",
        ];
        shows(&[], &defaults);
        shows(
            &["sft.on=all", "dpo.loss=ipo", "direct.loss=hinge"],
            &[
                "guide on both answers of every pair; loss on prompts and answers",
                "base, SFT on both answers, loss on prompts and answers: ",
                "reference; beta 0.1, ipo loss",
                "base, DPO with beta 0.1, hinge loss: ",
            ],
        );
    }

    #[test]
    fn absurd_counts_are_still_described() {
        let most = i64::MAX;
        let absurd = [
            format!("data.train={most}"),
            format!("data.validation={most}"),
            format!("preferences.prompts={most}"),
            format!("preferences.validation_prompts={most}"),
            format!("preferences.samples_per_prompt={}", most - 1),
            format!("steer.method.1.n={most}"),
            format!("dpo.training.batch_size={most}"),
            format!("dpo.training.micro_batch_size={most}"),
        ];
        let plan = resolve(&shipped("smoke.toml"), &absurd.each_ref().map(String::as_str))
            .unwrap_or_else(|error| panic!("{error}"));
        let text = plan.describe();
        assert!(
            text.contains("at most 18,446,744,073,709,551,615 sampled tokens in all"),
            "{text}"
        );
    }

    /// "Nothing is left at an unseen default": whatever key of `[steer]` is set, the plan reads
    /// differently.
    #[test]
    fn describe_shows_every_setting_of_steering() {
        let method = |table: &str| format!("steer.method.4={table}");
        let beam = "{kind='beam',beam_width=3,length_penalty=1,early_stopping=false}";
        let tilted = "steer.method.6={kind='best_of_n',n=4,name='tilted',tilt=1}".to_owned();
        let base = [
            method(beam),
            "steer.method.5={kind='eft',weights=[1]}".to_owned(),
            tilted,
            "steer.bases=['base']".to_owned(),
        ];
        let base = [
            &base.each_ref().map(String::as_str)[..],
            &["steer.tuned=guide", "steer.untuned=base"],
        ]
        .concat();
        let text = |more: &[&str]| {
            resolve(&shipped("smoke.toml"), &[&base[..], more].concat())
                .unwrap_or_else(|error| panic!("{error}"))
                .describe()
        };
        let plain = text(&[]);
        assert!(
            plain.contains(
                "token-level beam search of the base, beam width 3, length penalty 1, \
                            ends where none can improve"
            ),
            "{plain}"
        );
        let keys = [
            "steer.prompts=7",
            "steer.max_new_tokens=23",
            "steer.prompts_in_flight=3",
            "steer.sampling.temperature=0.8",
            "steer.sampling.top_k=7",
            "steer.sampling.top_p=0.5",
            "steer.stop=['a']",
            "steer.semantics=official",
            "steer.trace=false",
            "steer.method.1.n=5",
            "steer.method.2.beam_width=3",
            "steer.method.2.successors=3",
            "steer.method.2.chunk_len=6",
            "steer.method.4.beam_width=5",
            "steer.method.4.length_penalty=0.5",
            "steer.method.4.early_stopping=true",
            "steer.method.4.name=b",
            "steer.method.5.weights=[2]",
            "steer.method.6.tilt=2",
            "steer.method.6={kind='best_of_n',n=4,name='tilted'}",
        ];
        for key in keys {
            assert_ne!(text(&[key]), plain, "{key} is not shown");
        }
    }

    /// As many rows as the stage samples together.
    #[test]
    fn memory_of_preferences_is_that_of_the_rows_that_are_sampled_together() {
        let cache = |samples: usize, prompts: u64| {
            let plan = resolve(
                &shipped("smoke.toml"),
                &[&format!("preferences.samples_per_prompt={samples}")],
            )
            .unwrap();
            let new_tokens = plan.recipe.preferences.as_ref().unwrap().max_new_tokens as u64;
            let memory = memory_estimate(&plan)
                .into_iter()
                .find(|memory| memory.stage == Stage::Preferences)
                .unwrap();
            let rows = prompts * samples as u64;
            let expected =
                2 * rows * (25 + new_tokens + 32) * 2 * 128 * 4 + rows * (8 * 64 * 4 + 1024 * 8);
            assert_eq!(
                memory.parts.iter().find(|part| part.name == "KV cache").unwrap().bytes,
                expected,
                "{samples} samples"
            );
        };
        cache(2, 32);
        cache(6, 10);
        cache(100, 1);
    }

    #[test]
    fn judges_are_counted_where_they_are_loaded() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(golden.join("gpt2-reward/config.json"), folder.path().join("config.json"))
            .unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
        let judge = format!("judges.kind.id={}", folder.path().display());
        let of = |more: &[&str], stage: Stage| {
            let plan = resolve(&shipped("smoke.toml"), more).unwrap();
            memory_estimate(&plan).into_iter().find(|memory| memory.stage == stage).unwrap()
        };
        let alone = of(&[], Stage::Evaluate);
        assert_eq!((alone.model.as_str(), alone.bytes()), ("gold", 176_066 * 4));
        let steering = of(&[], Stage::Steer);
        assert!(
            steering.parts.iter().all(|part| !["gold", "judge"].contains(&part.name)),
            "{steering:?}"
        );
        assert_eq!(steering, of(&[&judge], Stage::Steer), "a judge is no part of the search");
        // One judge is open at a time, so the largest counts.
        let small = [
            "gold.scratch.dim=8",
            "gold.scratch.hidden_dim=8",
            "gold.scratch.vocab_size=100",
            &judge,
        ];
        assert_eq!(of(&small, Stage::Evaluate).model, "kind");
        assert_eq!(of(&[&judge], Stage::Evaluate), alone);
    }

    #[test]
    fn memory_grows_with_what_it_is_made_of() {
        let bytes = |overrides: &[&str], stage: Stage| {
            let plan = resolve(&shipped("smoke.toml"), overrides).unwrap();
            memory_estimate(&plan).iter().find(|memory| memory.stage == stage).unwrap().bytes()
        };
        assert!(bytes(&["dpo.training.micro_batch_size=8"], Stage::Dpo) < bytes(&[], Stage::Dpo));
        assert!(
            bytes(&["models.base.scratch.n_layer=4"], Stage::Direct) > bytes(&[], Stage::Direct)
        );
        assert!(
            bytes(&["direct.dpo.micro_batch_size=8"], Stage::Direct) < bytes(&[], Stage::Direct)
        );
        assert!(bytes(&["steer.method.1.n=64"], Stage::Steer) > bytes(&[], Stage::Steer));
        assert!(bytes(&["run.dtype=bfloat16"], Stage::Steer) < bytes(&[], Stage::Steer));
        let sft = |dtype: &str| bytes(&[&format!("run.dtype={dtype}")], Stage::Sft);
        assert!(sft("bfloat16") > sft("float32"), "bf16 weights stand beside the f32 masters");
        assert_eq!(sft("auto"), sft("bfloat16"), "the larger of what auto may be");
    }
}

mod reading {
    use super::*;

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest_key() {
        let written = Written::smoke(&[("beam_width", "beam_widht")]);
        let line = line_of("beam_width");
        assert_eq!(
            written.problems(&[]),
            [format!(
                "x.toml:{line}: unknown key `beam_widht` in `steer.method`\n\nhint: did you \
                      mean `beam_width`?"
            )]
        );
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let written = Written::smoke(&[
            ("[run]", "[run]\nsede = 3"),
            ("dtype = \"float32\"", "dtype = \"float23\""),
            ("[dpo.training]", "[dpo]\nlearning_rate = 1e-4\n[dpo.training]"),
            ("train = 400", "train = \"many\""),
            ("test = 64", "test = -1"),
            ("n = 4", "n = 4.5"),
            ("bases = [\"base\", \"other\"]\n", ""),
            (
                "tokenizer = { kind = \"same_as\", model = \"guide\" }",
                "tokenizer = \
                                                                       { kind = \"same\", model = \"guide\" }",
            ),
        ]);
        let mut problems = written.problems(&[]);
        problems.iter_mut().for_each(|problem| {
            let (place, what) = problem.split_once(": ").unwrap();
            assert!(
                place.starts_with("x.toml:") && place["x.toml:".len()..].parse::<usize>().is_ok(),
                "{place}"
            );
            *problem = what.to_owned();
        });
        problems.sort();
        let mut expected = [
            "unknown key `sede` in `run`\n\nhint: did you mean `seeds`?",
            "`run.dtype` is `float23`, expected one of `auto`, `f32`, `float32`, `bf16`, \
             `bfloat16`, `f16`, `float16`\n\nhint: did you mean `float32`?",
            "unknown key `learning_rate` in `dpo`\n\nhint: keys here: `loss`, `beta`, \
             `label_smoothing`, `training`, `lora`",
            "`data.train` is the text `many`, expected a whole number, 0 or more",
            "`data.test` is `-1`, expected a whole number, 0 or more",
            "`steer.method.1.n` is `4.5`, expected a whole number, 0 or more",
            "missing key `bases` in `steer`",
            "`models.base.scratch.tokenizer.kind` is `same`, expected one of `bpe`, \
             `same_as`\n\nhint: did you mean `same_as`?",
            "`run.seeds` is `3`, expected a list",
        ];
        expected.sort_unstable();
        assert_eq!(problems, expected);
    }

    #[test]
    fn broken_rules_are_told_beside_misspelt_keys() {
        let written = Written::smoke(&[
            ("max_new_tokens = 24\n\n[sft", "max_new_token = 24\n\n[sft"),
            ("n_head = 2", "n_head = 3"),
        ]);
        let problems = written.problems(&[]);
        assert_eq!(problems.len(), 2, "{problems:#?}");
        assert!(
            problems[0].contains("unknown key `max_new_token` in `preferences`"),
            "{problems:#?}"
        );
        assert!(
            problems[1].contains(
                "`models.guide.scratch.n_head` = 3 does not divide \
                                  `models.guide.scratch.n_embd` = 64"
            ),
            "{problems:#?}"
        );
    }

    #[test]
    fn missing_tables_are_named_without_what_would_be_in_them() {
        assert_eq!(
            Written::new("").problems(&[]),
            ["x.toml: missing table `[run]`", "x.toml: missing table `[data]`"]
        );
        assert_eq!(
            Written::new("run = 1\n[data]\nsource = 'a'\ntrain = 1\nvalidation = 1").problems(&[]),
            ["x.toml:1: `run` is `1`, expected a table", "x.toml:2: missing key `test` in `data`"]
        );
    }

    #[test]
    fn lists_do_not_pass_for_tables() {
        let run = Written::smoke(&[(
            "[run]\nname = \"smoke\"\ndtype = \"float32\"",
            "run = [\"smoke\"]",
        )])
        .problems(&[]);
        assert!(run[0].ends_with("`run` is a list, expected a table"), "{run:?}");
        let tokenizer = Written::smoke(&[(
            "{ kind = \"same_as\", model = \"guide\" }",
            "[\"same_as\", \"guide\"]",
        )])
        .problems(&[]);
        assert!(
            tokenizer[0].ends_with(
                "`models.base.scratch.tokenizer` is a list, expected a \
                                        table"
            ),
            "{tokenizer:?}"
        );
    }

    #[test]
    fn text_that_is_not_toml_names_its_line() {
        let problems =
            Written::new("[run]\nname = \n[data]\nsource = 'x'\nsource = 'y'\n").problems(&[]);
        assert!(
            problems.iter().any(|problem| problem.starts_with("x.toml:2: not TOML: ")),
            "{problems:?}"
        );
        assert!(
            problems.iter().any(|problem| problem.starts_with(
                "x.toml:5: not TOML: duplicate \
                                                                   key"
            )),
            "{problems:?}"
        );
        let problems = Written::new(b"[run]\nname = \"\xff\"\n").problems(&[]);
        assert_eq!(
            problems,
            ["x.toml:2: byte 14 of the file is not UTF-8\n\nhint: a recipe is \
                               TOML, a plain text file"]
        );
    }

    #[test]
    fn a_missing_file_points_at_its_neighbours() {
        let problems = problems_of(&shipped("demmo.toml"), &[]);
        assert!(
            problems[0].starts_with("demmo.toml: no such recipe file\n\nhint: did you mean `"),
            "{problems:?}"
        );
        assert!(problems[0].ends_with("demo.toml`?"), "{problems:?}");
        assert!(problems_of(&shipped("zzz.toml"), &[])[0].ends_with(
            "`demo.toml`, `imdb.toml`, `ppo-sentiment-small.toml`, \
                            `ppo-sentiment.toml`, `sentiment-paper.toml`, \
                            `sentiment-released.toml`, `smoke.toml`"
        ));
        let Err(Error::Recipe(folder)) = load(&shipped(""), &[]) else {
            panic!(
                "a folder was read \
                                                                                as a recipe"
            )
        };
        assert!(folder[0].contains("is a folder, not a recipe"), "{folder:?}");
    }
}

mod overrides {
    use super::*;

    fn smoke_with(overrides: &[&str]) -> Recipe {
        load(&shipped("smoke.toml"), &sets(overrides)).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn values_are_toml_or_else_text() {
        let recipe = smoke_with(&[
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
        assert_eq!(recipe.models["base"].prompt, "So: {prompt}");
        assert_eq!(smoke_with(&["run.name='2024'"]).run.name, "2024");
        assert_eq!(smoke_with(&["run.name=a", "run.name=b"]).run.name, "b", "the last one counts");
        assert_eq!(
            smoke_with(&["models.base.prompt=a=b {prompt}"]).models["base"].prompt,
            "a=b {prompt}"
        );
    }

    #[test]
    fn list_items_go_by_index_and_one_past_the_end_appends() {
        let recipe = smoke_with(&[
            "steer.method.1.n=8",
            "steer.method.7.kind=cbs",
            "steer.method.7={kind='best_of_n', n=2, name='two'}",
        ]);
        let methods = recipe.steer.unwrap().method;
        assert_eq!(methods[1].search.settings().samples(), 8);
        assert_eq!((methods.len(), methods[7].names()), (8, vec!["two".to_owned()]));
        assert_eq!(
            smoke_problems(&["steer.method.9.n=8"]),
            ["--set steer.method.9.n=8: `steer.method` is a list of 7, so `9` is no index into \
                 it\n\nhint: 0 to 6 are there, 7 adds another"]
        );
    }

    #[test]
    fn wrong_ones_are_told_as_they_were_typed() {
        assert_eq!(
            smoke_problems(&[
                "dpo.bata=1",
                "steer.method.2.chunk_length=5",
                "nonsense",
                "run.name.x=1",
                "run..name=x",
                "run.name=2024"
            ]),
            [
                "--set nonsense: not of the form key=value\n\nhint: for example --set \
                 run.name=trial",
                "--set run.name.x=1: `run.name` is a single value, not a table",
                "--set run..name=x: `run..name` is no key of a recipe\n\nhint: for example \
                 steer.method.0.n",
                "--set dpo.bata=1: unknown key `bata` in `dpo`\n\nhint: did you mean `beta`?",
                "--set run.name=2024: `run.name` is `2024`, expected text\n\nhint: --set \
                 'run.name=\"2024\"' makes it text",
                "--set steer.method.2.chunk_length=5: unknown key `chunk_length` in \
                 `steer.method`\n\nhint: did you mean `chunk_len`?",
            ]
        );
        let whole_table = smoke_problems(&["modles.guide.id=x"]);
        assert_eq!(
            whole_table[0],
            "--set modles.guide.id=x: unknown key `modles`\n\nhint: did you \
                                    mean `models`?"
        );
    }

    #[test]
    fn an_id_takes_the_place_of_scratch_and_the_other_way_round() {
        let recipe = smoke_with(&["models.guide.id=some/folder", "gold.id=other"]);
        assert_eq!(
            (recipe.models["guide"].id.as_deref(), &recipe.models["guide"].scratch),
            (Some("some/folder"), &None)
        );
        assert_eq!(recipe.gold.as_ref().map(|gold| gold.scratch.is_none()), Some(true));
        let both = smoke_problems(&["gold.id=.", "gold.scratch.dim=64"]);
        assert!(both.iter().any(|problem| problem.contains("missing key")), "{both:?}");

        let written = Written::new(
            "[run]\nname='a'\n[data]\nsource='s'\ntrain=1\nvalidation=1\ntest=1\n[models.m]\nid='x'\n",
        );
        let scratch = "models.m.scratch={architecture='gpt2',n_layer=1,n_head=1,n_embd=8,tokenizer={kind='bpe',vocab_size=300}}";
        assert_eq!(load(&written.path(), &sets(&[scratch])).unwrap().models["m"].id, None);
    }

    #[test]
    fn a_path_may_start_from_the_working_directory() {
        // Tests run in the package's folder, which is not the recipe's.
        let source = smoke_with(&["data.source=src"]).data.source;
        assert_eq!(Path::new(&source), Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
        assert_eq!(
            smoke_with(&["data.source=smoke.toml"]).data.source,
            "smoke.toml",
            "left to the recipe's folder"
        );
    }
}

mod rules {
    use super::*;

    /// Exactly one problem, which starts and may go on like this.
    #[track_caller]
    fn only(overrides: &[&str], starts: &str) {
        let problems = smoke_problems(overrides);
        assert_eq!(problems.len(), 1, "{overrides:?}: {problems:#?}");
        assert!(
            problems[0].strip_prefix("smoke.toml: ").is_some_and(|what| what.starts_with(starts)),
            "{overrides:?}: {problems:#?}"
        );
    }

    #[test]
    fn run_and_data() {
        only(&["run.name=a/b"], "`run.name`: `a/b` cannot name a folder");
        only(&["run.name=.."], "`run.name`: `..` cannot name a folder");
        only(&["run.seeds=[]"], "`run.seeds` is empty");
        only(&["run.seeds=[1,2,1]"], "`run.seeds` holds 1 twice");
        only(&["run.device=gpu"], "`run.device` is `gpu`, expected `cpu`, `cuda` or `cuda:N`");
        only(&["run.device=cuda:+1"], "`run.device` is `cuda:+1`");
        only(&["run.threads=0"], "`run.threads` is 0");
        only(
            &["data.source=builtin:books"],
            "`data.source` is `builtin:books`, but there is no \
                                              built-in corpus `books`",
        );
        only(&["data.validation=0"], "`data.validation` is 0, but the built-in corpus has no end");
        only(
            &["data.source=data/imdb.jsonl"],
            "`data.source` is `data/imdb.jsonl`, but \
                                                `data/imdb.jsonl` does not exist",
        );
        only(&["data.source=imdb"], "`data.source` is `imdb`, but `imdb` does not exist\n\nhint: ");
        assert!(
            smoke_problems(&["data.source=imdb"])[0].contains("a hub data set is `owner/name`")
        );
        // Which splits a hub data set has shows when it has been fetched.
        assert!(
            validate(
                &load(&shipped("smoke.toml"), &["data.source=stanfordnlp/imdb@main".into()])
                    .unwrap(),
                &shipped("smoke.toml")
            )
            .is_empty()
        );
        only(
            &["data.prompt.min_words=9"],
            "`data.prompt.min_words` = 9 is more than \
                                            `data.prompt.max_words` = 8",
        );
        only(
            &["data.splits.train=train_sft"],
            "`data.splits` chooses files of a folder, but \
                                                `data.source` is `builtin:reviews`",
        );
        only(&["data.prompt.min_words=0"], "`data.prompt.min_words` is 0");
        only(
            &["data.columns.label=text"],
            "`data.columns.text` and `data.columns.label` are both \
                                            `text`",
        );
        only(
            &["data.subset=plain_text"],
            "`data.subset` names a folder below `data.source`, which \
                                           is not a folder",
        );
        only(&["data.source=src", "data.subset=recpie"], "`data.subset` is `recpie`, but `");
        for (name, dtype) in
            [("f32", Dtype::Float32), ("bf16", Dtype::Bfloat16), ("f16", Dtype::Float16)]
        {
            assert_eq!(
                load(&shipped("smoke.toml"), &sets(&[&format!("run.dtype={name}")]))
                    .unwrap()
                    .run
                    .dtype,
                dtype
            );
        }
    }

    #[test]
    fn chats() {
        only(
            &[
                "models.base.chat={}",
                "steer.max_new_tokens=4",
                "preferences.max_new_tokens=4",
                "ppo.max_new_tokens=4",
            ],
            "`models.base.chat` is asked of a model made from scratch, which has no chat template",
        );
        assert!(smoke_problems(&["models.base.chat={sytem='x'}"])[0].contains(
            "did you mean \
                                                                               `system`?"
        ));
        let written = Written::smoke(&[(
            "[pretrain.training]",
            "[models.talking]\nid = \"m\"\nchat = { system = \"Be kind.\" }\n\n[pretrain.training]",
        )]);
        let folder = written.folder.path().join("m");
        model_folder(&folder, TINY_GPT2);
        assert!(written.problems(&[])[0].starts_with(
            "x.toml: `models.talking.chat` is asked of `m`, \
                                                  which has no chat template\n\nhint: "
        ));
        std::fs::write(
            folder.join("tokenizer_config.json"),
            r#"{"chat_template":[{"name":"rag","template":""}]}"#,
        )
        .unwrap();
        assert!(written.problems(&[])[0].contains(
            "has chat templates `rag` and none named \
                                                   `default`"
        ));
        std::fs::write(folder.join("chat_template.jinja"), "{{ messages }}").unwrap();
        let plan = resolve(&written.path(), &[]).unwrap_or_else(|error| panic!("{error}"));
        let [talking, guide] = ["talking", "guide"].map(|name| &plan.recipe.models[name]);
        assert_eq!(
            (talking.bos, guide.bos),
            (None, Some(true)),
            "what is made from scratch says \
                                                                  that it begins with BOS"
        );
        let shown = "prompt \"{prompt}\" as the user's turn of the chat template, after the \
                     system's \"Be \
             kind.\", BOS as the template has it";
        assert!(plan.describe().contains(shown), "{}", plan.describe());
        let again: Recipe = toml::from_str(&toml::to_string_pretty(&plan.recipe).unwrap()).unwrap();
        assert_eq!(again, plan.recipe);
        let silent = resolve(&written.path(), &["models.talking.chat={}"]).unwrap().recipe;
        assert_eq!(silent.models["talking"].chat, Some(Chat { system: None }));
        assert_eq!(
            toml::from_str::<Recipe>(&toml::to_string_pretty(&silent).unwrap()).unwrap(),
            silent
        );
        std::fs::remove_file(folder.join("tokenizer.json")).unwrap();
        std::fs::write(folder.join("tokenizer.model"), "").unwrap();
        assert!(written.problems(&[])[0].contains(
            "holds no `tokenizer.json`\n\nhint: `tokenizer.model` must be converted \
                           once, with transformers"
        ));
    }

    #[test]
    fn the_few_shot_example_is_a_prompt_with_one_place() {
        let page = std::fs::read_to_string(document("prompts.md")).unwrap();
        let example = page
            .split("```toml\n")
            .skip(1)
            .filter_map(|block| block.split("```").next())
            .find(|block| block.contains("TL;DR"))
            .unwrap();
        let models: toml::Table = example.parse().unwrap();
        let prompt = models["models"]["base"]["prompt"].as_str().unwrap();
        assert_eq!(
            (prompt.matches("{prompt}").count(), prompt.matches("\nTL;DR: ").count()),
            (1, 2)
        );
        assert!(
            prompt.starts_with("SUBREDDIT: ") && prompt.ends_with("---\n\n{prompt}"),
            "{prompt}"
        );
        let tokenizer = Tokenizer::train_bpe([page.clone()].into_iter(), 600).unwrap();
        let post = "SUBREDDIT: r/books\n\nTITLE: {prompt}?\n\nPOST: What is {prompt}?\n\nTL;DR:";
        let ids = PromptTemplate::new(prompt, Some(true)).encode(&tokenizer, post).unwrap();
        assert_eq!(tokenizer.decode(&ids[1..]).unwrap(), prompt.replace("{prompt}", "") + post);
        let written = Written::smoke(&[
            (
                "[models.base]\nbos = true\n\n[models.base.scratch]",
                &format!("{example}[models.base.scratch]"),
            ),
            (
                "n_positions = 96\ntokenizer = { kind = \"same_as\"",
                "n_positions = 1024\ntokenizer \
                                                                    = { kind = \"same_as\"",
            ),
        ]);
        let text = std::fs::read_to_string(written.path())
            .unwrap()
            .replace("id = \"../models/gpt2-large\"\n", "");
        std::fs::write(written.path(), text).unwrap();
        assert_eq!(resolve(&written.path(), &[]).unwrap_or_else(|error| panic!("{error}")).recipe.models["base"].prompt, prompt);
    }

    #[test]
    fn models_and_gold() {
        only(&["models.guide.prompt=Review"], "`models.guide.prompt` holds `{prompt}` 0 times");
        only(
            &["models.guide.prompt={prompt} {prompt}"],
            "`models.guide.prompt` holds `{prompt}` 2 \
                                                          times",
        );
        only(
            &["models.other.scratch.n_embd=97"],
            "`models.other.scratch.n_head` = 2 does not \
                                                   divide `models.other.scratch.n_embd` = 97",
        );
        only(&["models.other.scratch.n_layer=0"], "`models.other.scratch.n_layer` is 0");
        only(
            &["models.other.scratch.n_layer=-9223372036854775808"],
            "`models.other.scratch.n_layer` is -9",
        );
        only(
            &["models.other.scratch.n_embd=9223372036854775806"],
            "`models.other.scratch.n_embd` \
                                                                    is 9",
        );
        only(
            &["models.other.scratch.tokenizer.vocab_size=259"],
            "`models.other.scratch.tokenizer.vocab_size` is 259, expected 260 to",
        );
        only(
            &["models.base.scratch.tokenizer.model=gide"],
            "`models.base.scratch.tokenizer.model` is `gide`, but there is no `[models.gide]`",
        );
        only(
            &["models.base.scratch.tokenizer.model=base"],
            "`models.base.scratch.tokenizer.model` \
                                                             is the model itself",
        );
        only(
            &["models.other.scratch.tokenizer={kind='same_as', model='base'}"],
            "`models.other.scratch.tokenizer.model` is `base`, which itself takes the tokenizer of \
             `guide`",
        );
        only(
            &["gold.scratch.dim=63"],
            "`gold.scratch.n_heads` = 2 does not divide \
                                        `gold.scratch.dim` = 63",
        );
        only(&["gold.scratch.vocab_size=5"], "`gold.scratch.vocab_size` is 5");
        let set = ["gold.id=lvwerra/distilbert-imdb", "models.other.id=openai-community/gpt2"]
            .map(str::to_owned);
        assert!(
            validate(&load(&shipped("smoke.toml"), &set).unwrap(), &shipped("smoke.toml"))
                .is_empty()
        );
        only(
            &["gold.id=distilbert-imdb"],
            "`gold.id` is `distilbert-imdb`, but `distilbert-imdb` is not a folder\n\nhint: paths \
             in a recipe are relative to the recipe's \
             folder; a hub id is `owner/name`",
        );
    }

    #[test]
    fn model_folders() {
        let folder = tempfile::tempdir().unwrap();
        let set = format!("models.other.id={}", folder.path().display());
        let problems = smoke_problems(&[&set]);
        assert!(problems[0].contains("holds no `config.json`, `tokenizer.json`"), "{problems:?}");
        model_folder(folder.path(), TINY_GPT2);
        resolve(&shipped("smoke.toml"), &[&set]).unwrap();
        only(
            &[&set, "steer.max_new_tokens=40"],
            "`steer.max_new_tokens`: a prompt of up to 25 tokens, 40 new ones and an end token \
             make 66, but `models.other` sees 64",
        );
        model_folder(folder.path(), "{\"n_positions\": \"many\"}");
        only(&[&set], "`models.other.id`: `n_positions` in its config.json is \"many\"");
        model_folder(folder.path(), "{");
        only(&[&set], "`models.other.id`: its config.json is not JSON");
    }

    #[test]
    fn optimisation() {
        only(
            &["sft.training.micro_batch_size=3"],
            "`sft.training.micro_batch_size` = 3 does not divide `sft.training.batch_size` = \
             16\n\nhint: use one of 1, 2, 4, 8, 16",
        );
        only(&["pretrain.training.epochs=1"], "`pretrain.training` has both `steps` and `epochs`");
        only(&["dpo.training.epochs=0"], "`dpo.training.epochs` is 0, expected a number above 0");
        only(&["dpo.training.learning_rate=nan"], "`dpo.training.learning_rate` is NaN");
        only(&["dpo.training.learning_rate=-1e-5"], "`dpo.training.learning_rate` is -0.00001");
        only(&["gold.training.warmup_ratio=1"], "`gold.training.warmup_ratio` is 1");
        only(&["gold.training.batch_size=0"], "`gold.training.batch_size` is 0");
        only(
            &["dpo.training.max_length=97"],
            "`dpo.training.max_length` = 97 is more than the 96 \
                                               tokens that `models.guide` sees",
        );
        only(&["dpo.beta=inf"], "`dpo.beta` is inf");
        assert_eq!(
            smoke_problems(&["dpo.loss=sigmod", "sft.on=answer"]),
            [
                "--set dpo.loss=sigmod: `dpo.loss` is `sigmod`, expected one of `sigmoid`, `ipo`, \
                 `hinge`\n\nhint: did you mean `sigmoid`?",
                "--set sft.on=answer: `sft.on` is `answer`, expected one of `response`, `all`",
            ]
        );
        only(
            &["dpo.label_smoothing=0.5"],
            "`dpo.label_smoothing` is 0.5, expected 0 or more and \
                                            below 0.5",
        );
        only(&["dpo.label_smoothing=nan"], "`dpo.label_smoothing` is NaN");
        only(
            &["dpo.loss=ipo", "dpo.label_smoothing=0.1"],
            "`dpo.label_smoothing` is 0.1, but only the loss `sigmoid` smooths labels\n\nhint: \
             leave it out, or set `dpo.loss` to `sigmoid`",
        );
    }

    #[test]
    fn preferences_and_steering() {
        only(
            &["preferences.samples_per_prompt=3"],
            "`preferences.samples_per_prompt` is 3, \
                                                     expected an even number",
        );
        only(
            &["preferences.prompts=401"],
            "`preferences.prompts` = 401 is more than `data.train` \
                                            = 400",
        );
        only(
            &["preferences.policy=gude"],
            "`preferences.policy` is `gude`, but there is no `[models.gude]`\n\nhint: did you mean \
             `guide`?",
        );
        only(&["preferences.sampling.temperature=0"], "`preferences.sampling.temperature` is 0");
        only(&["steer.prompts=65"], "`steer.prompts` = 65 is more than `data.test` = 64");
        only(&["steer.bases=[]"], "`steer.bases` is empty");
        only(&["steer.bases=['base','base']"], "`steer.bases` holds `base` twice");
        only(&["steer.method=[]"], "`steer.method` is empty");
        only(&["steer.method.1.n=0"], "`steer.method.1.n` is 0");
        only(&["steer.method.2.chunk_len=0"], "`steer.method.2.chunk_len` is 0");
        only(
            &["steer.method.3.name=cbs"],
            "`steer.method.3`: a method before it has the name \
                                            `cbs` too",
        );
        only(&["steer.method.3.name='a b'"], "`steer.method.3.name`: `a b` cannot name a folder");
        only(&["steer.sampling.top_p=0"], "`steer.sampling.top_p` is 0");
        only(&["steer.stop=['']"], "`steer.stop` holds an empty text");
        only(&["steer.tuned=other"], "`steer.tuned` is given without `steer.untuned`");
        only(
            &["steer.guide=[{tuned='base',untuned='guide',weight=0}]"],
            "`steer.guide.0.weight` \
                                                                          is 0",
        );
        only(
            &["steer.tuned=guide", "steer.untuned=guide"],
            "the tuned and the untuned guide of `[ppo]` are both `guide`, so every reward would be \
             0\n\nhint: ",
        );
        only(
            &["steer.tuned=other", "steer.untuned=guide"],
            "`steer.tuned` is `other` and `steer.untuned` is `guide`, which have a tokenizer each",
        );
        only(
            &["steer.guide=[{weight=1},{tuned='base',untuned='guide'},{weight=-2}]"],
            "`steer.guide.2` is a pair that stands before it too\n\nhint: one pair with the sum of \
             their weights is the same",
        );
        only(
            &["steer.guide=[{untuned='guide'}]"],
            "`steer.guide.0.untuned` is given without \
                                                    `steer.guide.0.tuned`",
        );
        only(
            &["steer.tuned=base", "steer.untuned=guide", "steer.guide=[{weight=-1}]"],
            "`steer.tuned` and `steer.untuned` are given beside",
        );
        let eft = "steer.method.3={kind='eft',weights=[0.5,2]}";
        only(
            &[eft],
            "`steer.method.3`: `eft` needs one vocabulary, but base `other` and guide \
                      `guide`",
        );
        let tilted = "steer.method.3={kind='best_of_n',n=2,tilt=0.5,name='tilted'}";
        only(
            &[tilted],
            "`steer.method.3`: `tilt` needs one vocabulary, but base `other` and guide `guide` \
             have a tokenizer each\n\nhint: leave `tilt` out",
        );
        only(
            &["steer.bases=['base']", tilted, "steer.method.3.tilt=nan"],
            "`steer.method.3.tilt` \
                                                                            is NaN, expected a \
                                                                            number",
        );
        only(
            &[
                "steer.bases=['base']",
                "steer.method.3={kind='cbs',beam_width=1,successors=1,chunk_len=2,tilt=1}",
            ],
            "`steer.method.3`: a method before it has the name `cbs` too",
        );
        only(
            &["steer.bases=['base']", "steer.method.3={kind='eft',weights=[]}"],
            "`steer.method.3.weights` is empty",
        );
        only(
            &["steer.bases=['base']", "steer.method.3={kind='eft',weights=[1,2,1]}"],
            "`steer.method.3.weights` holds 1 twice",
        );
        only(
            &["steer.bases=['base']", eft, "steer.method.4={kind='base',name='eft-2'}"],
            "`steer.method.4`: a method before it has the name `eft-2` too",
        );
        only(&["steer.method.3={kind='beam',beam_width=0}"], "`steer.method.3.beam_width` is 0");
        assert_eq!(smoke_problems(&["steer.sampling.temperature=0"]).len(), 2, "best_of_n and cbs");
        let long = smoke_problems(&["steer.max_new_tokens=80"]);
        assert_eq!(long.len(), 3, "both bases, and the guide, which methods sample: {long:#?}");
        // Guides that score read as much as they can; those that are sampled need room for all.
        let short = ["models.guide.scratch.n_positions=60"];
        let short = [
            &short[..],
            &[
                "steer.max_new_tokens=40",
                "steer.bases=['base']",
                "steer.method=[{kind='best_of_n',n=2}]",
            ],
        ]
        .concat();
        let plan = resolve(&shipped("smoke.toml"), &short).unwrap();
        assert_eq!(
            plan.warnings(),
            ["`steer.max_new_tokens`: behind a prompt of up to 25 tokens `models.guide` reads \
                 35, and a response may take 40 and an end token: \
              of a longer one only the beginning is scored"]
        );
        for method in [
            "{kind='tuned'}",
            "{kind='untuned'}",
            "{kind='eft',weights=[1]}",
            "{kind='best_of_n',n=2,tilt=1,name='t'}",
        ] {
            let method = format!("steer.method.1={method}");
            let problems = smoke_problems(&[&short[..], &[&method]].concat());
            assert!(
                problems.len() == 1
                    && problems[0].contains(
                        "40 new ones and an end token make 66, \
                                                             but `models.guide` sees 60"
                    ),
                "{problems:?}"
            );
        }
    }

    #[test]
    fn pairs_of_samples_and_of_a_source() {
        only(
            &["preferences.samples_per_prompt=1", "preferences.pairing=all"],
            "`preferences.samples_per_prompt` is 1, expected 2 or more",
        );
        let three = resolve(
            &shipped("smoke.toml"),
            &["preferences.samples_per_prompt=3", "preferences.pairing=best_worst"],
        )
        .unwrap();
        assert!(
            three.describe().contains("the best and the worst a pair")
                && three.describe().contains("at most 64 pairs and 16 for")
        );
        only(
            &["preferences.label=kept"],
            "`preferences.label` is `kept`, but samples have no \
                                           labels to keep\n\nhint: ",
        );
        only(
            &["preferences.train_pairs=3"],
            "`preferences.train_pairs` is about a file of pairs, \
                                              but there is no `preferences.source`",
        );
        let without_policy = Written::smoke(&[("policy = \"guide\"\n", "")]).problems(&[]);
        assert!(
            without_policy[0].starts_with(
                "x.toml: missing key `policy` in \
                                               `preferences`\n\nhint: a \
                                               model"
            ),
            "{without_policy:?}"
        );

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pairs.jsonl");
        std::fs::write(&file, "").unwrap();
        let sampled = "policy = \"guide\"\nprompts = 64\nvalidation_prompts = 16\nmax_new_tokens = \
                       24\n";
        let table = |keys: &str| {
            Written::smoke(&[(
                sampled,
                &format!("source = {:?}\n{keys}\n", file.display().to_string()),
            )])
        };
        let problems = |keys: &str| table(keys).problems(&[]);
        resolve(&table("policy = 'guide'\nvalidation_pairs = 9").path(), &[]).unwrap();
        let both = problems(
            "policy = 'guide'\nvalidation_pairs = 9\nprompts = 3\nmax_new_tokens = \
                             4",
        );
        assert!(
            both[0].contains(
                "but the recipe gives `preferences.prompts`, \
                                  `preferences.max_new_tokens`\n\nhint: "
            ),
            "{both:?}"
        );
        assert!(problems("policy = 'guide'")[0].contains(
            "`preferences.validation_pairs` is 0, but \
                                                          one file is split by size"
        ));
        let nothing = problems("validation_pairs = 9");
        assert!(
            nothing[0].contains(
                "`[sft]` has no model to tune, because `preferences.source` \
                                     has no policy"
            ),
            "{nothing:?}"
        );
        let columns = problems(
            "policy = 'guide'\nvalidation_pairs = 9\ncolumns = \
                                { chosen = 'prompt', rejected = '' }",
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
            plan.training.dpo.as_ref().unwrap().max_length,
            512,
            "of a file nothing is \
                                                                         known before it is read"
        );
        assert_eq!(plan.training.direct["base"].dpo.max_length, 64, "no more than the model sees");
        assert!(
            plan.describe().contains(
                "columns `prompt`, `chosen`, `rejected`; chosen is as the \
                                          source has it"
            ),
            "{}",
            plan.describe()
        );
    }

    #[test]
    fn reward_models() {
        only(
            &["reward_model.head_learning_rate=0"],
            "`reward_model.head_learning_rate` is 0, \
                                                      expected a number above 0",
        );
        only(
            &["reward_model.training.learning_rate=0"],
            "`reward_model.training.learning_rate` is \
                                                          0, expected a number above 0",
        );
        assert!(smoke_problems(&["reward_model.from=dpo"])[0].ends_with(
            "`reward_model.from` is \
                                                                         `dpo`, expected one of \
                                                                         `model`, `sft`"
        ));
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
            "`reward_model.training.max_length` = 97 is more than the 96 tokens that \
             `models.guide` sees",
        );
        only(
            &["gold.training.activation_checkpointing=true"],
            "`gold.training.activation_checkpointing` is for language and reward models, not for \
             classifiers",
        );
        let text = std::fs::read_to_string(shipped("smoke.toml")).unwrap();
        let (before, rest) = text.split_once("[sft.training]").unwrap();
        let without_sft =
            format!("{before}[reward_model]{}", rest.split_once("[reward_model]").unwrap().1);
        let problems = Written::new(without_sft).problems(&[]);
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].ends_with(
            "`reward_model.from` is `sft`, and there is no \
                                       `[sft]`\n\nhint: add `[sft]`, or leave `from` out"
        ));
    }

    #[test]
    fn direct_tuning() {
        only(
            &["direct.models=[]", "steer.method.5.kind=base", "steer.method.5.name=x"],
            "`direct.models` is empty, expected one model",
        );
        only(
            &["direct.models=['base','othr']", "steer.bases=['base']"],
            "`direct.models` is `othr`, but there is no `[models.othr]`\n\nhint: did you mean \
             `other`?",
        );
        only(&["direct.models=['base','other','base']"], "`direct.models` holds `base` twice");
        only(&["direct.beta=0"], "`direct.beta` is 0, expected a number above 0");
        only(
            &["direct.label_smoothing=-0.1"],
            "`direct.label_smoothing` is -0.1, expected 0 or \
                                                more",
        );
        only(
            &["dpo.loss=hinge", "direct.label_smoothing=0.1"],
            "`direct.label_smoothing` is 0.1, \
                                                                 but only the loss `sigmoid`",
        );
        only(
            &["direct.models=['base']"],
            "`steer.method.5`: `direct` samples every base, but `direct.models` leaves out \
             `other`\n\nhint: name them there too, or leave",
        );
        only(
            &["direct.sft.micro_batch_size=3"],
            "`direct.sft.micro_batch_size` = 3 does not \
                                                  divide `direct.sft.batch_size` = 16",
        );
        only(
            &["dpo.training.micro_batch_size=3"],
            "`dpo.training.micro_batch_size` = 3 does not \
                                                    divide",
        );
        only(&["direct.dpo.epochs=0"], "`direct.dpo.epochs` is 0, expected a number above 0");
        only(
            &["direct.models=['base']", "steer.bases=['base']", "direct.dpo.max_length=97"],
            "`direct.dpo.max_length` = 97 is more than the 96",
        );
        only(
            &[
                "models.other.scratch.n_positions=54",
                "steer.max_new_tokens=4",
                "preferences.max_new_tokens=30",
            ],
            "`preferences.max_new_tokens`: a prompt of up to 25 tokens, 30 new ones and an end \
             token make 56, but `models.other` sees 54",
        );
        let written = Written::smoke(&[("[direct]\n", "")]);
        let problems = written.problems(&[]);
        assert_eq!(
            problems,
            ["x.toml: `steer.method.5`: `direct` samples directly tuned bases, and there is no \
                 `[direct]`\n\nhint: add `[direct]`; all its \
              keys have defaults"]
        );
        assert!(smoke_problems(&["direct.sft.learnign_rate=1"])[0].contains(
            "did you mean \
                                                                             `learning_rate`?"
        ));
    }

    #[test]
    fn stages_need_what_comes_before_them() {
        let head =
            "[run]\nname='a'\n[data]\nsource='builtin:reviews'\ntrain=9\nvalidation=9\ntest=9\n";
        let stages = "[sft]\n[reward_model]\n[dpo]\n[direct]\n[evaluate]\n[models.m.scratch]\narchitecture='gpt2'\nn_layer=1\nn_head=1\nn_embd=8\ntokenizer={kind='bpe',vocab_size=300}";
        let problems = Written::new(format!("{head}{stages}")).problems(&[]);
        let expected = [
            "`models.m.scratch` is to be pretrained, but there is no `[pretrain]`\n\nhint: add \
             `[pretrain]`; all its keys have defaults",
            "`[sft]` needs `[preferences]`",
            "`[reward_model]` needs `[preferences]`",
            "`[dpo]` needs `[preferences]`",
            "`[direct]` needs `[preferences]`",
            "`[evaluate]` needs `[steer]`",
            "`[evaluate]` needs `[gold]`",
            "`[direct]` tunes `steer.bases`, and there is no `[steer]`\n\nhint: add `[steer]`, or \
             name models as `direct.models`",
        ];
        assert_eq!(problems, expected.map(|what| format!("x.toml: {what}")));
        assert!(Written::new(head).problems(&[])[0].starts_with("x.toml: the recipe has no stage"));

        let steer = "[pretrain]\n[steer]\nbases=['m']\nprompts=1\nmax_new_tokens=5\nmethod=[{kind='base'},{kind='tuned'},{kind='cbs',beam_width=1,successors=1,chunk_len=1}]\n";
        let model = stages.split_once("[models").unwrap().1;
        let problems = Written::new(format!("{head}{steer}[models{model}")).problems(&[]);
        assert_eq!(problems.len(), 2, "{problems:#?}");
        assert!(
            problems[0].starts_with(
                "x.toml: `steer.method.1`: `tuned` needs guides, and there \
                                         are none"
            ),
            "{problems:#?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_loader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), set in "\\PC{0,30}") {
        let written = Written::new(bytes);
        let _ = load(&written.path(), &[set]);
    }

    #[test]
    fn no_mangled_recipe_makes_the_loader_panic(
        cuts in proptest::collection::vec((0.0..1.0_f64, 0..40_usize, "[\\[\\]{}=.,\"'\n \
                                                                       a-c0-9-]{0,6}"), 1..6),
        key in "(run|data|steer|models|gold|x)(\\.(method|guide|id|scratch|0|7|name|seeds)){0,3}",
        value in "(-?[0-9]{1,25}|[a-z\\[\\]{}=,'\" ]{0,10}|nan|1e400|\\[\\[1\\]\\])",
    ) {
        let mut text: Vec<char> = std::fs::read_to_string(shipped("smoke.toml")).unwrap().chars().collect();
        for (place, length, insert) in cuts {
            let start = (place * text.len() as f64) as usize;
            let end = (start + length).min(text.len());
            text.splice(start..end, insert.chars());
        }
        let written = Written::new(text.into_iter().collect::<String>());
        for overrides in [vec![], vec![format!("{key}={value}")]] {
            if let Ok(recipe) = load(&written.path(), &overrides) {
                let problems = validate(&recipe, &written.path());
                let planned = Plan::new(recipe, &written.path());
                prop_assert_eq!(problems.is_empty(), planned.is_ok());
                let _ = planned.map(|plan| plan.describe());
            }
        }
    }
}

mod lora {
    use super::*;

    #[test]
    fn it_is_resolved_for_each_model_and_shown() {
        let overrides = [
            "sft.lora={}",
            "dpo.lora={rank=4, alpha=4, save='adapter'}",
            "direct.lora={rank=2, targets=['c_attn','c_fc']}",
        ];
        let plan =
            resolve(&shipped("smoke.toml"), &overrides).unwrap_or_else(|error| panic!("{error}"));
        let StageTraining { sft, dpo, direct, .. } = &plan.training;
        let [sft, dpo] =
            [sft, dpo].map(|training| training.as_ref().unwrap().lora.as_ref().unwrap());
        assert_eq!(
            (sft.rank, sft.alpha, sft.targets.join(" "), sft.save),
            (16, 32.0, "c_attn".to_owned(), LoraSave::Merged)
        );
        assert_eq!((dpo.rank, dpo.alpha, dpo.save), (4, 4.0, LoraSave::Adapter));
        let base = &direct["base"];
        assert_eq!(base.dpo.lora, base.sft.as_ref().unwrap().lora);
        let text = plan.describe();
        for line in [
            // 2 layers · 16 · (64 + 192)
            "LoRA of rank 16, alpha 32, on c_attn: 8,192 trainable parameters over 171,776 frozen \
             ones (4.77 %); saved merged",
            "LoRA of rank 4, alpha 4, on c_attn: 2,048 trainable parameters over 171,776 frozen \
             ones (1.19 %); saved as a PEFT adapter",
            // 2 layers · 2 · (96 + 288 + 96 + 384)
            "LoRA of rank 2, alpha 4, on c_attn, c_fc: 3,456 trainable parameters over ",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        let alone = resolve(&shipped("smoke.toml"), &["sft.lora={}", "dpo.lora={}"]).unwrap();
        assert!(
            alone.training.direct.values().all(|direct| direct.dpo.lora.is_none()),
            "the guide's is not the bases'"
        );
    }

    #[test]
    fn frozen_weights_need_no_gradients_and_no_moments() {
        let parts = |overrides: &[&str]| {
            let plan = resolve(&shipped("smoke.toml"), overrides).unwrap();
            let memory = memory_estimate(&plan)
                .into_iter()
                .find(|memory| memory.stage == Stage::Dpo)
                .unwrap();
            memory.parts.iter().take(3).map(|part| part.bytes).collect::<Vec<_>>()
        };
        let all = 171_776;
        assert_eq!(parts(&[]), [4 * all, 4 * all, 8 * all]);
        assert_eq!(parts(&["dpo.lora={}"]), [4 * all, 8 * 8192, 8 * 8192]);
        assert_eq!(parts(&["dpo.lora={}", "run.dtype=bfloat16"]), [2 * all, 8 * 8192, 8 * 8192]);
    }

    #[test]
    fn what_cannot_be_is_told_with_a_way_out() {
        for (set, expected) in [
            ("sft.lora={rank=0}", "`sft.lora.rank` is 0, expected 1 or more"),
            ("sft.lora={alpha=0}", "`sft.lora.alpha` is 0, expected a number above 0"),
            ("sft.lora={alpha=inf}", "`sft.lora.alpha` is inf, expected a number above 0"),
            (
                "sft.lora={targets=[]}",
                "`sft.lora.targets` is empty\n\nhint: leave it out for the \
                                       layers that are usual for the model",
            ),
            (
                "sft.lora={targets=['proj']}",
                "`sft.lora.targets` holds `proj`, but `models.guide` has no linear layer of that \
                 name\n\n\
                 hint: its layers: `attn.c_attn`, `attn.c_proj`, `mlp.c_fc`, `mlp.c_proj`",
            ),
            (
                "direct.lora={rank=97, targets=['attn.c_proj']}",
                "`direct.lora.rank` is 97, more than the rank of `attn.c_proj` of `models.base`, \
                 which has 96 inputs and 96 outputs",
            ),
            ("dpo.lora={r=8}", "unknown key `r` in `dpo.lora`"),
            ("reward_model.lora={rank=0}", "`reward_model.lora.rank` is 0, expected 1 or more"),
            (
                "reward_model.lora={targets=['q_proj']}",
                "`reward_model.lora.targets` holds `q_proj`, but `models.guide` has no linear \
                 layer",
            ),
            ("dpo.lora={save='both'}", "`dpo.lora.save`"),
        ] {
            let problems = smoke_problems(&[set]);
            assert!(
                problems.iter().any(|problem| problem.contains(expected)),
                "{set}: {problems:?}"
            );
        }
        assert_eq!(smoke_problems(&["direct.lora={rank=0}"]).len(), 1, "told once for both bases");
        let two = smoke_problems(&["sft.lora={save='adapter'}", "dpo.lora={rank=8}"]);
        assert!(
            two.len() == 1
                && two[0].contains(
                    "`dpo.lora` goes on training the adapter that \
                                                   `sft.lora` saves"
                ),
            "{two:?}"
        );
        let two = smoke_problems(&["sft.lora={save='adapter'}", "reward_model.lora={alpha=1}"]);
        assert!(
            two.len() == 1
                && two[0].contains(
                    "`reward_model.lora` goes on training the \
                                                   adapter that `sft.lora` saves"
                ),
            "{two:?}"
        );
        let own =
            ["sft.lora={save='adapter'}", "reward_model.lora={alpha=1}", "reward_model.from=model"];
        assert!(
            resolve(&shipped("smoke.toml"), &own).is_ok(),
            "it starts from the model's own \
                                                                weights"
        );
        assert!(
            resolve(&shipped("smoke.toml"), &["sft.lora={save='adapter'}", "dpo.lora={}"]).is_ok()
        );
        assert!(
            resolve(&shipped("smoke.toml"), &["sft.lora={save='adapter'}"]).is_ok(),
            "merged, and every weight trained"
        );
    }
}

mod ppo {
    use super::*;

    const TABLE: &str = "ppo={policy='base',chunk_len=[5,'inf'],prompts=32,validation_prompts=8,max_new_tokens=24,minibatch_size=8,\
        training={steps=4,batch_size=16,learning_rate=1e-4,eval_every=2,checkpoint_every=2}}";
    const METHOD: &str = "steer.method.6={kind='ppo',chunk_len=[5,'inf']}";

    fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
        [&[TABLE, METHOD][..], more].concat()
    }

    fn plan(more: &[&str]) -> Plan {
        resolve(&shipped("smoke.toml"), &with(more)).unwrap_or_else(|error| panic!("{error}"))
    }

    fn problems(more: &[&str]) -> Vec<String> {
        smoke_problems(&with(more))
    }

    /// Exactly one problem, which starts like this.
    #[track_caller]
    fn only(more: &[&str], starts: &str) {
        let problems = problems(more);
        assert_eq!(problems.len(), 1, "{more:?}: {problems:#?}");
        assert!(
            problems[0].strip_prefix("smoke.toml: ").is_some_and(|what| what.starts_with(starts)),
            "{more:?}: {problems:#?}"
        );
    }

    #[test]
    fn it_is_settled_and_survives_being_written() {
        let plan = plan(&[]);
        assert!(plan.has(Stage::Ppo));
        let again: Recipe = toml::from_str(&toml::to_string_pretty(&plan.recipe).unwrap()).unwrap();
        assert_eq!(again, plan.recipe);
        assert_eq!(
            serde_json::from_str::<Plan>(&serde_json::to_string(&plan).unwrap()).unwrap(),
            plan
        );
        let ppo = plan.recipe.ppo.as_ref().unwrap();
        assert_eq!((ppo.temperature, ppo.ppo_epochs, ppo.gamma, ppo.lam), (0.7, 4, 1.0, 0.95));
        assert_eq!((ppo.kl.coef, ppo.kl.target, ppo.kl.horizon()), (0.05, None, 10_000.0));
        let training = plan.training.ppo.unwrap();
        assert_eq!(
            (training.length, training.warmup_ratio, training.max_length),
            (Length::Steps(4), 0.0, 50)
        );
        assert_eq!(plan.recipe.steer.unwrap().method[6].names(), ["ppo-5", "ppo-inf"]);
    }

    #[test]
    fn a_micro_batch_not_given_divides_the_minibatch() {
        let micro_batch = |more: &[&str]| plan(more).training.ppo.unwrap().micro_batch_size;
        assert_eq!(micro_batch(&[]), 8);
        assert_eq!(
            micro_batch(&["ppo.prompts=64", "ppo.training.batch_size=60", "ppo.minibatch_size=20"]),
            10
        );
        assert_eq!(micro_batch(&["ppo.minibatch_size=8", "ppo.training.micro_batch_size=2"]), 2);
        let whole = TABLE.replace("minibatch_size=8,", "");
        assert_eq!(
            resolve(&shipped("smoke.toml"), &[&whole])
                .unwrap()
                .training
                .ppo
                .unwrap()
                .micro_batch_size,
            16
        );
    }

    #[test]
    fn the_pair_is_named_or_that_of_steering_or_of_the_stages() {
        let pair =
            |more: &[&str]| plan(more).ppo_pair().map(|pair| (pair.tuned, pair.untuned)).unwrap();
        let model = |name: &str| GuideSource::Model(name.into());
        assert_eq!(pair(&[]), (GuideSource::Dpo, GuideSource::Sft));
        let steering = ["steer.tuned=base", "steer.untuned=guide"];
        assert_eq!(pair(&steering), (model("base"), model("guide")));
        let named = [&steering[..], &["ppo.tuned=guide", "ppo.untuned=base"]].concat();
        assert_eq!(pair(&named), (model("guide"), model("base")));
        assert_eq!(plan(&named).recipe.ppo_guide_models(), ["guide", "base"]);
        only(
            &["ppo.tuned=guide"],
            "`ppo.tuned` is given without `ppo.untuned`\n\nhint: a guide \
                                    pair is two models of one origin",
        );
        only(
            &["ppo.tuned=gide", "ppo.untuned=base"],
            "`ppo.tuned` is `gide`, but there is no `[models.gide]`\n\nhint: did you mean `guide`?",
        );

        let alone = |more: &str| {
            let data = "[run]\nname='a'\n[data]\nsource='builtin:reviews'\ntrain=9\nvalidation=9\ntest=9\n[pretrain]\n";
            let scratch = "architecture='gpt2'\nn_layer=1\nn_head=1\nn_embd=8\ntokenizer={kind='bpe',vocab_size=300}\n";
            let same = scratch.replace("kind='bpe',vocab_size=300", "kind='same_as',model='m'");
            let models = format!("[models.m.scratch]\n{scratch}[models.n.scratch]\n{same}");
            Written::new(format!(
                "{data}{models}[ppo]\npolicy='m'\nprompts=9\nmax_new_tokens=5\ntraining={{batch_size=3}}\n{more}"
            ))
        };
        let none = alone("").problems(&[]);
        let expected = "x.toml: `[ppo]` has no guide pair to reward its policy: it names none, \
                        `[steer]` names none, and there is no `[dpo]`\n\n\
                        hint: add `[dpo]`, or name two models as `ppo.tuned` and `ppo.untuned`";
        assert_eq!(none, [expected]);
        let plan = resolve(&alone("tuned='m'\nuntuned='n'\n").path(), &[])
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(plan.stages, [Stage::Pretrain, Stage::Ppo]);
        assert!(
            plan.describe().contains("models.m over models.n with scale 1"),
            "{}",
            plan.describe()
        );
    }

    #[test]
    fn chunk_lengths() {
        for (given, lengths) in [
            ("7", vec!["7"]),
            ("'inf'", vec!["inf"]),
            ("inf", vec!["inf"]),
            ("[1,25,'inf']", vec!["1", "25", "inf"]),
        ] {
            let set = format!("ppo.chunk_len={given}");
            let plan = resolve(
                &shipped("smoke.toml"),
                &[TABLE, &set, "steer.method.6={kind='base',name='b'}"],
            )
            .unwrap();
            assert_eq!(
                plan.recipe
                    .ppo
                    .unwrap()
                    .chunk_len
                    .0
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>(),
                lengths,
                "{given}"
            );
        }
        let wrong = problems(&["ppo.chunk_len=[5,'whole']"]);
        assert!(
            wrong[0].ends_with("is the text `whole`, expected a number of tokens or \"inf\""),
            "{wrong:?}"
        );
        only(
            &["ppo.chunk_len=[5,'inf',0]"],
            "`ppo.chunk_len` holds 0, expected 1 or more\n\nhint: \"inf\" makes the whole response \
             one chunk",
        );
        only(&["ppo.chunk_len=[5,'inf',5]"], "`ppo.chunk_len` holds 5 twice");
        let without_method =
            |set: &str| smoke_problems(&[TABLE, set, "steer.method.6={kind='base',name='b'}"]);
        assert!(without_method("ppo.chunk_len=[]")[0].contains(
            "`ppo.chunk_len` is empty, expected \
                                                                one chunk length or \
                                                                more\n\nhint: "
        ));
    }

    #[test]
    fn prompts_and_lengths_fit() {
        only(
            &["ppo.tuned=guide", "ppo.untuned=guide"],
            "the tuned and the untuned guide of `[ppo]` are both `guide`, so every reward would be \
             0\n\nhint: name",
        );
        only(&["ppo.prompts=401"], "`ppo.prompts` = 401 is more than `data.train` = 400");
        only(&["ppo.prompts=0"], "`ppo.prompts` is 0, expected 1 or more");
        only(
            &["ppo.prompts=15"],
            "`ppo.training.batch_size` = 16 is more than `ppo.prompts` = 15, and each step takes \
             as many different prompts\n\nhint: raise",
        );
        only(
            &["ppo.validation_prompts=65"],
            "`ppo.validation_prompts` = 65 is more than \
                                              `data.validation` = 64",
        );
        plan(&["ppo.validation_prompts=0"]);
        only(&["ppo.max_new_tokens=0"], "`ppo.max_new_tokens` is 0, expected 1 or more");
        only(
            &["ppo.policy=bose"],
            "`ppo.policy` is `bose`, but there is no \
                                    `[models.bose]`\n\nhint: did you mean `base`?",
        );
        let long = problems(&["ppo.max_new_tokens=80"]);
        assert_eq!(long.len(), 1, "the policy: {long:#?}");
        assert!(long[0].contains(
            "`ppo.max_new_tokens`: a prompt of up to 25 tokens, 80 new ones and an end token make \
             106, but `models.base` sees 96"
        ));
        // A guide with another vocabulary may need half as many tokens again; what it cannot read
        // earns nothing.
        let short_guide = ["models.guide.scratch.n_positions=64", "ppo.max_new_tokens=30"];
        assert_eq!(plan(&short_guide).warnings(), [""; 0]);
        let other = plan(&[&short_guide[..], &["ppo.policy=other"]].concat());
        let warning = "`ppo.max_new_tokens`: behind a prompt of up to 25 tokens `models.guide` \
                       reads 39, and a response may take 45 and an end token: \
             of a longer one only the beginning is scored";
        assert_eq!(other.warnings(), [warning]);
        let text = other.describe();
        assert!(text.contains(&format!("\nwarnings\n  {warning}\n")), "{text}");
        assert!(
            text.contains(
                "     guide reads 39 tokens behind a prompt of up to 25, 1.3 for \
                               each new token: of a response"
            ),
            "{text}"
        );
        let none = problems(&[
            "models.guide.scratch.n_positions=25",
            "ppo.policy=other",
            "ppo.max_new_tokens=30",
        ]);
        let expected = "`data.prompt.max_words`: a prompt of up to 25 tokens leaves the guide \
                        `models.guide`, \
             which sees 25, no token of a response";
        assert!(none.iter().any(|problem| problem.contains(expected)), "{none:#?}");
    }

    #[test]
    fn numbers_in_range() {
        only(
            &["ppo.temperature=0"],
            "`ppo.temperature` is 0, but greedy rollouts have nothing to \
                                      choose from\n\nhint: 0.7 is the default",
        );
        for (set, told) in [
            ("temperature=-1", "`ppo.temperature` is -1, expected a number above 0"),
            ("ppo_epochs=0", "`ppo.ppo_epochs` is 0, expected 1 or more"),
            ("gamma=0", "`ppo.gamma` is 0, expected a number above 0 and up to 1"),
            ("gamma=1.1", "`ppo.gamma` is 1.1, expected a number above 0 and up to 1"),
            ("lam=-0.1", "`ppo.lam` is -0.1, expected 0 to 1"),
            ("lam=nan", "`ppo.lam` is NaN, expected 0 to 1"),
            ("cliprange=0", "`ppo.cliprange` is 0, expected a number above 0"),
            ("cliprange_value=0", "`ppo.cliprange_value` is 0, expected a number above 0"),
            ("vf_coef=-1", "`ppo.vf_coef` is -1, expected 0 or more"),
            ("head_learning_rate=0", "`ppo.head_learning_rate` is 0, expected a number above 0"),
            ("scale=0", "`ppo.scale` is 0, expected a finite number that is not 0"),
            ("scale=inf", "`ppo.scale` is inf, expected a finite number that is not 0"),
            ("missing_eos_penalty=-1", "`ppo.missing_eos_penalty` is -1, expected 0 or more"),
            ("target_kl=0", "`ppo.target_kl` is 0, expected a number above 0"),
            ("kl.coef=-0.1", "`ppo.kl.coef` is -0.1, expected 0 or more"),
            ("kl.target=0", "`ppo.kl.target` is 0, expected a number above 0"),
            ("kl={target=6,horizon=0}", "`ppo.kl.horizon` is 0, expected a number above 0"),
            (
                "kl={target=6,horizon=3}",
                "`ppo.kl.horizon` is 3, and a step of 16 rollouts would take the coefficient to 0 \
                 or below\n\nhint: more than 3.2",
            ),
            (
                "kl.horizon=100",
                "`ppo.kl.horizon` does nothing without `ppo.kl.target`: the \
                                coefficient is fixed\n\nhint: name a target",
            ),
            (
                "kl={target=6,coef=0}",
                "`ppo.kl.target` adapts `ppo.kl.coef` by factors, so it stays \
                                      at its 0\n\nhint: ",
            ),
        ] {
            only(&[&format!("ppo.{set}")], told);
        }
        plan(&["ppo.lam=0", "ppo.vf_coef=0", "ppo.scale=-0.5", "ppo.kl={coef=0,estimator='k3'}"]);
    }

    #[test]
    fn batches_divide() {
        only(
            &["ppo.minibatch_size=3"],
            "`ppo.minibatch_size` = 3 does not divide `ppo.training.batch_size` = 16\n\nhint: use \
             one of 1, 2, 4, 8, 16",
        );
        only(&["ppo.minibatch_size=0"], "`ppo.minibatch_size` is 0, expected 1 or more");
        only(
            &["ppo.training.micro_batch_size=16"],
            "`ppo.training.micro_batch_size` = 16 does not divide `ppo.minibatch_size` = \
             8\n\nhint: use one of 1, 2, 4, 8",
        );
        let whole = TABLE.replace("minibatch_size=8,", "");
        let told = smoke_problems(&[&whole, METHOD, "ppo.training.micro_batch_size=3"]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(
            "`ppo.training.micro_batch_size` = 3 does not divide \
                                  `ppo.training.batch_size` = 16\n\nhint: use one of"
        ));
    }

    #[test]
    fn keys_that_do_nothing_are_refused() {
        for (set, hint) in [
            ("epochs=0", "`steps` counts batches of rollouts"),
            ("max_length=1", "leave it out: a rollout ends by"),
            ("early_stop=0", "leave it out: all `steps` are taken"),
            ("spike_factor=0.5", "leave it out: the level"),
            ("max_skips=2", "leave it out: training stops"),
        ] {
            let key = set.split_once('=').unwrap().0;
            only(
                &[&format!("ppo.training.{set}")],
                &format!(
                    "`ppo.training.{key}` does nothing in \
                                                              `[ppo]`\n\nhint: {hint}"
                ),
            );
        }
        only(&["ppo.training.steps=0"], "`ppo.training.steps` is 0, expected 1 or more");
        only(
            &["ppo.training.learning_rate=0"],
            "`ppo.training.learning_rate` is 0, expected a \
                                                 number above 0",
        );
        plan(&[
            "ppo.training.keep_checkpoints=2",
            "ppo.training.checkpoints_gib=1",
            "ppo.training.activation_checkpointing=true",
        ]);
    }

    #[test]
    fn adapters_are_those_of_the_policy() {
        only(&["ppo.lora={rank=0}"], "`ppo.lora.rank` is 0, expected 1 or more");
        only(
            &["ppo.lora={targets=['q_proj']}"],
            "`ppo.lora.targets` holds `q_proj`, but `models.base` has no linear layer of that \
             name\n\nhint: its layers: ",
        );
        // 2 layers · 4 · (96 + 288)
        let shown = "LoRA of rank 4, alpha 8, on c_attn: 3,072 trainable parameters over 331,392 \
                     frozen \
             ones (0.93 %); saved as a PEFT adapter";
        let text = plan(&["ppo.lora={rank=4,save='adapter'}"]).describe();
        assert!(text.contains(shown), "{text}");
    }

    #[test]
    fn the_method_samples_what_the_stage_made() {
        only(
            &["steer.method.6.chunk_len=[5,7]"],
            "`steer.method.6.chunk_len` holds `7`, which `ppo.chunk_len` does not\n\nhint: `[ppo]` \
             trains with `5`, `inf`",
        );
        only(&["steer.method.6.chunk_len=[]"], "`steer.method.6.chunk_len` is empty");
        only(&["steer.method.6.chunk_len=[5,5]"], "`steer.method.6.chunk_len` holds 5 twice");
        only(
            &["steer.bases=['other']"],
            "`steer.method.6`: `ppo` samples what became of `ppo.policy` = `base`, which is not \
             among `steer.bases`\n\nhint: name it there",
        );
        only(
            &["steer.method.6.name=cbs", "steer.method.6.chunk_len=5"],
            "`steer.method.6`: a \
                                                                          method before it has the \
                                                                          name `cbs` too",
        );
        assert_eq!(
            plan(&["steer.method.6={kind='ppo'}"]).recipe.steer.unwrap().method[6].names(),
            ["ppo"]
        );
        let head = "[run]\nname='a'\n[data]\nsource='builtin:reviews'\ntrain=9\nvalidation=9\ntest=9\n[pretrain]\n";
        let model = "[models.m.scratch]\narchitecture='gpt2'\nn_layer=1\nn_head=1\nn_embd=8\ntokenizer={kind='bpe',vocab_size=300}\n";
        let steer = "[steer]\nbases=['m']\nprompts=1\nmax_new_tokens=5\nmethod=[{kind='ppo',chunk_len='inf'}]\n";
        let alone = Written::new(format!("{head}{model}{steer}")).problems(&[]);
        assert_eq!(
            alone,
            ["x.toml: `steer.method.0`: `ppo` samples what PPO made of a base, and there is no \
              `[ppo]`\n\n\
              hint: add `[ppo]` with its `policy`, `prompts` and `max_new_tokens`"]
        );
    }

    #[test]
    fn describe_says_all_of_it() {
        let text = plan(&["run.seeds=[1,2,3]"]).describe();
        for shown in [
            "ppo: base; rewarded by dpo/ over sft/ with scale 1, at the end of each chunk of 5, \
             inf tokens",
            "chunk lengths 2 × seeds 3 = 6 trainings; 4 steps of 16 rollouts each, 384 rollouts in \
             all",
            "32 prompts and 8 for validation; up to 24 new tokens, temperature 0.7; missing-EOS \
             penalty 0",
            "4 epochs × 2 minibatches of 8 = 8 updates a step, 8 rollouts in a forward pass of up \
             to 50 tokens each",
            "a value head on the policy's states, value coefficient 0.1, learning rate of the head \
             1e-3",
            "gamma 1, lambda 0.95; clip 0.2, value clip 0.2, target KL off\n     KL penalty by k1 \
             with coefficient 0.05, fixed\n",
            "learning rate 1e-4 linear after warm-up 0, weight decay 0, gradient norm up to 1; \
             validated every 2 steps, checkpoint every 2",
            // 384 rollouts and 6 · 3 validations of 8 prompts
            "at most 12,672 sampled tokens in all, validation included",
            "ppo-5, ppo-inf: what `[ppo]` made of the base sampled alone; bases 1 × seeds 3 × \
             prompts 8 × samples 2 × tokens 24 = 1,152",
        ] {
            assert!(text.contains(shown), "{shown:?} is not in\n{text}");
        }
        let more = [
            "ppo.value=model",
            "ppo.kl={estimator='k3',target=6}",
            "ppo.target_kl=0.02",
            "ppo.validation_prompts=0",
        ];
        let text = plan(&more).describe();
        for shown in [
            "a value model that starts as a copy of the policy",
            "value clip 0.2, target KL 0.02\n     KL penalty by k3 with coefficient 0.05, adapted \
             to a divergence of 6 with horizon 10000\n",
            "gradient norm up to 1; no validation, checkpoint every 2",
            "at most 3,072 sampled tokens in all, validation included",
        ] {
            assert!(text.contains(shown), "{shown:?} is not in\n{text}");
        }
    }

    #[test]
    fn memory_holds_every_model() {
        let parts = |more: &[&str]| {
            let memory = memory_estimate(&plan(more))
                .into_iter()
                .find(|memory| memory.stage == Stage::Ppo)
                .unwrap();
            assert_eq!(memory.model, "base");
            memory
                .parts
                .into_iter()
                .map(|part| (part.name, part.bytes))
                .collect::<std::collections::BTreeMap<_, _>>()
        };
        let (policy, guide, gold) = (331_392, 171_776, 176_066);
        // A frozen model has its head once more, packed, beside the embedding that it is.
        let (frozen_policy, frozen_guide) = (policy + 1024 * 96, guide + 1024 * 64);
        let float = parts(&[]);
        let scored = |new: u64| 16 * ((25 + 2 * (new + 32)) * 2 * 128 * 4 + new * 8 * 64 * 4);
        // Prompts of up to 25 tokens; 2 layers with keys and values of 96 and of 64 numbers.
        let expected = [
            ("weights", 4 * policy),
            ("gradients", 4 * policy),
            ("optimizer", 8 * policy),
            ("activations", 8 * 50 * 2 * 16 * 96 * 4),
            ("logits", 8 * 50 * 1024 * 4),
            ("reference", 4 * frozen_policy),
            // Rows of 25 + 24 tokens and 32 to grow by, twice, and their logits and activations.
            ("KV cache", 2 * 16 * 81 * 2 * 192 * 4 + 16 * (8 * 96 * 4 + 1024 * 8)),
            ("tuned", 4 * frozen_guide),
            ("tuned cache", scored(24)),
            ("untuned", 4 * frozen_guide),
            ("untuned cache", scored(24)),
            ("gold", 4 * gold),
        ];
        assert_eq!(float, expected.into_iter().collect());
        assert!(!parts(&["ppo.validation_prompts=0"]).contains_key("gold"));
        let half = parts(&["run.dtype=bfloat16"]);
        assert_eq!(
            (half["reference"], half["bf16 weights and gradients"]),
            (2 * frozen_policy, 4 * policy)
        );
        let f16 = parts(&["run.dtype=float16"]);
        assert_eq!(
            (f16["reference"], f16["tuned"]),
            (4 * frozen_policy, 2 * guide),
            "what is trained is never f16"
        );
        let valued = parts(&["ppo.value=model"]);
        assert_eq!(
            (valued["value model"], valued["value activations"]),
            (16 * policy, float["activations"])
        );
        assert_eq!(parts(&["ppo.value=model", "run.dtype=bfloat16"])["value model"], 20 * policy);
        let adapters = 2 * 16 * (96 + 288);
        let adapted = parts(&["ppo.lora={}"]);
        assert_eq!(
            (adapted["optimizer"], adapted["packed weights"]),
            (8 * adapters, 4 * 2 * 12 * 96 * 96)
        );
        assert!(
            !parts(&["ppo.lora={}", "run.device=cuda"]).contains_key("packed weights"),
            "only main memory has packed ones"
        );
        assert_eq!(parts(&["run.device=cuda"])["tuned"], 4 * guide);
        // No more than 64 rollouts are held, and another vocabulary makes the guides' texts longer.
        let many = parts(&["ppo.prompts=128", "ppo.training.batch_size=128"]);
        assert_eq!(many["KV cache"], 4 * float["KV cache"]);
        let other = memory_estimate(&plan(&["ppo.policy=other"]))
            .into_iter()
            .find(|memory| memory.stage == Stage::Ppo)
            .unwrap();
        assert_eq!(
            other.parts.iter().find(|part| part.name == "tuned cache").unwrap().bytes,
            scored(36)
        );
    }
}
