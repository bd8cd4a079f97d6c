//! Data sets, and recipes that name ids.

use std::fs;

use w2s::hub::Hub;
use w2s::recipe::HubId;

use super::{ALL, Place, bodies, paths, tree};
use crate::common::{failure, lines, output, stderr, success};
use crate::hub_server::{Fault, Files};

const DATA: &str = "datasets/owner/reviews";

fn reviews() -> Files {
    let rows = |count: usize| -> Vec<u8> {
        (0..count)
            .map(|row| format!("{{\"text\":\"a b c d e f g {row}\",\"label\":{}}}\n", row % 2))
            .collect::<String>()
            .into_bytes()
    };
    let of = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    Files::from([
        of("train.jsonl", &rows(6)),
        of("validation.jsonl", &rows(3)),
        of("test.jsonl", &rows(4)),
        of("README.md", b"# reviews"),
        of("dataset_infos.json", b"{}"),
        of("pictures/x.png", b"png"),
    ])
}

#[test]
fn a_data_set_comes_with_its_data_files_alone() {
    let place = Place::new();
    let mut files = reviews();
    for part in ["data/more-00000-of-00002.parquet", "data/more-00001-of-00002.parquet"] {
        files.insert(part.to_owned(), part.as_bytes().to_vec());
    }
    let commit = place.server.publish(DATA, "main", files.clone());
    let id = HubId::parse("owner/reviews").unwrap();
    let snapshot = place.hub().dataset(&id, ALL).unwrap();
    assert_eq!(
        snapshot,
        place.home.path().join("hub/datasets--owner--reviews/snapshots").join(commit)
    );
    let names = [
        "data/more-00000-of-00002.parquet",
        "data/more-00001-of-00002.parquet",
        "test.jsonl",
        "train.jsonl",
        "validation.jsonl",
    ];
    assert_eq!(tree(&snapshot), names);
    assert!(names.iter().all(|name| fs::read(snapshot.join(name)).unwrap() == files[*name]));
    let offline = Hub::new(place.offline());
    assert_eq!(offline.dataset(&id, ALL).unwrap(), snapshot);
    fs::remove_file(snapshot.join(names[1])).unwrap();
    assert!(
        offline
            .dataset(&id, ALL)
            .unwrap_err()
            .to_string()
            .contains("lacks data/more-00001-of-00002.parquet")
    );
}

#[test]
fn a_data_set_that_was_not_fetched_to_its_end_is_not_used_offline() {
    let place = Place::new();
    let commit = place.server.publish(DATA, "main", reviews());
    place.server.fault("validation.jsonl", 99, Fault::Drop(0));
    let id = HubId::parse(&format!("owner/reviews@{commit}")).unwrap();
    assert!(place.hub().dataset(&id, ALL).is_err());
    let error = Hub::new(place.offline()).dataset(&id, ALL).unwrap_err().to_string();
    assert!(error.contains("was not fetched to its end"), "{error}");
    place.server.heal();
    let snapshot = place.hub().dataset(&id, ALL).unwrap();
    assert_eq!(Hub::new(place.offline()).dataset(&id, ALL).unwrap(), snapshot);
    place.server.publish(DATA, "main", Files::from([("README.md".to_owned(), b"#".to_vec())]));
    let error =
        place.hub().dataset(&HubId::parse("owner/reviews").unwrap(), ALL).unwrap_err().to_string();
    assert!(
        error.contains("the repository has no data files")
            && error.contains("@refs/convert/parquet"),
        "{error}"
    );
}

