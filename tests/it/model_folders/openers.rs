//! Every kind of folder that the program saves, opened by transformers, PEFT and llama.cpp. The
//! table in docs/models.md is what these tests print.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tch::Kind;
use w2s::models::{
    Classifier, ClassifierConfig, DistilBertConfig, Gpt2Config, LlamaConfig, Lm, LmConfig,
    RewardModel, base_of_adapter,
};
use w2s::prompt::Message;
use w2s::recipe::{Lora, LoraSave};
use w2s::text::Tokenizer;
use w2s::text::reviews::review;

use super::CPU;
use crate::common::{recipe, success, w2s};
use crate::{golden, judge};

/// Two of different length, so that one is padded.
const TEXTS: [&str; 2] = ["The film was not bad at all", "A story"];
const NEW_TOKENS: usize = 8;

/// A config of the family with few and small layers.
fn config(family: &str, vocab_size: usize, eos: Option<i64>) -> LmConfig {
    let shared = json!({ "vocab_size": vocab_size, "eos_token_id": eos, "initializer_range": 0.2 });
    let own = match family {
        "gpt2" => json!({ "n_positions": 96, "n_embd": 32, "n_layer": 2, "n_head": 2 }),
        _ => json!({
            "model_type": family, "max_position_embeddings": 96, "hidden_size": 32,
            "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2,
        }),
    };
    let mut fields = shared;
    fields.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    match family {
        "gpt2" => LmConfig::Gpt2(serde_json::from_value::<Gpt2Config>(fields).unwrap()),
        _ => LmConfig::Llama(serde_json::from_value::<LlamaConfig>(fields).unwrap()),
    }
}

fn save(family: &str, tokenizer: &Tokenizer, folder: &Path) {
    let vocab_size = tokenizer.largest_id() as usize + 1;
    let lm = Lm::new(config(family, vocab_size, tokenizer.eos_id()), 3, CPU).unwrap();
    tokenizer.save(folder).unwrap();
    lm.save(folder).unwrap();
}

/// A start in the folder `start`, and what the stages make of it by a recipe of its own.
fn tuned(target: &Path, family: &str, lora: Option<&str>) {
    std::fs::create_dir_all(target).unwrap();
    let reviews = (0..40).map(|index| review(1, "train", index).text);
    let start = target.join("start");
    save(family, &Tokenizer::train_bpe(reviews, 400).unwrap(), &start);
    std::fs::write(start.join("chat_template.jinja"), CHAT).unwrap();
    let smoke = std::fs::read_to_string(recipe("smoke.toml")).unwrap();
    let mut recipe: toml::Table = smoke.parse().unwrap();
    for table in ["pretrain", "direct", "steer", "evaluate"] {
        recipe.remove(table);
    }
    let short = |stage: &mut toml::Value| {
        stage["training"].as_table_mut().unwrap().insert("steps".into(), 2.into());
        stage["training"].as_table_mut().unwrap().remove("epochs");
    };
    for name in ["gold", "sft", "dpo", "reward_model", "ppo"] {
        let stage = &mut recipe[name];
        short(stage);
        if let Some(save) = lora.filter(|_| name != "gold") {
            let table = [("save".to_owned(), save.into()), ("rank".to_owned(), 2.into())];
            stage
                .as_table_mut()
                .unwrap()
                .insert("lora".into(), toml::Value::Table(table.into_iter().collect()));
        }
    }
    let ppo = recipe["ppo"].as_table_mut().unwrap();
    ppo.insert("policy".into(), "guide".into());
    ppo.insert("chunk_len".into(), 5.into());
    let start = [("id".to_owned(), "start".into())].into_iter().collect();
    let models = [("guide".to_owned(), toml::Value::Table(start))].into_iter().collect();
    recipe.insert("models".into(), toml::Value::Table(models));
    let path = target.join("recipe.toml");
    std::fs::write(&path, recipe.to_string()).unwrap();
    success(w2s().arg("run").arg(&path).arg("--out").arg(target.join("run")));
}

