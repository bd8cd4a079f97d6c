//! Bad input through the real program: one clear error each, the right exit code, and nothing lost
//! or half written.

use std::fs;
use std::path::Path;

use crate::common::{failure, output, recipe, stderr, stdout, success, tiny_model, w2s};

fn steer(model: &Path) -> std::process::Command {
    let mut command = w2s();
    command
        .args([
            "steer",
            "--method",
            "base",
            "--dtype",
            "float32",
            "--max-new-tokens",
            "5",
            "--base",
        ])
        .arg(model);
    command
}

/// The smoke recipe reading `source`.
fn check_data(source: &Path, out: &Path) -> std::process::Command {
    let mut command = w2s();
    command.arg("run").arg(recipe("smoke.toml")).arg("--out").arg(out);
    for set in [
        format!("data.source={}", source.display()),
        "data.train=2".into(),
        "data.validation=1".into(),
        "data.test=1".into(),
    ] {
        command.args(["--set", &set]);
    }
    for set in ["steer.prompts=1", "preferences.prompts=1", "preferences.validation_prompts=1"] {
        command.args(["--set", set]);
    }
    for set in [
        "ppo.prompts=1",
        "ppo.validation_prompts=1",
        "ppo.minibatch_size=1",
        "ppo.training.batch_size=1",
    ] {
        command.args(["--set", set]);
    }
    command
}

#[test]
fn recipes_with_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    let smoke = fs::read_to_string(recipe("smoke.toml")).unwrap();
    let path = folder.path().join("bad.toml");
    fs::write(
        &path,
        smoke
            .replace("beam_width = 2", "beam_widht = 2")
            .replace("n_head = 2\nn_embd = 96", "n_head = 5\nn_embd = 96"),
    )
    .unwrap();
    for command in ["check", "run"] {
        let error = failure(w2s().arg(command).arg(&path), 2);
        assert!(
            error.contains("bad.toml:")
                && error.contains("`beam_widht`")
                && error.contains("did you mean `beam_width`"),
            "{error}"
        );
    }
    let error = failure(w2s().args(["check", "nowhere.toml"]), 2);
    assert!(error.contains("nowhere.toml: no such recipe file"), "{error}");
    let error =
        failure(w2s().arg("run").arg(recipe("smoke.toml")).args(["--set", "steer.prompst=3"]), 2);
    assert!(error.contains("did you mean") && error.contains("prompts"), "{error}");
    let plan = success(w2s().arg("check").arg(recipe("smoke.toml")));
    assert!(plan.contains("stages") && plan.contains("memory"), "{plan}");
}

#[test]
fn data_with_mistakes_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let good = b"{\"text\":\"a b c d e f g h i j\",\"label\":1}\n";
    for (name, bad, message) in [
        ("empty", &b"\n"[..], ":2: an empty line"),
        ("bytes", b"{\"text\":\"\xc3\x28\",\"label\":0}\n", ":2: not UTF-8 at byte 10"),
        ("half", b"{\"text\":\"x\",", ":2: a half-written last line"),
    ] {
        let source = folder.path().join(format!("{name}.jsonl"));
        fs::write(&source, [&good[..], bad].concat()).unwrap();
        let error = failure(&mut check_data(&source, &folder.path().join("run")), 1);
        assert!(error.contains(&format!("{name}.jsonl{message}")), "{error}");
    }
    let error = failure(
        &mut check_data(&folder.path().join("missing.jsonl"), &folder.path().join("run")),
        2,
    );
    assert!(error.contains("missing.jsonl"), "{error}");
}

