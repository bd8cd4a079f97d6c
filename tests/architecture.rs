//! The house's rule that imports go down only, checked by reading the `use` lines and paths of `src/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Top to bottom; rooms on one floor may use each other as long as no circle comes of it.
const FLOORS: [&[&str]; 8] = [
    &["main"],
    &["cli"],
    &["pipeline", "bench"],
    &["stages"],
    &["policy", "score", "train", "report"],
    &["search", "models", "text", "recipe", "artifacts", "monitor"],
    &["kernels", "losses", "sampling"],
    &["error"],
];

fn floor(room: &str) -> usize {
    FLOORS.iter().position(|rooms| rooms.contains(&room)).unwrap_or_else(|| panic!("room `{room}` stands on no floor: add it to FLOORS"))
}

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

/// room → rooms that it names by `crate::…` (or `w2s::…` in main.rs), tests included.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&source, &mut all);
    assert!(all.len() > 40, "{} files", all.len());
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in all {
        let relative = file.strip_prefix(&source).unwrap();
        let room = relative.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned();
        if room == "lib" {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let named = text.match_indices("crate::").chain(text.match_indices("w2s::")).filter_map(|(at, prefix)| {
            let name: String = text[at + prefix.len()..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            (!name.is_empty() && FLOORS.iter().any(|rooms| rooms.contains(&name.as_str()))).then_some(name)
        });
        let entry = imports.entry(room.clone()).or_default();
        entry.extend(named.filter(|name| *name != room));
    }
    imports
}

#[test]
fn imports_go_down_only() {
    let imports = imports();
    let mut wrong = Vec::new();
    for (room, used) in &imports {
        for other in used {
            if floor(other) < floor(room) {
                wrong.push(format!("{room} uses {other}, which stands above it"));
            }
            if floor(other) == floor(room) && reaches(&imports, other, room, &mut BTreeSet::new()) {
                wrong.push(format!("{room} and {other} use each other"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(imports["stages"].contains("policy") && imports["search"].contains("sampling"), "the test reads real imports: {imports:?}");
}

fn reaches(imports: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str, seen: &mut BTreeSet<String>) -> bool {
    seen.insert(from.to_owned())
        && imports
            .get(from)
            .is_some_and(|used| used.contains(to) || used.iter().any(|next| floor(next) == floor(to) && reaches(imports, next, to, seen)))
}

#[test]
fn search_imports_neither_policy_nor_score_and_knows_no_tensor() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/search");
    let mut all = Vec::new();
    files(&source, &mut all);
    for file in all {
        let text = std::fs::read_to_string(&file).unwrap();
        for word in ["tch::", "crate::policy", "crate::score", "crate::models"] {
            assert!(!text.contains(word), "{} names {word}", file.display());
        }
    }
}
