//! Direct tuning through the real program: bases of both vocabularies learn the pairs, and their
//! samples stand beside the other methods'.

use std::fs;
use std::path::Path;

use crate::common::{failure, lines, output, recipe, stderr, success, w2s};
use tch::{Device, Kind};
use w2s::models::open_with_tokenizer;
use w2s::prompt::PromptText;
use w2s::score::response_logps;
use w2s::text::{PromptTemplate, read_pairs};

const OTHERS_PROMPT: &str = "A film review, in my own words: {prompt}";

/// The smoke recipe with methods that take no search, steps that are large enough to learn by, and
/// a prompt of its own for one base.
fn run(out: &Path, arguments: &[&str]) -> std::process::Command {
    let mut command = w2s();
    command.arg("run").arg(recipe("smoke.toml")).arg("--out").arg(out);
    let prompt = format!("models.other.prompt={OTHERS_PROMPT}");
    for set in [
        prompt.as_str(),
        "models.other.scratch.n_positions=128",
        "pretrain.training.steps=30",
        "gold.training.steps=4",
        "ppo.training.steps=1",
        "direct.sft.learning_rate=5e-4",
        "direct.dpo.learning_rate=5e-4",
        "direct.dpo.epochs=3",
        "steer.prompts=4",
        "steer.method=[{kind='base'}, {kind='direct'}]",
    ] {
        command.args(["--set", set]);
    }
    command.args(arguments);
    command
}

/// Mean over the training pairs of log p(chosen) − log p(rejected) under the model in `folder`,
/// prompted by `template`.
fn preference(run: &Path, folder: &str, template: &str) -> f64 {
    let (lm, tokenizer) = open_with_tokenizer(&run.join(folder), Device::Cpu, Kind::Float).unwrap();
    let template = PromptTemplate::new(template, Some(true));
    let pairs = read_pairs(&run.join("preferences/train.jsonl")).unwrap();
    let logp = |prompt: &PromptText, response: &str, complete: bool| -> f64 {
        let mut ids = template.encode(&tokenizer, prompt).unwrap();
        let prompt_len = ids.len();
        ids.extend(tokenizer.encode_continuation(response).unwrap());
        ids.extend(tokenizer.eos_id().filter(|_| complete));
        response_logps(&lm.model, &ids, prompt_len)
            .unwrap()
            .iter()
            .map(|&logp| f64::from(logp))
            .sum()
    };
    let differences = pairs.iter().map(|pair| {
        logp(&pair.prompt, &pair.chosen, pair.chosen_complete)
            - logp(&pair.prompt, &pair.rejected, pair.rejected_complete)
    });
    differences.sum::<f64>() / pairs.len() as f64
}

/// Log-probabilities under the model in `folder` of each response of the validation pairs, token by
/// token, after the prompt; or of all tokens but the first.
fn validation_logps(run: &Path, folder: &str, template: &str, prompt_too: bool) -> Vec<Vec<f32>> {
    let (lm, tokenizer) = open_with_tokenizer(&run.join(folder), Device::Cpu, Kind::Float).unwrap();
    let template = PromptTemplate::new(template, Some(true));
    let pairs = read_pairs(&run.join("preferences/validation.jsonl")).unwrap();
    let responses = pairs.iter().flat_map(|pair| {
        [
            (&pair.prompt, &pair.chosen, pair.chosen_complete),
            (&pair.prompt, &pair.rejected, pair.rejected_complete),
        ]
    });
    let logps = responses.map(|(prompt, response, complete)| {
        let mut ids = template.encode(&tokenizer, prompt).unwrap();
        let scored_from = if prompt_too { 1 } else { ids.len() };
        ids.extend(tokenizer.encode_continuation(response).unwrap());
        ids.extend(tokenizer.eos_id().filter(|_| complete));
        response_logps(&lm.model, &ids, scored_from).unwrap()
    });
    logps.collect()
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

/// What training said of the weights that it kept.
fn reported(run: &Path, task: &str, metric: &str) -> f64 {
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(run.join(task).join("training.json")).unwrap()).unwrap();
    let found = report["validation"].as_array().unwrap().iter().find(|value| value[0] == metric);
    found.unwrap_or_else(|| panic!("no {metric} in {report}"))[1].as_f64().unwrap()
}

#[track_caller]
fn assert_near(found: f64, expected: f64) {
    assert!(
        (found - expected).abs() < 1e-4 * expected.abs().max(1.0),
        "{found}, expected {expected}"
    );
}

