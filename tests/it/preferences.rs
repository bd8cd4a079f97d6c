//! Preference pairs through the real program: of a file and of samples, judged, kept, counted,
//! described, and continued after a kill.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{failure, kill_when, lines, output, stderr, success, tiny_model, w2s};
use serde_json::{Value, json};
use tch::{Device, Kind};
use w2s::score::JudgeModel;
use w2s::text::{LeftOut, Reason, read_pairs};

/// A tiny guide and a tiny reward model in folders, and recipes on them.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = tiny_model(folder.path());
        let reward = folder.path().join("reward");
        fs::create_dir(&reward).unwrap();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt2-reward");
        for (from, file) in [
            (&golden, "config.json"),
            (&golden, "model.safetensors"),
            (&model, "tokenizer.json"),
            (&model, "tokenizer_config.json"),
        ] {
            fs::copy(from.join(file), reward.join(file)).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A recipe of `tables`, run to `out`; the reward model is there unless `tables` says `#no
    /// gold`.
    fn run(&self, out: &str, tables: &str) -> std::process::Command {
        let gold = if tables.contains("#no gold") { "" } else { "[gold]\nid='reward'\n" };
        let head = "[run]\nname='pairs'\ndtype='float32'\n[data]\nsource='builtin:reviews'\ntrain=300\nvalidation=400\ntest=400\n\
                    prompt={min_words=1,max_words=1}\n[models.guide]\nid='model'\nbos=true\n";
        let recipe = self.path(&format!("{out}.toml"));
        fs::write(&recipe, format!("{head}{gold}{tables}")).unwrap();
        let mut command = w2s();
        command.arg("run").arg(recipe).arg("--out").arg(self.path(out));
        command
    }

    fn report(&self, out: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(out).join("preferences/report.json")).unwrap())
            .unwrap()
    }
}

fn write_pairs(path: &Path, pairs: impl Iterator<Item = (String, String, String)>) {
    let lines: String = pairs
        .map(|(prompt, chosen, rejected)| {
            format!("{}\n", json!({ "prompt": prompt, "chosen": chosen, "rejected": rejected }))
        })
        .collect();
    fs::write(path, lines).unwrap();
}

/// Pairs of differing lengths; every tenth has an empty response, and the one after it equal ones.
fn pairs(count: usize) -> impl Iterator<Item = (String, String, String)> {
    (0..count).map(|i| {
        let text = |salt: usize| -> String {
            (0..2 + (i * 7 + salt) % 9)
                .map(|k| char::from(b'a' + ((i * 31 + salt * 17 + k * 5) % 26) as u8))
                .collect()
        };
        let (chosen, rejected) = match i % 10 {
            3 => (text(1), " ".to_owned()),
            4 => (text(1), text(1)),
            _ => (format!("{}{i}", text(1)), text(2)),
        };
        (format!("Q{i}:"), chosen, rejected)
    })
}

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
            (&pair.prompt, &pair.chosen, &pair.rejected, pair.relabelled),
            (prompt, chosen, rejected, Some(false))
        );
        let found = reward.rewards(&[(prompt, chosen), (prompt, rejected)]).unwrap();
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
    let reasons = json!({ "empty": 4, "equal": 4, "prompt_too_long": 2, "tied": 0 });
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
    let tables = "[preferences]\nsource='pairs.jsonl'\npolicy='guide'\nlabel='kept'\nvalidation_pairs=5\n[sft]\n[dpo.training]\nbatch_size=4\n#no \
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
            "[preferences]\npolicy='guide'\nprompts=60\nvalidation_prompts=10\nmax_new_tokens=1\nsampling={{temperature=1.0,top_k=3}}\n{rest}"
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
fn a_prompt_of_training_is_not_held_out() {
    let bench = Bench::new();
    let sampled = "[preferences]\npolicy='guide'\nprompts=300\nvalidation_prompts=6\nmax_new_tokens=1\nsamples_per_prompt=4\npairing='all'\n\
                   sampling={temperature=1.0,top_k=20}\n[steer]\nbases=['guide']\nprompts=6\nmax_new_tokens=1\n[[steer.method]]\nkind='base'\n";
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
fn a_killed_labelling_ends_with_the_same_bytes() {
    let bench = Bench::new();
    fs::create_dir(bench.path("data")).unwrap();
    write_pairs(&bench.path("data/train.jsonl"), pairs(600));
    write_pairs(&bench.path("data/validation.jsonl"), pairs(300));
    let of_file = "[preferences]\nsource='data'\npolicy='guide'\n";
    let sampled = "[preferences]\npolicy='guide'\nprompts=150\nvalidation_prompts=20\nmax_new_tokens=2\nsamples_per_prompt=4\npairing='all'\n\
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
             `preferences.columns.prompt`",
        ),
        (
            json!({ "prompt": "p", "chosen": "c" }),
            ":2: no column `rejected`; found `prompt`, `chosen`\n\nhint: set \
             `preferences.columns.rejected`",
        ),
        (
            json!({ "prompt": "p", "chosen": [{ "role": "user" }], "rejected": "r" }),
            ":2: `chosen` must be a string, not `[{\"role\":\"user\"}]`",
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
            "[preferences]\nsource='{out}.jsonl'\npolicy='guide'\nlabel='kept'\nvalidation_pairs=1\n[run_seed]\n"
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
        let training = "[reward_model]\nmodel='guide'\n[reward_model.training]\nsteps=3\nbatch_size=4\neval_every=3\n";
        let tables = format!(
            "#no \
             gold\n[preferences]\nsource='{out}.jsonl'\nlabel='kept'\nvalidation_pairs=2\n{training}"
        );
        success(&mut bench.run(out, &tables));
        fs::read(bench.path(out).join("reward_model/model.safetensors")).unwrap()
    };
    assert!(learned("plain") == learned("ended"));
}
