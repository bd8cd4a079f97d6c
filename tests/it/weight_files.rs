//! Files of weights: whatever layout the hub has them in is read, what does not fit is listed, and
//! hostile files are only data.

use std::collections::BTreeMap;
use std::path::Path;

use crate::golden::edit::{assert_same, copy, edit_json, open, refusal};
use crate::golden::{difference, folder, ids, logits, tensor, values};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use w2s::models::RewardModel;
use w2s::models::weights::{read_tensors, write_tensors};

const CPU: Device = Device::Cpu;

fn edit_weights(folder: &Path, edit: impl FnOnce(&mut BTreeMap<String, Tensor>)) {
    let path = folder.join("model.safetensors");
    let mut tensors = read_tensors(&path).unwrap();
    edit(&mut tensors);
    write_tensors(&path, &tensors.into_iter().collect::<Vec<_>>(), &[]).unwrap();
}

#[test]
fn names_with_and_without_prefix_old_masks_and_a_repeated_head_are_read() {
    let values = values("gpt2");
    let target = copy("gpt2");
    edit_weights(target.path(), |tensors| {
        let bare = std::mem::take(tensors)
            .into_iter()
            .map(|(name, tensor)| (name.replace("transformer.", ""), tensor));
        tensors.extend(bare);
        tensors.insert(
            "h.0.attn.bias".into(),
            Tensor::ones([1, 1, 32, 32], (Kind::Uint8, CPU)).tril(0),
        );
        tensors.insert("h.1.attn.masked_bias".into(), Tensor::from(-1e4));
        tensors.insert("lm_head.weight".into(), tensors["wte.weight"].copy());
    });
    let error =
        difference(&logits(&open(target.path()), &ids(&values)), &tensor(&values["logits"]));
    assert!(error < 1e-4, "{error}");
}

#[test]
fn shards_are_read_as_one() {
    let target = copy("gpt2");
    let tensors = read_tensors(&target.path().join("model.safetensors")).unwrap();
    std::fs::remove_file(target.path().join("model.safetensors")).unwrap();
    let mut map = serde_json::Map::new();
    for (shard, keep) in
        [("model-00001-of-00002.safetensors", true), ("model-00002-of-00002.safetensors", false)]
    {
        let part: Vec<_> = tensors
            .iter()
            .filter(|(name, _)| name.contains(".h.0.") == keep)
            .map(|(n, t)| (n.clone(), t.shallow_clone()))
            .collect();
        map.extend(part.iter().map(|(name, _)| (name.clone(), json!(shard))));
        write_tensors(&target.path().join(shard), &part, &[]).unwrap();
    }
    let index = target.path().join("model.safetensors.index.json");
    std::fs::write(&index, json!({ "weight_map": map }).to_string()).unwrap();
    assert_same(&open(target.path()).parameters(), &open(&folder("gpt2")).parameters());

    edit_json(&index, |index| {
        index["weight_map"]["transformer.wte.weight"] = json!("../elsewhere.safetensors")
    });
    assert!(refusal(target.path()).contains("which is no file of this folder"));
}

#[test]
fn all_misfits_are_listed_together() {
    let target = copy("gpt2");
    edit_weights(target.path(), |tensors| {
        tensors.remove("transformer.h.1.ln_2.bias");
        tensors.insert("transformer.h.2.ln_2.bias".into(), Tensor::zeros([16], (Kind::Float, CPU)));
        tensors.insert(
            "transformer.h.0.mlp.c_fc.weight".into(),
            Tensor::zeros([64, 16], (Kind::Float, CPU)),
        );
        tensors
            .insert("transformer.wpe.weight".into(), Tensor::zeros([32, 16], (Kind::Int64, CPU)));
        tensors.insert("wte.weight".into(), Tensor::zeros([97, 16], (Kind::Float, CPU)));
    });
    let message = refusal(target.path());
    for line in [
        ": 5 problems",
        "\n  tensor `transformer.h.0.mlp.c_fc.weight` has shape [64, 16], config.json asks for \
         [16, 64]",
        "\n  unexpected tensor `transformer.h.2.ln_2.bias` [16]",
        "\n  tensor `transformer.wpe.weight` is stored as I64, which is not supported",
        "\n  tensor `wte.weight` is there twice",
        "\n  missing tensor `transformer.h.1.ln_2.bias` [16]",
    ] {
        assert!(message.contains(line), "{line} is not in\n{message}");
    }
}

