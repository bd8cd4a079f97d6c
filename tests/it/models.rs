//! The models' arithmetic: equal to transformers, and equal to itself with a cache, with padding,
//! after reordering and after rollback.

use crate::golden::{difference, folder, ids, logits, positions, tensor, values};
use serde_json::Value;
use tch::{Device, Kind, Tensor};
use w2s::models::{
    Classifier, Gpt2Config, Input, KvCache, Lm, LmConfig, RewardHead, RewardModel, Segment,
};

const CPU: Device = Device::Cpu;

/// One golden for each architecture: all that differs between families is in one of them.
const FAMILIES: [&str; 5] = ["gpt2", "llama", "llama-31", "mistral", "qwen2"];

fn open(name: &str) -> Lm {
    Lm::open(&folder(name), CPU, Kind::Float).unwrap()
}

/// Numbers between -1 and 1 without a pattern along any dimension, so that no norm takes them out
/// again: (count).
fn direction(parameter: &Tensor) -> Tensor {
    (Tensor::arange(parameter.numel() as i64, (Kind::Double, CPU)) * 12.9898)
        .sin()
        .to_kind(Kind::Float)
        .view(parameter.size().as_slice())
}

fn perturb(parameter: &Tensor, step: f64) {
    let _no_grad = tch::no_grad_guard();
    let _ = parameter.shallow_clone().g_add_(&(direction(parameter) * step));
}

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

/// Logits of tokens `from .. to` of the rows, which the segment reads.
fn feed(lm: &Lm, ids: &Tensor, from: i64, to: i64, segment: &mut Segment) -> Tensor {
    let new = vec![to - from; segment.rows()];
    lm.model
        .logits(&lm.model.read(&ids.narrow(1, from, to - from), KvCache::new(vec![segment], new)))
}

#[test]
fn logits_with_a_cache_equal_those_without() {
    for name in FAMILIES.into_iter().chain(["gpt2-scaled"]) {
        let (lm, ids) = (open(name), ids(&values(name)));
        let expected = logits(&lm, &ids);
        for chunks in [
            vec![12],
            vec![1; 12],
            vec![5, 7],
            vec![5, 1, 1, 5],
            vec![11, 1],
            vec![1, 11],
            vec![3, 4, 5],
        ] {
            let mut segment = Segment::new(3);
            let mut parts = Vec::new();
            for chunk in &chunks {
                let from = segment.position(0);
                parts.push(feed(&lm, &ids, from, from + chunk, &mut segment));
            }
            let error = difference(&Tensor::cat(&parts, 1), &expected);
            assert!(error < 1e-5, "{name} {chunks:?}: {error}");
        }
    }
}

/// Rows of different lengths laid out with gaps: at which column each token of a row stands.
struct Layout {
    columns: i64,
    places: Vec<Vec<i64>>,
}

impl Layout {
    /// ids, positions and validity of the rows' first tokens in this layout; gaps hold token 5 at
    /// position 3.
    fn input(&self, rows: &[Vec<i64>]) -> (Tensor, Tensor, Tensor) {
        let shape = [rows.len() as i64, self.columns];
        let mut ids = vec![5i64; (shape[0] * shape[1]) as usize];
        let (mut positions, mut valid) = (vec![3i64; ids.len()], vec![false; ids.len()]);
        for (row, places) in self.places.iter().enumerate() {
            for (position, place) in places.iter().enumerate() {
                let at = row * self.columns as usize + *place as usize;
                (ids[at], positions[at], valid[at]) = (rows[row][position], position as i64, true);
            }
        }
        (
            Tensor::from_slice(&ids).view(shape),
            Tensor::from_slice(&positions).view(shape),
            Tensor::from_slice(&valid).view(shape),
        )
    }

    /// The largest difference between a row's logits (batch, columns, vocab_size) at its places and
    /// the row computed alone.
    fn error(&self, lm: &Lm, rows: &[Vec<i64>], found: &Tensor) -> f64 {
        let errors = self.places.iter().enumerate().map(|(row, places)| {
            let alone = logits(lm, &Tensor::from_slice(&rows[row][..places.len()]).unsqueeze(0));
            difference(&found.get(row as i64).index_select(0, &Tensor::from_slice(places)), &alone)
        });
        errors.fold(0.0, f64::max)
    }
}

fn rows_of(ids: &Tensor) -> Vec<Vec<i64>> {
    Vec::<Vec<i64>>::try_from(ids).unwrap()
}

