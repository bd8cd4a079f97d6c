//! Tests of `adapter_config.rs`.

use serde_json::json;

use super::super::adapter_options::{REFUSED, WITHOUT_EFFECT};
use super::*;

/// Made by `tests/golden/adapters.py` with PEFT 0.21.
fn golden() -> Value {
    serde_json::from_str(include_str!("../../../tests/golden/adapters.json")).unwrap()
}

fn read(config: &Value) -> Result<AdapterConfig> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(CONFIG), config.to_string()).unwrap();
    AdapterConfig::read(folder.path(), Purpose::Language)
}

fn layers(family: &str) -> Vec<String> {
    let (prefix, names) = match family {
        "gpt2" => ("transformer.h", &["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"][..]),
        _ => (
            "model.layers",
            &[
                "self_attn.q_proj",
                "self_attn.k_proj",
                "self_attn.v_proj",
                "self_attn.o_proj",
                "mlp.gate_proj",
                "mlp.up_proj",
                "mlp.down_proj",
            ][..],
        ),
    };
    (0..2)
        .flat_map(|index| names.iter().map(move |name| format!("{prefix}.{index}.{name}")))
        .collect()
}

#[test]
fn layers_ranks_and_scales_are_pefts() {
    let golden = golden();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() > 20);
    for case in cases {
        let mut config = golden["defaults"].clone();
        config.as_object_mut().unwrap().extend(case["options"].as_object().unwrap().clone());
        let config = read(&config).unwrap_or_else(|error| panic!("{}: {error}", case["name"]));
        assert!(
            config.stray(["lm_head", "transformer.wte", "model.norm"]).is_none(),
            "{}",
            case["name"]
        );
        for layer in layers(case["base"].as_str().unwrap()) {
            let expected = case["layers"]
                .get(&layer)
                .map(|own| (own[0].as_u64().unwrap(), own[1].as_f64().unwrap()));
            let found = config.of_layer(&layer);
            let same = match (found, expected) {
                (Some((rank, scale)), Some((theirs, their_scale))) => {
                    rank == theirs && (scale - their_scale).abs() < 1e-12
                }
                (found, expected) => found.is_none() && expected.is_none(),
            };
            assert!(same, "{}, {layer}: {found:?}, of PEFT {expected:?}", case["name"]);
        }
    }
}