#[test]
fn flags_that_would_do_nothing_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    let other = tiny_model(&folder.path().join("other"));
    let pair = [format!("--tuned={}", model.display()), format!("--untuned={}", other.display())];
    for (method, flags, message) in [
        ("base", &["--chunk-len", "3"][..], "--chunk-len is of --method cbs"),
        (
            "cbs",
            &["--weight", "3"],
            "--weight is of --method eft, not of cbs; the weight of a guide pair is --guide-weight",
        ),
        ("eft", &["--tilt", "1"], "--tilt is of --method best_of_n and cbs"),
        ("cbs", &["--n", "4"], "--n is of --method best_of_n, not of cbs"),
        (
            "beam",
            &["--temperature", "0.2"],
            "--temperature is of --method base and best_of_n and cbs and ",
        ),
        ("eft", &["--semantics", "official"], "--semantics is of --method best_of_n and cbs"),
        (
            "cbs",
            &["--temperature", "0"],
            "--method cbs samples 16 continuations, but --temperature is 0, so they would all be \
             the same",
        ),
        ("cbs", &["--chunk-len", "-5"], "-5 is not in 1..="),
    ] {
        let error = failure(
            w2s()
                .args(["steer", "--method", method, "--base"])
                .arg(&model)
                .args(&pair)
                .args(flags)
                .arg("ok"),
            2,
        );
        assert!(error.contains(message), "{error}");
    }
    let error = failure(
        w2s()
            .args(["bench", "sft", "--batch-size", "8", "--micro-batch-size", "3", "--base"])
            .arg(&model),
        2,
    );
    assert!(error.contains("--micro-batch-size 3 does not divide --batch-size 8"), "{error}");
}

