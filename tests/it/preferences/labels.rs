//! Labels of files and of samples, and what is left out.

use std::fs;

use serde_json::{Value, json};
use tch::{Device, Kind};
use w2s::score::JudgeModel;
use w2s::text::{LeftOut, Reason, read_pairs};

use super::{Bench, pairs, write_pairs};
use crate::common::{kill_when, lines, output, stderr, success};

#[test]
fn a_pair_file_is_judged_by_the_gold_reward() {
    let bench = Bench::new();
    fs::create_dir(bench.path("data")).unwrap();
    let too_long = [
        ("x".repeat(32), "a".to_owned(), "b".to_owned()),
        ("x".repeat(31), "c".to_owned(), "d".to_owned()),
    ];
    write_pairs(&bench.path("data/train.jsonl"), pairs(40).chain(too_long));
    write_pairs(&bench.path("data/test.jsonl"), pairs(5));
    let table =
        |label: &str| format!("[preferences]\nsource='data'\npolicy='guide'\nlabel='{label}'\n");
    for label in ["argmax", "drawn", "kept"] {
        success(&mut bench.run(label, &table(label)));
    }
    let reward = JudgeModel::open(&bench.path("reward"), Device::Cpu, Kind::Float, None).unwrap();
    let read = |label: &str, split: &str| {
        read_pairs(&bench.path(label).join(format!("preferences/{split}.jsonl"))).unwrap()
    };
    let kept = read("kept", "train");
    // Of 42, four are empty, four equal, one leaves no room; with BOS, 31 tokens of a prompt leave
    // none either.
    assert_eq!((kept.len(), read("kept", "validation").len()), (32, 3));
    let originals: Vec<_> = pairs(40).collect();
    for pair in &kept {
        let (prompt, chosen, rejected) =
            &originals[pair.id.strip_prefix("train-").unwrap().parse::<usize>().unwrap()];
        assert_eq!(
            (pair.prompt.to_string(), &pair.chosen, &pair.rejected, pair.relabelled),
            (prompt.clone(), chosen, rejected, Some(false))
        );
        let found = reward.rewards(&[(&pair.prompt, chosen), (&pair.prompt, rejected)]).unwrap();
        assert!(
            (pair.reward_chosen.unwrap() - found[0]).abs() < 1e-5
                && (pair.reward_rejected.unwrap() - found[1]).abs() < 1e-5
        );
        let sigma = 1.0 / (1.0 + (found[1] - found[0]).exp());
        assert!((pair.probability.unwrap() - sigma).abs() < 1e-5 && pair.chosen_complete);
    }
    let argmax = read("argmax", "train");
    assert!(argmax.iter().all(|pair| pair.reward_chosen > pair.reward_rejected));
    let turned = argmax.iter().filter(|pair| pair.relabelled == Some(true)).count();
    assert_eq!(
        turned,
        kept.iter().filter(|pair| pair.reward_chosen < pair.reward_rejected).count()
    );
    assert!(turned > 5 && turned < 27, "{turned}");
    for (pair, kept) in argmax.iter().zip(&kept) {
        let as_was = if pair.relabelled == Some(true) {
            (&pair.rejected, &pair.chosen)
        } else {
            (&pair.chosen, &pair.rejected)
        };
        assert_eq!(as_was, (&kept.chosen, &kept.rejected));
    }
    assert!(
        read("drawn", "train").iter().any(|pair| pair.reward_chosen < pair.reward_rejected),
        "drawn, so some go to the lower"
    );

    let report = bench.report("argmax")["train"].clone();
    let reasons =
        json!({ "empty": 4, "equal": 4, "prompt_too_long": 2, "tied": 0, "not_one_answer": 0 });
    assert_eq!(
        (&report["pairs"], &report["left_out"], &report["left_out_reasons"]),
        (&json!(32), &json!(10), &reasons)
    );
    assert_eq!(
        (report["label_agreement"].as_f64(), report["relabelled"].as_f64()),
        (Some(1.0), Some(turned as f64 / 32.0))
    );
    assert!(
        (bench.report("kept")["train"]["label_agreement"].as_f64().unwrap()
            - (32 - turned) as f64 / 32.0)
            .abs()
            < 1e-12
    );
    let left_out: Vec<LeftOut> = lines(&bench.path("argmax/preferences/train.left_out.jsonl"))
        .into_iter()
        .map(|line| serde_json::from_value(line).unwrap())
        .collect();
    assert_eq!(
        left_out.iter().map(|one| one.id.as_str()).collect::<Vec<_>>()[..3],
        ["train-3", "train-4", "train-13"]
    );
    assert_eq!(
        (left_out[0].reason, left_out[1].reason, left_out[9].reason),
        (Reason::Empty, Reason::Equal, Reason::PromptTooLong)
    );

    let card = fs::read_to_string(bench.path("argmax/preferences/README.md")).unwrap();
    for said in [
        "  - split: train\n    path: train.jsonl\n  - split: validation\n    path: \
         validation.jsonl\n---\n",
        "Pairs of `data`, which had labels already. The reward r is that of `reward`.",
        "32 pairs of 32 prompts; 10 left out: 4 with an empty response, 4 with equal responses, 2 \
         with a prompt too long for the model to tune.",
        "| label agreement: chosen has the higher reward | 1.000 |",
        "| reward, rejected | ",
        "| characters, chosen | ",
    ] {
        assert!(card.contains(said), "{card}\nlacks {said}");
    }
    assert!(
        !card.contains(bench.folder.path().to_str().unwrap()),
        "a card goes elsewhere: no paths of this machine\n{card}"
    );
}

