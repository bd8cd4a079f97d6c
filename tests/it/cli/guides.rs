//! Guides: texts that they cannot read to their ends, and other vocabularies.

use std::fs;
use std::path::Path;

use crate::common::{failure, output, recipe, stderr, stdout, success, tiny_model, w2s};

/// What a tilt adds up is of one vocabulary: the shell refuses others before any weights are read,
/// and of a recipe `w2s check` says that the method does not apply.
#[test]
fn a_tilt_by_guides_of_another_vocabulary_is_refused_or_not_applicable() {
    let folder = tempfile::tempdir().unwrap();
    let [base, tuned, untuned] =
        ["base", "tuned", "untuned"].map(|name| tiny_model(&folder.path().join(name)));
    let steer = |flags: &[&str]| {
        let mut shell = w2s();
        shell
            .args(["steer", "--max-new-tokens", "4", "--base"])
            .arg(&base)
            .arg("--tuned")
            .arg(&tuned)
            .arg("--untuned")
            .arg(&untuned);
        shell.args(flags).arg("ok");
        shell
    };
    let once = ["--method", "cbs", "--beam-width", "1", "--successors", "1", "--tilt", "2"];
    assert_eq!(
        success(&mut steer(&once)),
        success(&mut steer(&["--method", "eft", "--weight", "2"]))
    );
    for guide in [&tuned, &untuned] {
        let path = guide.join("tokenizer.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"A\":33", "\"É\":33")).unwrap();
    }
    let models: Vec<String> = [("other", &base), ("first", &tuned), ("second", &untuned)]
        .map(|(name, folder)| format!("models.{name}={{id='{}',bos=true}}", folder.display()))
        .to_vec();
    let keys = [
        "steer.bases=['other']",
        "steer.tuned=first",
        "steer.untuned=second",
        "steer.max_new_tokens=4",
        "data.prompt={min_words=1,max_words=2}",
    ];
    for (flags, method, what) in [
        (&["--method", "eft"][..], "{kind='eft',weights=[1]}", "`eft`"),
        (&["--method", "best_of_n", "--tilt", "1"], "{kind='best_of_n',n=2,tilt=1}", "`tilt`"),
    ] {
        let sets = models
            .iter()
            .cloned()
            .chain(keys.map(String::from))
            .chain([format!("steer.method=[{method}]")]);
        let sets: Vec<String> = sets.flat_map(|set| ["--set".to_owned(), set]).collect();
        let recipe = success(w2s().arg("check").arg(recipe("smoke.toml")).args(&sets));
        let said = "not applicable to other with guide `first`: ";
        let (_, said) = recipe.split_once(said).unwrap_or_else(|| panic!("{recipe}"));
        let (difference, rest) = said.split_once('\n').unwrap();
        assert!(difference.ends_with("the first difference is id 33: `A` and `É`"), "{recipe}");
        assert!(rest.contains("applicable to none of its bases"), "{recipe}");
        let shell = failure(&mut steer(flags), 2);
        let what = what.replace("`tilt`", "--tilt");
        for expected in [
            format!("{what} needs one vocabulary, but --base and --tuned have two: {difference}"),
            "hint: ".to_owned(),
        ] {
            assert!(shell.contains(&expected), "{expected}\nis not in\n{shell}");
        }
    }
}

/// A copy of a model that knows the first positions only.
fn with_positions(model: &Path, positions: i64) {
    let path = model.join("model.safetensors");
    let mut tensors: Vec<_> =
        w2s::models::weights::read_tensors(&path).unwrap().into_iter().collect();
    let table = tensors.iter_mut().find(|(name, _)| name == "transformer.wpe.weight").unwrap();
    table.1 = table.1.narrow(0, 0, positions).contiguous();
    w2s::models::weights::write_tensors(&path, &tensors, &[]).unwrap();
    let config = fs::read_to_string(model.join("config.json")).unwrap();
    let mut fields: serde_json::Value = serde_json::from_str(&config).unwrap();
    fields["n_positions"] = positions.into();
    fs::write(model.join("config.json"), fields.to_string()).unwrap();
}

