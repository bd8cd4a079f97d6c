//! Caches, padding and rows that are read together.

use tch::{Kind, Tensor};
use w2s::models::{Input, KvCache, Segment};

use super::{CPU, FAMILIES, Layout, feed, open, rows_of};
use crate::golden::{difference, ids, logits, values};

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
        // other tokens, different in every row
        let fresh = Tensor::arange(20, (Kind::Int64, CPU)).view([4, 5]);
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
