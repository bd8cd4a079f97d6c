//! Gradients of whole models.

use tch::{Kind, Tensor};
use w2s::models::{Gpt2Config, Input, KvCache, Lm, LmConfig, Segment};

use super::{CPU, FAMILIES, Layout, direction, open, perturb, rows_of, wide};
use crate::golden::{difference, folder, ids, logits, values};

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
