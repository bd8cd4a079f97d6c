//! The limits that a shell or a batch system sets (`ulimit`): told, and no half file left.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use super::run_signalled;
use crate::common::{failure, w2s};

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn a_limit_of_the_size_of_files_is_told_and_leaves_no_half_file() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = folder.path().join("r.toml");
    fs::write(&recipe, super::RECIPE).unwrap();
    let out = folder.path().join("out");
    let mut command = w2s();
    command.arg("run").arg(&recipe).args(["--set", "pretrain.training.steps=2"]);
    command.arg("--out").arg(&out);
    // The tokenizer fits, the weights do not.
    const LIMIT: u64 = 60_000;
    // SAFETY: `setrlimit` may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: LIMIT, rlim_max: LIMIT };
            libc::setrlimit(libc::RLIMIT_FSIZE, &limit);
            Ok(())
        });
    }
    let error = failure(&mut command, 1);
    assert!(
        error.contains(".safetensors: writing: File too large")
            && error.contains("hint: raise the limit of the size of files (`ulimit -f`"),
        "{error}"
    );
    let mut left = Vec::new();
    files(&out, &mut left);
    let is_half = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with(".w2s-partial-") || name.ends_with(".safetensors")
    };
    assert!(!left.iter().any(is_half), "{left:?}");
}

#[test]
fn a_limit_of_processor_time_stops_at_a_safe_point() {
    let (status, told) = run_signalled(&[], &[libc::SIGXCPU, libc::SIGXCPU]);
    assert_eq!(status.code(), Some(1), "{status} {told}");
    assert!(
        told.contains("processor time (ulimit -t) is reached: stopping at the next safe point")
            && told.contains("error: interrupted"),
        "{told}"
    );
}
