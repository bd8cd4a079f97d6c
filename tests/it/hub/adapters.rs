//! Adapters whose base is on the hub, and adapters that are repositories themselves.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tch::{Device, Kind};
use w2s::models::Lm;
use w2s::recipe::{Lora, LoraSave};

use super::{ID, MODEL, Place, bodies, paths};
use crate::common::{failure, success};
use crate::hub_server::{Fault, folder};

const ADAPTER: &str = "owner/adapter";
const ADAPTER_MODEL: &str = "models/owner/adapter";

/// A trained adapter on the place's model, whose config names `base`.
fn adapter(place: &Place, base: &str) -> PathBuf {
    let path = place.home.path().join("tuned");
    let lora =
        Lora { rank: 2, alpha: 4.0, targets: vec!["c_attn".to_owned()], save: LoraSave::Adapter };
    let model = place.home.path().join("model");
    let lm = Lm::open_lora(&model, Device::Cpu, Kind::Float, &lora, 5).unwrap();
    tch::no_grad(|| {
        for (index, (_, matrix)) in lm.trainable_parameters().iter().enumerate() {
            let size = matrix.numel() as i64;
            let values = (tch::Tensor::arange(size, (Kind::Float, Device::Cpu))
                * (index + 1) as f64)
                .sin()
                .view(matrix.size().as_slice());
            matrix.shallow_clone().copy_(&values);
        }
    });
    lm.save(&path).unwrap();
    name_base(&path, base);
    path
}

fn name_base(adapter: &Path, base: &str) {
    let file = adapter.join("adapter_config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config["base_model_name_or_path"] = json!(base);
    fs::write(file, config.to_string()).unwrap();
}

fn recipe(place: &Place, guide: &str) -> PathBuf {
    let path = place.home.path().join("recipe.toml");
    let text = format!(
        "[run]\nname = 'adapters'\ndtype = 'float32'\n[data]\nsource = 'builtin:reviews'\n\
         train = 4\nvalidation = 2\ntest = 2\n[models.base]\nid = '{guide}'\n[steer]\n\
         bases = ['base']\nprompts = 2\nmax_new_tokens = 3\n[[steer.method]]\nkind = 'base'\n"
    );
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_base_of_an_adapter_is_fetched_where_it_is_on_the_hub() {
    let place = Place::new();
    let path = adapter(&place, "../model");
    let expected = success(&mut place.steer("tuned"));
    assert_ne!(expected, success(&mut place.steer("model")), "the adapter shows");
    name_base(&path, ID);

    let offline = failure(place.steer("tuned").env("HF_HUB_OFFLINE", "1"), 1);
    assert!(offline.contains("owner/tiny: not in the cache"), "{offline}");
    // `check` needs its config alone, `run` all of it.
    let recipe = recipe(&place, "tuned");
    success(place.program().arg("check").arg(&recipe));
    assert!(bodies(&place.server.requests(), "model.safetensors").is_empty());
    let run = |command: &mut std::process::Command| {
        success(command.arg("run").arg(&recipe).arg("--out").arg(place.home.path().join("run")))
    };
    run(&mut place.program());
    assert_eq!(bodies(&place.server.requests(), "model.safetensors").len(), 1);
    run(place.program().env("HF_HUB_OFFLINE", "1"));
    assert_eq!(success(&mut place.steer("tuned")), expected);
    assert_eq!(success(place.steer("tuned").env("HF_HUB_OFFLINE", "1")), expected);
    let told = success(place.program().args(["doctor", "tuned"]));
    assert!(told.contains("their headers are as config.json asks for"), "{told}");

    // The commit that the adapter was trained on, while the branch goes on.
    let mut config: Value =
        serde_json::from_slice(&fs::read(path.join("adapter_config.json")).unwrap()).unwrap();
    config["revision"] = json!(place.commit);
    fs::write(path.join("adapter_config.json"), config.to_string()).unwrap();
    let mut other = place.model.clone();
    let text = String::from_utf8(other["config.json"].clone()).unwrap();
    other.insert("config.json".to_owned(), text.replace("1e-05", "0.1").into_bytes());
    place.server.publish(MODEL, "main", other);
    success(&mut place.steer(ID));
    assert_eq!(success(&mut place.steer("tuned")), expected);
}

#[test]
fn a_repository_may_be_an_adapter() {
    let place = Place::new();
    let path = adapter(&place, "../model");
    let expected = success(&mut place.steer("tuned"));
    name_base(&path, ID);
    let mut files = folder(&path);
    files.insert("README.md".to_owned(), b"of no use".to_vec());
    place.server.publish(ADAPTER_MODEL, "main", files.clone());
    fs::remove_dir_all(&path).unwrap();

    success(place.program().arg("check").arg(recipe(&place, ADAPTER)));
    let requests = place.server.requests();
    let fetched = paths(&requests);
    assert!(!fetched.iter().any(|path| path.contains(".safetensors")), "{fetched:?}");
    assert_eq!(success(&mut place.steer(ADAPTER)), expected);
    assert_eq!(success(place.steer(ADAPTER).env("HF_HUB_OFFLINE", "1")), expected);
    success(place.program().arg("run").arg(recipe(&place, ADAPTER)).args(["--out", "run"]));
    let told = success(place.program().args(["doctor", ADAPTER]));
    assert!(told.contains("their headers are as config.json asks for"), "{told}");

    // A whole model beside what is left of an adapter is that model.
    let mut both = place.model.clone();
    both.insert("adapter_config.json".to_owned(), files["adapter_config.json"].clone());
    place.server.publish("models/owner/merged", "main", both);
    assert_eq!(success(&mut place.steer("owner/merged")), success(&mut place.steer("model")));

    files.remove("adapter_model.safetensors");
    place.server.publish("models/owner/old", "main", files);
    let error = failure(&mut place.steer("owner/old"), 1);
    assert!(
        error.contains("is an adapter (adapter_config.json) without adapter_model.safetensors")
            && error.contains("hint: save it again"),
        "{error}"
    );
}

#[test]
fn a_base_that_is_nowhere_is_told_with_the_way_out() {
    let place = Place::new();
    let path = adapter(&place, ID);
    place.server.fault("/api/", 99, Fault::Silence);
    let told = success(place.program().args(["doctor", "tuned"]).env("HF_HUB_OFFLINE", "1"));
    assert!(
        told.contains("`owner/tiny`, which is no folder here and not in the hub's cache")
            && told.contains("`w2s doctor owner/tiny`"),
        "{told}"
    );
    name_base(&path, "../gone");
    let error = failure(&mut place.steer("tuned"), 1);
    assert!(
        error.contains("is `../gone`, which is no folder here, seen from tuned or from where")
            && error.contains("hint: if the base model was moved or renamed, write there"),
        "{error}"
    );
    // As in PEFT, from where the program runs.
    name_base(&path, "./model");
    success(&mut place.steer("tuned"));
}
