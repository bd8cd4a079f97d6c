//! Keys that change no result do nothing anew, and others what depends on them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use w2s::artifacts::RunDir;
use w2s::recipe::{Plan, Stage, load};
use w2s::stages::clear;

use super::{EVERY_STAGE, GUIDED, Project, names, set_of, tasks};
use crate::common::{output, stderr, success};

/// Keys that change no result, as `table.key=value`; none of these values is the recipe's.
fn idle_keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "run.threads=2",
        "models.base.device=cpu",
        "models.base.dtype=float32",
        "gold.device=cpu",
        "gold.dtype=bfloat16",
        "steer.prompts_in_flight=3",
        "steer.trace=false",
        "ppo.training.eval_every=2",
    ]
    .map(String::from)
    .to_vec();
    for table in [
        "pretrain.training",
        "gold.training",
        "sft.training",
        "reward_model.training",
        "dpo.training",
        "ppo.training",
        "direct.dpo",
    ] {
        for set in [
            "micro_batch_size=2",
            "checkpoint_every=3",
            "keep_checkpoints=2",
            "checkpoints_gib=0.5",
        ] {
            keys.push(format!("{table}.{set}"));
        }
        if !table.starts_with("gold") {
            keys.push(format!("{table}.activation_checkpointing=true"));
        }
        if !table.starts_with("ppo") {
            keys.push(format!("{table}.max_skips=7"));
        }
    }
    keys
}

