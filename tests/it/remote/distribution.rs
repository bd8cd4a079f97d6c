//! The first token sampled through a server is distributed as the recipe says, whatever the server
//! does where it is told nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;
use tch::{Device, Kind as Dtype, Tensor};
use w2s::models::open_with_tokenizer;
use w2s::sampling::Sampling;
use w2s::search::{Extended, Finish};

use super::asking::{Wanted, all, api, folder, served};
use crate::common::fakes::{Fake, Kind, Options};
use crate::golden;

pub const DRAWS: u64 = 2000;
const END: &str = "the end";

/// The tiny model, which ends its texts more readily.
fn ending(scratch: &tempfile::TempDir) -> PathBuf {
    let folder = folder(scratch);
    let (lm, tokenizer) = open_with_tokenizer(&folder, Device::Cpu, Dtype::Float).unwrap();
    let parameters = lm.parameters();
    let (_, embedding) = parameters.iter().find(|(name, _)| name.contains("wte")).unwrap();
    let _ = tch::no_grad(|| embedding.get(0).g_mul_scalar_(3.0));
    let changed = scratch.path().join("ending");
    lm.save(&changed).unwrap();
    tokenizer.save(&changed).unwrap();
    changed
}

/// The prompt of one token behind which the end comes about three times in ten, and the logits
/// there.
fn likely_end(folder: &Path) -> (String, Vec<f64>) {
    let (lm, tokenizer) = open_with_tokenizer(folder, Device::Cpu, Dtype::Float).unwrap();
    let _no_grad = tch::no_grad_guard();
    let all = Tensor::arange(tokenizer.vocab_size() as i64, (Dtype::Int64, Device::Cpu));
    let rows = golden::logits(&lm, &all.unsqueeze(1)).select(1, 0);
    let ends = rows.softmax(-1, Dtype::Float).select(1, 0);
    let order = Vec::<i64>::try_from((ends - 0.3).abs().argsort(0, false)).unwrap();
    let is_prompt = |&id: &i64| {
        let text = tokenizer.decode(&[id]).unwrap();
        id != 0 && tokenizer.encode(&text).unwrap() == [id] && !text.trim().is_empty()
    };
    let id = order.into_iter().find(is_prompt).unwrap();
    let logits = Vec::<f32>::try_from(rows.get(id)).unwrap();
    (tokenizer.decode(&[id]).unwrap(), logits.into_iter().map(f64::from).collect())
}

/// How often each text is expected, of `DRAWS`; in order temperature, top-k, top-p, by hand.
pub fn expected(folder: &Path, logits: &[f64], t: f64, k: usize, p: f64) -> BTreeMap<String, f64> {
    let tokenizer = w2s::text::Tokenizer::open(folder).unwrap();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    if k > 0 {
        order.truncate(k);
    }
    let weight = |id: usize| ((logits[id] - logits[order[0]]) / t).exp();
    let total: f64 = order.iter().map(|&id| weight(id)).sum();
    let mut mass = 0.0;
    let kept: Vec<usize> = order
        .iter()
        .copied()
        .take_while(|&id| {
            let stays = mass < p;
            mass += weight(id) / total;
            stays
        })
        .collect();
    let total: f64 = kept.iter().map(|&id| weight(id)).sum();
    let mut all = BTreeMap::new();
    for id in kept {
        let text = match id {
            0 => END.to_owned(),
            id => tokenizer.decode_continuation(&[id as i64]).unwrap(),
        };
        *all.entry(text).or_insert(0.0) += weight(id) / total * DRAWS as f64;
    }
    all
}

pub fn seen(found: &[Extended]) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for Extended { response, .. } in found {
        let ended = response.finish == Some(Finish::Eos) && response.text.is_empty();
        let text = if ended { END.to_owned() } else { response.text.clone() };
        *all.entry(text).or_insert(0.0) += 1.0;
    }
    all
}

/// Chi-square with rare texts merged, as a number of standard deviations (Wilson–Hilferty).
pub fn deviation(seen: &BTreeMap<String, f64>, expected: &BTreeMap<String, f64>) -> f64 {
    let impossible: Vec<&String> =
        seen.keys().filter(|text| !expected.contains_key(*text)).collect();
    if !impossible.is_empty() {
        println!("never sampled: {impossible:?}");
        return f64::INFINITY;
    }
    let (mut sum, mut bins) = (0.0, 0.0);
    let mut rare = (0.0, 0.0);
    for (text, &wanted) in expected {
        let found = seen.get(text).copied().unwrap_or(0.0);
        if wanted < 5.0 {
            rare = (rare.0 + found, rare.1 + wanted);
        } else {
            sum += (found - wanted).powi(2) / wanted;
            bins += 1.0;
        }
    }
    if rare.1 >= 5.0 {
        sum += (rare.0 - rare.1).powi(2) / rare.1;
        bins += 1.0;
    }
    let freedom: f64 = bins - 1.0;
    let spread = 2.0 / (9.0 * freedom);
    ((sum / freedom).cbrt() - (1.0 - spread)) / spread.sqrt()
}

#[test]
fn first_tokens_are_distributed_as_the_recipe_says() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = ending(&scratch);
    let (prompt, logits) = likely_end(&folder);
    for (t, k, p) in [(0.7, 20, 0.9), (1.0, 0, 1.0), (1.3, 0, 0.8)] {
        let expected = expected(&folder, &logits, t, k, p);
        assert!(expected.contains_key(END) && expected.len() > 4, "{expected:?}");
        for kind in Kind::ALL {
            // Its order is top-p, then temperature, and no request changes that.
            let cuts_first = kind == Kind::LlamaCppPython && p < 1.0;
            if cuts_first || kind == Kind::OpenAi && k > 0 {
                continue;
            }
            let fake = Fake::start(kind, &folder, Options::default());
            let sampling = Sampling::new(t, k, p);
            let wanted = Wanted { sampling, count: DRAWS, ..Wanted::greedy(1) };
            let mut base = served(&api(&fake.url(), json!({})), None, &wanted);
            let seen = seen(&all(&mut base, &prompt, &wanted));
            let deviation = deviation(&seen, &expected);
            assert!(deviation < 4.0, "{kind:?} {t} {k} {p}: {deviation} {seen:?} {expected:?}");
        }
    }
}

#[test]
fn chi_square_tells_other_settings_apart() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = ending(&scratch);
    let (prompt, logits) = likely_end(&folder);
    let expected = expected(&folder, &logits, 1.0, 0, 1.0);
    let fake = Fake::start(Kind::LlamaCpp, &folder, Options::default());
    let sampling = Sampling::new(0.6, 0, 1.0);
    let wanted = Wanted { sampling, count: DRAWS, ..Wanted::greedy(1) };
    let mut base = served(&api(&fake.url(), json!({})), None, &wanted);
    let seen = seen(&all(&mut base, &prompt, &wanted));
    let deviation = deviation(&seen, &expected);
    assert!(deviation > 6.0, "{deviation} {seen:?} {expected:?}");
}