#[test]
fn padding_anywhere_changes_nothing() {
    for family in FAMILIES {
        let lm = open(family);
        let rows = rows_of(&ids(&values(family)));
        let layouts = [
            (
                "left",
                Layout {
                    columns: 12,
                    places: vec![(0..12).collect(), (5..12).collect(), (8..12).collect()],
                },
            ),
            (
                "right",
                Layout {
                    columns: 12,
                    places: vec![(0..12).collect(), (0..7).collect(), (0..4).collect()],
                },
            ),
            (
                "holes",
                Layout {
                    columns: 15,
                    places: vec![(1..13).collect(), vec![0, 3, 4, 9, 14], vec![2, 4, 5, 6, 11, 13]],
                },
            ),
        ];
        for (name, layout) in layouts {
            let (ids, positions, valid) = layout.input(&rows);
            let hidden = lm.model.hidden(&Input {
                ids: &ids,
                positions: &positions,
                valid: Some(&valid),
                packing: None,
            });
            assert!(
                bool::try_from(hidden.isfinite().all()).unwrap(),
                "{family} {name}: padded queries are finite"
            );
            let error = layout.error(&lm, &rows, &lm.model.logits(&hidden));
            assert!(error < 1e-5, "{family} {name}: {error}");
            let unmasked = lm.model.hidden(&Input {
                ids: &ids,
                positions: &positions,
                valid: None,
                packing: None,
            });
            // On the right nothing looks back at padding, so there only the mask itself is on
            // trial.
            assert!(
                name == "right" || layout.error(&lm, &rows, &lm.model.logits(&unmasked)) > 1e-2,
                "{name}: the mask matters"
            );
        }
    }
}

#[test]
fn a_cache_with_selected_rows_continues_as_if_recomputed() {
    for family in FAMILIES {
        let (lm, ids) = (open(family), ids(&values(family)));
        let mut segment = Segment::new(3);
        let _ = feed(&lm, &ids, 0, 7, &mut segment);
        let picked = [2, 0, 0, 1];
        let mut reordered = segment.select(&picked);
        let fresh = Tensor::arange(20, (Kind::Int64, CPU)).view([4, 5]); // other tokens, different in every row
        let rows = Tensor::from_slice(&picked.map(|row| row as i64));
        let continued = Tensor::cat(&[ids.narrow(1, 0, 7).index_select(0, &rows), fresh], 1);
        let found = Tensor::cat(
            &[
                feed(&lm, &continued, 7, 8, &mut reordered),
                feed(&lm, &continued, 8, 12, &mut reordered),
            ],
            1,
        );
        let error = difference(&found, &logits(&lm, &continued).narrow(1, 7, 5));
        assert!(error < 1e-5, "{family}: {error}");

        let error =
            difference(&feed(&lm, &ids, 7, 12, &mut segment), &logits(&lm, &ids).narrow(1, 7, 5));
        assert!(error < 1e-5, "{family}: the source goes on undisturbed: {error}");
        assert_eq!(segment.select(&[]).rows(), 0);
    }
}