#[test]
fn every_option_is_followed_or_refused_by_name() {
    const MERGED: &str = "merge it in PEFT, `PeftModel.from_pretrained(base, \
                          adapter).merge_and_unload().save_pretrained(folder)`";
    const PLAIN: &str = "it cannot be merged into the weights either: train a plain LoRA";
    const CONVERTED: &str = "save it from there with `path_initial_model_for_weight_conversion`";
    let refused = [
        (
            "peft_type",
            json!("ADALORA"),
            "`peft_type` is `ADALORA`, only `LORA` is supported",
            MERGED,
        ),
        (
            "task_type",
            json!("SEQ_CLS"),
            "`task_type` is `SEQ_CLS`, only adapters of language models",
            MERGED,
        ),
        ("use_dora", json!(true), "`use_dora` = true is not supported: ", MERGED),
        ("bias", json!("all"), "`bias` = \"all\" is not supported: ", MERGED),
        ("bias", json!("lora_only"), "`bias` = \"lora_only\" is not supported: ", MERGED),
        ("lora_bias", json!(true), "`lora_bias` = true is not supported: ", MERGED),
        (
            "modules_to_save",
            json!(["lm_head"]),
            "`modules_to_save` = [\"lm_head\"] is not supported: ",
            MERGED,
        ),
        (
            "trainable_token_indices",
            json!([1]),
            "`trainable_token_indices` = [1] is not supported: ",
            MERGED,
        ),
        (
            "target_parameters",
            json!(["w"]),
            "`target_parameters` = [\"w\"] is not supported: ",
            MERGED,
        ),
        (
            "layer_replication",
            json!([[0, 2]]),
            "`layer_replication` = [[0,2]] is not supported: ",
            MERGED,
        ),
        (
            "kasa_config",
            json!({ "beta": 1e-4 }),
            "`kasa_config` = {\"beta\":0.0001} is not supported: ",
            MERGED,
        ),
        (
            "use_bdlora",
            json!({ "nblocks": 2 }),
            "`use_bdlora` = {\"nblocks\":2} is not supported: ",
            MERGED,
        ),
        (
            "monteclora_config",
            json!({ "num_samples": 8 }),
            "`monteclora_config` = {\"num_samples\":8} is not supported: ",
            MERGED,
        ),
        ("kasa_config", json!({}), "`kasa_config` = {} is not supported: ", MERGED),
        (
            "velora_config",
            json!({ "scale": 1.0 }),
            "`velora_config` = {\"scale\":1.0} is not supported: ",
            MERGED,
        ),
        (
            "alora_invocation_tokens",
            json!([4, 5]),
            "`alora_invocation_tokens` = [4,5] is not supported: it acts only from",
            PLAIN,
        ),
        (
            "arrow_config",
            json!({ "top_k": 3 }),
            "`arrow_config` = {\"top_k\":3} is not supported: ",
            PLAIN,
        ),
        ("use_qalora", json!(true), "`use_qalora` = true is not supported: ", PLAIN),
        ("megatron_config", json!({ "a": "x".repeat(99) }), "xxx… is not supported: ", PLAIN),
        (
            "init_lora_weights",
            json!("pissa"),
            "`init_lora_weights` = \"pissa\" is not supported: it changed the weights of its base",
            CONVERTED,
        ),
        (
            "init_lora_weights",
            json!("pissa_niter_16"),
            "\"pissa_niter_16\" is not supported: it changed",
            CONVERTED,
        ),
        ("init_lora_weights", json!("olora"), "\"olora\" is not supported: it changed", CONVERTED),
        ("init_lora_weights", json!("corda"), "\"corda\" is not supported: it changed", CONVERTED),
        ("init_lora_weights", json!("loftq"), "\"loftq\" is not supported: it changed", CONVERTED),
        (
            "init_lora_weights",
            json!("lora_ga"),
            "\"lora_ga\" is not supported: it changed",
            CONVERTED,
        ),
        (
            "init_lora_weights",
            json!("of_tomorrow"),
            "\"of_tomorrow\" is not supported: no initialisation that this version knows",
            CONVERTED,
        ),
        ("target_modules", Value::Null, "`target_modules` is null", ""),
        (
            "target_modules",
            json!("c_(attn"),
            "`target_modules`: `c_(attn` is no regular expression that can be read here",
            MERGED,
        ),
        (
            "target_modules",
            json!(3),
            "`target_modules` is neither a list of names nor a regular expression",
            "",
        ),
        (
            "rank_pattern",
            json!({ "c_attn": 0 }),
            "`rank_pattern` holds the rank 0, expected 1 or more",
            "",
        ),
        (
            "alpha_pattern",
            json!({ "c_attn": "x" }),
            "`alpha_pattern` holds \"x\", expected a number",
            "",
        ),
        ("r", json!(0), "`r` is 0, expected 1 or more", ""),
        (
            "an_option_of_tomorrow",
            json!(7),
            "`an_option_of_tomorrow` = 7 is no option that this version knows, and may change the \
             answer",
            MERGED,
        ),
        ("use_something_new", json!(true), "`use_something_new` = true is no option", MERGED),
    ];
    let defaults = golden()["defaults"].clone();
    for (key, value, expected, way_out) in refused {
        let mut config = defaults.clone();
        config[key] = value.clone();
        let message = read(&config)
            .err()
            .unwrap_or_else(|| panic!("{key} = {value} is accepted"))
            .to_string();
        assert!(
            message.contains(expected) && message.contains(way_out),
            "{key} = {value}: {message}"
        );
    }
    for (key, value) in [
        ("an_option_of_tomorrow", json!(false)),
        ("an_option_of_tomorrow", Value::Null),
        ("an_option_of_tomorrow", json!({})),
        ("init_lora_weights", json!("gaussian")),
        ("init_lora_weights", Value::Null),
        ("task_type", Value::Null),
        ("auto_mapping", json!({ "base_model_class": "GPT2LMHeadModel" })),
        ("eva_config", json!({ "rho": 2.0 })),
        ("lora_dropout", json!(0.1)),
        ("ensure_weight_tying", json!(true)),
        ("revision", json!("main")),
    ] {
        let mut config = defaults.clone();
        config[key] = value.clone();
        read(&config).map(drop).unwrap_or_else(|error| panic!("{key} = {value}: {error}"));
    }
    // All at once.
    let mut config = defaults;
    config["use_dora"] = json!(true);
    config["init_lora_weights"] = json!("pissa");
    config["r"] = json!(0);
    assert!(read(&config).err().unwrap().to_string().contains(": 3 problems\n"));
}

#[test]
fn no_key_that_peft_writes_is_unknown() {
    let followed = [
        "peft_type",
        "r",
        "lora_alpha",
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
    ];
    let patterns =
        ["rank_pattern", "alpha_pattern", "use_rslora", "init_lora_weights", "task_type"];
    for key in golden()["defaults"].as_object().unwrap().keys() {
        let known = followed.contains(&key.as_str()) || patterns.contains(&key.as_str());
        let refused = REFUSED.iter().any(|(name, ..)| name == key);
        assert!(known || refused || WITHOUT_EFFECT.contains(&key.as_str()), "{key}");
    }
}
