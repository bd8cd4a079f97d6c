//! Files are short and narrow enough to be read: at most 400 lines, and 100 columns of code and
//! comments. A text that cannot be broken may be longer.

use std::path::{Path, PathBuf};

const LINES: usize = 400;
const COLUMNS: usize = 100;

/// Folders of Rust files that are held to it.
const FOLDERS: [&str; 2] = ["src", "tests/it"];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The line with nothing between its quotes.
fn without_texts(line: &str) -> String {
    let (mut code, mut is_text, mut is_escaped) = (String::new(), false, false);
    for character in line.chars() {
        let ends = character == '"' && !is_escaped;
        if ends || !is_text {
            code.push(character);
        }
        is_text ^= ends;
        is_escaped = character == '\\' && !is_escaped;
    }
    code
}

/// What is wrong with a file of this text.
fn faults(text: &str) -> Vec<String> {
    let count = text.lines().count();
    let mut faults: Vec<String> =
        (count > LINES).then(|| format!("{count} lines")).into_iter().collect();
    let mut is_raw = false;
    for (number, line) in text.lines().enumerate() {
        if !is_raw && without_texts(line).chars().count() > COLUMNS {
            faults.push(format!("line {} is longer than {COLUMNS} columns", number + 1));
        }
        let raw_begins = line.matches("r#\"").count();
        let raw_ends = line.matches("\"#").count();
        is_raw = (is_raw || raw_begins > 0) && raw_ends == 0;
    }
    faults
}

#[test]
fn files_are_short_and_narrow() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    FOLDERS.iter().for_each(|folder| files(&root.join(folder), &mut all));
    assert!(all.len() > 250, "{} files", all.len());
    let wrong: Vec<String> = (all.iter())
        .flat_map(|file| {
            let name = file.strip_prefix(root).unwrap().display().to_string();
            let faults = faults(&std::fs::read_to_string(file).unwrap());
            faults.into_iter().map(move |fault| format!("{name}: {fault}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_texts_may_be_longer() {
    let (code, words) = ("x".repeat(101), "x ".repeat(60));
    assert_eq!(faults(&format!("a\n{code}\n")), ["line 2 is longer than 100 columns"]);
    assert_eq!(faults(&format!("// {words}")).len(), 1);
    assert_eq!(faults(&format!("let a = \"{words}\\\" {words}\";")), [""; 0]);
    assert_eq!(faults(&format!("let a = r#\"\n{words}\n\"#;\n{words}")).len(), 1);
    assert_eq!(faults(&"a\n".repeat(401)), ["401 lines"]);
}
