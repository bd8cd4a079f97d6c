//! Trainings that are too short, or change nothing at all, do not look like success.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{lines, output, stderr, stdout, success, tiny_model, w2s};
use serde_json::json;

/// A recipe on 40 pairs, of which four are held out, and a tiny guide in `folder`.
fn recipe(folder: &Path, tables: &str) {
    if !folder.join("model").exists() {
        tiny_model(folder);
    }
    let pair = |i: usize| {
        json!({
            "prompt": format!("Q{i}:"),
            "chosen": format!("good {i}"),
            "rejected": format!("bad {i}")
        })
    };
    fs::write(
        folder.join("pairs.jsonl"),
        (0..40).map(|i| format!("{}\n", pair(i))).collect::<String>(),
    )
    .unwrap();
    let head = "[run]\nname='short'\ndtype='float32'\n[data]\nsource='builtin:reviews'\ntrain=20\n\
                validation=2\ntest=4\n\
                prompt={min_words=1,max_words=1}\n[models.guide]\nid='model'\n\
                [preferences]\nsource='pairs.jsonl'\npolicy='guide'\nlabel='kept'\n\
                validation_pairs=4\n";
    fs::write(folder.join("recipe.toml"), format!("{head}{tables}")).unwrap();
}

fn command(word: &str, folder: &Path) -> Command {
    let mut command = w2s();
    command.arg(word).arg(folder.join("recipe.toml"));
    command
}

fn run(folder: &Path) -> (String, String) {
    let output = output(command("run", folder).arg("--out").arg(folder.join("run")));
    assert!(output.status.success(), "{}", stderr(&output));
    (stdout(&output), stderr(&output))
}

#[test]
fn defaults_on_a_few_pairs_move_the_weights_and_say_how_few_steps_that_is() {
    let folder = tempfile::tempdir().unwrap();
    recipe(folder.path(), "[sft]\n[reward_model]\n[dpo.training]\n");
    let few = [
        "warning: only 2 optimiser steps (1 × 72 examples in batches of 64), in which little is \
         learned",
        "warning: only 2 optimiser steps (1 × 36 examples in batches of 32), in which little is \
         learned",
        "warning: only 1 optimiser step (1 × 36 examples in batches of 256, more than there are), \
         in which little is learned: lower `batch_size`",
    ];
    let plan = success(&mut command("check", folder.path()));
    few.iter().for_each(|said| assert!(plan.contains(said), "{plan}\nlacks {said}"));
    assert!(plan.contains("1 epoch of 36 examples = 1 steps"), "{plan}");

    let (_, log) = run(folder.path());
    for said in few.map(|said| said.trim_start_matches("warning: ")) {
        assert_eq!(log.matches(said).count(), 1, "{said}\n{log}");
    }
    assert!(log.contains("dpo: 1 optimiser steps, 36 examples in batches of 256"), "{log}");
    assert!(
        log.contains("dpo: kept the weights of step 1: validation/loss 0.69")
            && log.contains(", validation/rewards/accuracies "),
        "{log}"
    );
    assert!(!log.contains("nothing was learned, the result"), "{log}");
    let metrics = lines(&folder.path().join("run/metrics.jsonl"));
    let rates = |stage: &str| -> Vec<f64> {
        metrics
            .iter()
            .filter(|line| line["stage"] == stage)
            .filter_map(|line| line["learning_rate"].as_f64())
            .collect()
    };
    assert_eq!(rates("sft"), [2e-5, 2e-5]);
    assert_eq!((rates("reward_model"), rates("dpo")), (vec![5e-6, 5e-6], vec![1e-6]));
    let weights = |of: &str| fs::read(folder.path().join(of).join("model.safetensors")).unwrap();
    assert_ne!(weights("run/dpo"), weights("run/sft"));
    assert_ne!(weights("run/sft"), weights("model"));
}

#[test]
fn a_training_that_changes_no_weight_is_told_where_it_happens_and_beside_the_numbers() {
    let folder = tempfile::tempdir().unwrap();
    tiny_model(folder.path());
    fs::create_dir(folder.path().join("reward")).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt2-reward");
    for (from, file) in [
        ("", "config.json"),
        ("", "model.safetensors"),
        ("model", "tokenizer.json"),
        ("model", "tokenizer_config.json"),
    ] {
        let from = if from.is_empty() { golden.clone() } else { folder.path().join(from) };
        fs::copy(from.join(file), folder.path().join("reward").join(file)).unwrap();
    }
    // Rates that no weight in f32 can feel, for all weights and for adapters.
    let tables = |lora: &str| {
        format!(
            "[gold]\nid='reward'\n[dpo]\n{lora}[dpo.training]\nsteps=3\nbatch_size=4\n\
             learning_rate=1e-60\n\
             [steer]\nbases=['guide']\nprompts=2\nmax_new_tokens=4\n\
             method=[{{kind='base'}},{{kind='best_of_n',n=2}}]\n[evaluate]\n"
        )
    };
    for lora in ["", "lora={rank=2}\n"] {
        recipe(folder.path(), &tables(lora));
        let (table, log) = run(folder.path());
        let nothing = "dpo: nothing was learned, the result is bit for bit what training started \
                       from";
        assert!(
            log.contains(&format!(
                "{nothing}: 3 optimiser steps at rates up to 1e-60 were too small"
            )),
            "{log}"
        );
        assert!(
            log.contains(
                "hold the same weights as they were loaded (float32), so every score is 0"
            ),
            "{log}"
        );
        assert!(
            table.contains(&format!("warning: {nothing}"))
                && table.contains("warning: guide: every score is 0"),
            "{table}"
        );
        let page = fs::read_to_string(folder.path().join("run/report.html")).unwrap();
        assert!(page.contains(&format!("<b>Warning:</b> {nothing}")), "{page}");
    }
    recipe(folder.path(), &tables("").replace("1e-60", "1e-3"));
    let (table, log) = run(folder.path());
    assert!(
        !log.contains("nothing was learned, the result") && !log.contains("hold the same weights"),
        "{log}"
    );
    assert!(!table.contains("every score is 0"), "{table}");
    // Labels that say the opposite of those that are held out.
    let pair = |i: usize| {
        let (chosen, rejected) = if i < 8 { ("bad", "good") } else { ("good", "bad") };
        json!({
            "prompt": format!("Q{i}:"),
            "chosen": format!("{chosen} {i}"),
            "rejected": format!("{rejected} {i}")
        })
    };
    let lines =
        |rows: std::ops::Range<usize>| rows.map(|i| format!("{}\n", pair(i))).collect::<String>();
    fs::create_dir(folder.path().join("pairs")).unwrap();
    for (file, rows) in [("validation", 0..8), ("train", 8..40)] {
        fs::write(folder.path().join(format!("pairs/{file}.jsonl")), lines(rows)).unwrap();
    }
    let text = fs::read_to_string(folder.path().join("recipe.toml")).unwrap();
    let text = text
        .replace("pairs.jsonl", "pairs")
        .replace("validation_pairs=4\n", "")
        .replace("steps=3", "steps=12");
    fs::write(folder.path().join("recipe.toml"), text).unwrap();
    let (table, log) = run(folder.path());
    assert!(
        log.contains(
            "is no lower than 0.6931, what it is before training: nothing was learned that holds \
             there"
        ),
        "{log}"
    );
    assert!(table.contains("warning: dpo: the held-out loss"), "{table}");
}
