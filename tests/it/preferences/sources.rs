//! Where pairs come from: splits, mistakes, and responses that end in end tokens.

use std::collections::{BTreeMap, HashSet};
use std::fs;

use serde_json::json;
use w2s::text::read_pairs;

use super::{Bench, pairs, write_pairs};
use crate::common::{failure, lines, output, stderr, success, w2s};

#[test]
fn a_prompt_of_training_is_not_held_out() {
    let bench = Bench::new();
    let sampled = "[preferences]\npolicy='guide'\nprompts=300\nvalidation_prompts=6\n\
                   max_new_tokens=1\nsamples_per_prompt=4\npairing='all'\n\
                   sampling={temperature=1.0,top_k=20}\n[steer]\nbases=['guide']\nprompts=6\n\
                   max_new_tokens=1\n[[steer.method]]\nkind='base'\n";
    let said = stderr(&output(&mut bench.run("sampled", sampled)));
    let prompts = |file: &str| -> HashSet<String> {
        lines(&bench.path("sampled").join(file))
            .iter()
            .map(|line| line["prompt"].as_str().unwrap().to_owned())
            .collect()
    };
    let (train, validation) =
        (prompts("preferences/train.jsonl"), prompts("preferences/validation.jsonl"));
    assert!(
        train.len() > 20 && !validation.is_empty(),
        "reviews begin with one of few words: {train:?} {validation:?}"
    );
    assert!(train.is_disjoint(&validation), "{train:?} {validation:?}");
    let steered = prompts("steer/guide/base/seed-1.jsonl");
    assert!(
        !steered.is_empty() && train.is_disjoint(&steered) && validation.is_disjoint(&steered),
        "{steered:?}"
    );
    assert!(
        said.contains("texts are passed over, for training texts make the same prompts"),
        "{said}"
    );
    // Where too few are new, the others are steered over too, and counted.
    let scarce =
        sampled.replace("prompts=6\nmax_new_tokens=1\n[[", "prompts=300\nmax_new_tokens=1\n[[");
    let said = stderr(&output(&mut bench.run("scarce", &scarce)));
    assert_eq!(lines(&bench.path("scarce/steer/guide/base/seed-1.jsonl")).len(), 300);
    assert!(
        said.contains("of 300 prompts are those of training or validation texts too"),
        "{said}"
    );
    let none = sampled
        .replace("validation_prompts=6", "validation_prompts=6\n#no gold")
        .replace("#no gold", "");
    let error = failure(
        bench.run("none", &none).args(["--set", "data.validation=6", "--set", "data.train=20000"]),
        1,
    );
    assert!(
        error.contains(
            "preferences/validation.jsonl: no prompt is left that training texts do not make too; \
             6 texts"
        ),
        "{error}"
    );
    assert!(error.contains("\n\nhint: raise `data.prompt.min_words`"), "{error}");
}