/// Rows of two prompts in one batch, each prompt read once and shared, rows of different lengths,
/// some rolled back in between.
#[test]
fn prompts_are_shared_and_rows_of_different_lengths_go_together() {
    for family in FAMILIES {
        let (lm, ids) = (open(family), rows_of(&ids(&values(family))));
        let prompts = [ids[0][..6].to_vec(), ids[1][..3].to_vec()];
        let opened = lm.model.read_prompts(&prompts);
        for ((_, hidden), prompt) in opened.iter().zip(&prompts) {
            let alone = logits(&lm, &Tensor::from_slice(prompt).unsqueeze(0));
            let error =
                difference(&lm.model.logits(hidden), &alone.narrow(1, prompt.len() as i64 - 1, 1));
            assert!(error < 1e-5, "{family}: {error}");
        }
        let mut segments = [opened[0].0.select(&[0, 0, 0]), opened[1].0.select(&[0, 0])];
        let mut texts: Vec<Vec<i64>> =
            [0, 0, 0, 1, 1].iter().map(|&prompt: &usize| prompts[prompt].clone()).collect();
        // New tokens of each row, and to how many tokens a row is cut before.
        for (step, (new, cut)) in [
            ([2, 1, 3, 2, 2], None),
            ([1, 1, 1, 1, 1], None),
            ([3, 0, 1, 2, 1], Some((2, 8))),
            ([2, 2, 2, 3, 2], Some((3, 3))),
        ]
        .into_iter()
        .enumerate()
        {
            if let Some((row, kept)) = cut {
                texts[row].truncate(kept);
                let (segment, row) = if row < 3 { (0, row) } else { (1, row - 3) };
                segments[segment].truncate(row, kept as i64);
            }
            let widest = *new.iter().max().unwrap();
            let mut padded = Vec::new();
            for (row, &count) in new.iter().enumerate() {
                let fresh: Vec<i64> =
                    (0..count).map(|j| (7 * step + 11 * row + 3 * j) as i64 % 97).collect();
                texts[row].extend(&fresh);
                padded.extend((0..widest).map(|j| fresh.get(j).copied().unwrap_or(0)));
            }
            let batch = Tensor::from_slice(&padded).view([5, widest as i64]);
            let [first, second] = &mut segments;
            let cache =
                KvCache::new(vec![first, second], new.iter().map(|&count| count as i64).collect());
            let found = lm.model.logits(&lm.model.read(&batch, cache));
            assert!(bool::try_from(found.isfinite().all()).unwrap(), "{family} step {step}");
            for (row, &count) in new.iter().enumerate().filter(|(_, count)| **count > 0) {
                let (length, count) = (texts[row].len() as i64, count as i64);
                let alone = logits(&lm, &Tensor::from_slice(&texts[row]).unsqueeze(0)).narrow(
                    1,
                    length - count,
                    count,
                );
                let error = difference(&found.get(row as i64).narrow(0, 0, count), &alone);
                assert!(error < 1e-5, "{family} step {step} row {row}: {error}");
            }
        }
        assert_eq!(segments[0].position(2), texts[2].len() as i64);
    }
}