#[test]
fn of_several_splits_only_the_chosen_one_is_fetched() {
    let place = Place::new();
    let splits = ["train_gen", "train_sft", "test_gen", "test_sft"];
    let names = splits.map(|split| format!("data/{split}-00000-of-00001.jsonl"));
    let rows = |split: &str| {
        (0..4)
            .map(|row| format!("{{\"text\":\"{row} {split} a b c\",\"label\":{}}}\n", row % 2))
            .collect::<String>()
    };
    let files = names
        .iter()
        .zip(splits)
        .map(|(name, split)| (name.clone(), rows(split).into_bytes()))
        .collect();
    place.server.publish(DATA, "main", files);
    let recipe = place.home.path().join("recipe.toml");
    let text = "[run]\nname = \"hub\"\ndtype = \"float32\"\n[data]\nsource = \
                \"owner/reviews\"\ntrain = 0\nvalidation = 1\ntest = 2\n\
                [models.base]\nid = \"owner/tiny\"\n[steer]\nbases = [\"base\"]\nprompts = \
                1\nmax_new_tokens = 4\n\
                [[steer.method]]\nkind = \"base\"\n[data.prompt]\nmin_words = 1\nmax_words = 2\n";
    fs::write(&recipe, text).unwrap();
    let out = place.home.path().join("run");
    let run = |splits: &[&str]| {
        let mut command = place.program();
        command.arg("run").arg(&recipe).arg("--out").arg(&out).arg("--fresh");
        command.args(
            splits.iter().flat_map(|split| ["--set".to_owned(), format!("data.splits.{split}")]),
        );
        command
    };
    let error = failure(&mut run(&[]), 1);
    let families = "`train_gen` (`data/train_gen-00000-of-00001.jsonl`), `train_sft` \
                    (`data/train_sft-00000-of-00001.jsonl`)";
    assert!(
        error.contains(&format!(
            "owner/reviews: the train split could be any of 2: {families}\n\nhint: "
        )),
        "{error}"
    );
    let fetched = || -> Vec<String> {
        let requests = place.server.requests();
        names.iter().filter(|name| !bodies(&requests, name).is_empty()).cloned().collect()
    };
    assert_eq!(fetched(), [""; 0], "before anything of it is fetched");
    let chosen = ["train=\"train_sft\"", "test=\"test_sft\""];
    let done = output(&mut run(&chosen));
    assert!(done.status.success(), "{}", stderr(&done));
    assert_eq!(fetched(), [names[1].clone(), names[3].clone()]);
    let read = "data: train: 4 rows of `data/train_sft-00000-of-00001.jsonl`\n";
    assert!(
        stderr(&done).contains(read) && stderr(&done).contains("held out by hash"),
        "{}",
        stderr(&done)
    );
    // What the cache has is enough for the same choice, and for no other.
    success(run(&chosen).env("HF_HUB_OFFLINE", "1"));
    let error =
        failure(run(&["train=\"train_gen\"", "test=\"test_sft\""]).env("HF_HUB_OFFLINE", "1"), 1);
    assert!(
        error.contains(
            "`data.splits.train` is `train_gen`, but no data file is called so, and HF_HUB_OFFLINE"
        ),
        "{error}"
    );
    success(&mut run(&["train=\"train_gen\"", "test=\"test_sft\""]));
    assert_eq!(fetched(), [names[0].clone()]);
}

/// In the layout of OpenAI's comparisons.
#[test]
fn pairs_of_a_hub_data_set_are_fetched_from_its_subset_alone() {
    let place = Place::new();
    let rows: String = (0..6)
        .map(|row| {
            format!(
                "{{\"info\":{{\"post\":\"p{row}\",\"subreddit\":\"\"}},\"summaries\":[{{\"text\":\" a\"}},\
                 {{\"text\":\" b\"}}],\"choice\":1,\"worker\":\"w\"}}\n"
            )
        })
        .collect();
    let names = ["axis/train/0000.jsonl", "comparisons/train/0000.jsonl"];
    let files = names.map(|name| (name.to_owned(), rows.clone().into_bytes()));
    place.server.publish(DATA, "main", Files::from(files));
    let recipe = place.home.path().join("recipe.toml");
    let text = "[run]\nname='hub'\ndtype='float32'\n[models.base]\nid='owner/tiny'\n\
                [preferences]\nsource='owner/reviews'\nvalidation_pairs=2\nlabel='kept'\n\
                policy='base'\n[sft]\n";
    fs::write(&recipe, text).unwrap();
    let out = place.home.path().join("run");
    let run = |set: &[&str]| {
        let mut command = place.program();
        command.args(["run", "--only", "preferences"]).arg(&recipe).arg("--out").arg(&out);
        command.args(set);
        command
    };
    let plan = success(place.program().arg("check").arg(&recipe));
    assert!(
        plan.contains("pairs of owner/reviews (a hub data set; a run fetches it first), columns"),
        "{plan}"
    );
    let error = failure(&mut run(&[]), 1);
    assert!(
        error.contains("the train split lies in several folders: `axis`, `comparisons`")
            && error.contains("as `preferences.subset`"),
        "{error}"
    );
    place.server.requests();
    let subset = ["--set", "preferences.subset=comparisons"];
    let said = stderr(&output(&mut run(&subset)));
    assert!(said.contains("train: 6 pairs of `train/0000.jsonl`; not read: `worker`"), "{said}");
    let pairs = lines(&out.join("preferences/train.jsonl"));
    assert!(pairs.len() == 4 && pairs.iter().all(|pair| pair["chosen"] == " b"), "{pairs:?}");
    let requests = place.server.requests();
    assert!(bodies(&requests, names[0]).is_empty() && !bodies(&requests, names[1]).is_empty());
    let written = fs::read_to_string(out.join("recipe.toml")).unwrap();
    assert!(written.contains("source = \"owner/reviews\""), "{written}");
}