#[test]
fn one_split_of_several_is_read_only_where_it_is_chosen() {
    let bench = Bench::new();
    let data = bench.path("data");
    fs::create_dir(&data).unwrap();
    for (index, (split, count)) in
        [("train_prefs", 5), ("train_sft", 7), ("train_gen", 6), ("test_prefs", 2), ("test_sft", 3)]
            .iter()
            .enumerate()
    {
        let rows =
            (0..*count).map(|row| (format!("Q{index}{row}:"), format!("a{row}"), "b".to_owned()));
        write_pairs(&data.join(format!("{split}-00000-of-00001.jsonl")), rows);
    }
    let table = "[preferences]\nsource='data'\npolicy='guide'\nlabel='kept'\n#no gold\n";
    for command in ["run", "check"] {
        let mut run = bench.run("run", table);
        let recipe = bench.path("run.toml");
        let error = if command == "run" {
            failure(&mut run, 2)
        } else {
            failure(w2s().arg("check").arg(&recipe), 2)
        };
        let families = "`train_gen` (`train_gen-00000-of-00001.jsonl`), `train_prefs` \
                        (`train_prefs-00000-of-00001.jsonl`), `train_sft` (";
        assert!(
            error.contains(&format!("the train split could be any of 3: {families}"))
                && error.contains("\n\nhint: "),
            "{error}"
        );
        assert!(!bench.path("run/preferences").exists(), "before any work");
    }
    let chosen =
        format!("{table}[preferences.splits]\ntrain='train_prefs'\nvalidation='test_prefs'\n");
    let run = output(&mut bench.run("run", &chosen));
    assert_eq!(
        (
            lines(&bench.path("run/preferences/train.jsonl")).len(),
            lines(&bench.path("run/preferences/validation.jsonl")).len()
        ),
        (5, 2)
    );
    let plan = success(w2s().arg("check").arg(bench.path("run.toml")));
    for line in [
        "train: 5 pairs of `train_prefs-00000-of-00001.jsonl`\n",
        "validation: 2 pairs of `test_prefs-00000-of-00001.jsonl`\n",
    ] {
        assert!(
            format!("{plan}\n").contains(line) && stderr(&run).contains(line),
            "{plan}\n{}",
            stderr(&run)
        );
    }
    // The choice is part of what the pairs are.
    let other = chosen.replace("train_prefs", "train_sft");
    success(&mut bench.run("run", &other));
    assert_eq!(lines(&bench.path("run/preferences/train.jsonl")).len(), 7);
    let error = failure(&mut bench.run("twice", &chosen.replace("test_prefs", "train_prefs")), 2);
    assert!(
        error.contains(
            "`preferences.splits.validation` is `train_prefs`, which `preferences.splits.train` \
             names too"
        ),
        "{error}"
    );
    let file = "source='data/test_sft-00000-of-00001.jsonl'\nvalidation_pairs=1";
    let error = failure(&mut bench.run("file", &chosen.replace("source='data'", file)), 2);
    assert!(
        error.contains(
            "`preferences.splits` chooses files of a folder, but `preferences.source` is \
             `data/test_sft"
        ),
        "{error}"
    );
}

#[test]
fn pair_files_with_mistakes_are_refused_before_any_work() {
    let bench = Bench::new();
    let refused = |tables: &str, code: i32| {
        let error = failure(&mut bench.run("run", tables), code);
        assert!(!bench.path("run/preferences").exists(), "before any work");
        error
    };
    let table = "[preferences]\nsource='pairs.jsonl'\nvalidation_pairs=1\n";
    let good = json!({ "prompt": "p", "chosen": "c", "rejected": "r" });
    for (bad, message) in [
        (
            json!({ "question": "p", "chosen": "c", "rejected": "r" }),
            ":2: no column `prompt`; found `question`, `chosen`, `rejected`\n\nhint: set \
             `preferences.columns.prompt = \"question\"`",
        ),
        (
            json!({ "prompt": "p", "chosen": "c" }),
            ":2: no column `rejected`; found `prompt`, `chosen`\n\nhint: set \
             `preferences.columns.rejected`",
        ),
        (
            json!({ "prompt": "p", "chosen": [{ "role": "user" }], "rejected": "r" }),
            ":2: `chosen`, turn 1: no `content`; found `role`",
        ),
    ] {
        fs::write(bench.path("pairs.jsonl"), format!("{good}\n{bad}\n")).unwrap();
        let error = refused(table, 2);
        assert!(
            error.contains("`preferences.source`: ")
                && error.contains(&format!("pairs.jsonl{message}")),
            "{error}"
        );
    }
    fs::write(bench.path("pairs.jsonl"), format!("{good}\n")).unwrap();
    assert!(refused(table, 2).contains("asks for 2 rows; the file has 1"));
    let error = refused("[preferences]\nsource='pairs.json'\nvalidation_pairs=1\n", 2);
    assert!(
        error.contains("`preferences.source` is `pairs.json`, but `")
            && error.contains("does not exist\n\nhint: a file of pairs"),
        "{error}"
    );

    // All are left out: said with the reasons, and nothing is trained.
    let useless = [
        json!({ "prompt": "p", "chosen": "", "rejected": "r" }),
        json!({ "prompt": "p", "chosen": "s", "rejected": "s" }),
    ];
    fs::write(
        bench.path("pairs.jsonl"),
        useless
            .iter()
            .cycle()
            .take(9)
            .enumerate()
            .map(|(i, line)| format!("{line}\n").replace("\"p\"", &format!("\"p{i}\"")))
            .collect::<String>(),
    )
    .unwrap();
    let error = failure(&mut bench.run("run", table), 1);
    let (empty, equal) =
        (error.contains("with an empty response"), error.contains("with equal responses"));
    assert!(
        error.contains("no preference pair is left: 8 left out: ")
            && empty
            && equal
            && error.contains("hint: a pair needs two"),
        "{error}"
    );
}

