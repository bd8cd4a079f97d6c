//! What TensorBoard itself reads from our event files, also after a kill and a resume.

use std::path::Path;

use crate::judge;
use serde_json::{Value, json};
use w2s::monitor::{Monitor, RunMonitor, glossary};

fn read(folder: &Path) -> Value {
    // Python writes NaN as a bare word.
    serde_json::from_str(&judge::ask("monitor/read_events.py", &[folder]).replace("NaN", "null"))
        .expect("the script prints JSON")
}

#[test]
#[ignore = "needs Python: make judge"]
fn tensorboard_reads_back_names_steps_and_values() {
    let run = tempfile::tempdir().unwrap();
    let folder = run.path().join("tensorboard/dpo");
    let mut monitor = RunMonitor::open(run.path(), "dpo", None).unwrap();
    for step in 1..=4u64 {
        monitor
            .scalars(
                step * 100,
                &[(glossary::LOSS, 1.0 / step as f64), (glossary::REWARDS_MARGINS, -0.25)],
            )
            .unwrap();
    }
    monitor.flush().unwrap();
    // No drop: as if killed, after a checkpoint at step 200.
    std::mem::forget(monitor);
    let third = f64::from(1.0f32 / 3.0);
    let first = read(&folder);
    assert_eq!(first["loss"], json!([[100, 1.0], [200, 0.5], [300, third], [400, 0.25]]));
    assert_eq!(
        first["rewards/margins"],
        json!([[100, -0.25], [200, -0.25], [300, -0.25], [400, -0.25]])
    );

    let mut monitor = RunMonitor::open(run.path(), "dpo", Some(200)).unwrap();
    monitor.scalars(300, &[(glossary::LOSS, 0.75)]).unwrap();
    monitor.scalars(400, &[(glossary::LOSS, f64::NAN)]).unwrap();
    monitor.scalars(500, &[(glossary::LOSS, 0.125)]).unwrap();
    monitor.flush().unwrap();
    drop(monitor);
    let second = read(&folder);
    assert_eq!(
        second["loss"],
        json!([[100, 1.0], [200, 0.5], [300, 0.75], [400, null], [500, 0.125]])
    );
    assert_eq!(second["rewards/margins"], json!([[100, -0.25], [200, -0.25]]));
}