#[test]
fn bases_of_both_vocabularies_learn_the_pairs() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("run");
    let table = success(&mut run(&out, &[]));
    for (base, template) in [("base", "{prompt}"), ("other", OTHERS_PROMPT)] {
        let difference = format!("| {base:5} | direct | base |");
        assert!(table.contains(&difference), "{table}");
        let weights =
            |folder: String| fs::read(out.join(folder).join("model.safetensors")).unwrap();
        let (untuned, sft, dpo) = (
            weights(format!("models/{base}")),
            weights(format!("direct/{base}/sft")),
            weights(format!("direct/{base}/dpo")),
        );
        assert!(
            untuned.len() == dpo.len() && untuned != sft && sft != dpo,
            "{base}: each stage changes weights, not shapes"
        );

        let preference = |folder: String| preference(&out, &folder, template);
        let (untuned, sft, dpo) = (
            preference(format!("models/{base}")),
            preference(format!("direct/{base}/sft")),
            preference(format!("direct/{base}/dpo")),
        );
        assert!(
            dpo > sft + 1.0 && dpo > untuned + 1.0,
            "{base}: DPO must move towards the chosen, {untuned} {sft} {dpo}"
        );

        // What training said of its last steps is what the weights say: β times the mean
        // difference, on each step's pairs.
        let stage = format!("direct/{base}/dpo");
        let margins: Vec<f64> = (lines(&out.join("metrics.jsonl")).iter())
            .filter(|line| line["stage"] == stage.as_str())
            .filter_map(|line| line["rewards/margins"].as_f64())
            .collect();
        assert!(
            margins.len() == 12 && margins[0].abs() < 1e-5,
            "it starts at its reference: {margins:?}"
        );
        let last = margins[8..].iter().sum::<f64>() / 4.0;
        let found = 0.1 * (dpo - sft);
        assert!(
            last > 0.1 && (last / found - 1.0).abs() < 0.5,
            "{base}: {last} in training, {found} by the weights"
        );

        // And of its distance, token by token.
        let logps = |task: &str| {
            validation_logps(&out, &format!("direct/{base}/{task}"), template, false).concat()
        };
        let (policy, reference) = (logps("dpo"), logps("sft"));
        let k3 = policy
            .iter()
            .zip(&reference)
            .map(|(policy, reference)| f64::from(policy - reference))
            .map(|d| d.exp() - 1.0 - d);
        let kl = reported(&out, &stage, "validation/kl");
        assert_near(kl, mean(k3));
        assert!(kl > 1e-3, "the policy has moved: {kl}");
        let steps: Vec<_> = lines(&out.join("metrics.jsonl"))
            .into_iter()
            .filter(|line| line["stage"] == stage.as_str())
            .collect();
        assert!(
            steps[0]["kl"].as_f64().unwrap() < 1e-9
                && steps[0]["peak_rss_bytes"].as_f64().unwrap() > 1e7,
            "{}",
            steps[0]
        );
        assert_near(
            reported(&out, &format!("direct/{base}/sft"), "validation/loss"),
            -mean(reference.iter().map(|logp| f64::from(*logp))),
        );

        // Samples of the tuned base, not of the base, for the same prompts, scored by the guide
        // pair as the base's are.
        let answers = |method: &str| {
            let mut lines = lines(&out.join(format!("steer/{base}/{method}/seed-1.jsonl")));
            lines.sort_by_key(|line| line["id"].as_str().unwrap().to_owned());
            assert!(
                lines.len() == 4
                    && lines
                        .iter()
                        .all(|line| line["score"].is_f64() && line.get("gold_reward").is_none())
            );
            lines
        };
        let (plain, direct) = (answers("base"), answers("direct"));
        assert!(
            plain.iter().zip(&direct).all(|(plain, direct)| plain["prompt"] == direct["prompt"])
        );
        assert!(
            plain
                .iter()
                .zip(&direct)
                .any(|(plain, direct)| plain["response"] != direct["response"])
        );
        assert!(fs::read_dir(out.join("tensorboard").join(&stage)).unwrap().next().is_some());
    }
    let summary: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("evaluate/summary.json")).unwrap()).unwrap();
    for base in ["base", "other"] {
        assert_eq!(
            summary["direct"][base]["dpo"]["examples"], summary["guide"]["dpo"]["examples"],
            "no pair was too long"
        );
        let controls = summary["length_control"].as_array().unwrap();
        let control = controls.iter().find(|control| control["base"] == base).unwrap();
        let row = |base: &str, method: &str| {
            let rows = summary["rows"].as_array().unwrap();
            let is_asked =
                |row: &&serde_json::Value| row["base"] == base && row["method"] == method;
            let row = rows.iter().find(is_asked).unwrap();
            row["gold_reward"]["mean"].as_f64().unwrap()
        };
        assert_eq!(
            (&control["reference"], &control["methods"][1]["method"]),
            (&"base".into(), &"direct".into())
        );
        let gain = control["methods"][1]["gain"].as_f64().unwrap();
        assert!((gain - (row(base, "direct") - row(base, "base"))).abs() < 1e-9, "{control}");
        assert!(control["methods"][1]["gain_at_equal_length"].is_f64(), "{control}");
    }
    assert!(
        fs::read_to_string(out.join("report.html")).unwrap().contains("Reward at equal length")
    );

    // Its settings are its own: the guide's tuning and the bases' plain samples stay as they are.
    let error = failure(&mut run(&out, &["--only", "steer", "--set", "direct.beta=0.2"]), 1);
    assert!(
        error.contains(
            "reads the results of `direct`, and `direct/base/dpo` has not been done with these \
             settings"
        ),
        "{error}"
    );
    assert!(
        error.contains("hint: run without --only, or with --only direct --only steer"),
        "{error}"
    );
    success(&mut run(
        &out,
        &["--only", "steer", "--set", "direct.beta=0.2", "--set", "steer.method=[{kind='base'}]"],
    ));
    let other = output(&mut run(&out, &["--set", "direct.beta=0.2"]));
    let log = stderr(&other);
    for (task, what) in [
        ("dpo", "done already"),
        ("direct/other/sft", "done already"),
        ("direct/other/dpo", "starting"),
        ("steer/other/base/seed-1", "done already"),
        ("steer/other/direct/seed-1", "starting"),
    ] {
        assert!(log.contains(&format!(" {task}: {what}")), "{task}: {what} is not in\n{log}");
    }

    // Another loss is another model; SFT on everything is on the prompt's tokens too.
    for set in ["direct.loss=hinge", "direct.label_smoothing=0.1", "dpo.loss=ipo", "sft.on=all"] {
        let error = failure(&mut run(&out, &["--only", "steer", "--set", set]), 1);
        assert!(error.contains("has not been done with these settings"), "{set}: {error}");
    }
    let other_losses =
        ["sft.on=all", "direct.loss=ipo", "direct.models=['base']", "steer.method=[{kind='base'}]"];
    let arguments: Vec<&str> = ["--only", "sft", "--only", "direct"]
        .into_iter()
        .chain(other_losses.iter().flat_map(|set| ["--set", set]))
        .collect();
    success(&mut run(&out, &arguments));
    for task in ["sft", "direct/base/sft"] {
        let all = validation_logps(&out, task, "{prompt}", true).concat();
        assert_near(
            reported(&out, task, "validation/loss"),
            -mean(all.iter().map(|logp| f64::from(*logp))),
        );
    }
    let responses = |task: &str| validation_logps(&out, task, "{prompt}", false);
    let (policy, reference) = (responses("direct/base/dpo"), responses("direct/base/sft"));
    let ratios: Vec<f64> = policy
        .iter()
        .zip(&reference)
        .map(|(policy, reference)| {
            mean(
                policy
                    .iter()
                    .zip(reference)
                    .map(|(policy, reference)| f64::from(policy - reference)),
            )
        })
        .collect();
    let ipo = mean(ratios.chunks(2).map(|pair| (pair[0] - pair[1] - 5.0).powi(2)));
    assert_near(reported(&out, "direct/base/dpo", "validation/loss"), ipo);

    // What does not fit is counted, said and left out.
    let short = [
        "direct.models=['base']",
        "direct.sft.max_length=32",
        "direct.dpo.max_length=32",
        "steer.method=[{kind='base'}]",
    ];
    let arguments: Vec<&str> = ["--only", "direct"]
        .into_iter()
        .chain(short.iter().flat_map(|set| ["--set", set]))
        .collect();
    let log = stderr(&output(&mut run(&out, &arguments)));
    let pairs = lines(&out.join("preferences/train.jsonl")).len();
    for (stage, what, all) in [("sft", "responses", 2 * pairs), ("dpo", "pairs", pairs)] {
        let report = fs::read(out.join(format!("direct/base/{stage}/training.json"))).unwrap();
        let kept = serde_json::from_slice::<serde_json::Value>(&report).unwrap()["examples"]
            .as_u64()
            .unwrap() as usize;
        let told = format!(
            "direct/base/{stage}: {} of {all} {what} of preferences/train.jsonl are empty or \
             longer",
            all - kept
        );
        assert!(kept < all && log.contains(&told), "{told}\n{log}");
    }
}