/// A chat template by which the saved tokenizer is told from one without.
const CHAT: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
                    {% if add_generation_prompt %}assistant:{% endif %}";

fn ids_of(tokenizer: &Tokenizer) -> Vec<Vec<i64>> {
    TEXTS.iter().map(|text| tokenizer.encode_with_special(text).unwrap()).collect()
}

fn numbers(rows: &tch::Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(rows.to_kind(Kind::Double).view([-1])).unwrap()
}

/// What this program makes of a folder: the last logits of each text and what follows greedily, the
/// labels' logits, or the rewards.
fn row(name: &str, folder: &Path) -> Value {
    let base = base_of_adapter(folder).unwrap();
    let home = base.clone().unwrap_or_else(|| folder.to_owned());
    let tokenizer = Tokenizer::open(folder).unwrap();
    let ids = ids_of(&tokenizer);
    let mut found = json!({
        "name": name, "folder": folder, "base": base, "texts": TEXTS, "ids": ids,
    });
    let config: Value =
        serde_json::from_slice(&std::fs::read(home.join("config.json")).unwrap()).unwrap();
    let _no_grad = tch::no_grad_guard();
    let (kind, expected) = if config["model_type"] == "distilbert" {
        let classifier = Classifier::open(folder, CPU, Kind::Float).unwrap();
        let logits = ids.iter().map(|ids| {
            let ids = tch::Tensor::from_slice(ids).unsqueeze(0);
            numbers(&classifier.logits(&ids, &ids.ge(0)))
        });
        ("classifier", logits.collect::<Vec<_>>())
    } else if name.ends_with("reward_model") {
        let reward = RewardModel::open(folder, CPU, Kind::Float).unwrap();
        let rows: Vec<&[i64]> = ids.iter().map(Vec::as_slice).collect();
        let rewards = numbers(&reward.rewards_of(&rows));
        ("reward", rewards.into_iter().map(|reward| vec![reward]).collect())
    } else {
        let lm = Lm::open(folder, CPU, Kind::Float).unwrap();
        let last = |ids: &[i64]| {
            let ids = tch::Tensor::from_slice(ids).unsqueeze(0);
            golden::logits(&lm, &ids).select(0, 0).select(0, -1)
        };
        let mut text = ids[0].clone();
        for _ in 0..NEW_TOKENS {
            text.push(last(&text).argmax(0, false).int64_value(&[]));
        }
        found["greedy"] = json!(text);
        found["decoded"] = json!(tokenizer.decode(&text).unwrap());
        ("lm", ids.iter().map(|ids| numbers(&last(ids))).collect())
    };
    if let Some(template) = tokenizer.chat_template().unwrap() {
        let chat = [Message::new("user", TEXTS[0]), Message::new("assistant", TEXTS[1])];
        found["chat"] = json!(template.render(&chat, true).unwrap());
    }
    found["kind"] = json!(kind);
    found["expected"] = json!(expected);
    found
}

fn rows_of_run(name: &str, target: &Path) -> Vec<Value> {
    let run = target.join("run");
    let stages = ["gold", "sft", "dpo", "reward_model", "ppo/guide/L-5/seed-1"];
    let of_stage = |stage: &str| row(&format!("{name} {stage}"), &run.join(stage));
    stages.into_iter().map(of_stage).collect()
}

fn ask(script: &str, target: &Path, rows: &[Value], more: &[&Path]) {
    let file: PathBuf = target.join("rows.json");
    std::fs::write(&file, json!(rows).to_string()).unwrap();
    judge::ask(script, &[&[&*file], more].concat());
}