/// A method, flags of the shell, settings of a recipe, and what each of the two says of them.
type BadValue<'a> = (&'a str, &'a [&'a str], &'a [&'a str], [&'a str; 2]);

/// Each row breaks one rule, with a flag of `w2s steer` and with a key of a recipe: both refuse it
/// as a usage error, and say it of their own word.
#[test]
fn the_shell_and_a_recipe_have_one_set_of_rules() {
    let folder = tempfile::tempdir().unwrap();
    let (model, other) = (tiny_model(folder.path()), tiny_model(&folder.path().join("other")));
    let (model, other) = (model.to_str().unwrap(), other.to_str().unwrap());
    let pair = format!("steer.guide=[{{tuned='base',untuned='guide',weight={}}}]", "WEIGHT");
    let (zero, nan, inf) =
        (pair.replace("WEIGHT", "0"), pair.replace("WEIGHT", "nan"), pair.replace("WEIGHT", "inf"));
    let rows: &[BadValue] = &[
        (
            "base",
            &["--stop", ""],
            &["steer.stop=['']"],
            ["--stop holds an empty text", "`steer.stop` holds an empty text"],
        ),
        (
            "base",
            &["--stop", "a", "--stop", ""],
            &["steer.stop=['a','']"],
            ["--stop holds", "`steer.stop` holds"],
        ),
        (
            "base",
            &["--temperature", "-1"],
            &["steer.sampling.temperature=-1"],
            ["--temperature is -1", "temperature` is -1"],
        ),
        (
            "base",
            &["--temperature", "nan"],
            &["steer.sampling.temperature=nan"],
            ["--temperature is NaN", "temperature` is NaN"],
        ),
        (
            "base",
            &["--temperature", "inf"],
            &["steer.sampling.temperature=inf"],
            ["--temperature is inf", "temperature` is inf"],
        ),
        ("base", &["--top-p", "0"], &["steer.sampling.top_p=0"], ["--top-p is 0", "top_p` is 0"]),
        (
            "base",
            &["--top-p", "1.01"],
            &["steer.sampling.top_p=1.01"],
            ["--top-p is 1.01", "top_p` is 1.01"],
        ),
        (
            "base",
            &["--top-p", "nan"],
            &["steer.sampling.top_p=nan"],
            ["--top-p is NaN", "top_p` is NaN"],
        ),
        (
            "base",
            &["--top-k", "-1"],
            &["steer.sampling.top_k=-1"],
            ["--top-k", "`steer.sampling.top_k`"],
        ),
        (
            "base",
            &["--max-new-tokens", "0"],
            &["steer.max_new_tokens=0"],
            ["--max-new-tokens", "max_new_tokens` is 0"],
        ),
        (
            "base",
            &["--prompts-in-flight", "0"],
            &["steer.prompts_in_flight=0"],
            ["--prompts-in-flight", "prompts_in_flight` is 0"],
        ),
        ("base", &["--seed", "-1"], &["run.seeds=[-1]"], ["--seed", "`run.seeds"]),
        (
            "base",
            &["--seed", "9223372036854775808"],
            &["run.seeds=[9223372036854775808]"],
            ["--seed", "run.seeds"],
        ),
        (
            "base",
            &["--device", "gpu"],
            &["run.device=gpu"],
            ["--device is `gpu`", "`run.device` is `gpu`"],
        ),
        (
            "base",
            &["--device", "cuda:+1"],
            &["run.device='cuda:+1'"],
            ["--device is `cuda:+1`", "`run.device` is `cuda:+1`"],
        ),
        ("base", &["--dtype", "f8"], &["run.dtype=f8"], ["--dtype", "`run.dtype`"]),
        (
            "base",
            &["--semantics", "mine"],
            &["steer.semantics=mine"],
            ["--semantics", "`steer.semantics`"],
        ),
        (
            "base",
            &["--base-template", "x"],
            &["models.base.prompt=x"],
            ["--base-template holds `{prompt}` 0", "prompt` holds `{prompt}` 0"],
        ),
        (
            "cbs",
            &["--guide-template", "{prompt}{prompt}"],
            &["models.guide.prompt={prompt}{prompt}"],
            ["--guide-template holds", "`models.guide.prompt` holds"],
        ),
        (
            "base",
            &["--gold", model, "--gold-text", "{prompt}"],
            &["gold.text={prompt}"],
            ["--gold-text holds `{response}` 0", "`gold.text` holds `{response}` 0"],
        ),
        (
            "best_of_n",
            &["--n", "0"],
            &["steer.method.0={kind='best_of_n',name='x',n=0}"],
            ["--n", "n` is 0"],
        ),
        (
            "cbs",
            &["--beam-width", "0"],
            &["steer.method.2.beam_width=0"],
            ["--beam-width", "beam_width` is 0"],
        ),
        (
            "cbs",
            &["--successors", "0"],
            &["steer.method.2.successors=0"],
            ["--successors", "successors` is 0"],
        ),
        (
            "cbs",
            &["--chunk-len", "0"],
            &["steer.method.2.chunk_len=0"],
            ["--chunk-len", "chunk_len` is 0"],
        ),
        (
            "beam",
            &["--beam-width", "0"],
            &["steer.method.0={kind='beam',beam_width=0}"],
            ["--beam-width", "beam_width` is 0"],
        ),
        (
            "beam",
            &["--length-penalty", "nan"],
            &["steer.method.0={kind='beam',beam_width=1,length_penalty=nan}"],
            ["--length-penalty is NaN", "length_penalty` is NaN"],
        ),
        (
            "eft",
            &["--weight", "inf"],
            &["steer.bases=['base']", "steer.method.0={kind='eft',weights=[inf]}"],
            ["--weight holds inf", "weights` holds inf"],
        ),
        (
            "cbs",
            &["--tilt", "nan"],
            &["steer.bases=['base']", "steer.method.2.tilt=nan"],
            ["--tilt is NaN, expected a number", "tilt` is NaN, expected a number"],
        ),
        (
            "cbs",
            &["--temperature", "0"],
            &["steer.method.1.n=1", "steer.sampling.temperature=0"],
            ["--temperature is 0, so they", "temperature` is 0, so they"],
        ),
        ("cbs", &["--guide-weight", "0"], &[&zero], ["--guide-weight is 0", "weight` is 0"]),
        ("cbs", &["--guide-weight", "nan"], &[&nan], ["--guide-weight is NaN", "weight` is NaN"]),
        (
            "base",
            &["--tuned", model, "--untuned", other, "--guide-weight", "inf"],
            &[&inf],
            ["--guide-weight is inf", "weight` is inf"],
        ),
        (
            "cbs",
            &["--tuned", model],
            &["steer.tuned=base"],
            ["--tuned is given 2 times and --untuned 1 times", "`steer.tuned` is given without"],
        ),
        (
            "cbs",
            &["--tuned", model, "--untuned", other],
            &["steer.guide=[{tuned='base',untuned='guide'},{tuned='base',untuned='guide'}]"],
            [
                "pair 2 is a pair that stands before it too",
                "`steer.guide.1` is a pair that stands before",
            ],
        ),
    ];
    for (method, flags, sets, said) in rows {
        let mut shell = w2s();
        shell.args(["steer", "--base", model, "--method", method]).args(*flags).arg("ok");
        let has_own_pair = flags.contains(&"--tuned") && *method == "base";
        if ["cbs", "best_of_n", "eft"].contains(method)
            || !has_own_pair && flags.contains(&"--tuned")
        {
            shell.args(["--tuned", model, "--untuned", other]);
        }
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let smoke = recipe("smoke.toml");
        let check = w2s::recipe::load(&smoke, &sets)
            .and_then(|recipe| w2s::recipe::Plan::new(recipe, &smoke))
            .unwrap_err();
        assert_eq!(check.exit_code(), 2, "{check}");
        let (shell, check) = (failure(&mut shell, 2), check.to_string());
        assert!(shell.contains(said[0]), "{flags:?}: {:?} is not in\n{shell}", said[0]);
        assert!(check.contains(said[1]), "{sets:?}: {:?} is not in\n{check}", said[1]);
        let keys = ["steer.", "models.", "`run.", "[dpo]"];
        assert!(
            !keys.iter().any(|key| shell.contains(key)),
            "keys of a recipe in the shell's words:\n{shell}"
        );
    }
    // A pair of one model is of use to measure with, and to nobody else: both say so.
    let path = format!("{other}/../../model");
    for untuned in [model, path.as_str()] {
        let told = output(w2s().args([
            "steer",
            "--base",
            model,
            "--tuned",
            model,
            "--untuned",
            untuned,
            "--max-new-tokens",
            "4",
            "ok",
        ]));
        assert!(
            told.status.success()
                && stderr(&told).contains("so every score is 0 and they choose nothing"),
            "{told:?}"
        );
        let twins =
            [format!("models.twin={{id='{model}'}}"), format!("models.first={{id='{untuned}'}}")];
        let pair =
            |table: &str| ["tuned=twin", "untuned=first"].map(|key| format!("{table}.{key}"));
        let plan = |sets: Vec<String>| {
            let smoke = recipe("smoke.toml");
            w2s::recipe::load(&smoke, &sets)
                .and_then(|recipe| w2s::recipe::Plan::new(recipe, &smoke))
        };
        let warnings = plan([twins.clone(), pair("steer")].concat()).unwrap_err().to_string();
        assert!(
            warnings.contains(
                "the tuned and the untuned guide of `[ppo]` are `twin` and `first`, which are one \
                 model"
            ),
            "{warnings}"
        );
        let own = [
            "ppo.tuned=guide",
            "ppo.untuned=other",
            "steer.max_new_tokens=2",
            "data.prompt={min_words=1,max_words=1}",
        ]
        .map(String::from);
        let mut alone = w2s::recipe::load(
            &recipe("smoke.toml"),
            &[twins.to_vec(), pair("steer").to_vec(), own.to_vec()].concat(),
        )
        .unwrap();
        alone.ppo = None;
        alone.steer.as_mut().unwrap().method.retain(|method| method.kind() != "ppo");
        let warnings = w2s::recipe::Plan::new(alone, &recipe("smoke.toml"))
            .map(|plan| plan.warnings().join("\n"))
            .unwrap_or_else(|error| error.to_string());
        assert!(
            warnings.contains("are `twin` and `first`, which are one model, so every score is 0"),
            "{warnings}"
        );
    }
    let error = failure(w2s().args(["steer", "--base", model, "ok"]), 2);
    assert!(
        error.contains(
            "--method cbs: `cbs` needs guides, and there are none\n\nhint: give --tuned and \
             --untuned"
        ),
        "{error}"
    );
    for (flags, said) in [
        (["--device", "gpu"], "--device is `gpu`"),
        (["--n", "0"], "--n"),
        (["--new-tokens", "31"], "do not fit a model's context of 32"),
    ] {
        let command = &mut w2s();
        command.args([
            "bench",
            "score",
            "--prompt-tokens",
            "2",
            "--base",
            model,
            "--tuned",
            model,
            "--untuned",
            model,
        ]);
        let error = failure(command.args(flags), 2);
        assert!(error.contains(said), "{error}");
    }
    let error = failure(
        w2s().args(["bench", "dpo", "--prompt-tokens", "2", "--new-tokens", "31", "--base", model]),
        2,
    );
    assert!(error.contains("do not fit a model's context of 32"), "{error}");
    let error = failure(w2s().args(["bench", "steer", "--base", model]), 2);
    assert!(error.contains("`bench steer`: `cbs` needs guides, and there are none"), "{error}");
}

/// What a tilt adds up is of one vocabulary: a recipe and the shell refuse others with the same
/// words, before any weights are read.
#[test]
fn a_tilt_by_guides_of_another_vocabulary_is_refused() {
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
        let recipe = failure(w2s().arg("check").arg(recipe("smoke.toml")).args(&sets), 2);
        let shell = failure(&mut steer(flags), 2);
        let said =
            format!("{what} needs one vocabulary, but base `other` and guide `first` have two: ");
        let (_, said) = recipe.split_once(&said).unwrap_or_else(|| panic!("{recipe}"));
        let (difference, hint) = said.split_once("hint: ").unwrap();
        let difference = difference.trim();
        assert!(difference.ends_with("the first difference is id 33: `A` and `É`"), "{recipe}");
        let hint = hint.lines().next().unwrap().replace("`tilt`", "--tilt");
        let what = what.replace("`tilt`", "--tilt");
        for expected in [
            format!("{what} needs one vocabulary, but --base and --tuned have two: {difference}"),
            format!("hint: {hint}"),
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
fn prompts_that_are_too_long_are_all_named_before_any_stage() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    let text = |number: usize| match number % 3 {
        // One word, and so one of a prompt's few, but more tokens than the model reads.
        0 => format!("{{\"text\":\"{} b c d\",\"label\":0}}\n", "x".repeat(40)),
        _ => "{\"text\":\"a b c d\",\"label\":1}\n".to_owned(),
    };
    fs::create_dir(folder.path().join("data")).unwrap();
    for split in ["train", "validation", "test"] {
        fs::write(
            folder.path().join(format!("data/{split}.jsonl")),
            (0..9).map(text).collect::<String>(),
        )
        .unwrap();
    }
    let recipe = format!(
        "[run]\nname='long'\ndtype='float32'\n[data]\nsource='data'\ntrain=9\nvalidation=9\ntest=9\nprompt={{min_words=1,max_words=2}}\n\
         [models.base]\nid='{}'\n\
         [gold.scratch]\nn_layers=1\nn_heads=2\ndim=16\nhidden_dim=16\nmax_position_embeddings=32\nvocab_size=200\n[gold.training]\nsteps=2\nbatch_size=2\n\
         [steer]\nbases=['base']\nprompts=9\nmax_new_tokens=8\nmethod=[{{kind='base'}}]\n",
        model.display()
    );
    let path = folder.path().join("long.toml");
    fs::write(&path, recipe).unwrap();
    let out = folder.path().join("run");
    let error = failure(w2s().arg("run").arg(&path).arg("--out").arg(&out), 1);
    assert!(
        error.contains("3 prompts are too long\n")
            && error.contains("new ones do not fit `base`'s context of 32"),
        "{error}"
    );
    assert_eq!(
        error.matches("prompt `test-").count() + error.matches("prompt `data").count(),
        3,
        "{error}"
    );
    assert!(!out.join("gold").exists(), "before any stage");
}

#[test]
fn stages_asked_for_anew_must_be_among_those_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let error = failure(
        w2s()
            .arg("run")
            .arg(recipe("smoke.toml"))
            .args(["--from", "gold", "--only", "sft", "--out"])
            .arg(&out),
        2,
    );
    assert!(
        error.contains("`--from gold` asks for `gold` anew, but `--only sft` leaves it out"),
        "{error}"
    );
    assert!(!out.exists(), "nothing was touched");
}

#[test]
fn a_prompt_longer_than_the_context_is_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    let error = failure(steer(&model).args(["ok", &"x".repeat(40)]), 1);
    assert!(
        error.contains(
            "prompt `prompt-1`: 40 tokens and 5 new ones do not fit the model's context of 32"
        ),
        "{error}"
    );
    let answers = success(steer(&model).args(["--json", "ok", "x"]));
    let lines: Vec<serde_json::Value> =
        answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0]["response_tokens"].as_u64().unwrap() <= 5
            && lines[0]["prompt"] == "ok"
            && lines[0]["score"].is_null()
    );
    assert_eq!(
        answers.replace(|c: char| c.is_ascii_digit(), ""),
        success(steer(&model).args(["--json", "ok", "x"]))
            .replace(|c: char| c.is_ascii_digit(), "")
    );
}

