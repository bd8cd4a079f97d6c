//! Judges that others compute: programs and servers, in whole runs and by themselves, well and
//! badly.

mod faults;
mod recipes;
mod runs;
mod served;
mod served_runs;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use w2s::error::Result;
use w2s::prompt::PromptText;
use w2s::score::{Program, ToJudge};

/// What every judge here says of a response: how many characters it has.
pub const BY_LENGTH: &str = r#"
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    print(len(asked["response"]))
"#;

/// A folder with a program in it.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    /// `script` is Python, in `reward.py`.
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("reward.py"), script).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program as a judge that may be silent for so long.
    fn program(&self, silence: Duration) -> Program {
        self.started_by(&["python3", "reward.py"], silence)
    }

    fn started_by(&self, words: &[&str], silence: Duration) -> Program {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Program::new("gold", &words, self.folder.path().to_owned(), silence)
    }

    /// What it wrote to a file of its own, line by line.
    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// Asks about `count` responses of 1, 2, … characters with the ids `r0`, `r1`, …
fn ask(program: &Program, count: usize) -> Result<Vec<f64>> {
    let prompt = PromptText::from("What?");
    let responses: Vec<String> = (1..=count).map(|length| "é".repeat(length)).collect();
    let asked = responses.iter().enumerate();
    let asked: Vec<ToJudge> =
        asked.map(|(i, response)| ToJudge::new(format!("r{i}"), &prompt, response)).collect();
    let mut rewards = Vec::new();
    program.each_reward(&asked, &mut |reward| {
        rewards.push(reward);
        Ok(())
    })?;
    Ok(rewards)
}

/// What goes wrong when `count` responses are asked about.
fn told(program: &Program, count: usize) -> String {
    ask(program, count).expect_err("this program must be refused").to_string()
}

fn lengths(count: usize) -> Vec<f64> {
    (1..=count).map(|length| length as f64).collect()
}

/// Whether the process is no more, or will not be in a moment.
fn has_ended(pid: &str) -> bool {
    let started = Instant::now();
    while Path::new("/proc").join(pid).exists() {
        let state = fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
        // One that has ended and that nobody waits for yet.
        if state.is_ok_and(|state| state.contains(") Z ")) {
            return true;
        }
        if started.elapsed() > Duration::from_secs(10) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}
