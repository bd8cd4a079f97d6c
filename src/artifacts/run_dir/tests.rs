//! Tests of `run_dir.rs`.

use std::process::Command;

use super::*;

#[test]
fn two_owners_in_one_process_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs/one");
    let first = RunDir::open(&path).unwrap();
    assert_eq!(first.join("models/base"), path.join("models/base"));
    let error = RunDir::open(&path).unwrap_err();
    let me = format!("another run (process {} on ", std::process::id());
    assert!(matches!(&error, Error::Busy { holder, .. } if holder.starts_with(&me)), "{error}");
    drop(first);
    RunDir::open(&path).unwrap();
}

#[test]
fn shards_share_a_directory_that_a_run_has_alone() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = [1, 2].map(|number| Shard::new(number, 2).unwrap());
    let open = |shard| RunDir::open_shard(folder.path(), shard);
    let half_written = folder.path().join(".w2s-partial-of-another-shard");
    let holding = open(first).unwrap();
    fs::write(&half_written, "").unwrap();
    let beside = open(second).unwrap();
    assert!(half_written.exists());
    let same = open(first).unwrap_err().to_string();
    assert!(
        same.contains(&format!("another process of shard 1/2 (process {} on ", std::process::id())),
        "{same}"
    );
    drop(holding);
    let run = RunDir::open(folder.path()).unwrap_err().to_string();
    assert!(run.contains(": a shard of this run is using this directory"), "{run}");
    assert_eq!(
        fs::read_to_string(folder.path().join(".lock")).unwrap(),
        "",
        "shards sign their own lock files"
    );
    drop(beside);
    let run = RunDir::open(folder.path()).unwrap();
    assert!(!half_written.exists());
    let refused = open(second).unwrap_err().to_string();
    assert!(refused.contains("another run (process "), "{refused}");
    fs::write(run.shard_manifest(second), "{}").unwrap();
    assert_eq!(run.shards().unwrap(), [second]);
}

/// The other process of the test below: takes the directory, says so, and waits to be killed.
#[test]
fn holder() {
    let Ok(path) = std::env::var("W2S_TEST_HOLD_RUN_DIR") else { return };
    let owned = RunDir::open(&path).unwrap();
    fs::write(owned.join("held"), "").unwrap();
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[test]
fn a_killed_process_frees_its_directory() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["artifacts::run_dir::tests::holder", "--exact", "--test-threads=1"])
        .env("W2S_TEST_HOLD_RUN_DIR", folder.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let started = std::time::Instant::now();
    while !folder.path().join("held").exists() {
        assert!(
            started.elapsed().as_secs() < 30 && child.try_wait().unwrap().is_none(),
            "the holder never came up"
        );
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let busy = RunDir::open(folder.path()).unwrap_err();
    child.kill().unwrap();
    child.wait().unwrap();
    let message = busy.to_string();
    assert!(message.contains(&format!("another run (process {} on ", child.id())), "{message}");
    RunDir::open(folder.path()).unwrap();
}

#[test]
fn half_written_files_are_swept_and_others_kept() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("models/base");
    fs::create_dir_all(&below).unwrap();
    // What a kill inside `atomic::write` leaves.
    let mut left = None;
    let result = atomic::write_with(&below.join("model.safetensors"), |_| {
        let partial = fs::read_dir(&below).unwrap().next().unwrap().unwrap().path();
        fs::copy(&partial, partial.with_extension("killed")).unwrap();
        left = Some(partial.with_extension("killed"));
        Err(std::io::Error::other("killed"))
    });
    let left = left.unwrap();
    assert!(result.is_err() && left.exists());
    fs::write(below.join("config.json"), "{}").unwrap();
    RunDir::open(folder.path()).unwrap();
    assert!(!left.exists());
    assert!(below.join("config.json").exists());
}

#[test]
fn only_what_runs_write_is_ever_removed() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("precious.txt"), "mine").unwrap();
    let run = RunDir::open(folder.path()).unwrap();
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let error = run.clear(&owned(&["models/base"])).unwrap_err().to_string();
    assert!(
        error.contains("is no run directory") && error.contains("hint: name another --out"),
        "{error}"
    );
    for folder in ["models/base/deep", "ppo/small/L-5", "steer/base/cbs"] {
        fs::create_dir_all(run.join(folder)).unwrap();
    }
    fs::write(run.join("steer/base/cbs/seed-1.jsonl"), "").unwrap();
    fs::write(run.join("steer/notes.txt"), "mine").unwrap();
    fs::write(run.join("manifest.json"), "{}").unwrap();
    for outside in ["../precious", "/precious", "models/../../precious"] {
        assert!(
            run.clear(&owned(&[outside]))
                .unwrap_err()
                .to_string()
                .contains("does not lie in the run directory")
        );
    }
    run.clear(&owned(&[
        "models/base",
        "ppo/small/L-5",
        "steer/base/cbs/seed-1.jsonl",
        "sft",
        "dpo/never/begun",
    ]))
    .unwrap();
    assert!(run.join("steer/notes.txt").exists() && !run.join("steer/base").exists());
    fs::remove_dir_all(run.join("steer")).unwrap();
    let mut left: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [".lock", "precious.txt"]);
    drop(run);
    // Shards may have worked here before any run did.
    RunDir::open_shard(folder.path(), Shard::new(1, 2).unwrap()).unwrap();
    RunDir::open(folder.path()).unwrap().clear(&[]).unwrap();
    assert!(folder.path().join("precious.txt").exists() && !folder.path().join("state").exists());
}

#[test]
fn an_unwritable_place_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    for path in [folder.path().join("file/run"), PathBuf::from("/proc/w2s-run")] {
        let error = RunDir::open(&path).unwrap_err();
        assert!(matches!(&error, Error::Io { path: named, .. } if *named == path), "{error}");
        assert!(error.to_string().contains(": creating the run directory: "), "{error}");
    }
}