#[test]
fn a_chat_is_rendered_by_the_models_own_template() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    // Told by the tokens that do not fit: the template's own are among them, and BOS only where the
    // template puts it.
    let long = "x".repeat(40);
    let tokens = |arguments: &[&str]| {
        let error = failure(steer(&model).args(arguments).arg(&long), 1);
        let counted = error.split("`prompt-0`: ").nth(1).unwrap_or_else(|| panic!("{error}"));
        counted.split(' ').next().unwrap().parse::<usize>().unwrap()
    };
    assert_eq!((tokens(&[]), tokens(&["--base-bos", "true"])), (40, 41));
    let weights = model.join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::remove_file(&weights).unwrap();
    let error = failure(steer(&model).args(["--base-chat", "hi"]), 1);
    assert!(
        error.contains("2 problems") && error.contains("model: holds neither `model.safetensors`"),
        "before any weights are read: {error}"
    );
    assert!(
        error.contains("model: a chat was asked of it, but it has no chat template"),
        "{error}"
    );
    let template = "{% for m in messages %}{% if m.role == 'system' %}({{ m.content }}){% elif m.content == 'no' %}{{ raise_exception('not that') }}{% else %}<{{ m.content }}>{% endif %}{% endfor %}";
    fs::write(model.join("chat_template.jinja"), template).unwrap();
    let error = failure(steer(&model).args(["--base-chat", "no"]), 1);
    assert!(
        error.ends_with("chat_template.jinja: the chat template refuses this chat: not that"),
        "{error}"
    );
    fs::write(&weights, bytes).unwrap();
    assert_eq!((tokens(&["--base-chat"]), tokens(&["--base-chat", "--base-system", ""])), (42, 44));
    assert_eq!(
        tokens(&["--base-chat", "--base-system", "yes", "--base-template", "a{prompt}"]),
        48
    );
    failure(steer(&model).args(["--base-system", "x", "hi"]), 2);
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
    let error = failure(w2s().args(["doctor", "http://localhost:8000/v1"]), 2);
    assert!(error.contains("is a URL, and this version does not ask servers yet"), "{error}");

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