/// Large enough for packing, where this machine packs at all.
fn wide() -> Lm {
    let config = Gpt2Config {
        vocab_size: 500,
        n_positions: 64,
        n_embd: 192,
        n_layer: 2,
        n_head: 3,
        ..Gpt2Config::default()
    };
    Lm::with_random_weights(LmConfig::Gpt2(config), CPU, Kind::Float, 3).unwrap()
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

/// Large enough for oneDNN, where this machine takes it; in double precision all is libtorch's own.
#[test]
fn gradients_of_a_whole_model_are_those_of_double_precision() {
    let gradients = |kind: Kind| {
        let config = Gpt2Config {
            vocab_size: 500,
            n_positions: 64,
            n_embd: 192,
            n_layer: 2,
            n_head: 3,
            ..Gpt2Config::default()
        };
        let lm = Lm::with_random_weights(LmConfig::Gpt2(config), CPU, kind, 3).unwrap();
        tch::no_grad(|| {
            let weights = wide().parameters();
            lm.parameters()
                .iter()
                .zip(&weights)
                .for_each(|((_, to), (_, from))| to.shallow_clone().copy_(from));
        });
        let lm = lm.trainable();
        let ids = (Tensor::arange(80, (Kind::Int64, CPU)).view([2, 40]) * 17).remainder(500);
        let loss = logits(&lm, &ids).log_softmax(-1, kind).narrow(1, 0, 39).gather(
            2,
            &ids.narrow(1, 1, 39).unsqueeze(-1),
            false,
        );
        loss.mean(kind).backward();
        lm.parameters()
            .into_iter()
            .map(|(name, parameter)| (name, parameter.grad().to_kind(Kind::Double)))
            .collect::<Vec<_>>()
    };
    for ((name, found), (_, exact)) in
        gradients(Kind::Float).into_iter().zip(gradients(Kind::Double))
    {
        let error = ((found - &exact).abs().max() / exact.abs().max()).double_value(&[]);
        assert!(error < 1e-5, "{name}: {error}");
    }
}

/// A search of one token a chunk: each selection adds a block to the paths, until they are joined.
#[test]
fn long_paths_are_joined_and_go_on() {
    let long_enough = |(_, lm): &(&str, Lm)| lm.model.info().context > 44;
    let models: Vec<(&str, Lm)> = FAMILIES
        .into_iter()
        .map(|family| (family, open(family)))
        .chain([("wide", wide().packed())])
        .filter(long_enough)
        .collect();
    for (family, lm) in models {
        let _no_grad = tch::no_grad_guard();
        let (prompt, _) = lm.model.read_prompts(&[vec![3, 1, 4]]).remove(0);
        let mut texts: Vec<Vec<i64>> = vec![vec![3, 1, 4]; 2];
        let mut segment = prompt.select(&[0, 0]);
        for step in 0..40 {
            // Both from the second, from each, both from the first.
            let parents = [[1, 1], [0, 1], [0, 0]][step % 3];
            texts = parents.iter().map(|&row| texts[row].clone()).collect();
            segment = segment.select(&parents);
            let new: Vec<i64> = (0..2).map(|row| (5 * step as i64 + 3 * row) % 97).collect();
            let read = lm.model.read(
                &Tensor::from_slice(&new).view([2, 1]),
                KvCache::new(vec![&mut segment], vec![1, 1]),
            );
            let found = lm.model.logits(&read);
            for (row, text) in texts.iter_mut().enumerate() {
                text.push(new[row]);
                assert_eq!(segment.position(row), text.len() as i64);
                if step % 13 == 12 || step == 39 {
                    let alone = logits(&lm, &Tensor::from_slice(text).unsqueeze(0)).narrow(
                        1,
                        text.len() as i64 - 1,
                        1,
                    );
                    let error = difference(&found.get(row as i64), &alone);
                    assert!(error < 1e-5, "{family} step {step} row {row}: {error}");
                    let other = [&[50], &text[1..]].concat();
                    let other = logits(&lm, &Tensor::from_slice(&other).unsqueeze(0)).narrow(
                        1,
                        text.len() as i64 - 1,
                        1,
                    );
                    assert!(
                        difference(&other, &alone) > 1e-4,
                        "{family}: the first token of a long path matters"
                    );
                }
            }
        }
        // A row cut back into what it shares with the other.
        segment.truncate(0, 20);
        texts[0].truncate(20);
        texts[0].push(7);
        let both = Tensor::from_slice(&[7i64, 9]).view([2, 1]);
        let found =
            lm.model.logits(&lm.model.read(&both, KvCache::new(vec![&mut segment], vec![1, 1])));
        let alone = logits(&lm, &Tensor::from_slice(&texts[0]).unsqueeze(0)).narrow(1, 20, 1);
        assert!(difference(&found.get(0), &alone) < 1e-5, "{family}");
    }
}

#[test]
fn gradients_reach_every_parameter_but_no_cache() {
    for family in FAMILIES {
        let lm = Lm::open_trainable(&folder(family), CPU, Kind::Float).unwrap();
        let ids = ids(&values(family));
        logits(&lm, &ids).log_softmax(-1, Kind::Float).select(2, 3).mean(Kind::Float).backward();
        for (name, parameter) in lm.parameters() {
            assert!(
                parameter.grad().defined() && parameter.grad().abs().max().double_value(&[]) > 1e-6,
                "{family} {name}"
            );
        }
        let mut segment = Segment::new(3);
        assert!(
            !lm.model.read(&ids, KvCache::new(vec![&mut segment], vec![12; 3])).requires_grad(),
            "{family}"
        );
        assert!(
            open(family).parameters().iter().all(|(_, parameter)| !parameter.requires_grad()),
            "an opened model is frozen"
        );
    }
}

#[test]
fn gradients_equal_finite_differences_with_padding() {
    for family in FAMILIES {
        let lm = Lm::open_trainable(&folder(family), CPU, Kind::Float).unwrap();
        let rows = rows_of(&ids(&values(family)));
        let (ids, positions, valid) =
            Layout { columns: 6, places: vec![(0..6).collect(), (2..6).collect(), vec![1, 4]] }
                .input(&rows);
        let loss = || {
            let hidden = lm.model.hidden(&Input {
                ids: &ids,
                positions: &positions,
                valid: Some(&valid),
                packing: None,
            });
            let chosen = lm.model.logits(&hidden).log_softmax(-1, Kind::Float).select(2, 3);
            (chosen * valid.to_kind(Kind::Float)).sum(Kind::Float)
        };
        loss().backward();
        for (name, parameter) in lm.parameters() {
            let analytic =
                (parameter.grad() * direction(&parameter)).sum(Kind::Float).double_value(&[]);
            perturb(&parameter, 1e-3);
            let above = tch::no_grad(|| loss().double_value(&[]));
            perturb(&parameter, -2e-3);
            let below = tch::no_grad(|| loss().double_value(&[]));
            perturb(&parameter, 1e-3);
            let numeric = (above - below) / 2e-3;
            assert!(
                (analytic - numeric).abs() < 1e-2 * (1.0 + analytic.abs()),
                "{family} {name}: {analytic} but {numeric} by differences"
            );
        }
    }
}
