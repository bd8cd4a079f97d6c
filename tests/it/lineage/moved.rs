//! A project that is killed and moved again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use w2s::sampling::Stream;

use super::{Project, set_of, steps, tasks};
use crate::common::{lines, success};

/// The complete lines of each journal below `steer` and `preferences`.
fn journals(out: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let folders = ["steer", "preferences", "evaluate"].map(|folder| out.join(folder));
    let (mut found, mut folders) = (BTreeMap::new(), folders.to_vec());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "jsonl") {
                let mut bytes = fs::read(&path).unwrap();
                bytes.truncate(
                    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1),
                );
                found.insert(path.strip_prefix(out).unwrap().to_owned(), bytes);
            }
        }
    }
    found
}

#[test]
fn a_project_that_is_killed_and_moved_again_and_again_ends_like_an_untouched_one() {
    let (whole, mut killed) = (Project::new(), Project::new());
    success(&mut whole.run(&[]));

    let mut done: Vec<String> = Vec::new();
    let mut kills = 0;
    for attempt in 0.. {
        assert!(attempt < 120, "the run makes no progress");
        let log = killed.folder.path().join(format!("log-{attempt}"));
        let (before, lines_before) = (steps(&killed.out()), journals(&killed.out()));
        let mut child = killed
            .run(&[])
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        // It is killed some time after some tasks, however long the program takes to come to them;
        // the first times right after the task under way has begun, so that there are many.
        let random = |of: &str, up_to: f64| up_to * Stream::new(7, of, "").uniform(attempt, 0);
        let (ends_before, patience) = match attempt {
            0..5 => (0, random("time", 0.05)),
            _ => (random("tasks", 2.0) as usize, random("time", 0.15)),
        };
        let said = |what: &str| fs::read_to_string(&log).unwrap().matches(what).count();
        let is_due = || {
            said(": done in ") >= ends_before
                && said(": starting") + said(": continuing") > ends_before
        };
        let mut due: Option<Instant> = None;
        let mut ended = None;
        while ended.is_none() && due.is_none_or(|due| due.elapsed().as_secs_f64() < patience) {
            std::thread::sleep(Duration::from_millis(5));
            ended = child.try_wait().unwrap();
            due = due.or_else(|| is_due().then(Instant::now));
        }
        if ended.is_none() {
            child.kill().unwrap();
            kills += 1;
        }
        child.wait().unwrap();
        let log = fs::read_to_string(log).unwrap();
        assert!(ended.is_none_or(|status| status.success()), "{log}");
        assert!(!log.contains("anew") && !log.contains("replaced"), "{log}");
        // The step under way and nothing else is computed again: the step's metrics may be written
        // when its checkpoint is not.
        for line in log.lines().filter(|line| line.contains(": continues after step ")) {
            let (head, step) = line.split_once(": continues after step ").unwrap();
            let (stage, step) = (
                head.rsplit(' ').next().unwrap(),
                step.split(' ').next().unwrap().parse::<u64>().unwrap(),
            );
            assert!(
                before[stage] <= step + 1,
                "{stage} had come to step {} and {line}",
                before[stage]
            );
        }
        for (journal, bytes) in lines_before {
            assert!(
                fs::read(killed.out().join(&journal)).unwrap().starts_with(&bytes),
                "{} was begun again",
                journal.display()
            );
        }
        assert!(tasks(&log, &["starting"]).iter().all(|task| !done.contains(task)), "{log}");
        let ends = |line: &str| {
            Some(line.split_once(": done in ")?.0.rsplit(' ').next().unwrap().to_owned())
        };
        done.extend(log.lines().filter_map(ends));
        if ended.is_some() {
            break;
        }
        killed.move_to(&format!("place-{attempt}/deeper/project"));
    }
    assert!(kills >= 4, "{kills} kills");
    let unique: BTreeSet<&String> = done.iter().collect();
    assert_eq!(unique.len(), done.len(), "each task was done once: {done:?}");

    let files = |project: &Project| {
        let (mut found, mut folders) = (BTreeSet::new(), vec![project.out()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.insert(path.strip_prefix(project.out()).unwrap().to_owned());
                }
            }
        }
        found.retain(|file| !file.starts_with("tensorboard") && !file.starts_with("state"));
        found
    };
    let found = files(&whole);
    assert_eq!(found, files(&killed));
    let mut compared = 0;
    for file in &found {
        let path = |project: &Project| project.out().join(file);
        let name = file.to_str().unwrap();
        match file.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
            // When, from where, how long.
            _ if [
                "manifest.json",
                "plan.json",
                "recipe.toml",
                ".lock",
                "report.html",
                "evaluate/summary.json",
            ]
            .contains(&name) => {}
            _ if name.ends_with("adapter_config.json")
                || name.starts_with("ppo/") && !name.ends_with(".safetensors") => {}
            "jsonl" => {
                let sorted = |project: &Project| {
                    let mut all = lines(&path(project));
                    for line in &mut all {
                        let line = line.as_object_mut().unwrap();
                        let times = [
                            "seconds",
                            "guide_seconds",
                            "time",
                            "tokens_per_second",
                            "peak_rss_bytes",
                            "rollouts_per_second",
                        ];
                        line.retain(|key, _| {
                            !times.contains(&key.as_str()) && !key.starts_with("seconds/")
                        });
                    }
                    all.sort_by_key(|line| line["stage"].to_string());
                    all
                };
                assert_eq!(sorted(&whole), sorted(&killed), "{name}");
                compared += 1;
            }
            _ => {
                assert!(
                    fs::read(path(&whole)).unwrap() == fs::read(path(&killed)).unwrap(),
                    "{name} differs"
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 40, "{compared} of {found:?}");
    assert_eq!(killed.redone(&[]), set_of(&[]));
}