#[test]
fn weights_that_do_not_fit_are_listed_together() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    let config = fs::read_to_string(model.join("config.json")).unwrap();
    let mut fields: serde_json::Value = serde_json::from_str(&config).unwrap();
    fields["n_layer"] = 3.into();
    fields["n_positions"] = 40.into();
    fs::write(model.join("config.json"), fields.to_string()).unwrap();
    let error = failure(steer(&model).arg("ok"), 1);
    assert!(
        error.contains("problems")
            && error.contains("h.2.attn.c_attn.weight")
            && error.contains("wpe.weight"),
        "{error}"
    );
    fs::write(model.join("config.json"), config).unwrap();
    let weights = model.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    bytes[..8].copy_from_slice(&[0xff; 8]);
    fs::write(&weights, bytes).unwrap();
    let error = failure(steer(&model).arg("ok"), 1);
    assert!(error.contains("model.safetensors"), "{error}");
    let error = failure(steer(&folder.path().join("absent")).arg("ok"), 1);
    assert!(error.contains("absent"), "{error}");
}

#[test]
fn cuda_where_there_is_none_says_why() {
    if Path::new("/proc/driver/nvidia/version").exists() {
        return; // a machine with a GPU
    }
    let folder = tempfile::tempdir().unwrap();
    let error = failure(steer(&tiny_model(folder.path())).args(["--device", "cuda", "ok"]), 1);
    assert!(error.contains("device = `cuda`") && error.contains("hint"), "{error}");
    let report = success(w2s().arg("doctor"));
    assert!(report.contains("libtorch") && report.contains("cuda"), "{report}");
}

