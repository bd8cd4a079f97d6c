//! Gold rewards of texts: laid out as each kind of judge was trained, read at the right token, the
//! same alone and in a batch.

use std::path::Path;

use crate::golden;
use crate::golden::edit;
use serde_json::json;
use tch::{Device, Kind, Tensor};
use w2s::models::weights::{read_tensors, write_tensors};
use w2s::models::{Input, LmConfig, RewardModel};
use w2s::prompt::PromptText;
use w2s::score::JudgeModel;
use w2s::text::Tokenizer;

const CPU: Device = Device::Cpu;
const ANSWERS: [(&str, &str); 4] = [
    ("What is it?", " A film about a baker who walks home."),
    ("Short", " yes"),
    ("", "only a response, without any prompt at all, and a longer one than the others have"),
    ("A prompt of some length, with {response} in it", " and a {prompt} in the response"),
];

/// A random reward model whose head has this name, with a byte-level tokenizer.
fn model(head: &str) -> tempfile::TempDir {
    let target = tempfile::tempdir().unwrap();
    let mut config = LmConfig::read(&golden::folder("llama")).unwrap();
    let LmConfig::Llama(llama) = &mut config else { panic!("a llama") };
    (llama.vocab_size, llama.max_position_embeddings, llama.initializer_range) = (300, 160, 0.3);
    RewardModel::new(config, 5, CPU).unwrap().save(target.path()).unwrap();
    let path = target.path().join("model.safetensors");
    let tensors: Vec<_> = read_tensors(&path)
        .unwrap()
        .into_iter()
        .map(|(name, t)| (name.replace("score.weight", head), t))
        .collect();
    write_tensors(&path, &tensors, &[]).unwrap();
    let texts = ANSWERS.iter().map(|(prompt, response)| format!("{prompt}{response}"));
    Tokenizer::train_bpe(texts, 280).unwrap().save(target.path()).unwrap();
    target
}

fn open(folder: &Path, text: Option<&str>) -> JudgeModel {
    JudgeModel::open(folder, CPU, Kind::Float, text).unwrap_or_else(|error| panic!("{error}"))
}

/// The reward of one text, read at its last token by one plain forward pass.
fn plain(folder: &Path, text: &str) -> f64 {
    let (model, tokenizer) =
        (RewardModel::open(folder, CPU, Kind::Float).unwrap(), Tokenizer::open(folder).unwrap());
    let ids = tokenizer.encode(text).unwrap();
    let tensor = Tensor::from_slice(&ids).unsqueeze(0);
    let input =
        Input { ids: &tensor, positions: &golden::positions(&tensor), valid: None, packing: None };
    model.rewards(&input, &Tensor::from_slice(&[ids.len() as i64 - 1])).double_value(&[0])
}

#[test]
fn each_judge_reads_the_layout_it_was_trained_with() {
    for (head, layout) in [
        ("score.weight", "{p}{r}"),
        ("regression_head.weight", "Human: {p}\n\nAssistant: {r}"),
        ("v_head.weight", "<|im_start|>user\n{p}<|im_end|>\n<|im_start|>assistant\n{r}<|im_end|>"),
    ] {
        let folder = model(head);
        let answers = ANSWERS.map(|(prompt, response)| (PromptText::from(prompt), response));
        let answers: Vec<_> =
            answers.iter().map(|(prompt, response)| (prompt, *response)).collect();
        let together = open(folder.path(), None).rewards(&answers).unwrap();
        let own = open(folder.path(), Some("Q {prompt} A {response}.")).rewards(&answers).unwrap();
        for (row, (prompt, response)) in ANSWERS.iter().enumerate() {
            let alone = open(folder.path(), None).rewards(&answers[row..row + 1]).unwrap()[0];
            let expected =
                plain(folder.path(), &layout.replace("{p}", prompt).replace("{r}", response));
            assert!(
                (together[row] - expected).abs() < 1e-5 && (alone - expected).abs() < 1e-5,
                "{head} {row}: {together:?} {expected}"
            );
            let expected = plain(folder.path(), &format!("Q {prompt} A {response}."));
            assert!((own[row] - expected).abs() < 1e-5, "{head} {row}");
            assert!((own[row] - together[row]).abs() > 1e-3, "{head} {row}: the layout matters");
        }
        let mut backwards = answers;
        backwards.reverse();
        let mut again = open(folder.path(), None).rewards(&backwards).unwrap();
        again.reverse();
        assert!(
            together.iter().zip(&again).all(|(a, b)| (a - b).abs() < 1e-5),
            "{head}: the order of a batch does not matter"
        );
    }
}

