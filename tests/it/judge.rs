//! Judges: scripts that tell what other people's programs make of our files. They run in the Python
//! that `W2S_PYTHON` names.
//!
//! A test that asks one is ignored with the reason `needs Python: make judge` (the packages of
//! light.txt) or `needs Python with torch: make judge-heavy` (heavy.txt); the variables that must
//! be set besides stand behind a comma, as in `needs Python with torch, and W2S_SHARED_DATA: make
//! judge-heavy`. `scripts/judge.py` reads these reasons, runs the tests in such a Python, and fails
//! where one of them did not run.

use std::path::Path;
use std::process::Command;

/// What the script, a path below `tests/`, prints. It must end well.
pub fn ask(script: &str, arguments: &[&Path]) -> String {
    let python = std::env::var_os("W2S_PYTHON")
        .expect("W2S_PYTHON names the judges' Python: run `make judge` or `make judge-heavy`");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script);
    let output =
        Command::new(python).arg(&script).args(arguments).output().expect("W2S_PYTHON starts");
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{}\n{stdout}{stderr}", script.display());
    println!("{stdout}");
    stdout
}
