//! Quantised weights, which no model here reads: told by the files that say so, before any shape
//! looks wrong.

use std::path::Path;

use serde_json::Value;

/// Keys of config.json, and files beside it that older tools write instead.
const KEYS: [&str; 2] = ["quantization_config", "compression_config"];
const FILES: [&str; 3] = ["quantize_config.json", "quant_config.json", "hf_quant_config.json"];

/// What transformers calls `quant_method`, as people know it.
const METHODS: [(&str, &str); 8] = [
    ("bitsandbytes", "bitsandbytes"),
    ("gptq", "GPTQ"),
    ("awq", "AWQ"),
    ("fp8", "FP8"),
    ("fbgemm_fp8", "FP8 (FBGEMM)"),
    ("mxfp4", "MXFP4"),
    ("compressed-tensors", "compressed-tensors"),
    ("torchao", "torchao"),
];

const WAY_OUT: &str = "hint: name the model that it was made of; what transformers can dequantise \
                       (`model.dequantize()`) can be saved and named, too";

/// What the `config` of the model in `folder` says of quantised weights.
pub(super) fn problem(folder: &Path, config: &Value) -> Option<String> {
    let of_config = KEYS
        .iter()
        .find_map(|key| Some((*key, config.get(*key).filter(|table| !table.is_null())?)));
    let (source, how) = match of_config {
        Some((key, table)) => (format!("`{key}`"), method(table)),
        None => {
            let file = FILES.iter().find(|file| folder.join(file).is_file())?;
            (format!("`{file}` lies beside it"), String::new())
        }
    };
    Some(format!(
        "{source}: the weights are quantised{how}, and only F16, BF16, F32 and F64 are \
         read\n\n{WAY_OUT}"
    ))
}

/// By what, and to how many bits, as far as the table says.
fn method(table: &Value) -> String {
    let is_on = |key: &str| table.get(key).and_then(Value::as_bool) == Some(true);
    let of_bitsandbytes = if is_on("load_in_4bit") {
        Some(4)
    } else if is_on("load_in_8bit") {
        Some(8)
    } else {
        None
    };
    let name = match table.get("quant_method").and_then(Value::as_str) {
        Some(method) => METHODS
            .iter()
            .find(|(known, _)| *known == method)
            .map_or_else(|| format!("`{method}`"), |(_, name)| (*name).to_owned()),
        None if of_bitsandbytes.is_some() => "bitsandbytes".to_owned(),
        None => return String::new(),
    };
    let bits = of_bitsandbytes
        .or_else(|| ["bits", "w_bit"].iter().find_map(|key| table.get(*key)?.as_u64()));
    format!(" by {name}{}", bits.map(|bits| format!(" to {bits} bits")).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_way_to_say_it_is_named_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        for (config, expected) in [
            (
                json!({
                    "quantization_config": { "quant_method": "bitsandbytes", "load_in_4bit": true }
                }),
                "`quantization_config`: the weights are quantised by bitsandbytes to 4 bits,",
            ),
            (
                json!({ "quantization_config": { "load_in_8bit": true } }),
                "quantised by bitsandbytes to 8 bits,",
            ),
            (
                json!({
                    "quantization_config": { "quant_method": "gptq", "bits": 4, "group_size": 128 }
                }),
                "quantised by GPTQ to 4 bits,",
            ),
            (
                json!({ "quantization_config": { "quant_method": "awq", "w_bit": 4 } }),
                "quantised by AWQ to 4 bits,",
            ),
            (
                json!({
                    "quantization_config": {
                        "quant_method": "fp8",
                        "weight_block_size": [128, 128],
                    }
                }),
                "quantised by FP8,",
            ),
            (
                json!({ "quantization_config": { "quant_method": "compressed-tensors" } }),
                "quantised by compressed-tensors,",
            ),
            (json!({ "quantization_config": { "quant_method": "mxfp4" } }), "quantised by MXFP4,"),
            (
                json!({ "quantization_config": { "quant_method": "of tomorrow" } }),
                "quantised by `of tomorrow`,",
            ),
            (json!({ "quantization_config": {} }), "the weights are quantised,"),
            (
                json!({ "compression_config": { "quant_method": "compressed-tensors" } }),
                "`compression_config`: ",
            ),
        ] {
            let problem = problem(folder.path(), &config).unwrap();
            assert!(
                problem.contains(expected)
                    && problem.contains("\n\nhint: name the model that it was made of"),
                "{problem}"
            );
        }
        for plain in [json!({}), json!({ "quantization_config": null })] {
            assert_eq!(problem(folder.path(), &plain), None);
        }
        std::fs::write(folder.path().join("quantize_config.json"), "{}").unwrap();
        let problem = problem(folder.path(), &json!({})).unwrap();
        assert!(
            problem
                .starts_with("`quantize_config.json` lies beside it: the weights are quantised,"),
            "{problem}"
        );
    }
}
