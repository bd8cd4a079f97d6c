//! Logits and rewards against transformers', in each kind of numbers.

use serde_json::Value;
use tch::{Kind, Tensor};
use w2s::models::{Classifier, Input, Lm, RewardHead, RewardModel, Segment};

use super::{CPU, FAMILIES, direction, feed, open, perturb, wide};
use crate::golden::{difference, folder, ids, logits, positions, tensor, values};

/// Every parameter matters: a perturbation by 0.01 breaks the tolerance, so none is left out or
/// read into the wrong place.
fn assert_tolerance_bites(
    parameters: &[(String, Tensor)],
    tolerance: f64,
    difference: impl Fn() -> f64,
) {
    for (name, parameter) in parameters {
        perturb(parameter, 0.01);
        assert!(difference() > 3.0 * tolerance, "{name} does not matter: {}", difference());
        perturb(parameter, -0.01);
    }
    assert!(difference() < tolerance);
}

#[test]
fn logits_equal_those_of_transformers() {
    for name in FAMILIES.into_iter().chain(["gpt2-scaled", "gpt2-bf16"]) {
        let (lm, values) = (open(name), values(name));
        let expected = tensor(&values["logits"]);
        let error = || difference(&logits(&lm, &ids(&values)), &expected);
        println!("{name}: {:.1e}", error());
        assert!(error() < 1e-4, "{name}: {}", error());
        assert_tolerance_bites(&lm.parameters(), 1e-4, error);
    }
}

#[test]
fn logits_in_bf16_equal_those_of_transformers() {
    for name in ["gpt2-bf16", "llama", "llama-31", "mistral", "qwen2"] {
        let values = values(name);
        let lm = Lm::open(&folder(name), CPU, Kind::BFloat16).unwrap();
        let ids = ids(&values);
        let hidden = lm.model.hidden(&Input {
            ids: &ids,
            positions: &positions(&ids),
            valid: None,
            packing: None,
        });
        assert_eq!(
            (hidden.kind(), lm.model.logits(&hidden).kind()),
            (Kind::BFloat16, Kind::BFloat16)
        );
        let (ours, theirs, exact) =
            (logits(&lm, &ids), tensor(&values["logits_in_own_dtype"]), tensor(&values["logits"]));
        let largest = exact.abs().max().double_value(&[]);
        let error = difference(&ours, &theirs);
        println!(
            "{name}: of {largest:.2}: {error:.1e}, from f32 {:.1e}, theirs {:.1e}",
            difference(&ours, &exact),
            difference(&theirs, &exact)
        );
        assert!(error < 2e-2 * largest, "{name}: {error}");
        assert!(
            difference(&ours, &exact) < 1.5 * difference(&theirs, &exact),
            "{name}: no further from f32 than transformers is"
        );
        for (parameter_name, parameter) in lm.parameters() {
            let before = parameter.copy();
            let _ = parameter
                .shallow_clone()
                .g_add_(&(direction(&parameter) * 0.5).to_kind(Kind::BFloat16));
            assert!(
                difference(&logits(&lm, &ids), &theirs) > 2e-2 * largest,
                "{name}: {parameter_name} does not matter"
            );
            parameter.shallow_clone().copy_(&before);
        }
    }
}

#[test]
fn logits_in_f16_are_near_those_in_f32() {
    for name in FAMILIES {
        let values = values(name);
        let (lm, exact) =
            (Lm::open(&folder(name), CPU, Kind::Half).unwrap(), tensor(&values["logits"]));
        let ours = logits(&lm, &ids(&values));
        assert!(
            difference(&ours, &exact) < 5e-3 * exact.abs().max().double_value(&[]),
            "{name}: {}",
            difference(&ours, &exact)
        );
        assert!(difference(&ours, &exact) > 0.0, "{name}: it was computed in f16");
    }
}

#[test]
fn classifier_logits_equal_those_of_transformers() {
    for name in ["distilbert", "bert"] {
        let classifier = Classifier::open(&folder(name), CPU, Kind::Float).unwrap();
        let values = values(name);
        let (ids, expected, mask) = (ids(&values), tensor(&values["logits"]), length_mask(&values));
        let error = || difference(&classifier.logits(&ids, &mask), &expected);
        println!("{name}: {:.1e}", error());
        assert!(error() < 1e-4, "{name}: {}", error());
        assert!(
            difference(&classifier.logits(&ids, &mask.ones_like()), &expected) > 1e-2,
            "{name}: the mask matters"
        );
        let elsewhere = ids.where_self(&mask, &(&ids + 1).remainder(97));
        assert!(
            difference(&classifier.logits(&elsewhere, &mask), &expected) < 1e-4,
            "{name}: padding does not matter"
        );
        // A key's bias adds the same to all scores of a query, which the softmax takes out again.
        let keys = ["k_lin.bias", "self.key.bias"];
        let parameters: Vec<_> = classifier
            .parameters()
            .into_iter()
            .filter(|(name, _)| !keys.iter().any(|key| name.ends_with(key)))
            .collect();
        assert_tolerance_bites(&parameters, 1e-4, error);
        assert_eq!(classifier.positive_label(), 1);
    }
}