#[test]
fn a_response_that_ends_in_the_models_end_token_is_its_text_and_complete() {
    let bench = Bench::new();
    let end = "<|endoftext|>";
    let plain: Vec<_> = pairs(20)
        .filter(|(_, chosen, rejected)| !rejected.trim().is_empty() && chosen != rejected)
        .collect();
    write_pairs(&bench.path("plain.jsonl"), plain.iter().cloned());
    let ended = plain.iter().enumerate().map(|(i, (prompt, chosen, rejected))| {
        let chosen = format!("{chosen}{end}{}", ["", "\n", " <|endoftext|> "][i % 3]);
        (
            prompt.clone(),
            chosen,
            if i % 2 == 0 { format!("{rejected}{end}") } else { rejected.clone() },
        )
    });
    // These two are none: nothing but an end, and one text ended twice.
    let none = [("Q:", end, "a"), ("Q:", "b", "b<|endoftext|>")]
        .map(|(prompt, chosen, rejected)| (prompt.into(), chosen.into(), rejected.into()));
    write_pairs(&bench.path("ended.jsonl"), ended.chain(none));
    let text = fs::read_to_string(bench.path("ended.jsonl")).unwrap().replacen(
        "}",
        ", \"chosen_complete\": false}",
        1,
    );
    fs::write(bench.path("ended.jsonl"), text).unwrap();
    let run = |out: &str| {
        let tables = format!(
            "[preferences]\nsource='{out}.jsonl'\npolicy='guide'\nlabel='kept'\n\
             validation_pairs=1\n[run_seed]\n"
        );
        success(&mut bench.run(out, &tables.replace("[run_seed]\n", "")));
        let read = |split: &str| {
            read_pairs(&bench.path(out).join(format!("preferences/{split}.jsonl"))).unwrap()
        };
        [read("train"), read("validation")]
            .concat()
            .into_iter()
            .map(|pair| (pair.prompt.clone(), pair))
            .collect::<BTreeMap<_, _>>()
    };
    let (plain, ended) = (run("plain"), run("ended"));
    assert!(plain.len() == 16 && ended.keys().eq(plain.keys()), "{ended:?}");
    for (plain, ended) in plain.values().zip(ended.values()) {
        assert_eq!((&ended.chosen, &ended.rejected), (&plain.chosen, &plain.rejected));
        // In another batch: only the order of sums may differ.
        let near =
            |one: Option<f64>, other: Option<f64>| (one.unwrap() - other.unwrap()).abs() < 1e-5;
        assert!(
            near(ended.reward_chosen, plain.reward_chosen)
                && near(ended.reward_rejected, plain.reward_rejected)
        );
        assert!(ended.chosen_complete && ended.rejected_complete);
    }
}

#[test]
fn a_reward_model_that_is_the_only_model_learns_texts_without_their_end_tokens() {
    let bench = Bench::new();
    let usable = || {
        pairs(20).filter(|(_, chosen, rejected)| !rejected.trim().is_empty() && chosen != rejected)
    };
    write_pairs(&bench.path("plain.jsonl"), usable());
    write_pairs(
        &bench.path("ended.jsonl"),
        usable().map(|(prompt, a, b)| {
            (prompt, format!("{a}<|endoftext|>"), format!("{b}<|endoftext|>\n"))
        }),
    );
    let learned = |out: &str| {
        let training = "[reward_model]\nmodel='guide'\n[reward_model.training]\nsteps=3\n\
                        batch_size=4\neval_every=3\n";
        let tables = format!(
            "#no \
             gold\n[preferences]\nsource='{out}.jsonl'\nlabel='kept'\nvalidation_pairs=2\n\
             {training}"
        );
        success(&mut bench.run(out, &tables));
        fs::read(bench.path(out).join("reward_model/model.safetensors")).unwrap()
    };
    assert!(learned("plain") == learned("ended"));
}