#[test]
fn a_run_directory_is_for_one_run_and_must_be_writable() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut first = w2s()
        .arg("run")
        .arg(recipe("smoke.toml"))
        .arg("--out")
        .arg(&out)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !out.join("plan.json").exists() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let error = failure(w2s().arg("run").arg(recipe("smoke.toml")).arg("--out").arg(&out), 1);
    assert!(
        error.contains(&format!("process {}", first.id())) && error.contains("another run"),
        "{error}"
    );
    first.kill().unwrap();
    first.wait().unwrap();
    let blocked = folder.path().join("file");
    fs::write(&blocked, "").unwrap();
    let error = failure(
        w2s().arg("run").arg(recipe("smoke.toml")).arg("--out").arg(blocked.join("run")),
        1,
    );
    assert!(error.contains("file/run") && error.contains("creating the run directory"), "{error}");
}

#[test]
fn a_full_disk_stops_the_run_with_one_line_and_it_continues_afterwards() {
    // A limit on the size of files stands for a full disk: the write fails, whatever the file
    // system.
    let folder = tempfile::tempdir().unwrap();
    let run = |limit: &str| {
        let mut command = std::process::Command::new("bash");
        let program = env!("CARGO_BIN_EXE_w2s");
        // SIGXFSZ must be ignored for the write to fail instead of the process.
        let script = format!(
            "trap '' XFSZ; ulimit -f {limit}; exec {program} --no-progress run {} --out {}/run \
             --only pretrain",
            recipe("smoke.toml").display(),
            folder.path().display()
        );
        command.args(["-c", &script]).env("OMP_NUM_THREADS", "1");
        command
    };
    let error = failure(&mut run("200"), 1);
    assert!(error.contains("writing") && error.contains("run"), "{error}");
    success(&mut run("unlimited"));
}

