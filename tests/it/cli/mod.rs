//! Bad input through the real program: one clear error each, the right exit code, and nothing lost
//! or half written.

mod escapes;
mod guides;
mod machine;
mod prompts;
mod runs;
mod shell;

use std::path::Path;

use crate::common::w2s;

fn steer(model: &Path) -> std::process::Command {
    let mut command = w2s();
    command
        .args([
            "steer",
            "--method",
            "base",
            "--dtype",
            "float32",
            "--max-new-tokens",
            "5",
            "--base",
        ])
        .arg(model);
    command
}
