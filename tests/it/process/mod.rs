//! The program among others: signals, threads, the environment, and the limits of containers and
//! batch jobs.

mod limits;
mod terminal;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::common::{failure, output, stderr, stdout, success, tiny_model, w2s};
use serde_json::{Map, json};

/// Pretraining for a second or two.
const RECIPE: &str = r#"
[run]
name = "signals"
threads = 1
dtype = "float32"
[data]
source = "builtin:reviews"
train = 200
validation = 16
test = 16
[models.guide.scratch]
architecture = "gpt2"
n_layer = 1
n_head = 2
n_embd = 32
n_positions = 96
tokenizer = { kind = "bpe", vocab_size = 512 }
[pretrain.training]
steps = 300
batch_size = 4
"#;

/// Starts a run that ignores some signals from its start and is sent some once it is at work: how
/// it ended, and its stderr.
fn run_signalled(ignored: &'static [i32], sent: &[i32]) -> (ExitStatus, String) {
    let folder = tempfile::tempdir().unwrap();
    let (recipe, log) = (folder.path().join("r.toml"), folder.path().join("log"));
    fs::write(&recipe, RECIPE).unwrap();
    let mut command = w2s();
    command.arg("run").arg(&recipe).arg("--out").arg(folder.path().join("out"));
    command.stdout(Stdio::null()).stderr(File::create(&log).unwrap());
    // SAFETY: `signal` may be called between fork and exec.
    unsafe {
        command.pre_exec(move || {
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
                libc::signal(
                    signal,
                    if ignored.contains(&signal) { libc::SIG_IGN } else { libc::SIG_DFL },
                );
            }
            Ok(())
        });
    }
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    let told = || fs::read_to_string(&log).unwrap();
    while !told().contains("pretrain/guide: starting") {
        assert!(child.try_wait().unwrap().is_none() && Instant::now() < deadline, "{}", told());
        std::thread::sleep(Duration::from_millis(2));
    }
    for signal in sent {
        // SAFETY: the child has not been waited for, so the number is still its own.
        assert_eq!(unsafe { libc::kill(i32::try_from(child.id()).unwrap(), *signal) }, 0);
    }
    (child.wait().unwrap(), told())
}

#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let all = &[libc::SIGHUP, libc::SIGINT, libc::SIGTERM];
    let (status, told) = run_signalled(all, all);
    assert!(
        status.success() && !told.contains("stopping"),
        "nohup, trap '' and a script's background job: {status}\n{told}"
    );
    let (status, told) = run_signalled(&[libc::SIGHUP], &[libc::SIGHUP, libc::SIGTERM]);
    assert_eq!(status.code(), Some(1), "the others still stop it\n{told}");
    assert!(
        told.contains("stopping at the next safe point") && told.contains("error: interrupted"),
        "{told}"
    );
    let (status, told) = run_signalled(&[], &[libc::SIGHUP]);
    assert_eq!(status.code(), Some(1), "{told}");
}

