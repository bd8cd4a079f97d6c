//! What a finished run does again, and what it does not: keys that change no result, keys that do,
//! more and fewer prompts, and projects that are moved while they are killed again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{lines, output, stderr, success, tiny_model, w2s};
use serde_json::{Value, json};
use w2s::artifacts::{Manifest, RunDir, atomic};
use w2s::recipe::{Plan, Stage, load};
use w2s::sampling::Stream;
use w2s::stages::{clear, tasks};

/// Every stage, at a size at which all of them together take seconds.
const EVERY_STAGE: &str = r#"
[run]
name = "every"
dtype = "float32"
[data]
source = "texts"
train = 16
validation = 4
test = 8
prompt = { min_words = 1, max_words = 2 }
[models.base]
id = "model"
[models.small.scratch]
architecture = "gpt2"
n_layer = 1
n_head = 2
n_embd = 16
n_positions = 32
tokenizer = { kind = "bpe", vocab_size = 280 }
[pretrain.training]
steps = 3
batch_size = 4
checkpoint_every = 1
[gold.scratch]
n_layers = 1
n_heads = 2
dim = 16
hidden_dim = 32
max_position_embeddings = 32
vocab_size = 120
[gold.training]
steps = 3
batch_size = 4
checkpoint_every = 1
[preferences]
policy = "base"
prompts = 16
validation_prompts = 4
max_new_tokens = 6
[sft]
lora = { rank = 2, save = "adapter" }
[sft.training]
steps = 3
batch_size = 4
learning_rate = 1e-3
checkpoint_every = 1
eval_every = 2
[reward_model.training]
steps = 3
batch_size = 4
checkpoint_every = 1
[dpo]
lora = { rank = 2, save = "adapter" }
[dpo.training]
steps = 4
batch_size = 4
learning_rate = 1e-3
checkpoint_every = 1
eval_every = 2
[direct]
models = ["small"]
[ppo]
policy = "small"
prompts = 8
validation_prompts = 2
max_new_tokens = 4
[ppo.training]
steps = 2
batch_size = 4
checkpoint_every = 1
eval_every = 1
[steer]
bases = ["small"]
prompts = 5
max_new_tokens = 5
prompts_in_flight = 1
trace = true
method = [{ kind = "base" }, { kind = "best_of_n", n = 2 }, { kind = "direct" }, { kind = "ppo" }, { kind = "tuned" }]
[judges.kind]
id = "reward"
[evaluate]
"#;

/// In the place of `[gold.scratch]` and all behind it: a base with guides of another vocabulary and
/// a judge.
const GUIDED: &str = r#"
[gold]
id = "reward"
[models.other.scratch]
architecture = "gpt2"
n_layer = 1
n_head = 2
n_embd = 8
n_positions = 32
tokenizer = { kind = "same_as", model = "small" }
[steer]
bases = ["base"]
tuned = "small"
untuned = "other"
prompts = 5
max_new_tokens = 5
prompts_in_flight = 1
method = [{ kind = "base" }, { kind = "best_of_n", n = 2 }]
[evaluate]
"#;

/// A folder with a recipe, data, a model and what runs leave; all paths in the recipe are relative
/// to it.
struct Project {
    folder: tempfile::TempDir,
    name: String,
}

impl Project {
    fn new() -> Self {
        let project = Self { folder: tempfile::tempdir().unwrap(), name: "project".into() };
        let path = project.path("");
        tiny_model(&path);
        fs::create_dir(path.join("texts")).unwrap();
        fs::create_dir(path.join("reward")).unwrap();
        let reward = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt2-reward");
        for (from, file) in [
            (&reward, "config.json"),
            (&reward, "model.safetensors"),
            (&path.join("model"), "tokenizer.json"),
            (&path.join("model"), "tokenizer_config.json"),
        ] {
            fs::copy(from.join(file), path.join("reward").join(file)).unwrap();
        }
        for (split, rows) in [("train", 16), ("validation", 4), ("test", 12)] {
            let row = |i: usize| json!({ "text": format!("{} day {i} was {} to see", split, ["good", "bad"][i % 2]), "label": i % 2 });
            let rows: String = (0..rows).map(|i| format!("{}\n", row(i))).collect();
            fs::write(path.join(format!("texts/{split}.jsonl")), rows).unwrap();
        }
        fs::write(path.join("every.toml"), EVERY_STAGE).unwrap();
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(&self.name).join(name)
    }

