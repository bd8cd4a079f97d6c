//! The shell alone: its flags, its rules, which are those of a recipe, and wrong usage.

use crate::common::{failure, output, recipe, stderr, tiny_model, usage_error, w2s};

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
        ("cbs", &["--chunk-len", "long"], "long is not in 1..=4294967295, nor inf"),
        ("guided_beam", &["--semantics", "official"], "--semantics is of --method best_of_n and"),
        ("guided_beam", &["--temperature", "0.5"], "--temperature is of --method base and"),
        ("beam", &["--top-k", "3"], "and eft and guided_beam, not of beam"),
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
        // What its command line refuses by itself needs no start of the program.
        let shell = usage_error(&shell).unwrap_or_else(|| failure(&mut shell, 2));
        let check = check.to_string();
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