#[test]
fn a_recipe_takes_ids_and_check_fetches_no_weights_and_no_data() {
    let place = Place::new();
    place.server.publish(DATA, "main", reviews());
    let recipe = place.home.path().join("recipe.toml");
    let text = "[run]\nname = \"hub\"\ndtype = \"float32\"\n[data]\nsource = \
                \"owner/reviews\"\ntrain = 2\nvalidation = 1\ntest = 2\n\
                [models.base]\nid = \"owner/tiny\"\n[steer]\nbases = [\"base\"]\nprompts = \
                1\nmax_new_tokens = 4\n\
                [[steer.method]]\nkind = \"base\"\n[data.prompt]\nmin_words = 1\nmax_words = 2\n";
    fs::write(&recipe, text).unwrap();
    let plan = success(place.program().arg("check").arg(&recipe));
    assert!(plan.contains("data owner/reviews (a hub data set; a run fetches it first)"), "{plan}");
    assert!(plan.contains(", from owner/tiny\n") && plan.contains("context 32"), "{plan}");
    let requests = place.server.requests();
    assert!(
        !paths(&requests)
            .iter()
            .any(|path| path.contains("safetensors") || path.contains("datasets")),
        "{requests:?}"
    );

    // A model that cannot be used is told by its config alone, before its weights are fetched,
    // beside what is wrong with others.
    let mut quantised = place.model.clone();
    let mut config: serde_json::Value = serde_json::from_slice(&quantised["config.json"]).unwrap();
    config["quantization_config"] = serde_json::json!({ "quant_method": "gptq", "bits": 4 });
    quantised.insert("config.json".to_owned(), config.to_string().into_bytes());
    place.server.publish("models/owner/quantised", "main", quantised);
    for command in ["check", "run"] {
        let mut command = place
            .program()
            .arg(command)
            .arg(&recipe)
            .args(["--set", "models.base.id=owner/quantised"])
            .output()
            .unwrap();
        let error = String::from_utf8(std::mem::take(&mut command.stderr)).unwrap();
        assert!(
            error.contains("`models.base.id`: ")
                && error.contains("the weights are quantised by GPTQ to 4 bits"),
            "{error}"
        );
        assert!(
            command.status.code() == Some(2)
                && !paths(&place.server.requests()).iter().any(|path| path.contains("safetensors"))
        );
    }

    // What is wrong with the recipe is told before anything is asked.
    let error =
        failure(place.program().arg("run").arg(&recipe).args(["--set", "steer.prompts=99"]), 2);
    assert!(
        error.contains("`steer.prompts` = 99") && place.server.requests().is_empty(),
        "{error}"
    );

    let out = place.home.path().join("run");
    success(place.program().arg("run").arg(&recipe).arg("--out").arg(&out));
    assert_eq!(lines(&out.join("steer/base/base/seed-1.jsonl")).len(), 1);
    let written = fs::read_to_string(out.join("recipe.toml")).unwrap();
    assert!(
        written.contains("id = \"owner/tiny\"") && written.contains("source = \"owner/reviews\""),
        "{written}"
    );
    let plan = fs::read_to_string(out.join("plan.json")).unwrap();
    assert!(plan.contains(&format!("models--owner--tiny/snapshots/{}", place.commit)), "{plan}");
    // The same run again, without a network: nothing is left to do.
    let again = output(
        place.program().arg("run").arg(&recipe).arg("--out").arg(&out).env("HF_HUB_OFFLINE", "1"),
    );
    assert!(
        again.status.success() && stderr(&again).contains("done already"),
        "{}",
        stderr(&again)
    );
    // Nor with the cache elsewhere, where other programs have put more beside the files that we
    // read.
    let other = tempfile::tempdir().unwrap();
    fs::rename(place.home.path().join("hub"), other.path().join("hub")).unwrap();
    let snapshot = other.path().join("hub/models--owner--tiny/snapshots").join(&place.commit);
    fs::write(snapshot.join("README.md"), "# tiny").unwrap();
    let mut run = place.program();
    let moved = output(
        run.arg("run")
            .arg(&recipe)
            .arg("--out")
            .arg(&out)
            .env("HF_HOME", other.path())
            .env("HF_HUB_OFFLINE", "1"),
    );
    assert!(moved.status.success() && !stderr(&moved).contains("starting"), "{}", stderr(&moved));
}