/// Keys that `src/recipe/tables` takes as `_` and that `idle_keys` does not change, with the
/// place where they count, if at all.
const ELSEWHERE: &[(&str, &str)] = &[
    ("Run.name", "the page alone"),
    ("Run.device", "`cuda` is not everywhere"),
    ("Run.dtype", "as the precision of each model"),
    ("Data.source", "its contents"),
    ("Data.subset", "the contents of the files that it chooses"),
    ("Data.prompt", "where prompts are made"),
    ("Data.test", "gold's accuracy alone"),
    ("Model.id", "its contents"),
    ("Api.dialect", "nowhere: all ask for the same distribution"),
    ("Api.key", "nowhere: who asks"),
    ("Api.tokenizer", "its contents"),
    ("Api.max_n", "nowhere: how much is asked at once"),
    ("Api.limits", "nowhere: how patiently it is asked"),
    ("Api.budget", "nowhere: how much is asked in all"),
    ("Model.api", "its outcome"),
    ("Model.scratch", "the outcome of its pretraining"),
    ("Model.sampling", "where `[steer]` samples it"),
    ("Model.stop", "where `[steer]` samples it"),
    ("Model.max_new_tokens", "where `[steer]` samples it"),
    ("Scratch.steps", "as the length of the training"),
    ("ScratchTokenizer.model", "the outcome of that model"),
    ("Gold.id", "its contents"),
    ("Gold.command", "where it judges, with the files among its words"),
    ("Gold.seconds", "nowhere: how patiently it is asked"),
    ("Gold.url", "where it judges"),
    ("Gold.model", "where it judges"),
    ("Gold.key", "nowhere: who asks"),
    ("Gold.limits", "nowhere: how patiently it is asked"),
    ("Judge<'_>.name", "the page alone"),
    ("Judge<'_>.source", "its contents"),
    ("Judge<'_>.device", ""),
    ("Judge<'_>.dtype", ""),
    ("Gold.training", "settled"),
    ("GoldRewardModel.model", "the outcome of that model"),
    ("GoldRewardModel.source", "its contents"),
    ("GoldRewardModel.subset", "the contents of the files that it chooses"),
    ("GoldRewardModel.splits", "as a source of pairs"),
    ("GoldRewardModel.columns", "as a source of pairs"),
    ("GoldRewardModel.train_pairs", "as a source of pairs"),
    ("GoldRewardModel.validation_pairs", "as a source of pairs"),
    ("GoldRewardModel.lora", "settled"),
    ("Preferences.policy", "the outcome of that model"),
    ("Dpo.sweep", "each of its settings is a task of its own"),
    ("Dpo.training", "settled"),
    ("Dpo.lora", "settled"),
    ("Direct.models", "one by one"),
    ("Direct.sft", "settled"),
    ("Direct.dpo", "settled"),
    ("Direct.lora", "settled"),
    ("RewardModelTable.model", "the outcome of that model"),
    ("RewardModelTable.from", "the outcome of what it names"),
    ("Exemplars.file", "its rows"),
    ("PairSource<'_>.table", "no value"),
    ("PairSource<'_>.source", "its contents"),
    ("PairSource<'_>.subset", "its contents"),
    ("Preferences.source", "of its pairs"),
    ("Preferences.subset", "of its pairs"),
    ("Preferences.splits", "of its pairs"),
    ("Preferences.columns", "of its pairs"),
    ("Preferences.train_pairs", "of its pairs"),
    ("Preferences.validation_pairs", "of its pairs"),
    ("RewardModelTable.training", "settled"),
    ("RewardModelTable.lora", "settled"),
    ("PpoTable.policy", "the outcome of that model"),
    ("PpoTable.tuned", "the outcome of that model"),
    ("PpoTable.untuned", "the outcome of that model"),
    ("PpoTable.chunk_len", "one by one"),
    ("PpoTable.training", "settled"),
    ("PpoTable.lora", "settled"),
    ("Steer.bases", "the outcome of each"),
    ("Steer.sampling", "as that of the model that answers"),
    ("Steer.stop", "as that of the model that answers"),
    ("Steer.max_new_tokens", "as that of the model that answers"),
    ("Steer.tuned", "the outcome of that model"),
    ("Steer.untuned", "the outcome of that model"),
    ("Steer.guide", "the outcomes and weights of the pairs"),
    ("Evaluate.alpaca_eval", "where it judges"),
    ("AlpacaEvalTable.reference", "its contents"),
    ("AlpacaEvalTable.command", "nowhere: who is asked to ask"),
    ("AlpacaEvalTable.url", "nowhere: where the same judge is asked"),
    ("AlpacaEvalTable.key", "nowhere: who asks"),
    ("AlpacaEvalTable.at_once", "nowhere: how much is asked at once"),
    ("AlpacaEvalTable.length_control", "the page, and how far a task goes"),
    ("AlpacaEvalTable.bases", "which tasks there are"),
    ("AlpacaEvalTable.methods", "which tasks there are"),
    ("AlpacaEvalTable.seeds", "which tasks there are"),
    ("Steer.prompts", "how far a task goes"),
    ("Steer.validation_prompts", "how far a task goes"),
    ("Steer.method", "one by one"),
    // Of these `idle_keys` says the table that a recipe has for them.
    ("Run.threads", ""),
    ("Model.device", ""),
    ("Model.dtype", ""),
    ("Gold.device", ""),
    ("Gold.dtype", ""),
    ("Steer.prompts_in_flight", ""),
    ("Steer.trace", ""),
    ("Training.micro_batch_size", ""),
    ("Training.activation_checkpointing", ""),
    ("Training.max_skips", ""),
];