    fn out(&self) -> PathBuf {
        self.path("checkpoints/every")
    }

    /// The project under another path; nothing in it changes.
    fn move_to(&mut self, name: &str) {
        let to = self.folder.path().join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::rename(self.path(""), &to).unwrap();
        name.clone_into(&mut self.name);
    }

    /// As its owner starts it, in the folder.
    fn run(&self, sets: &[&str]) -> Command {
        let mut command = w2s();
        command.current_dir(self.path("")).args([
            "run",
            "every.toml",
            "--out",
            "checkpoints/every",
        ]);
        command.args(sets.iter().flat_map(|set| ["--set", set]));
        command
    }

    /// Runs to the end and returns the tasks that were begun or continued.
    fn redone(&self, sets: &[&str]) -> BTreeSet<String> {
        let run = output(&mut self.run(sets));
        let log = stderr(&run);
        assert!(run.status.success(), "{sets:?}\n{log}");
        tasks(&log, &["starting", "continuing"])
    }

    fn summary(&self) -> Value {
        serde_json::from_slice(&fs::read(self.out().join("evaluate/summary.json")).unwrap())
            .unwrap()
    }
}

/// The tasks of which the log says one of these things.
fn tasks(log: &str, what: &[&str]) -> BTreeSet<String> {
    let said = log
        .lines()
        .filter_map(|line| line.rsplit_once(": ").filter(|(_, said)| what.contains(said)));
    said.map(|(before, _)| before.rsplit(' ').next().unwrap().to_owned()).collect()
}

fn set_of(tasks: &[&str]) -> BTreeSet<String> {
    tasks.iter().map(|task| (*task).to_owned()).collect()
}

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

