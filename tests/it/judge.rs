//! Judges: scripts that tell what other people's programs make of our files. They run in the Python
//! that `W2S_PYTHON` names.
//!
//! A test that asks one is ignored with the reason `needs Python: make judge` (the packages of
//! light.txt) or `needs Python with torch: make judge-heavy` (heavy.txt); the variables that must
//! be set besides stand behind a comma, as in `needs Python with torch, and W2S_SHARED_DATA: make
//! judge-heavy`. `scripts/judge.py` reads these reasons, runs the tests in such a Python, and fails
//! where one of them did not run.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

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

/// A script that serves until its standard input ends, which is when this is dropped.
pub struct Served {
    child: Child,
    /// The first line that it printed.
    pub address: String,
}

pub fn serve(script: &str, arguments: &[&Path]) -> Served {
    let python = std::env::var_os("W2S_PYTHON")
        .expect("W2S_PYTHON names the judges' Python: run `make judge` or `make judge-heavy`");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script);
    let mut child = Command::new(python)
        .arg(&script)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("W2S_PYTHON starts");
    let mut address = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
    assert!(address.starts_with("http"), "{} says {address:?}", script.display());
    Served { child, address: address.trim().to_owned() }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