/// `Table.key` of all that the functions which say what a result is filed under take as `_`.
fn taken_as_nothing() -> BTreeSet<String> {
    let tables = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/recipe/tables");
    let files = fs::read_dir(tables).unwrap().map(|file| file.unwrap().path());
    let files = files.filter(|file| file.is_file());
    let source: String = files.map(|file| fs::read_to_string(file).unwrap()).collect();
    let (mut table, mut is_outcome, mut found) = (String::new(), false, BTreeSet::new());
    for line in source.lines() {
        if let Some((_, function)) = line.split_once("fn ") {
            let name = function.split(['(', '<']).next().unwrap();
            is_outcome = name.ends_with("outcome") || ["objective", "seed"].contains(&name);
        }
        if let Some(name) = line.strip_prefix("impl ") {
            table = name.trim_end_matches(" {").to_owned();
        }
        for (at, _) in line.match_indices(": _").filter(|_| is_outcome) {
            let key =
                line[..at].rsplit(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap();
            let table =
                if line.contains("ScratchTokenizer::") { "ScratchTokenizer" } else { &table };
            found.insert(format!("{table}.{key}"));
        }
    }
    found
}

#[test]
fn keys_that_change_no_result_do_nothing_anew_and_others_what_depends_on_them() {
    // The list of the program and that of this test are one.
    let idle = idle_keys();
    let known: BTreeSet<String> = (ELSEWHERE.iter().map(|(key, _)| (*key).to_owned()))
        .chain(
            ["checkpoint_every", "keep_checkpoints", "checkpoints_gib"]
                .map(|key| format!("Training.{key}")),
        )
        .collect();
    assert_eq!(taken_as_nothing(), known);
    for (key, _) in ELSEWHERE.iter().filter(|(_, place)| place.is_empty()) {
        let key = key.split_once('.').unwrap().1;
        assert!(
            idle.iter().any(|set| set.split('=').next().unwrap().ends_with(&format!(".{key}"))),
            "{key}"
        );
    }

    let mut project = Project::new();
    let recipe = project.path("every.toml");
    assert_eq!(
        Plan::new(load(&recipe, &[]).unwrap(), &recipe).unwrap().stages,
        Stage::ALL,
        "a stage is missing"
    );
    let all = project.redone(&[]);
    assert!(
        all.contains("gold/accuracy")
            && all.contains("ppo/small/L-5/seed-1")
            && all.contains("evaluate"),
        "{all:?}"
    );

    assert_eq!(project.redone(&idle.iter().map(String::as_str).collect::<Vec<_>>()), set_of(&[]));
    project.move_to("elsewhere/moved");
    fs::rename(project.path("texts"), project.path("data")).unwrap();
    fs::write(project.path("model/README.md"), "a page about the model").unwrap();
    let moved = ["data.source=data"];
    assert_eq!(project.redone(&moved), set_of(&[]));
    let redone = |sets: &[&str]| project.redone(&[&moved[..], sets].concat());
    assert_eq!(redone(&["evaluate.examples=1"]), set_of(&["evaluate"]));
    assert_eq!(redone(&["run.name=other"]), set_of(&["evaluate"]));
    assert_eq!(redone(&["data.test=9"]), set_of(&["gold/accuracy", "evaluate"]));
    assert_eq!(redone(&[]), set_of(&["gold/accuracy", "evaluate"]));

    // What is said anew is judged anew.
    let steered_by = |cell: &str, seed: usize| -> BTreeSet<String> {
        // What samples a distribution of its own is read again.
        let has_own = ["direct", "ppo", "tuned"].iter().any(|method| cell.ends_with(method));
        let read = has_own.then_some("evaluate/likelihood");
        let tasks = ["steer", "evaluate/gold", "evaluate/kind"].into_iter().chain(read);
        tasks.map(|task| format!("{task}/{cell}/seed-{seed}")).collect()
    };
    // Guides alone answer with the first seed.
    let alone = ["dpo", "sft"].into_iter().flat_map(|guide| {
        ["", "gold-"].map(|judge| format!("steer/gap/{guide}/{judge}validation-seed-1"))
    });
    let alone = alone.chain(["steer/gap".to_owned()]);
    let steered = |seed: usize| -> BTreeSet<String> {
        let cells = ["small/base", "small/best_of_n", "small/direct", "small/ppo", "base/tuned"];
        cells
            .iter()
            .flat_map(|cell| steered_by(cell, seed))
            .chain(["evaluate".to_owned()])
            .chain(alone.clone().filter(|_| seed == 1))
            .collect()
    };
    let with = |tasks: &[&str], seed: usize| &set_of(tasks) | &steered(seed);
    assert_eq!(redone(&["steer.sampling.top_k=7"]), steered(1));
    let of_guide = |own: &BTreeSet<String>, is: bool| -> BTreeSet<String> {
        let is_of = |task: &String| task.contains("base/tuned") || task.starts_with("steer/gap");
        own.iter().filter(|task| is_of(task) == is).cloned().collect()
    };
    let end = set_of(&["evaluate"]);
    assert_eq!(redone(&["models.base.max_new_tokens=4", "steer.sampling.top_k=7"]), {
        &of_guide(&steered(1), true) | &end
    });
    assert_eq!(redone(&["models.small.stop=['e']", "steer.sampling.top_k=7"]), steered(1));
    assert_eq!(redone(&["steer.sampling.top_k=7"]), of_guide(&steered(1), false));
    assert_eq!(
        redone(&["run.seeds=[1,2]", "steer.sampling.top_k=7"]),
        with(&["ppo/small/L-5/seed-2", "ppo/small/report"], 2)
    );
    assert_eq!(
        redone(&["ppo.scale=2", "steer.sampling.top_k=7"]),
        &set_of(&["ppo/small/L-5/seed-1", "ppo/small/report", "evaluate"])
            | &steered_by("small/ppo", 1)
    );
    let tuned = ["dpo", "direct/small/dpo", "ppo/small/L-5/seed-1", "ppo/small/report"];
    let log = stderr(&output(&mut project.run(&[&moved[..], &["dpo.beta=0.3"]].concat())));
    assert_eq!(tasks(&log, &["starting", "continuing"]), with(&tuned, 1));
    // What is other than it was is named: the key itself, and where it comes from for what builds
    // on it.
    let said = [
        "dpo: was done with other settings, inputs or files (settings.objective.beta 0.1 → 0.3)",
        "inputs.dpo); what it left",
    ];
    assert!(said.iter().all(|said| log.contains(said)), "{log}");
    assert_eq!(
        redone(&["dpo.beta=0.3", "reward_model.head_learning_rate=1e-4"]),
        set_of(&["reward_model"])
    );

    // The files' contents decide.
    let texts = fs::read_to_string(project.path("data/train.jsonl")).unwrap();
    fs::write(project.path("data/train.jsonl"), texts.replacen("was", "is", 1)).unwrap();
    let again = redone(&["dpo.beta=0.3", "reward_model.head_learning_rate=1e-4"]);
    assert_eq!(again, all, "texts are where all begins");

    // What lies there of other settings is told, and nothing else.
    let told = |sets: &[&str]| {
        let log = stderr(&output(&mut project.run(&[&moved[..], sets].concat())));
        log.lines()
            .find_map(|line| Some(line.split_once("no longer has lie here too (")?.1.to_owned()))
    };
    let seeds = ["run.seeds=[1,2]", "dpo.beta=0.3", "reward_model.head_learning_rate=1e-4"];
    assert_eq!(told(&seeds), None);
    let left = told(&["dpo.beta=0.3", "steer.method=[{kind='base'}]"]).unwrap();
    let second_seed = [
        "ppo/small/L-5/seed-2",
        "steer/small/best_of_n/seed-1.jsonl",
        "steer/small/base/seed-2.jsonl",
    ];
    assert!(second_seed.iter().all(|path| left.contains(path)), "{left}");
    assert!(
        !left.contains("steer/small/base/seed-1")
            && !left.contains("dpo")
            && left.ends_with("more); --fresh removes them with all others"),
        "{left}"
    );

    // A run of every stage, and `--fresh` leaves what is not the run's alone: by what runs wrote
    // down, whatever the recipe says now.
    fs::write(project.out().join("notes.txt"), "mine").unwrap();
    clear(&RunDir::open(project.out()).unwrap(), Vec::new()).unwrap();
    assert_eq!(names(&project.out()), [".lock", "notes.txt"]);
}

#[test]
fn stages_alone_leave_no_result_of_other_settings_unsaid() {
    let project = Project::new();
    let of = |text: &str| text.split_once("[gold.scratch]").unwrap().0.to_owned();
    fs::write(project.path("every.toml"), of(EVERY_STAGE) + GUIDED).unwrap();
    project.redone(&[]);
    let said = |sets: &[&str], alone: &str| {
        let log = stderr(&output(project.run(sets).args(["--only", alone])));
        log.lines().find_map(|line| {
            Some(
                line.split_once("WARN ")?
                    .1
                    .split_once(" hold results of other settings")?
                    .0
                    .to_owned(),
            )
        })
    };
    assert_eq!(said(&["steer.sampling.top_k=7"], "steer").as_deref(), Some("`evaluate`"));
    assert_eq!(
        said(&["pretrain.training.steps=2"], "pretrain").as_deref(),
        Some("`steer`, `evaluate`")
    );
    assert_eq!(
        said(&["pretrain.training.steps=2"], "gold").as_deref(),
        Some("`steer`, `evaluate`")
    );
    success(&mut project.run(&["pretrain.training.steps=2"]));
    assert_eq!(said(&["pretrain.training.steps=2"], "steer"), None);
}