#[test]
fn a_text_that_the_guides_cannot_read_to_its_end_ends_no_search() {
    let folder = tempfile::tempdir().unwrap();
    let [base, tuned, untuned] =
        ["base", "tuned", "untuned"].map(|name| tiny_model(&folder.path().join(name)));
    [&tuned, &untuned].into_iter().for_each(|guide| with_positions(guide, 12));
    let steer = |method: &str| {
        let mut command = w2s();
        command
            .args([
                "steer",
                "--dtype",
                "float32",
                "--max-new-tokens",
                "20",
                "--json",
                "--method",
                method,
                "--base",
            ])
            .arg(&base);
        command.arg("--tuned").arg(&tuned).arg("--untuned").arg(&untuned).args([
            "--base-bos",
            "true",
            "--guide-bos",
            "true",
        ]);
        command
    };
    for method in ["cbs", "best_of_n", "beam", "base"] {
        let output = output(steer(method).args(["ok", "x"]));
        let told = stderr(&output);
        assert!(output.status.success(), "{told}");
        assert!(
            told.contains(
                "2 of 2 prompts leave the guide room for fewer than the 20 tokens that a response \
                 may take"
            ),
            "{told}"
        );
        assert!(
            told.contains(
                "candidates are longer than the guides can read; each is worth what its beginning \
                 is"
            ),
            "{told}"
        );
        let lines: Vec<serde_json::Value> =
            stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(
            lines.len() == 2 && lines.iter().any(|line| line["cut_candidates"].as_u64() > Some(0)),
            "{lines:?}"
        );
        assert!(lines.iter().all(|line| line["score"].as_f64().unwrap().is_finite()));
    }
    // What samples reads every token.
    let error = failure(steer("eft").args(["ok"]), 1);
    assert!(
        error.contains(
            "prompt `prompt-0`: 3 tokens and 20 new ones do not fit the guide's context of 12"
        ),
        "{error}"
    );
    // Where not even a token can be read, every prompt is named, and none is answered.
    let error =
        failure(steer("cbs").args([&"y".repeat(11), "ok", &"z".repeat(11), &"w".repeat(31)]), 1);
    for said in [
        "3 prompts are too long\n",
        "prompt `prompt-0`: 12 tokens leave the guide no token of a response to read in a context \
         of 12",
        "prompt `prompt-2`: 12 tokens leave the guide no",
        "prompt `prompt-3`: 32 tokens and 20 new ones do not fit the model's context of 32",
        "hint: shorten the prompt",
    ] {
        assert!(error.contains(said), "{said:?} is not in\n{error}");
    }
    assert!(!error.contains("prompt-1"), "{error}");
}

#[test]
fn vocabularies_are_compared_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    for file in fs::read_dir(&model).unwrap() {
        let file = file.unwrap().path();
        let copy = other.join(file.file_name().unwrap());
        match fs::read_to_string(&file) {
            Ok(text) => {
                fs::write(copy, text.replace("\"A\":33,\"B\":34", "\"B\":33,\"A\":34")).unwrap()
            }
            Err(_) => drop(fs::copy(&file, copy).unwrap()),
        }
    }
    fs::write(other.join("chat_template.jinja"), "<{{ messages[0].content }}>").unwrap();
    let difference = "95 of 97 and 97 tokens have the same id, 97 are in both; the first \
                      difference is id 33: `A` and `B`";
    let report = success(w2s().arg("doctor").args([&model, &other]));
    for said in [
        "  family         gpt2\n",
        "  eos            0 `<|endoftext|>`\n",
        "  chat template  yes\n",
        &format!("not the same: {difference}"),
    ] {
        assert!(report.contains(said), "{report}\nlacks {said}");
    }
    let absent = folder.path().join("absent");
    let report = success(w2s().arg("doctor").args([&model, &absent, &other]));
    assert!(
        report.contains("  tokenizer      ")
            && report.contains("absent")
            && report.contains("against "),
        "one hides no others: {report}"
    );
    let mut both = w2s();
    let error = failure(both.arg("doctor").arg(&model).arg("http://localhost:8000/v1"), 2);
    assert!(error.contains("is no address, and others are"), "{error}");

    let check = |base: &Path, sets: &[&str]| {
        let mut command = w2s();
        command
            .arg("check")
            .arg(recipe("smoke.toml"))
            .args(["--set", &format!("models.base.id={}", base.display())]);
        command.args([
            "--set",
            "data.prompt.max_words=4",
            "--set",
            "steer.max_new_tokens=8",
            "--set",
            "preferences.max_new_tokens=8",
        ]);
        command.args(["--set", "ppo.max_new_tokens=8"]);
        command.args(sets.iter().flat_map(|set| ["--set", set]));
        success(&mut command)
    };
    let plan = success(w2s().arg("check").arg(recipe("smoke.toml")));
    assert!(
        plan.contains(
            "vocabularies\n  base, guided by guide: one tokenizer, so ids pass straight through\n"
        ),
        "{plan}"
    );
    assert!(
        plan.contains("  other, guided by guide: each trains its own, so the guides read text"),
        "{plan}"
    );
    let ppo = "ppo={policy='other',prompts=64,max_new_tokens=8}";
    let rewarded = success(w2s().arg("check").arg(recipe("smoke.toml")).args([
        "--set",
        ppo,
        "--set",
        "steer.method.6={kind='base',name='b'}",
    ]));
    assert!(
        rewarded
            .contains("  other, rewarded by guide: each trains its own, so the guides read text"),
        "{rewarded}"
    );
    let mixed = check(&model, &[]);
    assert!(
        mixed.contains(
            "  base, guided by guide: one is still to be trained, so the guides read text"
        ),
        "{mixed}"
    );
    let guide = format!("models.guide.id={}", other.display());
    let steered = ["models.other.scratch.tokenizer={kind='bpe',vocab_size=300}", &guide];
    let differing = check(&model, &steered);
    assert!(
        differing.contains(&format!(
            "  base, guided by guide: not the same, so the guides read text: {difference}\n"
        )),
        "{differing}"
    );
    let same = check(&other, &steered);
    assert!(
        same.contains("  base, guided by guide: one tokenizer, so ids pass straight through"),
        "{same}"
    );
}
