//! The recipes of the paper's tables and figures at full size, against a hub on the loopback
//! interface that has their models' configs and tokenizers, and no weights.

use std::path::{Path, PathBuf};

use super::shipped;
use crate::common::{success, w2s};
use crate::hub_server::{Files, Server};

/// The recipes of `recipes/` that take models from the hub; each has a twin in `recipes/small/`.
pub const FULL_SIZE: [&str; 14] = [
    "ablation-l",
    "ablation-l-summarization",
    "ablation-wk",
    "ablation-wk-summarization",
    "eft-sweep",
    "instruction-tulu",
    "instruction-zephyr",
    "ppo-sentiment",
    "released",
    "safety",
    "sentiment",
    "single-stage",
    "summarization",
    "truthfulness",
];

/// Hub ids with the folder of `benches/shapes` that has their config, a tokenizer of
/// `tests/golden/tokenizers`, and whether they have a chat template.
const HUB: [(&str, &str, &str, bool); 20] = [
    ("openai-community/gpt2", "gpt2", "gpt2", false),
    ("openai-community/gpt2-large", "gpt2-large", "gpt2", false),
    ("openai-community/gpt2-xl", "gpt2-xl", "gpt2", false),
    ("lvwerra/gpt2-imdb", "gpt2", "gpt2", false),
    ("meta-llama/Llama-2-7b-hf", "llama-2-7b", "llama-2", false),
    ("meta-llama/Meta-Llama-3-8B", "llama-3-8b", "llama-31", false),
    ("meta-llama/Llama-2-7b-chat-hf", "llama-2-7b", "llama-2", true),
    ("meta-llama/Llama-2-70b-chat-hf", "llama-2-70b", "llama-2", true),
    ("meta-llama/Meta-Llama-3-8B-Instruct", "llama-3-8b", "llama-31", true),
    ("meta-llama/Meta-Llama-3-70B-Instruct", "llama-3-70b", "llama-31", true),
    ("HuggingFaceH4/zephyr-7b-beta", "mistral-7b", "mistral", true),
    ("HuggingFaceH4/mistral-7b-sft-beta", "mistral-7b", "mistral", true),
    ("allenai/tulu-2-7b", "tulu-2-7b", "llama-2", true),
    ("allenai/tulu-2-dpo-7b", "tulu-2-7b", "llama-2", true),
    ("allenai/tulu-2-13b", "llama-2-13b", "llama-2", true),
    ("lvwerra/distilbert-imdb", "distilbert-imdb", "gpt2", false),
    ("openbmb/UltraRM-13b", "ultrarm-13b", "llama-2", false),
    ("Nexusflow/Starling-RM-34B", "starling-rm-34b", "llama-2", false),
    ("Ray2333/gpt2-large-harmless-reward_model", "gpt2-large-reward", "gpt2", false),
    ("Ray2333/gpt2-large-helpful-reward_model", "gpt2-large-reward", "gpt2", false),
];

/// A chat template that says every turn.
pub const CHAT: &str = "{% for turn in messages %}<|{{ turn.role }}|>\n{{ turn.content }}\n{% endfor %}\
                    {% if add_generation_prompt %}<|assistant|>\n{% endif %}";

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn files(shape: &str, tokenizer: &str, is_chat: bool) -> Files {
    let read = |path: String| std::fs::read(root(&path)).unwrap();
    let tokenizer = format!("tests/golden/tokenizers/{tokenizer}");
    let settings = read(format!("{tokenizer}/tokenizer_config.json"));
    let mut settings: serde_json::Value = serde_json::from_slice(&settings).unwrap();
    if is_chat {
        settings["chat_template"] = CHAT.into();
    }
    Files::from([
        ("config.json".to_owned(), read(format!("benches/shapes/{shape}/config.json"))),
        ("tokenizer.json".to_owned(), read(format!("{tokenizer}/tokenizer.json"))),
        ("tokenizer_config.json".to_owned(), settings.to_string().into_bytes()),
        ("model.safetensors".to_owned(), b"never fetched".to_vec()),
    ])
}

#[test]
fn every_full_size_recipe_passes_check_and_fetches_no_weights() {
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start());
    for (id, shape, tokenizer, is_chat) in HUB {
        server.publish(&format!("models/{id}"), "main", files(shape, tokenizer, is_chat));
    }
    for name in FULL_SIZE {
        let mut command = w2s();
        command.arg("check").arg(shipped(&format!("{name}.toml")));
        command.env("HF_HOME", home.path()).env("HF_ENDPOINT", &server.endpoint);
        for variable in ["HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"] {
            command.env_remove(variable);
        }
        let said = success(&mut command);
        let memory = said.split("\nmemory, at most").nth(1).unwrap_or_else(|| panic!("{said}"));
        assert!(memory.contains("\n  steer ("), "{name}: {said}");
    }
    let fetched = server.requests();
    assert!(fetched.iter().all(|request| !request.path.contains("safetensors")), "{fetched:?}");
}