#[test]
#[ignore = "needs Python with torch: make judge-heavy"]
fn transformers_and_peft_open_every_kind_of_folder() {
    let target = tempfile::tempdir().unwrap();
    let mut rows = Vec::new();
    for (family, lora) in [
        ("gpt2", None),
        ("gpt2", Some("adapter")),
        ("gpt2", Some("merged")),
        ("llama", None),
        ("llama", Some("adapter")),
        ("llama", Some("merged")),
        ("mistral", None),
        ("qwen2", Some("adapter")),
    ] {
        let name = format!("{family} {}", lora.unwrap_or("whole"));
        let folder = target.path().join(&name);
        tuned(&folder, family, lora);
        rows.extend(rows_of_run(&name, &folder));
    }
    ask("judge/openers.py", target.path(), &rows, &[]);
}

/// A language model, an adapter on it, and a reward model.
fn of_tokenizer(target: &Path, name: &str, family: &str, tokenizer: &Tokenizer) -> Vec<Value> {
    let [base, adapter, reward] =
        ["", " adapter", " reward_model"].map(|kind| target.join(format!("{name}{kind}")));
    save(family, tokenizer, &base);
    let targets = if family == "gpt2" { ["c_attn", "c_fc"] } else { ["q_proj", "down_proj"] };
    let targets = targets.map(str::to_owned).to_vec();
    let lora = Lora { rank: 2, alpha: 4.0, targets, save: LoraSave::Adapter };
    let lm = Lm::open_lora(&base, CPU, Kind::Float, &lora, 5).unwrap();
    tch::no_grad(|| {
        for (_, matrix) in lm.trainable_parameters().iter().filter(|(name, _)| name.contains("_B"))
        {
            let _ = matrix.shallow_clone().fill_(0.2).f_sub_scalar_(0.1).unwrap();
        }
    });
    tokenizer.save(&adapter).unwrap();
    lm.save(&adapter).unwrap();
    tokenizer.save(&reward).unwrap();
    RewardModel::from_lm(&base, CPU, Kind::Float).unwrap().save(&reward).unwrap();
    let row_of = |folder: PathBuf| row(folder.file_name().unwrap().to_str().unwrap(), &folder);
    [base, adapter, reward].map(row_of).to_vec()
}

/// With the tokenizers that people have, and with our own: the converter knows a byte-level one by
/// the hash of what it makes of a text.
#[test]
#[ignore = "needs Python with torch, W2S_SHARED_DATA and W2S_LLAMA_CPP: make judge-heavy"]
fn llama_cpp_converts_and_runs_what_it_knows() {
    let [data, llama_cpp] = ["W2S_SHARED_DATA", "W2S_LLAMA_CPP"]
        .map(|name| PathBuf::from(std::env::var_os(name).expect(name)));
    let target = tempfile::tempdir().unwrap();
    let mut rows = Vec::new();
    for (family, kind) in
        [("gpt2", "gpt2"), ("llama", "llama-2"), ("llama", "llama-3"), ("mistral", "zephyr")]
    {
        let tokenizer = Tokenizer::open(&data.join("tokenizers").join(kind)).unwrap();
        let name = format!("{family}, tokenizer of {kind}");
        rows.extend(of_tokenizer(target.path(), &name, family, &tokenizer));
    }
    let reviews = || (0..40).map(|index| review(1, "train", index).text);
    let own = Tokenizer::train_bpe(reviews(), 400).unwrap();
    rows.extend(of_tokenizer(target.path(), "gpt2, own tokenizer", "gpt2", &own));
    let (gold, pieces) =
        (target.path().join("gold"), Tokenizer::train_wordpiece(reviews(), 300).unwrap());
    let config = DistilBertConfig {
        vocab_size: pieces.vocab_size() as i64,
        dim: 32,
        n_layers: 2,
        n_heads: 2,
        hidden_dim: 64,
        ..DistilBertConfig::default()
    };
    pieces.save(&gold).unwrap();
    Classifier::new(ClassifierConfig::DistilBert(config), 3, CPU).unwrap().save(&gold).unwrap();
    rows.push(row("distilbert, own tokenizer", &gold));
    ask("judge/convert.py", target.path(), &rows, &[&llama_cpp]);
}
