//! Tests of `manifest.rs`.

use super::*;

fn hashes(folder: &Path) -> FileHashes {
    FileHashes::load(folder.join("state/hashes.json"))
}

/// Without a reach.
fn is_done(manifest: &Manifest, task: &str, fingerprint: &str) -> bool {
    manifest.is_done(task, fingerprint, &Reach::new(), &hashes(&manifest.folder))
}

fn begin(manifest: &mut Manifest, task: &str, fingerprint: &str, owns: &[&str]) {
    let owns: Vec<String> = owns.iter().map(|path| (*path).to_owned()).collect();
    manifest.begin(task, fingerprint, &owns, &Value::Null).unwrap();
}

fn finish(manifest: &mut Manifest, task: &str) -> Result<()> {
    let hashes = hashes(&manifest.folder);
    manifest.finish(task, 12.5, &Reach::new(), &hashes)
}

fn finished() -> (tempfile::TempDir, Manifest) {
    let folder = tempfile::tempdir().unwrap();
    atomic::write(&folder.path().join("sft/config.json"), b"{}").unwrap();
    atomic::write(&folder.path().join("sft/deep/model.safetensors"), b"weights").unwrap();
    atomic::write(&folder.path().join("plan.json"), b"plan").unwrap();
    let mut manifest = Manifest::load(folder.path()).unwrap();
    begin(&mut manifest, "sft", "f1", &["sft", "plan.json"]);
    assert!(!is_done(&manifest, "sft", "f1"), "begun is not done");
    finish(&mut manifest, "sft").unwrap();
    (folder, manifest)
}

#[test]
fn survives_reloading() {
    let (folder, _) = finished();
    let manifest = Manifest::load(folder.path()).unwrap();
    assert!(is_done(&manifest, "sft", "f1"));
    assert!(!is_done(&manifest, "sft", "f2"), "other settings");
    assert!(!is_done(&manifest, "dpo", "f1"), "another task");
    assert_eq!(manifest.fingerprint_of("sft").as_deref(), Some("f1"));
    let text = fs::read_to_string(folder.path().join("manifest.json")).unwrap();
    for path in ["plan.json", "sft/config.json", "sft/deep/model.safetensors"] {
        assert!(text.contains(&format!("\"{path}\"")), "{path} is missing from {text}");
    }
}

#[test]
fn a_changed_truncated_or_missing_output_is_found() {
    type Damage = fn(&Path);
    let damages: [Damage; 4] = [
        |path| fs::write(path, b"weightz").unwrap(),
        |path| fs::write(path, b"weigh").unwrap(),
        |path| fs::remove_file(path).unwrap(),
        |path| fs::remove_dir_all(path.parent().unwrap()).unwrap(),
    ];
    for (index, damage) in damages.into_iter().enumerate() {
        let (folder, manifest) = finished();
        assert!(is_done(&manifest, "sft", "f1"));
        damage(&folder.path().join("sft/deep/model.safetensors"));
        assert!(!is_done(&manifest, "sft", "f1"), "damage {index} went unseen");
        assert!(
            !manifest.continues("sft", "f1", &Reach::new(), &hashes(folder.path())),
            "damaged results must be wiped, not continued (damage {index})"
        );
    }
}

#[test]
fn only_an_interrupted_attempt_with_the_same_settings_is_continued() {
    let begin = |manifest: &mut Manifest, fingerprint: &str| {
        let continued =
            manifest.continues("dpo", fingerprint, &Reach::new(), &hashes(&manifest.folder));
        begin(manifest, "dpo", fingerprint, &[]);
        continued
    };
    let folder = tempfile::tempdir().unwrap();
    assert!(!begin(&mut Manifest::load(folder.path()).unwrap(), "f1"), "nothing there yet");
    let mut manifest = Manifest::load(folder.path()).unwrap();
    assert!(begin(&mut manifest, "f1"), "the killed attempt");
    assert!(!begin(&mut manifest, "f2"), "other settings");
    assert!(!begin(&mut manifest, "f1"), "the partial work is now of f2");
    finish(&mut manifest, "dpo").unwrap();
    assert!(is_done(&manifest, "dpo", "f1"));
    assert!(!begin(&mut manifest, "f1"), "done again from scratch");
    assert!(!is_done(&manifest, "dpo", "f1"));
}