#[test]
fn the_exit_code_tells_where_stderr_is_gone() {
    let mut child = w2s()
        .args(["check", "no-such-recipe.toml"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut end = child.stderr.take().unwrap();
    drop(end.read(&mut []));
    drop(end);
    let with_stderr = output(w2s().args(["check", "no-such-recipe.toml"])).status.code();
    assert_eq!((child.wait().unwrap().code(), with_stderr), (Some(2), Some(2)));
}

#[test]
fn threads_spin_shortly_unless_the_user_has_decided() {
    let told = |set: &[(&str, &str)]| {
        let mut command = w2s();
        command
            .arg("doctor")
            .env("OMP_DISPLAY_ENV", "verbose")
            .env_remove("GOMP_SPINCOUNT")
            .env_remove("OMP_WAIT_POLICY");
        let output = output(command.envs(set.iter().copied()));
        assert!(
            output.status.success() && stdout(&output).contains("threads    1 (`OMP_NUM_THREADS`)"),
            "{}",
            stderr(&output)
        );
        stderr(&output)
    };
    assert!(told(&[]).contains("GOMP_SPINCOUNT = '2000'"), "{}", told(&[]));
    assert!(told(&[("GOMP_SPINCOUNT", "77")]).contains("GOMP_SPINCOUNT = '77'"));
    let active = told(&[("OMP_WAIT_POLICY", "active")]);
    assert!(
        active.contains("OMP_WAIT_POLICY = 'ACTIVE'")
            && !active.contains("GOMP_SPINCOUNT = '2000'"),
        "{active}"
    );
    let through_the_loader = "/lib64/ld-linux-x86-64.so.2";
    if Path::new(through_the_loader).exists() {
        let version = success(
            Command::new(through_the_loader)
                .arg(env!("CARGO_BIN_EXE_w2s"))
                .arg("--version")
                .env_clear(),
        );
        assert_eq!(version, success(w2s().arg("--version")));
    }
}

/// A control group with a limit, and one below it for the process; removed when dropped.
struct Group {
    limited: PathBuf,
    inner: PathBuf,
}

impl Group {
    /// With a limit as version 1 and as version 2 write it: (file, text). `None`, and a word about
    /// it, where none may be made.
    fn new(controller: &str, limits: [(&str, &str); 2]) -> Option<Self> {
        let v1 = Path::new("/sys/fs/cgroup").join(controller);
        let (top, (file, text)) = if v1.is_dir() {
            (v1.as_path(), limits[0])
        } else {
            (Path::new("/sys/fs/cgroup"), limits[1])
        };
        let limited = top.join(format!("w2s-test-{controller}-{}", std::process::id()));
        let group = Self { inner: limited.join("inner"), limited };
        match fs::create_dir_all(&group.inner)
            .and_then(|()| fs::write(group.limited.join(file), text))
        {
            Ok(()) => Some(group),
            Err(error) => {
                eprintln!(
                    "SKIPPED: no control group for {controller} can be made here ({error}), so its \
                     limits stay untried"
                );
                None
            }
        }
    }

    /// The program, started in the inner group.
    fn w2s(&self) -> Command {
        let plain = w2s();
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"echo 0 >"$1" && shift && exec "$@""#, "sh"])
            .arg(self.inner.join("cgroup.procs"));
        command.arg(plain.get_program()).args(plain.get_args()).stdin(Stdio::null());
        for (name, value) in plain.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in [&self.inner, &self.limited] {
            let _ = fs::remove_dir(folder);
        }
    }
}

#[test]
fn the_cpu_quota_of_a_group_above_bounds_the_threads() {
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() < 2) {
        return eprintln!("SKIPPED: one core cannot be fewer");
    }
    let Some(group) =
        Group::new("cpu", [("cpu.cfs_quota_us", "100000"), ("cpu.max", "100000 100000")])
    else {
        return;
    };
    let told = success(group.w2s().arg("doctor").env_remove("OMP_NUM_THREADS"));
    assert!(
        told.contains("threads    1 (the CPU quota of the control group; the machine has "),
        "{told}"
    );
    let told = success(group.w2s().arg("doctor").env("OMP_NUM_THREADS", "2"));
    assert!(told.contains("threads    2 (`OMP_NUM_THREADS`)"), "{told}");
}

#[test]
fn the_memory_limit_of_a_group_above_is_planned_with() {
    let gibibyte = (1u64 << 30).to_string();
    let Some(group) =
        Group::new("memory", [("memory.limit_in_bytes", &gibibyte), ("memory.max", &gibibyte)])
    else {
        return;
    };
    let limit = format!("of 1.0 GiB, the limit of the control group {}", group.limited.display());
    let told = success(group.w2s().arg("doctor"));
    assert!(told.contains("memory     ") && told.contains(&limit), "{told}");

    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    let mut search = group.w2s();
    search
        .args([
            "steer",
            "--method",
            "best_of_n",
            "--n",
            "100000",
            "--max-new-tokens",
            "20",
            "--base",
        ])
        .arg(&model);
    let [tuned, untuned] = ["tuned", "untuned"].map(|name| tiny_model(&folder.path().join(name)));
    let error =
        failure(search.arg("--tuned").arg(tuned).arg("--untuned").arg(untuned).arg("ok"), 1);
    assert!(error.contains("one prompt takes") && error.contains(&limit), "{error}");

    let recipe = folder.path().join("r.toml");
    fs::write(&recipe, RECIPE).unwrap();
    let mut training = group.w2s();
    training.arg("run").arg(&recipe).arg("--out").arg(folder.path().join("out"));
    let error = failure(
        training.args([
            "--set",
            "models.guide.scratch.n_embd=2048",
            "--set",
            "models.guide.scratch.n_layer=4",
        ]),
        1,
    );
    assert!(
        error.contains("pretrain/guide takes 3.")
            && error.contains(&limit)
            && error.contains("  optimizer: "),
        "{error}"
    );

    enlarge(&model);
    let error = failure(
        group
            .w2s()
            .args([
                "steer",
                "--method",
                "base",
                "--dtype",
                "float32",
                "--max-new-tokens",
                "8",
                "--base",
            ])
            .arg(&model)
            .arg("ok"),
        1,
    );
    assert!(
        error.contains("of memory, and there are ")
            && error.contains(&limit)
            && error.contains("hint: "),
        "{error}"
    );
}

/// An embedding of zeros that takes a gibibyte and nothing on the disk.
fn enlarge(model: &Path) {
    let rows = 1i64 << 24;
    let config = fs::read_to_string(model.join("config.json")).unwrap();
    let mut config: Map<String, serde_json::Value> = serde_json::from_str(&config).unwrap();
    config.insert("vocab_size".to_owned(), rows.into());
    fs::write(model.join("config.json"), json!(config).to_string()).unwrap();
    let path = model.join("model.safetensors");
    let (mut header, mut end) = (Map::new(), 0);
    for (name, tensor) in w2s::models::weights::read_tensors(&path).unwrap() {
        let mut shape = tensor.size();
        if name.ends_with("wte.weight") {
            shape[0] = rows;
        }
        let start = end;
        end += 4 * shape.iter().product::<i64>();
        header
            .insert(name, json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, end] }));
    }
    let header = json!(header).to_string();
    let mut file = File::create(&path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len(8 + header.len() as u64 + end as u64).unwrap();
}