#[test]
fn damaged_weights_are_one_clear_error() {
    let target = copy("gpt2");
    let path = target.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() / 2], &whole[..100], &[], &whole[8..]] {
        std::fs::write(&path, damaged).unwrap();
        let message = refusal(target.path());
        assert!(message.contains("model.safetensors: not a whole safetensors file: "), "{message}");
        assert!(
            message.ends_with("hint: it is damaged or cut short; download or copy it again"),
            "{message}"
        );
    }
    std::fs::remove_file(&path).unwrap();
    assert!(refusal(target.path()).contains("holds neither `model.safetensors` nor"));
}

/// The records of a zip archive of torch.save, with the pickle changed.
fn with_pickle(bin: &Path, edit: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(bin).unwrap()).unwrap();
    let mut records = Vec::new();
    for index in 0..archive.len() {
        let mut record = archive.by_index(index).unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut record, &mut bytes).unwrap();
        records.push((record.name().unwrap().into_owned(), bytes));
    }
    let mut writer = zip::ZipWriter::new(std::fs::File::create(bin).unwrap());
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut edit = Some(edit);
    for (name, mut bytes) in records {
        if name.ends_with("/data.pkl") {
            bytes = edit.take().unwrap()(bytes);
        }
        writer.start_file(name, options).unwrap();
        std::io::Write::write_all(&mut writer, &bytes).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn files_of_torch_save_are_data_and_never_code() {
    let refusal = |folder: &Path| {
        RewardModel::open(folder, CPU, Kind::Float)
            .err()
            .expect("this folder must not open")
            .to_string()
    };
    let edited = |edit: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let target = copy("ultrarm");
        with_pickle(&target.path().join("pytorch_model.bin"), edit);
        target
    };
    assert!(
        RewardModel::open(edited(&|bytes| bytes).path(), CPU, Kind::Float).is_ok(),
        "the archive is put together as it was"
    );

    let marker = tempfile::tempdir().unwrap().path().join("executed");
    let command = format!("touch {}", marker.display());
    let mut attack = b"\x80\x02cposix\nsystem\nX".to_vec();
    attack.extend((command.len() as u32).to_le_bytes());
    attack.extend(command.as_bytes());
    attack.extend(b"\x85R.");
    let message = refusal(edited(&|_| attack.clone()).path());
    assert!(
        message.contains(
            "it asks for `posix.system`, which no file of plain weights needs; nothing of it was \
             executed"
        ),
        "{message}"
    );
    assert!(
        message.contains("hint: open the model in transformers and save it again as safetensors"),
        "{message}"
    );
    assert!(!marker.exists());

    let renamed = |from: &'static [u8], to: &'static [u8]| {
        move |bytes: Vec<u8>| {
            let at = bytes
                .windows(from.len())
                .position(|window| window == from)
                .expect("the bytes are there");
            [&bytes[..at], to, &bytes[at + from.len()..]].concat()
        }
    };
    for (edit, expected) in [
        (
            Box::new(renamed(b"_rebuild_tensor_v2", b"_rebuild_tensor_v9"))
                as Box<dyn Fn(Vec<u8>) -> Vec<u8>>,
            "`torch._utils._rebuild_tensor_v9`",
        ),
        (Box::new(renamed(b"FloatStorage", b"FancyStorage")), "`torch.FancyStorage`"),
        (Box::new(renamed(b"storage", b"stirage")), "a persistent id of type `stirage`"),
        (Box::new(|bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec()), "it ends too early"),
        (Box::new(|_| b"\x80\x02]\x85\x85\x85.".to_vec()), "its pickle holds no state dict"),
        (
            Box::new(|_| [&b"\x80\x02"[..], &[b')'; 100_000], b"."].concat()),
            "its pickle holds no state dict",
        ),
        (Box::new(|_| b"\x80\x02}(X\x02\x00\x00\x00aa".to_vec()), "it ends too early"),
        (Box::new(|_| b"\x80\x02Ioops\n.".to_vec()), "opcode 0x49 has no place in a state dict"),
        // Up to 64 references to each level of 64: what an exploding file looks like, and costs
        // nothing here.
        (
            Box::new(|_| {
                [&b"\x80\x02]q\x00"[..], &b"(h\x00h\x00h\x00h\x00tq\x00".repeat(5000), b"."]
                    .concat()
            }),
            "its pickle holds no state dict",
        ),
    ] {
        let message = refusal(edited(&*edit).path());
        assert!(message.contains(expected), "{expected} is not in\n{message}");
    }
    // A shape that reaches beyond the storage: the score's (1, 16) as (1, 99).
    let target = copy("ultrarm");
    with_pickle(&target.path().join("pytorch_model.bin"), |bytes| {
        let name = b"regression_head.weight";
        let after = bytes.windows(name.len()).position(|window| window == name).unwrap();
        let shape =
            after + bytes[after..].windows(4).position(|window| window == b"K\x01K\x10").unwrap();
        [&bytes[..shape + 3], &[99], &bytes[shape + 4..]].concat()
    });
    assert!(
        refusal(target.path())
            .contains("tensor `regression_head.weight` is not within its storage"),
        "{}",
        refusal(target.path())
    );

    let target = copy("ultrarm");
    let bin = target.path().join("pytorch_model.bin");
    let whole = std::fs::read(&bin).unwrap();
    for (damaged, expected) in [
        (whole[..whole.len() / 2].to_vec(), "not a whole zip archive of torch.save"),
        (Vec::new(), "not a whole zip archive of torch.save"),
        (
            b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.".to_vec(),
            "is a file of torch before version 1.6",
        ),
    ] {
        std::fs::write(&bin, damaged).unwrap();
        assert!(refusal(target.path()).contains(expected), "{}", refusal(target.path()));
    }
}

