//! What the documents say of the program is true: the tree, the links, the picture, the recipe.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use w2s::recipe::Recipe;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    let path = root().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The pages that people read: those at the top and in the folders that hold some.
fn pages() -> Vec<PathBuf> {
    let folders =
        ["", "docs", "recipes", "checkpoints", "benches"].map(|folder| root().join(folder));
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let paths = files.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// Where the links of a page lead, but for those that leave the project.
fn links(page: &str) -> Vec<String> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://")).map(str::to_owned).collect()
}

/// The anchors that a page's headings make, as the forges that render them do.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.map(|character| if character == ' ' { '-' } else { character }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let pages = pages();
    assert!(pages.len() > 15, "{pages:?}");
    let mut followed = 0;
    for path in pages {
        let page = std::fs::read_to_string(&path).unwrap();
        for link in links(&page) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { path.clone() } else { path.with_file_name(file) };
            assert!(target.exists(), "{}: {link}", path.display());
            if !anchor.is_empty() {
                let there = anchors(&std::fs::read_to_string(&target).unwrap());
                assert!(there.contains(anchor), "{}: {link}: {there:?}", path.display());
            }
            followed += 1;
        }
    }
    assert!(followed > 50, "{followed}");
}

/// Files that the program writes itself: `W2S_WRITE_DOCS=1 cargo test docs` makes them anew.
#[test]
fn docs_are_what_the_definitions_say() {
    for (name, page) in [
        ("docs/metrics.md", w2s::monitor::glossary::metrics_page()),
        ("docs/keys.md", w2s::recipe::keys_page()),
    ] {
        if std::env::var_os("W2S_WRITE_DOCS").is_some() {
            std::fs::write(root().join(name), &page).unwrap();
        }
        assert!(read(name) == page, "{name} is not current: W2S_WRITE_DOCS=1 cargo test docs");
    }
}

#[test]
fn the_readme_is_short() {
    let readme = read("README.md");
    assert!(readme.lines().count() <= 180);
    let wide = readme.lines().find(|line| line.chars().count() > 125);
    assert_eq!(wide, None);
}

#[test]
fn the_recipe_of_the_readme_is_one() {
    let readme = read("README.md");
    let text = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let recipe: Recipe = toml::from_str(text).unwrap();
    assert_eq!(recipe.run.name, "mine");
}

#[test]
fn the_picture_shows_the_table_of_the_results() {
    let (results, picture) = (read("docs/results.md"), read("docs/demo.svg"));
    let demo = results.split("## `demo.toml`").nth(1).unwrap();
    // Rewards are the first of the tables.
    let table = demo.split("```").nth(1).and_then(|text| text.split("\n\n").next()).unwrap();
    let cells = |row: &str| row.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let means = table.lines().map(cells).filter_map(|cells| cells.get(4)?.parse::<f64>().ok());
    let means: Vec<f64> = means.collect();
    assert_eq!(means.len(), 8, "{table}");
    for mean in means {
        let label = format!(">{mean:.2}<");
        assert!(picture.contains(&label), "no {label}: run scripts/results_chart.py");
    }
}

#[test]
fn the_file_trees_name_every_room_and_no_other() {
    let rooms: BTreeSet<String> = std::fs::read_dir(root().join("src"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            entry.file_name().into_string().unwrap() + if entry.path().is_dir() { "/" } else { "" }
        })
        .collect();
    for page in ["README.md", "docs/house.md"] {
        let text = read(page);
        let tree = text
            .split("\nsrc/\n")
            .nth(1)
            .and_then(|tree| tree.split("```").next())
            .unwrap_or_else(|| panic!("{page} has no tree of src/"));
        let named: BTreeSet<String> = tree
            .lines()
            .filter_map(|line| line.strip_prefix("  "))
            .filter(|line| !line.starts_with(' '))
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect();
        assert_eq!(named, rooms, "{page}");
    }
}
