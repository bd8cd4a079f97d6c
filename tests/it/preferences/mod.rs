//! Preference pairs through the real program: of a file and of samples, judged, kept, counted,
//! described, and continued after a kill.

mod chats;
mod labels;
mod layouts;
mod sources;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::common::{tiny_model, w2s};

/// A tiny guide and a tiny reward model in folders, and recipes on them.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = tiny_model(folder.path());
        let reward = folder.path().join("reward");
        fs::create_dir(&reward).unwrap();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt2-reward");
        for (from, file) in [
            (&golden, "config.json"),
            (&golden, "model.safetensors"),
            (&model, "tokenizer.json"),
            (&model, "tokenizer_config.json"),
        ] {
            fs::copy(from.join(file), reward.join(file)).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A recipe of `tables`, run to `out`; the reward model is there unless `tables` says `#no
    /// gold`.
    fn run(&self, out: &str, tables: &str) -> std::process::Command {
        let gold = if tables.contains("#no gold") { "" } else { "[gold]\nid='reward'\n" };
        let head = "[run]\nname='pairs'\ndtype='float32'\n[data]\nsource='builtin:reviews'\n\
                    train=300\nvalidation=400\ntest=400\n\
                    prompt={min_words=1,max_words=1}\n[models.guide]\nid='model'\nbos=true\n";
        let recipe = self.path(&format!("{out}.toml"));
        fs::write(&recipe, format!("{head}{gold}{tables}")).unwrap();
        let mut command = w2s();
        command.arg("run").arg(recipe).arg("--out").arg(self.path(out));
        command
    }

    fn report(&self, out: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(out).join("preferences/report.json")).unwrap())
            .unwrap()
    }
}

fn write_pairs(path: &Path, pairs: impl Iterator<Item = (String, String, String)>) {
    let lines: String = pairs
        .map(|(prompt, chosen, rejected)| {
            format!("{}\n", json!({ "prompt": prompt, "chosen": chosen, "rejected": rejected }))
        })
        .collect();
    fs::write(path, lines).unwrap();
}

/// Pairs of differing lengths; every tenth has an empty response, and the one after it equal ones.
fn pairs(count: usize) -> impl Iterator<Item = (String, String, String)> {
    (0..count).map(|i| {
        let text = |salt: usize| -> String {
            (0..2 + (i * 7 + salt) % 9)
                .map(|k| char::from(b'a' + ((i * 31 + salt * 17 + k * 5) % 26) as u8))
                .collect()
        };
        let (chosen, rejected) = match i % 10 {
            3 => (text(1), " ".to_owned()),
            4 => (text(1), text(1)),
            _ => (format!("{}{i}", text(1)), text(2)),
        };
        (format!("Q{i}:"), chosen, rejected)
    })
}
