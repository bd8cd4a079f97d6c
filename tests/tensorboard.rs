//! What TensorBoard itself reads from our event files, also after a kill and a resume.
//!
//! `W2S_PYTHON` must name a Python with tensorboard; otherwise this is skipped, loudly.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use w2s::monitor::{Monitor, RunMonitor, glossary};

fn read(python: &str, folder: &Path) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/monitor/read_events.py");
    let output = Command::new(python).arg(script).arg(folder).output().expect("W2S_PYTHON starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Python writes NaN as a bare word.
    serde_json::from_str(&String::from_utf8_lossy(&output.stdout).replace("NaN", "null")).expect("the script prints JSON")
}

#[test]
fn tensorboard_reads_back_names_steps_and_values() {
    let Ok(python) = std::env::var("W2S_PYTHON") else {
        // Not `eprintln!`, which the test harness would hide.
        let _ = writeln!(std::io::stderr(), "SKIPPED: set W2S_PYTHON to a Python with tensorboard to check the event files");
        return;
    };
    let run = tempfile::tempdir().unwrap();
    let folder = run.path().join("tensorboard/dpo");
    let mut monitor = RunMonitor::open(run.path(), "dpo", None).unwrap();
    for step in 1..=4u64 {
        monitor.scalars(step * 100, &[(glossary::LOSS, 1.0 / step as f64), (glossary::REWARDS_MARGINS, -0.25)]).unwrap();
    }
    monitor.flush().unwrap();
    // No drop: as if killed, after a checkpoint at step 200.
    std::mem::forget(monitor);
    let third = f64::from(1.0f32 / 3.0);
    let first = read(&python, &folder);
    assert_eq!(first["loss"], json!([[100, 1.0], [200, 0.5], [300, third], [400, 0.25]]));
    assert_eq!(first["rewards/margins"], json!([[100, -0.25], [200, -0.25], [300, -0.25], [400, -0.25]]));

    let mut monitor = RunMonitor::open(run.path(), "dpo", Some(200)).unwrap();
    monitor.scalars(300, &[(glossary::LOSS, 0.75)]).unwrap();
    monitor.scalars(400, &[(glossary::LOSS, f64::NAN)]).unwrap();
    monitor.scalars(500, &[(glossary::LOSS, 0.125)]).unwrap();
    monitor.flush().unwrap();
    drop(monitor);
    let second = read(&python, &folder);
    assert_eq!(second["loss"], json!([[100, 1.0], [200, 0.5], [300, 0.75], [400, null], [500, 0.125]]));
    assert_eq!(second["rewards/margins"], json!([[100, -0.25], [200, -0.25]]));
}