#[test]
fn indices_name_files_of_their_folder_only() {
    for (shard, expected) in [
        (json!("../elsewhere.bin"), "names \"../elsewhere.bin\", which is no file of this folder"),
        (json!("/etc/passwd"), "names \"/etc/passwd\", which is no file of this folder"),
        (json!(".."), "names \"..\", which is no file of this folder"),
        (json!(7), "names 7, which is no file of this folder"),
        (json!("gone.bin"), "missing shard `"),
    ] {
        let target = copy("starling");
        edit_json(&target.path().join("pytorch_model.bin.index.json"), |index| {
            index["weight_map"]["v_head.weight"] = shard
        });
        let message = RewardModel::open(target.path(), CPU, Kind::Float).err().unwrap().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let target = copy("starling");
    let index = target.path().join("pytorch_model.bin.index.json");
    let many: serde_json::Map<String, Value> =
        (0..20_000).map(|i| (format!("t{i}"), json!(format!("shard-{i}.bin")))).collect();
    std::fs::write(&index, json!({ "weight_map": many }).to_string()).unwrap();
    let message = RewardModel::open(target.path(), CPU, Kind::Float).err().unwrap().to_string();
    assert!(message.contains("names 20000 files, more than any model has"), "{message}");
    std::fs::File::create(&index).unwrap().set_len(1 << 40).unwrap(); // sparse: a file that only looks large
    let message = RewardModel::open(target.path(), CPU, Kind::Float).err().unwrap().to_string();
    assert!(
        message.contains("has 1099511627776 bytes, more than any index of weights"),
        "{message}"
    );
}
