//! What many themes share: the real program in fresh folders, and by file the desks, scripted parts
//! and tiny models of the search tests, and servers on the loopback interface.

pub mod desk;
pub mod fakes;
pub mod lines;
pub mod loopback;
pub mod scripted;
pub mod searches;
pub mod tables;
pub mod tiny;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::Value;

pub fn recipe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes").join(name)
}

/// One thread of libtorch for a test that computes in this process, as the program has in tests:
/// tests run side by side already, and threads that wait for each other's cores only spin.
pub fn one_thread() {
    tch::set_num_threads(1);
}

/// The program with plain progress lines and one thread, so that tests run side by side.
pub fn w2s() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_w2s"));
    command
        .arg("--no-progress")
        .env("W2S_LOG", "info")
        .env("OMP_NUM_THREADS", "1")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

/// The smoke recipe run to `out` with a few steps in the trainings that take longest, for tests
/// that need what its stages leave and not what they learn.
pub fn short_smoke(out: &Path) -> Command {
    let mut command = w2s();
    command.arg("run").arg(recipe("smoke.toml")).arg("--out").arg(out);
    for set in ["pretrain.training.steps=4", "gold.training.steps=4", "ppo.training.steps=1"] {
        command.args(["--set", set]);
    }
    command
}

/// What the program says of arguments that its command line refuses by itself, without its start;
/// nothing where it takes them.
pub fn usage_error(command: &Command) -> Option<String> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let error = w2s::cli::Cli::try_parse_from(words).err()?;
    assert_eq!(error.exit_code(), 2, "{error}");
    Some(error.to_string())
}

pub fn output(command: &mut Command) -> Output {
    command.output().expect("the program starts")
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("stdout is UTF-8")
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("stderr is UTF-8")
}

/// stdout of a command that must succeed.
pub fn success(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?}\n{}", stderr(&output));
    stdout(&output)
}

/// The `error: …` part of stderr of a command that must fail with `code`.
pub fn failure(command: &mut Command, code: i32) -> String {
    let output = output(command);
    let stderr = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{command:?}\n{stderr}");
    let at = stderr.find("error: ").unwrap_or_else(|| panic!("no error line in\n{stderr}"));
    assert!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "{stderr}");
    stderr[at..].trim_end().to_owned()
}

/// Starts the command, waits until `reached` says so, and kills it with SIGKILL.
pub fn kill_when(command: &mut Command, what: &str, reached: impl Fn() -> bool) {
    let mut child =
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
    let deadline = Instant::now() + Duration::from_secs(300);
    while !reached() {
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            panic!("the run ended ({status}) before it could be killed in {what}");
        }
        assert!(Instant::now() < deadline, "{what} was not reached");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().expect("the child can be killed");
    child.wait().expect("the child can be waited for");
}

/// Asserts what is measured by the clock, which other programs disturb: one of three times must do.
pub fn one_of_three(measure: impl Fn() -> Result<(), String>) {
    let told: Vec<String> = (0..3).map_while(|_| measure().err()).collect();
    assert!(told.len() < 3, "{told:?}");
}

pub fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| {
            serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{}: {error}: {line}", path.display()))
        })
        .collect()
}

/// Equal in all but the rounding of numbers.
pub fn assert_same(left: &Value, right: &Value, place: &str) {
    match (left, right) {
        (Value::Array(left), Value::Array(right)) => {
            assert_eq!(left.len(), right.len(), "{place}");
            left.iter()
                .zip(right)
                .enumerate()
                .for_each(|(i, (left, right))| assert_same(left, right, &format!("{place}[{i}]")));
        }
        (Value::Object(left), Value::Object(right)) => {
            assert!(left.keys().eq(right.keys()), "{place}");
            left.iter().for_each(|(key, value)| {
                assert_same(value, &right[key], &format!("{place}.{key}"))
            });
        }
        (Value::Number(left), Value::Number(right)) if left.is_f64() => {
            let (left, right) = (left.as_f64().unwrap(), right.as_f64().unwrap());
            assert!(
                (left - right).abs() < 1e-5 * left.abs().max(1.0),
                "{place}: {left} and {right}"
            );
        }
        _ => assert_eq!(left, right, "{place}"),
    }
}

/// A copy of the tiny golden GPT-2 with a tokenizer that fits it: 97 tokens, context 32.
pub fn tiny_model(folder: &Path) -> PathBuf {
    let model = folder.join("model");
    std::fs::create_dir_all(&model).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt2");
    for file in std::fs::read_dir(golden).unwrap() {
        let file = file.unwrap().path();
        std::fs::copy(&file, model.join(file.file_name().unwrap())).unwrap();
    }
    let mut vocabulary = serde_json::Map::new();
    for id in 0..97u32 {
        // Printable ASCII from the space on, byte-level style: the space itself is Ġ.
        let token = if id == 0 {
            "<|endoftext|>".into()
        } else {
            char::from_u32(0x20 + id).map(|c| c.to_string()).unwrap()
        };
        vocabulary.insert(token, id.into());
    }
    let end = serde_json::json!({
        "id": 0, "content": "<|endoftext|>", "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true
    });
    let bytes = |add_prefix_space: bool| {
        serde_json::json!({
            "type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true,
            "use_regex": true
        })
    };
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "post_processor": null, "added_tokens": [end],
        "pre_tokenizer": bytes(false), "decoder": bytes(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<|endoftext|>",
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
            "byte_fallback": false, "ignore_merges": false, "vocab": vocabulary, "merges": []
        }
    });
    std::fs::write(model.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(
        model.join("tokenizer_config.json"),
        r#"{"eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"}"#,
    )
    .unwrap();
    model
}
