//! Runs the real binary in fresh directories.

#![allow(dead_code, reason = "each test file uses the part it needs")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

pub fn recipe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes").join(name)
}

/// The program with plain progress lines and one thread, so that tests run side by side.
pub fn w2s() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_w2s"));
    command.arg("--no-progress").env("W2S_LOG", "info").env("OMP_NUM_THREADS", "1").env("NO_COLOR", "1").stdin(Stdio::null());
    command
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
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
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

pub fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}: {line}", path.display()))).collect()
}