#[test]
fn rewards_equal_the_references() {
    for (name, head) in [
        ("llama-reward", RewardHead::Score),
        ("gpt2-reward", RewardHead::Score),
        ("ultrarm", RewardHead::Regression),
        ("starling", RewardHead::Value),
    ] {
        let model = RewardModel::open(&folder(name), CPU, Kind::Float).unwrap();
        assert_eq!(model.head, head, "{name}");
        let values = values(name);
        let (ids, mask) = (ids(&values), length_mask(&values));
        let expected = Tensor::from_slice(
            &serde_json::from_value::<Vec<f64>>(values["rewards"].clone()).unwrap(),
        );
        let lengths = Tensor::from_slice(
            &serde_json::from_value::<Vec<i64>>(values["lengths"].clone()).unwrap(),
        );
        let rewards = |ids: &Tensor| {
            model.rewards(
                &Input { ids, positions: &positions(ids), valid: Some(&mask), packing: None },
                &(&lengths - 1),
            )
        };
        let error = || difference(&rewards(&ids), &expected);
        println!("{name}: {:.1e}", error());
        assert!(error() < 1e-4, "{name}: {}", error());
        let elsewhere = ids.where_self(&mask, &(&ids + 1).remainder(97));
        assert!(
            difference(&rewards(&elsewhere), &expected) < 1e-4,
            "{name}: padding does not matter"
        );
        for (row, length) in Vec::<i64>::try_from(&lengths).unwrap().into_iter().enumerate() {
            let alone = ids.get(row as i64).narrow(0, 0, length).unsqueeze(0);
            let input =
                Input { ids: &alone, positions: &positions(&alone), valid: None, packing: None };
            let reward = model.rewards(&input, &Tensor::from_slice(&[length - 1]));
            let error = difference(&reward, &expected.narrow(0, row as i64, 1));
            assert!(error < 1e-4, "{name}: row {row} alone: {error}");
            let early = difference(
                &model.rewards(&input, &Tensor::from_slice(&[length - 2])),
                &expected.narrow(0, row as i64, 1),
            );
            assert!(early > 1e-2, "{name}: where the reward is read matters");
        }
        let shuffled = Tensor::from_slice(&[2i64, 0, 1]);
        let input = |of: &Tensor| of.index_select(0, &shuffled);
        let again = model.rewards(
            &Input {
                ids: &input(&ids),
                positions: &positions(&ids),
                valid: Some(&input(&mask)),
                packing: None,
            },
            &(input(&lengths) - 1),
        );
        assert!(
            difference(&again, &input(&expected)) < 1e-4,
            "{name}: the order of a batch does not matter"
        );
        assert_tolerance_bites(&model.parameters(), 1e-4, error);
        assert!(Lm::open(&folder(name), CPU, Kind::Float).is_err(), "{name} is no language model");
    }
    let error = RewardModel::open(&folder("llama"), CPU, Kind::Float).err().unwrap().to_string();
    assert!(
        error.contains("is no reward model: its weights hold none of `score.weight`"),
        "{error}"
    );
}

/// Real tokens (batch, seq) bool by the values' lengths.
fn length_mask(values: &Value) -> Tensor {
    let lengths: Vec<i64> = serde_json::from_value(values["lengths"].clone()).unwrap();
    Tensor::arange(12, (Kind::Int64, CPU)).lt_tensor(&Tensor::from_slice(&lengths).unsqueeze(1))
}

#[test]
fn a_packed_model_is_the_same_model() {
    let (plain, packed) = (wide(), wide().packed());
    assert!(packed.has_weights_of(&plain) && plain.has_weights_of(&packed), "unpacked to the bit");
    let names = |lm: &Lm| {
        lm.parameters().into_iter().map(|(name, tensor)| (name, tensor.size())).collect::<Vec<_>>()
    };
    assert_eq!(names(&packed), names(&plain));
    let target = tempfile::tempdir().unwrap();
    packed.save(target.path()).unwrap();
    assert!(
        Lm::open(target.path(), CPU, Kind::Float).unwrap().has_weights_of(&plain),
        "saved as any other"
    );
    let ids = Tensor::arange(24, (Kind::Int64, CPU)).view([2, 12]) * 17;
    let _no_grad = tch::no_grad_guard();
    assert!(difference(&logits(&packed, &ids), &logits(&plain, &ids)) < 1e-4);
    let mut segment = Segment::new(2);
    let parts = [feed(&packed, &ids, 0, 5, &mut segment), feed(&packed, &ids, 5, 12, &mut segment)];
    assert!(difference(&Tensor::cat(&parts, 1), &logits(&plain, &ids)) < 1e-4);
}