#[test]
fn usage_errors_exit_with_two() {
    for arguments in [
        &["steer"][..],
        &["run"],
        &["nonsense"],
        &["steer", "--base", "x", "--method", "cbs", "prompt"],
    ] {
        let output = output(w2s().args(arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
    }
}

/// What `--only` does alone must have been made from this recipe's own inputs, or it would be filed
/// as this recipe's and trusted.
#[test]
fn stages_alone_take_only_inputs_of_the_same_recipe() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let run = |arguments: &[&str]| {
        let mut command = w2s();
        command.arg("run").arg(recipe("smoke.toml")).arg("--out").arg(&out).args(arguments);
        command
    };
    let error = failure(&mut run(&["--only", "dpo"]), 1);
    assert!(
        error.contains(
            "stage `dpo` reads the results of `sft`, and `sft` has not been done with these \
             settings"
        ),
        "{error}"
    );
    assert!(
        error.contains(
            "hint: run without --only, or with --only pretrain --only gold --only preferences \
             --only sft --only dpo"
        ),
        "{error}"
    );
    let table = success(&mut run(&[]));
    let changed = "steer.method.1.n=1";
    let error = failure(&mut run(&["--only", "evaluate", "--set", changed]), 1);
    assert!(error.contains("stage `evaluate` reads the results of `steer`"), "{error}");
    let error = failure(&mut run(&["--only", "steer", "--set", "dpo.beta=0.9"]), 1);
    assert!(
        error.contains(
            "reads the results of `dpo`, and `dpo` has not been done with these settings"
        ),
        "{error}"
    );
    assert_eq!(success(&mut run(&["--only", "evaluate"])), table, "as it was");
    assert_eq!(
        success(&mut run(&["--only", "gold"])),
        "",
        "a table that this command did not make is not its result"
    );
    let other = success(&mut run(&["--set", changed]));
    assert!(other.contains("n 1 ") && other != table, "{other}");

    fs::write(out.join("mine.txt"), "precious").unwrap();
    failure(&mut run(&["--fresh", "--set", "run.device=cuda:63"]), 1);
    let error = failure(&mut run(&["--fresh", "--only", "evaluate"]), 2);
    assert!(
        error.contains(
            "`--fresh` would remove the results of `gold`, which `--only evaluate` reads\n\nhint: \
             `--from evaluate`"
        ),
        "{error}"
    );
    assert!(
        out.join("dpo/model.safetensors").exists(),
        "nothing is removed where the run cannot start"
    );
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("mine.txt"), "precious").unwrap();
    let error = failure(
        w2s().arg("run").arg(recipe("smoke.toml")).arg("--out").arg(&elsewhere).arg("--fresh"),
        1,
    );
    assert!(
        error.contains(
            "is no run directory (it holds no `manifest.json`), and --fresh empties nothing else"
        ),
        "{error}"
    );
    assert!(elsewhere.join("mine.txt").exists() && out.join("mine.txt").exists());
}