#[test]
fn a_task_that_went_less_far_is_continued_and_one_that_went_farther_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let hashes = hashes(folder.path());
    let reach = |prompts: usize, traced: usize| {
        Reach::from([("prompts".to_owned(), prompts), ("traced".to_owned(), traced)])
    };
    let journal = folder.path().join("journal.jsonl");
    fs::write(&journal, "eight lines").unwrap();
    let mut manifest = Manifest::load(folder.path()).unwrap();
    begin(&mut manifest, "steer", "f1", &["journal.jsonl"]);
    manifest.finish("steer", 1.0, &Reach::from([("prompts".to_owned(), 8)]), &hashes).unwrap();
    let mut manifest = Manifest::load(folder.path()).unwrap();
    for (asked, done) in [
        (reach(8, 0), true),
        (reach(5, 0), true),
        (Reach::new(), true),
        (reach(9, 0), false),
        (reach(8, 1), false),
    ] {
        assert_eq!(manifest.is_done("steer", "f1", &asked, &hashes), done, "{asked:?}");
        assert_eq!(manifest.continues("steer", "f1", &asked, &hashes), !done, "{asked:?}");
    }
    assert!(!manifest.continues("steer", "f2", &reach(9, 0), &hashes), "other settings");
    begin(&mut manifest, "steer", "f1", &["journal.jsonl"]);
    assert!(
        !manifest.is_done("steer", "f1", &reach(8, 0), &hashes)
            && manifest.continues("steer", "f1", &reach(9, 0), &hashes)
    );
    manifest.finish("steer", 1.0, &reach(9, 9), &hashes).unwrap();
    assert!(manifest.is_done("steer", "f1", &reach(9, 9), &hashes));
    fs::write(&journal, "other lines").unwrap();
    assert!(
        !manifest.continues("steer", "f1", &reach(10, 0), &hashes),
        "what was tampered with is not continued"
    );
}

#[test]
fn two_manifests_of_one_folder_know_nothing_of_each_other() {
    let (folder, manifest) = finished();
    let path = folder.path().join("state/other.json");
    let mut other = Manifest::load_from(path.clone(), folder.path()).unwrap();
    assert_eq!(other.owned().count(), 0);
    begin(&mut other, "sft", "f2", &["sft/config.json"]);
    finish(&mut other, "sft").unwrap();
    assert!(
        is_done(&Manifest::load_from(path, folder.path()).unwrap(), "sft", "f2"),
        "outputs are relative to the run directory"
    );
    assert!(
        is_done(&Manifest::load(folder.path()).unwrap(), "sft", "f1")
            && manifest.owned().count() == 1
    );
}

#[test]
fn refuses_what_it_cannot_record() {
    let (folder, mut manifest) = finished();
    begin(&mut manifest, "dpo", "f1", &["absent"]);
    let missing = finish(&mut manifest, "dpo").unwrap_err().to_string();
    assert!(missing.contains("absent: reading an output: "), "{missing}");
    assert!(manifest.is_under_way("dpo", "f1"), "a failed finish changes nothing");
    assert!(finish(&mut manifest, "ppo").unwrap_err().to_string().contains("never begun"));
    fs::write(folder.path().join("manifest.json"), "{\"tasks\": {").unwrap();
    let broken = Manifest::load(folder.path()).unwrap_err().to_string();
    assert!(
        broken.contains("manifest.json:1: not a manifest") && broken.contains("hint: "),
        "{broken}"
    );
}

#[test]
fn what_is_forgotten_is_done_anew_and_still_owned() {
    let (folder, mut manifest) = finished();
    manifest.forget(|task| task == "sft").unwrap();
    let mut manifest = Manifest::load(folder.path()).unwrap();
    let none = Reach::new();
    assert!(
        !is_done(&manifest, "sft", "f1")
            && !manifest.continues("sft", "f1", &none, &hashes(folder.path()))
    );
    assert!(
        !manifest.was_done("sft") && !manifest.was_begun("sft"),
        "that is how it was asked for"
    );
    assert_eq!(
        manifest.owned().collect::<Vec<_>>(),
        [("sft", &["sft".to_owned(), "plan.json".to_owned()][..])]
    );
    begin(&mut manifest, "sft", "f1", &["sft"]);
    assert!(manifest.is_under_way("sft", "f1"));
}