#[test]
fn what_is_too_long_loses_its_beginning_and_no_token_of_the_response() {
    let folder = model("score.weight");
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    let (prompt, response) = ("word ".repeat(200), " the response");
    let reward =
        open(folder.path(), None).rewards(&[(&prompt.clone().into(), response)]).unwrap()[0];
    let ids = tokenizer.encode(&format!("{prompt}{response}")).unwrap();
    assert!(ids.len() > 160);
    let kept = tokenizer.decode(&ids[ids.len() - 160..]).unwrap();
    assert_eq!(tokenizer.encode(&kept).unwrap().len(), 160);
    assert!((reward - plain(folder.path(), &kept)).abs() < 1e-5);
}

/// As in the published code of Starling-RM, which finds the end of a text by its padding.
#[test]
fn starling_reads_before_the_first_token_zero() {
    let folder = model("v_head.weight");
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    let zero = tokenizer.decode_with_special(&[0]).unwrap();
    let response = format!("good{zero} and what follows does not count");
    let found = open(folder.path(), Some("{prompt}{response}"))
        .rewards(&[(&"A film: ".into(), &response)])
        .unwrap()[0];
    assert!((found - plain(folder.path(), "A film: good")).abs() < 1e-5);
    let scored = model("score.weight");
    let found = open(scored.path(), None).rewards(&[(&"A film: ".into(), &response)]).unwrap()[0];
    assert!(
        (found - plain(scored.path(), &format!("A film: {response}"))).abs() < 1e-5,
        "the others read the whole text"
    );
}

#[test]
fn a_judge_that_cannot_judge_says_why() {
    let failure = |folder: &Path| {
        JudgeModel::open(folder, CPU, Kind::Float, None)
            .err()
            .expect("this folder must not open")
            .to_string()
    };
    assert!(failure(&golden::folder("llama")).contains("is no reward model"));
    let folder = model("score.weight");
    edit::edit_json(&folder.path().join("config.json"), |config| {
        config["model_type"] = json!("t5")
    });
    assert!(
        failure(folder.path()).contains("`model_type` is `t5`; supported models: "),
        "{}",
        failure(folder.path())
    );
    let folder = model("score.weight");
    Tokenizer::train_bpe(["a b c d e f g h i j k".repeat(20)].into_iter(), 262)
        .unwrap()
        .save(folder.path())
        .unwrap();
    assert!(
        open(folder.path(), None)
            .rewards(&[(&"".into(), "")])
            .unwrap_err()
            .to_string()
            .contains("an empty text has no reward")
    );
    let ultrarm = edit::copy("ultrarm");
    Tokenizer::train_bpe(["a b c d e f g h i j k".repeat(20)].into_iter(), 262)
        .unwrap()
        .save(ultrarm.path())
        .unwrap();
    assert!(
        failure(ultrarm.path()).contains("the tokenizer has ids up to 26"),
        "{}",
        failure(ultrarm.path())
    );
}

#[test]
fn neither_bos_nor_the_end_token_stands_twice() {
    let folder = model("score.weight");
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    let bos = "<|endoftext|>";
    edit::edit_json(&folder.path().join("tokenizer.json"), |tokenizer| {
        let [special, text] = [
            json!({ "SpecialToken": { "id": bos, "type_id": 0 } }),
            json!({ "Sequence": { "id": "A", "type_id": 0 } }),
        ];
        let special_tokens = json!({ bos: { "id": bos, "ids": [0], "tokens": [bos] } });
        tokenizer["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": [special, text],
            "pair": [special, text],
            "special_tokens": special_tokens
        });
    });
    let rewards = |text: Option<&str>, response: &str| {
        open(folder.path(), text).rewards(&[(&"A film: ".into(), response)]).unwrap()[0]
    };
    // The plain forward pass reads just the ids of this text.
    let expected = plain(folder.path(), "<|endoftext|>A film: good");
    assert_eq!(tokenizer.encode("<|endoftext|>A film: good").unwrap()[0], 0);
    for layout in [None, Some("{prompt}{response}"), Some("<|endoftext|>{prompt}{response}")] {
        for response in ["good", "good<|endoftext|>", "good<|endoftext|>\n"] {
            let found = rewards(layout, response);
            assert!((found - expected).abs() < 1e-5, "{layout:?} {response:?}: {found} {expected}");
        }
    }
    let found = rewards(Some("{prompt}{response}<|endoftext|>"), "good<|endoftext|>");
    assert!(
        (found - plain(folder.path(), "<|endoftext|>A film: good<|endoftext|>")).abs() < 1e-5,
        "what the layout writes stays"
    );
    assert!((found - expected).abs() > 1e-3);
}
