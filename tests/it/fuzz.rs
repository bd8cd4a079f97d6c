//! Readers of files that others made are given mutated files: each is read or refused with an
//! error, never with a panic.
//!
//! W2S_FUZZ_SECONDS is the time for each reader (default 2); W2S_FUZZ_SEED begins another walk. A
//! failure prints the seed of its input.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::golden::edit;
use crate::golden::folder;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use w2s::models::weights::{Headers, read_tensors};
use w2s::models::{ClassifierConfig, LmConfig};
use w2s::recipe;
use w2s::text::read_prompts;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} = `{text}` is not a number"))
    })
}

/// A few edits of random kinds: what transfers and attackers do to files.
fn mutate(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    const NUMBERS: [u64; 8] =
        [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];
    for _ in 0..random.random_range(1..6) {
        if bytes.is_empty() {
            bytes.push(random.random());
        }
        let at = random.random_range(0..bytes.len());
        let length = random.random_range(0..32usize.min(bytes.len() - at) + 1);
        match random.random_range(0..8) {
            0 => bytes[at] = random.random(),
            1 => bytes[at] ^= 1 << random.random_range(0..8),
            2 => drop(bytes.drain(at..at + length)),
            3 => bytes.truncate(at),
            4 => {
                let copied = bytes[at..at + length].to_vec();
                let to = random.random_range(0..bytes.len());
                bytes.splice(to..to, copied);
            }
            5 => {
                let width = [1, 2, 4, 8][random.random_range(0..4)].min(bytes.len() - at);
                bytes[at..at + width]
                    .copy_from_slice(&NUMBERS[random.random_range(0..8)].to_le_bytes()[..width]);
            }
            6 => {
                let digits = NUMBERS[random.random_range(0..8)].to_string();
                bytes.splice(at..at + length, digits.into_bytes());
            }
            _ => {
                const WORDS: [&str; 12] =
                    ["[", "]", "{", "}", "\"", ",", ":", "\\u0000", "-1", "1e999", "null", "\n"];
                bytes.splice(at..at, WORDS[random.random_range(0..WORDS.len())].bytes());
            }
        }
    }
}

/// Reads mutations of the seeds for the given time; `read` gets the bytes of one and says whether
/// they were accepted.
fn fuzz(what: &str, seeds: &[Vec<u8>], read: impl Fn(&[u8]) -> bool) {
    let until = Instant::now() + Duration::from_secs(number("W2S_FUZZ_SECONDS", 2));
    let first = number("W2S_FUZZ_SEED", 0);
    assert!(seeds.iter().all(|seed| read(seed)), "{what}: the seeds are good files");
    let (mut tried, mut accepted) = (0u64, 0u64);
    while Instant::now() < until {
        let mut random = ChaCha8Rng::seed_from_u64(first + tried);
        let mut bytes = seeds[random.random_range(0..seeds.len())].clone();
        mutate(&mut bytes, &mut random);
        match catch_unwind(AssertUnwindSafe(|| read(&bytes))) {
            Ok(good) => accepted += u64::from(good),
            Err(_) => panic!("{what}: a panic; repeat it with W2S_FUZZ_SEED={}", first + tried),
        }
        tried += 1;
    }
    println!("{what}: {tried} files, {accepted} of them accepted");
    assert!(accepted < tried && tried > 0, "{what}: {accepted} of {tried} mutations were accepted");
}

/// A small golden tensor file: only its header matters.
fn golden_bytes(path: &str) -> Vec<u8> {
    std::fs::read(folder(path)).unwrap()
}

#[test]
fn safetensors() {
    let target = tempfile::tempdir().unwrap();
    let path = target.path().join("model.safetensors");
    let seeds = ["gpt2/model.safetensors", "llama/model.safetensors"].map(golden_bytes);
    fuzz("safetensors", &seeds, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        read_tensors(&path).is_ok()
    });
}

