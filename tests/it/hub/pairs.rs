//! Pairs that a recipe takes from the hub, for its gold and for its guide.

use std::fs;

use super::{Place, bodies, paths};
use crate::common::{failure, output, stderr, success};
use crate::hub_server::Files;

const PAIRS: &str = "datasets/owner/pairs";

const RECIPE: &str = r#"
[run]
name = "hub"
dtype = "float32"
[models.m]
id = "owner/tiny"
[gold.reward_model]
model = "m"
source = "owner/pairs"
subset = "comparisons"
[gold.training]
steps = 1
[preferences]
source = "owner/pairs"
subset = "comparisons"
train_pairs = 5
policy = "m"
"#;

#[test]
fn pairs_are_data_sets_of_the_hub_too() {
    let place = Place::new();
    let rows = |count: usize| -> Vec<u8> {
        let row = |n| format!("{{\"prompt\":\"{n}\",\"chosen\":\"a {n}\",\"rejected\":\"b\"}}\n");
        (0..count).map(row).collect::<String>().into_bytes()
    };
    let names = ["comparisons/train.jsonl", "comparisons/validation.jsonl", "axis/train.jsonl"];
    let files = names.iter().zip([8, 4, 3]).map(|(name, count)| ((*name).to_owned(), rows(count)));
    place.server.publish(PAIRS, "main", files.collect::<Files>());
    let recipe = place.home.path().join("recipe.toml");
    fs::write(&recipe, RECIPE).unwrap();
    let plan = success(place.program().arg("check").arg(&recipe));
    let said =
        "pairs of owner/pairs, subset comparisons (a hub data set; a run fetches it first), ";
    assert_eq!(plan.matches(said).count(), 2, "{plan}");
    assert!(!paths(&place.server.requests()).iter().any(|path| path.contains("datasets")));

    let out = place.home.path().join("run");
    let done = output(place.program().arg("run").arg(&recipe).arg("--out").arg(&out));
    let log = stderr(&done);
    assert!(done.status.success(), "{log}");
    let requests = place.server.requests();
    let fetched = names.map(|name| !bodies(&requests, name).is_empty());
    assert_eq!(fetched, [true, true, false], "{requests:?}");
    assert!(log.contains("gold: 8 training and 4 validation pairs"), "{log}");
    assert!(log.contains("preferences: 5 pairs"), "{log}");
    let written = fs::read_to_string(out.join("recipe.toml")).unwrap();
    assert_eq!(written.matches("source = \"owner/pairs\"").count(), 2, "{written}");
    let again = output(
        place.program().arg("run").arg(&recipe).arg("--out").arg(&out).env("HF_HUB_OFFLINE", "1"),
    );
    assert!(again.status.success() && !stderr(&again).contains("starting"), "{}", stderr(&again));

    let several = ["--set", "gold.reward_model.subset=nowhere"];
    let error = failure(place.program().arg("run").arg(&recipe).args(several), 1);
    assert!(
        error.contains("`gold.reward_model.subset` is `nowhere`, but no data file lies in"),
        "{error}"
    );
}