/// Keys that `src/recipe/outcome.rs` takes as `_` and that `idle_keys` does not change, with the
/// place where they count, if at all.
const ELSEWHERE: [(&str, &str); 45] = [
    ("Run.name", "the page alone"),
    ("Run.device", "`cuda` is not everywhere"),
    ("Run.dtype", "as the precision of each model"),
    ("Data.source", "its contents"),
    ("Data.subset", "the contents of the files that it chooses"),
    ("Data.prompt", "where prompts are made"),
    ("Data.test", "gold's accuracy alone"),
    ("Model.id", "its contents"),
    ("Model.scratch", "the outcome of its pretraining"),
    ("Scratch.steps", "as the length of the training"),
    ("ScratchTokenizer.model", "the outcome of that model"),
    ("Gold.id", "its contents"),
    ("Gold.text", "where it judges"),
    ("Judge<'_>.name", "the page alone"),
    ("Judge<'_>.id", "its contents"),
    ("Judge<'_>.device", ""),
    ("Judge<'_>.dtype", ""),
    ("Gold.training", "settled"),
    ("Preferences.policy", "the outcome of that model"),
    ("RewardModelTable.model", "the outcome of that model"),
    ("RewardModelTable.from", "the outcome of what it names"),
    ("RewardModelTable.training", "settled"),
    ("RewardModelTable.lora", "settled"),
    ("PpoTable.policy", "the outcome of that model"),
    ("PpoTable.tuned", "the outcome of that model"),
    ("PpoTable.untuned", "the outcome of that model"),
    ("PpoTable.chunk_len", "one by one"),
    ("PpoTable.training", "settled"),
    ("PpoTable.lora", "settled"),
    ("Steer.bases", "the outcome of each"),
    ("Steer.tuned", "the outcome of that model"),
    ("Steer.untuned", "the outcome of that model"),
    ("Steer.guide", "the outcomes and weights of the pairs"),
    ("Steer.prompts", "how far a task goes"),
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

/// `Table.key` of all that the list takes as `_`.
fn taken_as_nothing() -> BTreeSet<String> {
    let source =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/recipe/outcome.rs"))
            .unwrap();
    let (mut table, mut found) = (String::new(), BTreeSet::new());
    for line in source.lines() {
        if let Some(name) = line.strip_prefix("impl ") {
            table = name.trim_end_matches(" {").to_owned();
        }
        for (at, _) in line.match_indices(": _") {
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
    let steered_by = |cell: &str, seed: usize| {
        ["steer", "evaluate/gold", "evaluate/kind"].map(|task| format!("{task}/{cell}/seed-{seed}"))
    };
    let steered = |seed: usize| -> BTreeSet<String> {
        let cells = ["small/base", "small/best_of_n", "small/direct", "small/ppo", "base/tuned"];
        cells
            .iter()
            .flat_map(|cell| steered_by(cell, seed))
            .chain(["evaluate".to_owned()])
            .collect()
    };
    let with = |tasks: &[&str], seed: usize| &set_of(tasks) | &steered(seed);
    assert_eq!(redone(&["steer.sampling.top_k=7"]), steered(1));
    assert_eq!(
        redone(&["run.seeds=[1,2]", "steer.sampling.top_k=7"]),
        with(&["ppo/small/L-5/seed-2", "ppo/small/report"], 2)
    );
    let [answers, gold, kind] = steered_by("small/ppo", 1);
    assert_eq!(
        redone(&["ppo.scale=2", "steer.sampling.top_k=7"]),
        set_of(&["ppo/small/L-5/seed-1", "ppo/small/report", &answers, &gold, &kind, "evaluate"])
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

/// The recipes that need nothing from a hub; each stage is in one of them.
fn plans() -> Vec<Plan> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
    let recipes: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let recipes =
        recipes.iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    recipes.filter_map(|path| Plan::new(load(path, &[]).unwrap(), path).ok()).collect()
}

#[test]
fn fresh_removes_what_a_run_of_every_shipped_recipe_writes_and_no_folder_stays() {
    let plans = plans();
    assert!(plans.len() >= 3, "{} recipes", plans.len());
    for stage in Stage::ALL {
        assert!(plans.iter().any(|plan| !tasks::tasks(plan, stage).unwrap().is_empty()), "{stage}");
    }
    for plan in plans {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        let dir = RunDir::open(&out).unwrap();
        let mut manifest = Manifest::load(&out).unwrap();
        for task in tasks::all(&plan).unwrap() {
            let outputs = task.outputs(&plan);
            assert!(!outputs.is_empty(), "{}", task.name(&plan));
            manifest.begin(&task.name(&plan), "f", &outputs, &Value::Null).unwrap();
            for output in outputs {
                atomic::write(&out.join(output).join("deep/file"), b"").unwrap();
            }
        }
        for file in [
            "recipe.toml",
            "plan.json",
            "metrics.jsonl",
            "state/x.safetensors",
            "samples/sft.txt",
            "tensorboard/sft/events",
        ] {
            atomic::write(&out.join(file), b"").unwrap();
        }
        clear(&dir, Vec::new()).unwrap();
        assert_eq!(names(&out), [".lock"], "{}", plan.recipe.run.name);
    }
}

#[test]
fn a_stage_asks_only_for_what_it_reads() {
    let project = Project::new();
    // The guides are named, nothing is validated: neither the judge, nor the pairs, nor what is
    // tuned on them is opened.
    fs::create_dir(project.path("twin")).unwrap();
    for file in fs::read_dir(project.path("model")).unwrap().map(|file| file.unwrap().path()) {
        fs::copy(&file, project.path("twin").join(file.file_name().unwrap())).unwrap();
    }
    let named = [
        "models.twin.id=twin",
        "ppo.tuned=twin",
        "ppo.untuned=base",
        "ppo.policy=base",
        "steer.bases=['base']",
        "steer.method=[{kind='base'}]",
        "ppo.validation_prompts=0",
    ];
    success(project.run(&named).args(["--only", "ppo"]));
    let validated = stderr(&output(project.run(&named[..6]).args(["--only", "ppo"])));
    assert!(
        validated.contains(
            "stage `ppo` reads the results of `gold`, and `gold` has not been done with these \
             settings"
        ),
        "{validated}"
    );
    let pairs = stderr(&output(project.run(&named).args(["--only", "sft"])));
    assert!(pairs.contains("stage `sft` reads the results of `preferences`"), "{pairs}");
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn more_prompts_and_traces_continue_and_fewer_are_left_out_of_the_summary() {
    let project = Project::new();
    let of = |text: &str| text.split_once("[gold.scratch]").unwrap().0.to_owned();
    fs::write(
        project.path("every.toml"),
        of(EVERY_STAGE).replace("test = 8", "test = 12") + GUIDED,
    )
    .unwrap();
    let journal = project.out().join("steer/base/best_of_n/seed-1.jsonl");
    let judged = ["evaluate/gold/base/base/seed-1", "evaluate/gold/base/best_of_n/seed-1"];
    let answered = set_of(&["steer/base/base/seed-1", "steer/base/best_of_n/seed-1", "evaluate"]);
    let tasks = &answered | &set_of(&judged);
    let prompts = || {
        let rows = project.summary()["rows"].clone();
        rows.as_array()
            .unwrap()
            .iter()
            .map(|row| row["prompts"].as_u64().unwrap())
            .collect::<BTreeSet<_>>()
    };
    let without = |lines: &[Value], keys: &[&str]| -> BTreeMap<String, Value> {
        let mut lines = lines.to_vec();
        lines.iter_mut().for_each(|line| {
            keys.iter().for_each(|key| drop(line.as_object_mut().unwrap().remove(*key)))
        });
        lines.into_iter().map(|line| (line["id"].as_str().unwrap().to_owned(), line)).collect()
    };
    project.redone(&[]);
    let five = fs::read(&journal).unwrap();
    assert_eq!(prompts(), [5].into());

    assert_eq!(project.redone(&["steer.prompts=8"]), tasks);
    let eight = fs::read(&journal).unwrap();
    assert!(eight.starts_with(&five) && lines(&journal).len() == 8, "what was answered stands");
    assert_eq!(prompts(), [8].into());

    assert_eq!(project.redone(&["steer.prompts=3"]), set_of(&["evaluate"]));
    assert!(fs::read(&journal).unwrap() == eight && prompts() == [3].into());
    let three: BTreeSet<String> =
        lines(&journal)[..3].iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(three, set_of(&["test-0", "test-1", "test-2"]));
    let fresh = Project::new();
    fs::copy(project.path("every.toml"), fresh.path("every.toml")).unwrap();
    fresh.redone(&["steer.prompts=3"]);
    let mut rows = [&project, &fresh].map(|project| project.summary()["rows"].clone());
    rows.iter_mut()
        .flat_map(|rows| rows.as_array_mut().unwrap())
        .for_each(|row| drop(row.as_object_mut().unwrap().remove("seconds")));
    // Which texts a judge reads together shows in the last bits.
    let mut rewards = |row: usize| {
        let rewards = rows[row]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .map(|row| row.as_object_mut().unwrap().remove("gold_reward").unwrap());
        rewards.map(|reward| reward["mean"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    let (more, three) = (rewards(0), rewards(1));
    assert!(
        more.len() == 2 && more.iter().zip(&three).all(|(a, b)| (a - b).abs() < 1e-5),
        "{more:?} {three:?}"
    );
    assert_eq!(rows[0], rows[1], "three prompts are three prompts");

    // A trace cannot be had of an answer that is there, so the same answer is found once more;
    // without traces again nothing is done.
    let plain = without(&lines(&journal), &["seconds"]);
    assert_eq!(
        project.redone(&["steer.prompts=8", "steer.trace=true"]),
        answered,
        "no judge is asked again"
    );
    let traced = lines(&journal);
    assert!(traced.len() == 8 && traced.iter().all(|line| line["trace"].is_array()));
    assert_eq!(without(&traced, &["seconds", "trace", "token_rewards"]), plain);
    assert_eq!(project.redone(&["steer.prompts=8"]), set_of(&[]));

    // New names for the files; the page beside a model is no part of it.
    for (from, to) in [("model", "gpt2"), ("reward", "judge"), ("texts", "data")] {
        fs::rename(project.path(from), project.path(to)).unwrap();
    }
    fs::write(project.path("gpt2/README.md"), "a page about the model").unwrap();
    let renamed = ["data.source=data", "models.base.id=gpt2", "gold.id=judge", "steer.prompts=8"];
    assert_eq!(project.redone(&renamed), set_of(&[]));
    for (from, to) in [("model", "gpt2"), ("reward", "judge"), ("texts", "data")] {
        fs::rename(project.path(to), project.path(from)).unwrap();
    }

    // Shards that work under another path, with more prompts than before; and the same once more
    // with fewer, which loses none.
    let mut project = project;
    success(project.run(&["steer.prompts=11"]).args(["--shard", "1/2"]));
    project.move_to("another/mount");
    success(project.run(&["steer.prompts=11"]).args(["--shard", "2/2"]));
    let journal = project.out().join("steer/base/best_of_n/seed-1.jsonl");
    let merged = stderr(&output(project.run(&["steer.prompts=10"]).args(["--only", "evaluate"])));
    assert!(
        merged.contains("3 answers merged from shards, 10 of 10 prompts answered")
            && !merged.contains("left out"),
        "{merged}"
    );
    assert_eq!(project.redone(&["steer.prompts=11"]), tasks);
    let ids: Vec<String> =
        lines(&journal).iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, (0..11).map(|i| format!("test-{i}")).collect::<Vec<_>>());
}

#[test]
fn a_second_judge_of_a_finished_run_steers_nothing_and_opens_no_model() {
    let project = Project::new();
    let of = |text: &str| text.split_once("[gold.scratch]").unwrap().0.to_owned();
    fs::write(project.path("every.toml"), of(EVERY_STAGE) + GUIDED).unwrap();
    project.redone(&[]);
    let rows = |summary: Value| summary["rows"].as_array().unwrap().clone();
    let before = rows(project.summary());
    let second = ["judges.kind.id=reward", "judges.kind.text='{response} {prompt}'"];
    let judged = set_of(&[
        "evaluate/kind/base/base/seed-1",
        "evaluate/kind/base/best_of_n/seed-1",
        "evaluate",
    ]);
    assert_eq!(project.redone(&second), judged);
    let after = rows(project.summary());
    for (before, mut after) in before.into_iter().zip(after) {
        let kind = after.as_object_mut().unwrap().remove("judges").unwrap();
        assert_eq!(before, after, "what was there is as it was");
        assert!(
            kind["kind"]["mean"].is_f64() && kind["kind"]["mean"] != before["gold_reward"]["mean"],
            "{kind}"
        );
    }
    let [lines, answers] = ["evaluate/kind", "steer"]
        .map(|folder| lines(&project.out().join(folder).join("base/best_of_n/seed-1.jsonl")));
    let ids = |lines: &[Value]| {
        lines.iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    assert!(
        ids(&lines) == ids(&answers) && lines.iter().all(|line| line["reward"].is_f64()),
        "{lines:?}"
    );
    assert!(answers.iter().all(|line| line.get("gold_reward").is_none()), "answers know no judge");
    // What a judge reads is part of what it says, and of nothing else.
    assert_eq!(project.redone(&[second[0], "judges.kind.text='{prompt} - {response}'"]), judged);
    let gold = set_of(&[
        "gold/accuracy",
        "evaluate/gold/base/base/seed-1",
        "evaluate/gold/base/best_of_n/seed-1",
        "evaluate",
    ]);
    assert_eq!(
        project.redone(&[
            second[0],
            "judges.kind.text='{prompt} - {response}'",
            "gold.text='{response}{prompt}'"
        ]),
        gold
    );
}

/// Steps of each training that the metrics hold.
fn steps(out: &Path) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap_or_default();
    let whole = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    whole
        .map(|line| (line["stage"].as_str().unwrap().to_owned(), line["step"].as_u64().unwrap()))
        .collect()
}

/// The complete lines of each journal below `steer` and `preferences`.
fn journals(out: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let folders = ["steer", "preferences", "evaluate"].map(|folder| out.join(folder));
    let (mut found, mut folders) = (BTreeMap::new(), folders.to_vec());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "jsonl") {
                let mut bytes = fs::read(&path).unwrap();
                bytes.truncate(
                    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1),
                );
                found.insert(path.strip_prefix(out).unwrap().to_owned(), bytes);
            }
        }
    }
    found
}

#[test]
fn a_project_that_is_killed_and_moved_again_and_again_ends_like_an_untouched_one() {
    let (whole, mut killed) = (Project::new(), Project::new());
    let started = Instant::now();
    success(&mut whole.run(&[]));
    let undisturbed = started.elapsed();

    let mut done: Vec<String> = Vec::new();
    let mut kills = 0;
    for attempt in 0.. {
        assert!(attempt < 120, "the run makes no progress");
        let log = killed.folder.path().join(format!("log-{attempt}"));
        let (before, lines_before) = (steps(&killed.out()), journals(&killed.out()));
        let mut child = killed
            .run(&[])
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        // From the time that the program needs to start, to a fifth of the whole run.
        let random = Stream::new(7, "kill", "").uniform(attempt, 0);
        let deadline =
            Instant::now() + Duration::from_millis(150) + undisturbed.mul_f64(random / 5.0);
        let mut ended = None;
        while ended.is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
            ended = child.try_wait().unwrap();
        }
        if ended.is_none() {
            child.kill().unwrap();
            kills += 1;
        }
        child.wait().unwrap();
        let log = fs::read_to_string(log).unwrap();
        assert!(ended.is_none_or(|status| status.success()), "{log}");
        assert!(!log.contains("anew") && !log.contains("replaced"), "{log}");
        // The step under way and nothing else is computed again: the step's metrics may be written
        // when its checkpoint is not.
        for line in log.lines().filter(|line| line.contains(": continues after step ")) {
            let (head, step) = line.split_once(": continues after step ").unwrap();
            let (stage, step) = (
                head.rsplit(' ').next().unwrap(),
                step.split(' ').next().unwrap().parse::<u64>().unwrap(),
            );
            assert!(
                before[stage] <= step + 1,
                "{stage} had come to step {} and {line}",
                before[stage]
            );
        }
        for (journal, bytes) in lines_before {
            assert!(
                fs::read(killed.out().join(&journal)).unwrap().starts_with(&bytes),
                "{} was begun again",
                journal.display()
            );
        }
        assert!(tasks(&log, &["starting"]).iter().all(|task| !done.contains(task)), "{log}");
        let ends = |line: &str| {
            Some(line.split_once(": done in ")?.0.rsplit(' ').next().unwrap().to_owned())
        };
        done.extend(log.lines().filter_map(ends));
        if ended.is_some() {
            break;
        }
        killed.move_to(&format!("place-{attempt}/deeper/project"));
    }
    assert!(kills >= 4, "{kills} kills");
    let unique: BTreeSet<&String> = done.iter().collect();
    assert_eq!(unique.len(), done.len(), "each task was done once: {done:?}");

    let files = |project: &Project| {
        let (mut found, mut folders) = (BTreeSet::new(), vec![project.out()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.insert(path.strip_prefix(project.out()).unwrap().to_owned());
                }
            }
        }
        found.retain(|file| !file.starts_with("tensorboard") && !file.starts_with("state"));
        found
    };
    let found = files(&whole);
    assert_eq!(found, files(&killed));
    let mut compared = 0;
    for file in &found {
        let path = |project: &Project| project.out().join(file);
        let name = file.to_str().unwrap();
        match file.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
            // When, from where, how long.
            _ if [
                "manifest.json",
                "plan.json",
                "recipe.toml",
                ".lock",
                "report.html",
                "evaluate/summary.json",
            ]
            .contains(&name) => {}
            _ if name.ends_with("adapter_config.json")
                || name.starts_with("ppo/") && !name.ends_with(".safetensors") => {}
            "jsonl" => {
                let sorted = |project: &Project| {
                    let mut all = lines(&path(project));
                    for line in &mut all {
                        let line = line.as_object_mut().unwrap();
                        let times = [
                            "seconds",
                            "time",
                            "tokens_per_second",
                            "peak_rss_bytes",
                            "rollouts_per_second",
                        ];
                        line.retain(|key, _| {
                            !times.contains(&key.as_str()) && !key.starts_with("seconds/")
                        });
                    }
                    all.sort_by_key(|line| line["stage"].to_string());
                    all
                };
                assert_eq!(sorted(&whole), sorted(&killed), "{name}");
                compared += 1;
            }
            _ => {
                assert!(
                    fs::read(path(&whole)).unwrap() == fs::read(path(&killed)).unwrap(),
                    "{name} differs"
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 40, "{compared} of {found:?}");
    assert_eq!(killed.redone(&[]), set_of(&[]));
}