#[test]
fn torch_archives() {
    let target = tempfile::tempdir().unwrap();
    let path = target.path().join("pytorch_model.bin");
    let seeds = ["ultrarm/pytorch_model.bin", "starling/pytorch_model-00001-of-00002.bin"]
        .map(golden_bytes);
    fuzz("torch archives", &seeds, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        read_tensors(&path).is_ok()
    });
}

/// The pickle is a small part of its archive, so it is mutated alone and put back.
#[test]
fn pickles() {
    let target = edit::copy("ultrarm");
    let path = target.path().join("pytorch_model.bin");
    let whole = std::fs::read(&path).unwrap();
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&whole)).unwrap();
    let name = archive
        .file_names()
        .map(|name| name.unwrap().into_owned())
        .find(|name| name.ends_with("data.pkl"))
        .unwrap();
    let (start, length) = {
        let record = archive.by_name(&name).unwrap();
        (record.data_start().unwrap() as usize, record.size() as usize)
    };
    let pickle = whole[start..start + length].to_vec();
    fuzz("pickles", &[pickle], |bytes| {
        // The record keeps its length: what is cut off is filled up, what is too long is cut.
        let mut file = whole.clone();
        let kept = bytes.len().min(length);
        file[start..start + kept].copy_from_slice(&bytes[..kept]);
        file[start + kept..start + length].fill(b'.');
        std::fs::write(&path, file).unwrap();
        read_tensors(&path).is_ok()
    });
}

#[test]
fn indices() {
    let target = edit::copy("starling");
    let path = target.path().join("pytorch_model.bin.index.json");
    let seeds = [std::fs::read(&path).unwrap()];
    fuzz("indices", &seeds, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        Headers::open(target.path()).and_then(|headers| headers.whole()).is_ok()
    });
}

#[test]
fn configs() {
    let target = tempfile::tempdir().unwrap();
    let seeds = ["gpt2", "llama-31", "mistral", "qwen2", "distilbert", "bert"]
        .map(|name| golden_bytes(&format!("{name}/config.json")));
    fuzz("configs", &seeds, |bytes| {
        std::fs::write(target.path().join("config.json"), bytes).unwrap();
        LmConfig::read(target.path()).is_ok() || ClassifierConfig::read(target.path()).is_ok()
    });
}

#[test]
fn recipes() {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
    let target = tempfile::tempdir().unwrap();
    let path = target.path().join("mutated.toml");
    let seeds = ["smoke.toml", "demo.toml"].map(|name| std::fs::read(recipes.join(name)).unwrap());
    fuzz("recipes", &seeds, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        recipe::load(&path, &[]).and_then(|recipe| recipe::Plan::new(recipe, &path)).is_ok()
    });
}

/// Prompts of every kind of file; but for separated values the contents alone tell the kind.
#[test]
fn data_files() {
    let target = tempfile::tempdir().unwrap();
    let lines = b"{\"prompt\":\"a\",\"n\":[1]}\n\n{\"prompt\":\"b\\u2028\",\"n\":null}\n".to_vec();
    let object = b"{\"version\":1,\"data\":[{\"prompt\":\"a\"},\r\n{\"prompt\":\"b\"}]}".to_vec();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Default::default());
    gzip.write_all(&lines).unwrap();
    let zstd = zstd::encode_all(&lines[..], 3).unwrap();
    let parquet = golden_bytes("files/prompts.parquet");
    let any = vec![lines, object, gzip.finish().unwrap(), zstd, parquet];
    let separated = b"id;prompt\r\n1;\"a; \"\"b\"\"\nc\"\r\n2;d\r\n".to_vec();
    for (name, seeds) in [("prompts", any), ("prompts.csv", vec![separated])] {
        let path = target.path().join(name);
        fuzz(name, &seeds, |bytes| {
            std::fs::write(&path, bytes).unwrap();
            read_prompts(&path, None).is_ok()
        });
    }
}
