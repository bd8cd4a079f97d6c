//! What is told of a recipe that cannot be read: wrong keys, types, tables and text.

use w2s::error::Error;
use w2s::recipe::load;

use super::{Written, line_of, problems_of};

#[test]
fn an_unknown_key_names_its_line_and_the_nearest_key() {
    let written = Written::edited(&[("beam_width", "beam_widht")]);
    let line = line_of("beam_width");
    assert_eq!(
        written.problems(&[]),
        [format!(
            "x.toml:{line}: unknown key `beam_widht` in `steer.method`\n\nhint: did you mean \
             `beam_width`?"
        )]
    );
}

#[test]
fn all_problems_are_told_at_once() {
    let written = Written::edited(&[
        ("[run]", "[run]\nsede = 3"),
        ("dtype = \"float32\"", "dtype = \"float23\""),
        ("[dpo.training]", "[dpo]\nlearning_rate = 1e-4\n[dpo.training]"),
        ("train = 400", "train = \"many\""),
        ("test = 64", "test = -1"),
        ("n = 4", "n = 4.5"),
        ("bases = [\"base\", \"other\"]\n", ""),
        (
            "tokenizer = { kind = \"same_as\", model = \"guide\" }",
            "tokenizer = { kind = \"same\", model = \"guide\" }",
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
        "`run.dtype` is `float23`, expected one of `auto`, `f32`, `float32`, `bf16`, `bfloat16`, \
         `f16`, `float16`\n\nhint: did you mean `float32`?",
        "unknown key `learning_rate` in `dpo`\n\nhint: that is `dpo.training.learning_rate`",
        "`data.train` is the text `many`, expected a whole number, 0 or more: rows to train on; 0 \
         takes all there are (not of `builtin:`)",
        "`data.test` is `-1`, expected a whole number, 0 or more: rows whose prompts are steered; \
         0 takes all there are (not of `builtin:`, nor of a single file that is split)",
        "`steer.method.1.n` is `4.5`, expected a whole number, 0 or more: responses sampled for \
         each prompt (N)",
        "missing key `bases` in `steer`: the models to steer",
        "`models.base.scratch.tokenizer.kind` is `same`, expected one of `bpe`, `same_as`\n\nhint: \
         did you mean `same_as`?",
        "`run.seeds` is `3`, expected a list: where the random numbers start: the first seed \
         drives data, training and preferences; steering and PPO are repeated for each",
    ];
    expected.sort_unstable();
    assert_eq!(problems, expected);
}

#[test]
fn broken_rules_are_told_beside_misspelt_keys() {
    let written = Written::edited(&[
        ("max_new_tokens = 24\n\n[sft", "max_new_token = 24\n\n[sft"),
        ("n_head = 2", "n_head = 3"),
    ]);
    let problems = written.problems(&[]);
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems[0].contains("unknown key `max_new_token` in `preferences`"), "{problems:#?}");
    assert!(
        problems[1].contains(
            "`models.guide.scratch.n_head` = 3 does not divide `models.guide.scratch.n_embd` = 64"
        ),
        "{problems:#?}"
    );
}

#[test]
fn missing_tables_are_named_without_what_would_be_in_them() {
    assert_eq!(
        Written::new("").problems(&[]),
        [
            "x.toml: missing table `[run]`",
            "x.toml: the recipe has no stage\n\nhint: add the table of a stage: `[pretrain]`, \
             `[gold]`, `[preferences]`, `[sft]`, `[reward_model]`, `[dpo]`, `[direct]`, `[ppo]`, \
             `[steer]`",
        ]
    );
    let told =
        Written::new("run = 1\n[data]\nsource = 'a'\ntrain = 1\nvalidation = 1").problems(&[]);
    let begins = [
        "x.toml:1: `run` is `1`, expected a table",
        "x.toml: `data.source` is `a`, but `a` does not exist",
        "x.toml: the recipe has no stage",
    ];
    assert_eq!(told.len(), begins.len(), "{told:#?}");
    for (told, begins) in told.iter().zip(begins) {
        assert!(told.starts_with(begins), "{told}");
    }
}

#[test]
fn lists_do_not_pass_for_tables() {
    let run = Written::edited(&[(
        "[run]\nname = \"fixture\"\ndtype = \"float32\"",
        "run = [\"fixture\"]",
    )])
    .problems(&[]);
    assert!(run[0].ends_with("`run` is a list, expected a table"), "{run:?}");
    let tokenizer = Written::edited(&[(
        "{ kind = \"same_as\", model = \"guide\" }",
        "[\"same_as\", \"guide\"]",
    )])
    .problems(&[]);
    assert!(
        tokenizer[0].ends_with("`models.base.scratch.tokenizer` is a list, expected a table"),
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
        problems.iter().any(|problem| problem.starts_with("x.toml:5: not TOML: duplicate key")),
        "{problems:?}"
    );
    let problems = Written::new(b"[run]\nname = \"\xff\"\n").problems(&[]);
    assert_eq!(
        problems,
        ["x.toml:2: byte 14 of the file is not UTF-8\n\nhint: a recipe is TOML, a plain text file"]
    );
}

#[test]
fn a_missing_file_points_at_its_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["demo.toml", "imdb.toml", "notes.md"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    let problems = problems_of(&folder.path().join("demmo.toml"), &[]);
    assert!(
        problems[0].starts_with("demmo.toml: no such recipe file\n\nhint: did you mean `"),
        "{problems:?}"
    );
    assert!(problems[0].ends_with("demo.toml`?"), "{problems:?}");
    let none_alike = problems_of(&folder.path().join("zzz.toml"), &[]);
    assert!(none_alike[0].ends_with("`demo.toml`, `imdb.toml`"), "{none_alike:?}");
    let Err(Error::Recipe(folder)) = load(folder.path(), &[]) else {
        panic!("a folder was read as a recipe")
    };
    assert!(folder[0].contains("is a folder, not a recipe"), "{folder:?}");
}

#[test]
fn the_value_of_another_programs_key_is_not_taken_for_ours() {
    let written = Written::edited(&[("[dpo.training]", "[dpo.training]\nwarmup_steps = 100")]);
    let problems = written.problems(&[]);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(problems[0].ends_with("hint: that is `dpo.training.warmup_ratio`"), "{problems:#?}");
}