#[test]
fn folders_that_cannot_do_their_part_are_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    let golden = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let out = folder.path().join("run");
    let refused = |sets: &[String]| {
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        let short = [
            "steer.max_new_tokens=8",
            "preferences.max_new_tokens=8",
            "ppo.max_new_tokens=8",
            "data.prompt.max_words=4",
        ];
        let small = short.into_iter().flat_map(|set| ["--set", set]).collect::<Vec<_>>();
        let check =
            failure(w2s().arg("check").arg(recipe("smoke.toml")).args(&small).args(&sets), 2);
        let run = failure(
            w2s()
                .arg("run")
                .arg(recipe("smoke.toml"))
                .arg("--out")
                .arg(&out)
                .args(&small)
                .args(&sets),
            2,
        );
        assert_eq!(
            check.lines().find(|line| line.starts_with("error")),
            run.lines().find(|line| line.starts_with("error"))
        );
        assert!(!out.join("manifest.json").exists(), "before any work");
        run
    };
    let reward = folder.path().join("reward");
    fs::create_dir(&reward).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden("gpt2-reward").join(file), reward.join(file)).unwrap();
    }
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(model.join(file), reward.join(file)).unwrap();
    }
    let error = refused(&[
        format!("models.base.id={}", reward.display()),
        format!("gold.id={}", model.display()),
    ]);
    assert!(error.contains("2 problems"), "{error}");
    assert!(
        error.contains("is a reward model (it has `score.weight`), not a language model"),
        "{error}"
    );
    assert!(
        error.contains("is no reward model: its weights hold none of `score.weight`"),
        "{error}"
    );
    let whole = fs::read(model.join("model.safetensors")).unwrap();
    fs::write(model.join("model.safetensors"), &whole[..whole.len() - 9]).unwrap();
    assert!(
        refused(&[format!("models.base.id={}", model.display())])
            .contains("not a whole safetensors file")
    );
    fs::remove_file(model.join("model.safetensors")).unwrap();
    assert!(
        refused(&[format!("models.base.id={}", model.display())])
            .contains("holds neither `model.safetensors`")
    );
    let error = failure(
        w2s()
            .args(["steer", "--method", "base", "--base"])
            .arg(folder.path().join("nowhere"))
            .arg("x"),
        1,
    );
    assert!(error.contains("nowhere` is not a folder, and not a hub id"), "{error}");
}

#[test]
fn logits_that_are_no_numbers_stop_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    let path = model.join("model.safetensors");
    let mut tensors: Vec<_> =
        w2s::models::weights::read_tensors(&path).unwrap().into_iter().collect();
    let norm = tensors.iter_mut().find(|(name, _)| name == "transformer.ln_f.weight").unwrap();
    norm.1 = &norm.1 * f64::NAN;
    w2s::models::weights::write_tensors(&path, &tensors, &[]).unwrap();
    let error = failure(
        w2s()
            .args(["steer", "--method", "base", "--max-new-tokens", "4", "--base"])
            .arg(&model)
            .arg("AB"),
        1,
    );
    assert!(
        error.contains("the model's logits are no numbers (their log-sum-exp is NaN)")
            && error.contains("hint: "),
        "{error}"
    );
}

#[test]
fn a_search_that_cannot_fit_into_memory_is_refused_with_the_arithmetic() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    let mut command = w2s();
    command
        .args([
            "steer",
            "--method",
            "best_of_n",
            "--n",
            "4000000000",
            "--max-new-tokens",
            "5",
            "--base",
        ])
        .arg(&model);
    let other = tiny_model(&folder.path().join("other"));
    let error =
        failure(command.arg("--tuned").arg(&model).arg("--untuned").arg(&other).arg("ok"), 1);
    for part in [
        "one prompt takes",
        "prompt tokens + 2 × 4000000000 rows",
        "tuned guide 1: ",
        "hint: lower the rows",
    ] {
        assert!(error.contains(part), "{error}");
    }
}