#[test]
fn labels_are_kept_without_a_gold_reward_and_trained_on() {
    let bench = Bench::new();
    write_pairs(&bench.path("pairs.jsonl"), pairs(20));
    let tables = "[preferences]\nsource='pairs.jsonl'\npolicy='guide'\nlabel='kept'\n\
                  validation_pairs=5\n[sft]\n[dpo.training]\nbatch_size=4\n#no \
                  gold\n";
    success(&mut bench.run("run", tables));
    let written = lines(&bench.path("run/preferences/train.jsonl"));
    let validation = lines(&bench.path("run/preferences/validation.jsonl"));
    assert!(
        written
            .iter()
            .all(|line| line.get("reward_chosen").is_none() && line.get("probability").is_none()),
        "{written:?}"
    );
    let report = bench.report("run");
    let counted = |split: &str, key: &str| report[split][key].as_u64().unwrap();
    assert_eq!(
        (
            counted("train", "pairs") + counted("train", "left_out"),
            counted("validation", "pairs") + counted("validation", "left_out")
        ),
        (15, 5)
    );
    assert_eq!(
        (written.len() as u64, validation.len() as u64),
        (counted("train", "pairs"), counted("validation", "pairs"))
    );
    assert!(report["train"]["label_agreement"].is_null() && report["train"]["rewards"].is_null());
    let mut ids: Vec<usize> = (written.iter().chain(&validation))
        .map(|line| line["id"].as_str().unwrap().split('-').nth(1).unwrap().parse().unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!(
        ids,
        (0..20).filter(|row| ![3, 4].contains(&(row % 10))).collect::<Vec<_>>(),
        "each pair in one split"
    );
    let trained: Value =
        serde_json::from_slice(&fs::read(bench.path("run/dpo/training.json")).unwrap()).unwrap();
    assert_eq!(trained["examples"], written.len());
    // A file that this program wrote is a source too, and which responses ended by themselves is
    // known.
    let mut cut = written.clone();
    cut.iter_mut().for_each(|line| line["chosen_complete"] = json!(false));
    fs::write(
        bench.path("cut.jsonl"),
        cut.iter().map(|line| format!("{line}\n")).collect::<String>(),
    )
    .unwrap();
    success(
        &mut bench.run(
            "again",
            "[preferences]\nsource='cut.jsonl'\nlabel='argmax'\nvalidation_pairs=1\n",
        ),
    );
    let again = read_pairs(&bench.path("again/preferences/train.jsonl")).unwrap();
    assert!(again.iter().all(|pair| pair.chosen_complete == pair.relabelled.unwrap()
        && pair.rejected_complete != pair.chosen_complete));
}

#[test]
fn samples_pair_up_as_asked_and_what_is_left_out_is_counted() {
    let bench = Bench::new();
    // One token of the three likeliest: many samples are equal, and some rewards with them.
    let table = |rest: &str| {
        format!(
            "[preferences]\npolicy='guide'\nprompts=60\nvalidation_prompts=10\nmax_new_tokens=1\n\
             sampling={{temperature=1.0,top_k=3}}\n{rest}"
        )
    };
    for (out, rest, per_prompt) in [
        ("disjoint", "samples_per_prompt=4", 2),
        ("all", "samples_per_prompt=4\npairing='all'\nlabel='argmax'", 6),
        ("best_worst", "samples_per_prompt=5\npairing='best_worst'\nlabel='argmax'", 1),
    ] {
        success(&mut bench.run(out, &table(rest)));
        let report = bench.report(out)["train"].clone();
        let pairs = read_pairs(&bench.path(out).join("preferences/train.jsonl")).unwrap();
        assert_eq!(
            pairs.len() as u64 + report["left_out"].as_u64().unwrap(),
            60 * per_prompt,
            "{out}: {report}"
        );
        assert!(
            report["left_out_reasons"]["equal"].as_u64().unwrap() > 0
                && report["left_out_reasons"]["prompt_too_long"] == 0,
            "{out}: {report}"
        );
        assert!(pairs.iter().all(|pair| pair.chosen != pair.rejected && pair.relabelled.is_none()));
        let mut distinct: Vec<_> = pairs
            .iter()
            .map(|pair| (pair.id.split('/').next(), &pair.chosen, &pair.rejected))
            .collect();
        distinct.sort();
        distinct.dedup();
        assert!(out == "disjoint" || distinct.len() == pairs.len(), "{out}: a pair stands twice");
        assert!(
            out == "disjoint" || pairs.iter().all(|pair| pair.reward_chosen > pair.reward_rejected)
        );
    }
    // The best and the worst of a prompt are among all its pairs, as far apart as any of them.
    // Fewer samples are the first of more.
    let spread = |out: &str, prompt: &str| {
        let pairs = read_pairs(&bench.path(out).join("preferences/train.jsonl")).unwrap();
        let of_prompt = pairs.into_iter().filter(|pair| pair.id.split('/').next() == Some(prompt));
        of_prompt
            .map(|pair| pair.reward_chosen.unwrap() - pair.reward_rejected.unwrap())
            .fold(None, |most: Option<f64>, gap| Some(most.map_or(gap, |most| most.max(gap))))
    };
    success(
        &mut bench.run(
            "best_of_four",
            &table("samples_per_prompt=4\npairing='best_worst'\nlabel='argmax'"),
        ),
    );
    let mut compared = 0;
    for prompt in (0..60).map(|row| format!("train-{row}")) {
        let (all, best) = (spread("all", &prompt), spread("best_of_four", &prompt));
        assert_eq!(all, best, "{prompt}");
        compared += usize::from(all.is_some());
    }
    assert!(compared > 20, "{compared}");
}

#[test]
fn a_killed_labelling_ends_with_the_same_bytes() {
    let bench = Bench::new();
    fs::create_dir(bench.path("data")).unwrap();
    write_pairs(&bench.path("data/train.jsonl"), pairs(600));
    write_pairs(&bench.path("data/validation.jsonl"), pairs(300));
    let of_file = "[preferences]\nsource='data'\npolicy='guide'\n";
    let sampled = "[preferences]\npolicy='guide'\nprompts=150\nvalidation_prompts=20\n\
                   max_new_tokens=2\nsamples_per_prompt=4\npairing='all'\n\
                   label='argmax'\nsampling={temperature=1.0,top_k=3}\n";
    for (name, tables, kills) in [
        (
            "file",
            of_file,
            [("train.jsonl", 150), ("train.left_out.jsonl", 80), ("validation.jsonl", 50)],
        ),
        (
            "samples",
            sampled,
            [("train.jsonl", 100), ("train.left_out.jsonl", 250), ("train.jsonl", 200)],
        ),
    ] {
        let (whole, killed) = (format!("{name}-whole"), format!("{name}-killed"));
        success(&mut bench.run(&whole, tables));
        for (file, at) in kills {
            let journal = bench.path(&killed).join("preferences").join(file);
            kill_when(&mut bench.run(&killed, tables), file, || {
                fs::read(&journal).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count()
                    >= at
            });
            assert!(
                !bench.path(&killed).join("preferences/report.json").exists(),
                "{name}: killed too late"
            );
        }
        let last = output(&mut bench.run(&killed, tables));
        assert!(
            last.status.success() && stderr(&last).contains("preferences: continuing"),
            "{}",
            stderr(&last)
        );
        for file in [
            "train.jsonl",
            "validation.jsonl",
            "train.left_out.jsonl",
            "validation.left_out.jsonl",
            "report.json",
            "README.md",
        ] {
            let read =
                |out: &str| fs::read(bench.path(out).join("preferences").join(file)).unwrap();
            assert!(read(&whole) == read(&killed), "{name}: {file} differs");
        }
        assert!(
            stderr(&output(&mut bench.run(&killed, tables))).contains("preferences: done already")
        );
    }
    // Another file is other pairs.
    write_pairs(&bench.path("data/validation.jsonl"), pairs(10));
    assert!(
        stderr(&output(&mut bench.run("file-killed", of_file))).contains("preferences: starting")
    );
    assert_eq!(bench.report("file-killed")["validation"]["pairs"], 8);
}
