//! The house's rule that imports go down only, checked by reading the `use` lines and paths of
//! `src/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Top to bottom; rooms on one floor may use each other as long as no circle comes of it.
const FLOORS: [&[&str]; 12] = [
    &["main"],
    &["cli"],
    &["pipeline"],
    &["stages", "bench"],
    &["engine"],
    &["policy", "score", "train", "report"],
    &["models"],
    &["text", "hub", "machine"],
    &["http", "recipe", "monitor"],
    &["search", "artifacts"],
    &["kernels", "losses", "prompt", "sampling"],
    &["error"],
];

fn floor(room: &str) -> usize {
    FLOORS
        .iter()
        .position(|rooms| rooms.contains(&room))
        .unwrap_or_else(|| panic!("room `{room}` stands on no floor: add it to FLOORS"))
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
        let room =
            relative.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned();
        if room == "lib" {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let named = text.match_indices("crate::").chain(text.match_indices("w2s::")).filter_map(
            |(at, prefix)| {
                let name: String = text[at + prefix.len()..]
                    .chars()
                    .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                    .collect();
                (!name.is_empty() && FLOORS.iter().any(|rooms| rooms.contains(&name.as_str())))
                    .then_some(name)
            },
        );
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
    assert!(
        imports["stages"].contains("policy") && imports["search"].contains("sampling"),
        "the test reads real imports: {imports:?}"
    );
}

fn reaches(
    imports: &BTreeMap<String, BTreeSet<String>>,
    from: &str,
    to: &str,
    seen: &mut BTreeSet<String>,
) -> bool {
    seen.insert(from.to_owned())
        && imports.get(from).is_some_and(|used| {
            used.contains(to)
                || used
                    .iter()
                    .any(|next| floor(next) == floor(to) && reaches(imports, next, to, seen))
        })
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

/// Rooms whose files import each other in one direction only.
const WITHOUT_CIRCLES: [&str; 18] = [
    "stages",
    "engine",
    "search",
    "policy",
    "score",
    "train",
    "report",
    "recipe",
    "models",
    "text",
    "hub",
    "http",
    "artifacts",
    "monitor",
    "machine",
    "kernels",
    "cli",
    "bench",
];

/// The module paths below `src/` that `use` lines and paths of a file name, as `room/module/…`;
/// what a `mod.rs` hands on by `pub use` is no import of its own.
fn module_imports(file: &Path, source: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let relative = file.strip_prefix(source).unwrap().with_extension("");
    let is_root = relative.ends_with("mod");
    let own: Vec<String> =
        relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    // What `super` is in this file, and what a bare child module is below.
    let folder = own[..own.len() - 1].to_vec();
    let parent = if is_root { folder[..folder.len() - 1].to_vec() } else { folder.clone() };
    let mut found = BTreeSet::new();
    for statement in statements(text, is_root) {
        for path in flattened(&statement) {
            let parts: Vec<&str> = path.split("::").collect();
            let (mut base, rest) = match parts[0] {
                "crate" => (Vec::new(), &parts[1..]),
                "super" => (parent.clone(), &parts[1..]),
                "self" => (folder.clone(), &parts[1..]),
                _ if is_root => (folder.clone(), &parts[..]),
                _ => continue,
            };
            for part in rest {
                if *part == "super" {
                    base.pop();
                } else {
                    base.push((*part).to_owned());
                }
            }
            // The longest beginning that is a file, or the `mod.rs` of a folder.
            let module = (1..=base.len()).rev().find_map(|length| {
                let path = source.join(base[..length].join("/"));
                let module = base[..length].join("/");
                if path.with_extension("rs").is_file() {
                    return Some(module);
                }
                // What a `mod.rs` hands on is imported from where it stands.
                let root = path.join("mod.rs").is_file().then(|| format!("{module}/mod"))?;
                let from = base.get(length).and_then(|name| handed_on(&path.join("mod.rs"), name));
                Some(from.map_or(root, |child| format!("{module}/{child}")))
            });
            found.extend(module.filter(|module| *module != own.join("/")));
        }
    }
    found
}

/// The child module of a `mod.rs` from which it hands on `name`.
fn handed_on(root: &Path, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(root).unwrap();
    let statements = text
        .split(';')
        .filter_map(|statement| statement.rsplit_once("pub use ").map(|(_, path)| path));
    let paths = statements.flat_map(|path| flattened(&path.split_whitespace().collect::<String>()));
    let found = paths
        .into_iter()
        .find(|path| path.rsplit("::").next() == Some(name) && !path.starts_with("crate::"))?;
    Some(found.rsplit_once("::")?.0.replace("::", "/"))
}

/// `use` statements, those of a `mod.rs` without what it hands on, and the paths in its code that
/// begin with a module.
fn statements(text: &str, is_root: bool) -> Vec<String> {
    let mut found = Vec::new();
    for statement in text.split(';') {
        let line = statement.trim_start_matches(|c: char| c.is_whitespace());
        let line =
            line.rsplit_once("\nuse ").map_or(line.to_owned(), |(_, rest)| format!("use {rest}"));
        if let Some(path) = line.strip_prefix("use ") {
            found.push(path.split_whitespace().collect::<String>());
        }
    }
    if is_root {
        for line in text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//") && !line.contains("use "))
        {
            let words = line.split(|c: char| !(c.is_ascii_lowercase() || c == '_' || c == ':'));
            found.extend(
                words
                    .filter(|word| word.contains("::") && !word.starts_with(':'))
                    .map(str::to_owned),
            );
        }
    }
    found
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn flattened(path: &str) -> Vec<String> {
    let Some(open) = path.find('{') else { return vec![path.to_owned()] };
    let (before, inner) = (&path[..open], &path[open + 1..path.len() - 1]);
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .flat_map(|part| flattened(&format!("{before}{part}")))
        .collect()
}

#[test]
fn no_room_has_a_circle_inside() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for room in WITHOUT_CIRCLES {
        let mut all = Vec::new();
        files(&source.join(room), &mut all);
        let name = |file: &Path| {
            file.strip_prefix(&source).unwrap().with_extension("").to_string_lossy().into_owned()
        };
        let prefix = format!("{room}/");
        let graph: BTreeMap<String, BTreeSet<String>> = (all.iter())
            .map(|file| {
                (
                    name(file),
                    module_imports(file, &source)
                        .into_iter()
                        .filter(|module| module.starts_with(&prefix))
                        .collect(),
                )
            })
            .collect();
        assert!(
            graph.values().any(|imports| !imports.is_empty()),
            "{room}: the test reads real imports: {graph:?}"
        );
        let circle =
            graph.keys().find_map(|module| way_back(&graph, module, module, &mut BTreeSet::new()));
        assert!(circle.is_none(), "{room}: {}", circle.unwrap().join(" → "));
        if room == "stages" {
            let imports = |module: &str, other: &str| graph[module].contains(other);
            assert!(
                imports("stages/mod", "stages/steer") && imports("stages/steer", "stages/cells"),
                "{graph:?}"
            );
            assert!(
                imports("stages/ppo/report", "stages/tasks")
                    && imports("stages/ppo/mod", "stages/ppo/cell"),
                "{graph:?}"
            );
        }
    }
}

/// A way along imports from `from` to `to`.
fn way_back(
    graph: &BTreeMap<String, BTreeSet<String>>,
    from: &str,
    to: &str,
    seen: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    for next in graph.get(from).into_iter().flatten() {
        let rest = if next == to {
            Some(vec![next.clone()])
        } else if seen.insert(next.clone()) {
            way_back(graph, next, to, seen)
        } else {
            None
        };
        if let Some(rest) = rest {
            return Some([vec![from.to_owned()], rest].concat());
        }
    }
    None
}
