//! Chunk-level beam search against a brute-force Algorithm 1, with a scripted proposer and scorer:
//! no tensors.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::common::desk::Queue;
use crate::common::scripted::{EOS, Judge31, Scripted, token, worth};
use w2s::error::Result;
use w2s::prompt::PromptText;
use w2s::sampling::Stream;
use w2s::search::{
    Cbs, Drive, Extend, Extended, Finish, Found, Node, Proposer, Scored, Scorer, Semantics, Ticket,
    ToScore,
};

/// Algorithm 1 as it stands in the paper, over plain strings and sets; nothing is kept between
/// rounds but the texts.
fn brute_force(cbs: &Cbs, stream: &Stream) -> (String, Option<Finish>, f32) {
    type Key = (String, Option<Finish>);
    let chunk = cbs.chunk_len.unwrap_or(usize::MAX);
    let mut beam: Vec<Key> = vec![(String::new(), None); cbs.beam_width];
    let mut first_round = true;
    let mut used = 0;
    while used < cbs.max_new_tokens && beam.iter().any(|(_, finish)| finish.is_none()) {
        let budget = cbs.max_new_tokens.min(used.saturating_add(chunk));
        let mut candidates: Vec<Key> =
            beam.iter().filter(|(_, finish)| finish.is_some()).cloned().collect();
        let open: Vec<String> = beam
            .iter()
            .filter(|(_, finish)| finish.is_none())
            .map(|(text, _)| text.clone())
            .collect();
        for (i, parent) in open.iter().enumerate() {
            for k in 0..cbs.successors {
                let slot = (i * cbs.successors + k) as u64;
                let (mut text, mut finish) = (parent.clone(), None);
                while finish.is_none() && text.len() < budget {
                    match token(&text, stream, slot) {
                        EOS => finish = Some(Finish::Eos),
                        token => text.push(token),
                    }
                }
                if finish.is_none() && budget == cbs.max_new_tokens {
                    finish = Some(Finish::Length);
                }
                candidates.push((text, finish));
            }
        }
        let mut seen = BTreeSet::new();
        candidates.retain(|key| seen.insert(key.clone()));
        let value = |(text, finish): &Key| worth(text, finish.is_some_and(Finish::is_complete));
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        order.sort_by(|&a, &b| {
            value(&candidates[b]).partial_cmp(&value(&candidates[a])).unwrap().then(a.cmp(&b))
        });
        beam = order.into_iter().take(cbs.beam_width).map(|i| candidates[i].clone()).collect();
        used = budget;
        assert!(first_round || !beam.is_empty());
        first_round = false;
    }
    let (text, finish) = beam[0].clone();
    let score = worth(&text, finish.is_some_and(Finish::is_complete));
    (text, finish, score)
}

fn search(cbs: &Cbs, stream: &Stream) -> (w2s::search::Found, Scripted, Judge31) {
    let (mut proposer, mut scorer) = (Scripted::default(), Judge31::default());
    let found = cbs.search(&"prompt".into(), stream, &mut proposer, &mut scorer, true).unwrap();
    (found, proposer, scorer)
}

#[test]
fn many_prompts_at_once_are_each_searched_as_alone() {
    let streams: Vec<Stream> =
        (0..9).map(|item| Stream::new(3, "steer", &format!("prompt-{item}"))).collect();
    let queue = || Queue::new(streams.iter().map(|stream| ("x", stream.clone())));
    let cbs = Cbs { beam_width: 3, successors: 2, chunk_len: Some(2), ..Cbs::plain(11) };
    let alone: Vec<Found> = streams
        .iter()
        .map(|stream| {
            cbs.search(&"x".into(), stream, &mut Scripted::default(), &mut Judge31::default(), true)
                .unwrap()
        })
        .collect();
    assert!(
        alone.iter().any(|found| found.trace.len() < 6),
        "some end early, and others take their place"
    );
    for in_flight in [1, 2, 4, 20] {
        let (mut proposer, mut scorer, mut queue) =
            (Scripted::default(), Judge31::default(), queue());
        let mut drive = Drive { proposer: &mut proposer, scorer: &mut scorer, in_flight };
        drive.run(&|opened| cbs.begin(opened, true), &mut queue).unwrap();
        let rounds = queue.pauses - 1;
        for (alone, together) in alone.iter().zip(queue.found()) {
            assert_eq!(
                (&together.best.response, together.best.score),
                (&alone.best.response, alone.best.score),
                "{in_flight} in flight"
            );
            assert_eq!(
                (&together.trace, together.sampled, together.fed),
                (&alone.trace, alone.sampled, alone.fed)
            );
        }
        assert!(proposer.responses.is_empty() && scorer.texts.is_empty(), "nothing is left behind");
        let all: usize = alone.iter().map(|found| found.trace.len()).sum();
        assert!(rounds >= all.div_ceil(in_flight) && rounds <= all, "{rounds} rounds for {all}");
    }
    let (mut proposer, mut scorer, mut queue) = (Scripted::default(), Judge31::default(), queue());
    queue.interrupt_at = Some(3);
    let stopped = Drive { proposer: &mut proposer, scorer: &mut scorer, in_flight: 2 }
        .run(&|opened| cbs.begin(opened, false), &mut queue);
    assert!(matches!(stopped, Err(w2s::error::Error::Interrupted)));
    assert!(
        proposer.responses.is_empty() && scorer.texts.is_empty(),
        "nor where it was interrupted"
    );
}

#[test]
fn equals_algorithm_1() {
    let mut finishes: BTreeMap<Option<Finish>, usize> = BTreeMap::new();
    let mut improved = 0;
    for seed in 0..40 {
        for (beam_width, successors, chunk_len, max_new_tokens) in [
            (1, 1, Some(1), 6),
            (1, 4, None, 9),
            (2, 2, Some(1), 8),
            (2, 3, Some(2), 7),
            (4, 4, Some(5), 17),
            (3, 2, Some(3), 3),
            (4, 1, Some(2), 11),
        ] {
            let cbs = Cbs { beam_width, successors, chunk_len, ..Cbs::plain(max_new_tokens) };
            let stream = Stream::new(seed, "test", "prompt");
            let (found, proposer, scorer) = search(&cbs, &stream);
            let (text, finish, score) = brute_force(&cbs, &stream);
            assert_eq!(
                (&found.best.response.text, found.best.response.finish, found.best.score),
                (&text, finish, score),
                "{cbs:?} seed {seed}"
            );
            assert!(proposer.responses.is_empty(), "the search frees its rows");
            let distinct: BTreeSet<_> = scorer.judged.iter().collect();
            assert_eq!(distinct.len(), scorer.judged.len(), "no candidate is scored twice");
            *finishes.entry(finish).or_default() += 1;
            improved +=
                usize::from(score > search(&Cbs::plain(max_new_tokens), &stream).0.best.score);
        }
    }
    assert!(
        finishes.len() == 2 && finishes.values().all(|&count| count > 20),
        "both endings occur: {finishes:?}"
    );
    assert!(improved > 100, "search finds better responses than one sample: {improved}");
}

/// The released code's loop, line by line: W·K rows; sample one token at a time; a row that has
/// ended is fed padding; every L tokens, or when all rows have ended, or at the budget, which ends
/// every row, score all rows, with the end token where a row has ended; the best W rows are each
/// repeated K times; stop once these W have all ended, and return the first.
fn released_code(cbs: &Cbs, stream: &Stream) -> (String, f32, usize) {
    let (w, k, l) = (cbs.beam_width, cbs.successors, cbs.chunk_len.unwrap_or(usize::MAX));
    let mut rows: Vec<(String, bool)> = vec![(String::new(), false); w * k];
    let (mut step, mut most_copies) = (0, 0);
    loop {
        for (row, (text, unfinished_no_more)) in rows.iter_mut().enumerate() {
            if *unfinished_no_more {
                continue; // next_tokens * unfinished + pad * (1 - unfinished)
            }
            match token(text, stream, row as u64) {
                EOS => *unfinished_no_more = true,
                next => text.push(next),
            }
        }
        step += 1;
        if step == cbs.max_new_tokens {
            rows.iter_mut().for_each(|(_, ended)| *ended = true); // MaxLengthCriteria
        }
        if step % l == 0 || rows.iter().all(|(_, ended)| *ended) {
            let scores: Vec<f32> = rows.iter().map(|(text, ended)| worth(text, *ended)).collect();
            let mut order: Vec<usize> = (0..w * k).collect();
            order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a])); // topk; stable
            let top: Vec<(String, bool)> =
                order[..w].iter().map(|&row| rows[row].clone()).collect();
            most_copies = most_copies.max(top.iter().filter(|row| **row == top[0]).count());
            if top.iter().all(|(_, ended)| *ended) {
                return (top[0].0.clone(), scores[order[0]], most_copies);
            }
            rows = top.iter().flat_map(|row| std::iter::repeat_n(row.clone(), k)).collect();
        }
    }
}

#[test]
fn official_semantics_are_those_of_the_released_code() {
    let (mut differ, mut duplicated, mut truncated) = (0, 0, 0);
    for seed in 0..60 {
        for (beam_width, successors, chunk_len, max_new_tokens) in [
            (1, 1, Some(1), 6),
            (1, 4, None, 9),
            (2, 2, Some(1), 8),
            (2, 3, Some(2), 7),
            (4, 4, Some(5), 17),
            (3, 2, Some(3), 3),
        ] {
            let paper = Cbs { beam_width, successors, chunk_len, ..Cbs::plain(max_new_tokens) };
            let cbs = Cbs { semantics: Semantics::Official, ..paper };
            let stream = Stream::new(seed, "test", "prompt");
            let (found, proposer, _) = search(&cbs, &stream);
            let (text, score, copies) = released_code(&cbs, &stream);
            assert_eq!(
                (&found.best.response.text, found.best.score),
                (&text, score),
                "{cbs:?} seed {seed}"
            );
            assert!(proposer.responses.is_empty());
            differ += usize::from(search(&paper, &stream).0.best.response.text != text);
            duplicated += usize::from(copies > 1);
            truncated += usize::from(found.best.response.finish == Some(Finish::Length));
        }
    }
    assert!(
        differ > 20 && duplicated > 20 && truncated > 20,
        "the rules matter: {differ} {duplicated} {truncated}"
    );
}

#[test]
fn width_one_and_no_chunks_is_best_of_n() {
    for seed in 0..20 {
        let stream = Stream::new(seed, "test", "prompt");
        let (found, ..) = search(
            &Cbs { beam_width: 1, successors: 8, chunk_len: None, ..Cbs::plain(12) },
            &stream,
        );
        let mut best: Option<(String, f32)> = None;
        for slot in 0..8 {
            let (mut proposer, mut text) = (Scripted::default(), String::new());
            let node = proposer.open(&[&"prompt".into()]).unwrap().remove(0);
            let response = proposer
                .extend(&Extend { node, stream: stream.clone(), slot, max_tokens: 12 })
                .response;
            text.push_str(&response.text);
            let score = worth(&text, response.finish.is_some());
            if best.as_ref().is_none_or(|(_, best)| score > *best) {
                best = Some((text, score));
            }
        }
        assert_eq!((found.best.response.text, found.best.score), best.unwrap());
    }
}

#[test]
fn one_by_one_is_plain_sampling_for_any_chunk_length() {
    for seed in 0..20 {
        let stream = Stream::new(seed, "test", "prompt");
        let (plain, ..) = search(&Cbs::plain(13), &stream);
        for chunk_len in 1..14 {
            let (found, ..) = search(
                &Cbs { beam_width: 1, successors: 1, chunk_len: Some(chunk_len), ..Cbs::plain(13) },
                &stream,
            );
            assert_eq!(found.best.response, plain.best.response, "L = {chunk_len}, seed {seed}");
        }
    }
}

#[test]
fn a_finished_answer_holds_one_place_and_is_kept() {
    // Every slot of the first chunk gives the same text: one candidate enters, not W·K.
    struct Same(Scripted);
    impl Proposer for Same {
        fn open(&mut self, prompts: &[&PromptText]) -> Result<Vec<Node>> {
            self.0.open(prompts)
        }
        fn max_call_tokens(&self) -> Option<usize> {
            self.0.max_call_tokens()
        }
        fn submit(&mut self, requests: Vec<(Ticket, Extend)>) {
            self.0.submit(
                requests
                    .into_iter()
                    .map(|(ticket, request)| (ticket, Extend { slot: 0, ..request }))
                    .collect(),
            );
        }
        fn collect(&mut self, patience: Duration) -> Result<Vec<(Ticket, Result<Extended>)>> {
            self.0.collect(patience)
        }
        fn retain(&mut self, root: &Node, live: &[Node]) {
            self.0.retain(root, live);
        }
        fn release(&mut self, root: &Node) {
            self.0.release(root);
        }
    }
    let cbs = Cbs { beam_width: 2, successors: 3, chunk_len: Some(2), ..Cbs::plain(8) };
    let stream = Stream::new(5, "test", "prompt");
    let (mut proposer, mut scorer) = (Same(Scripted::default()), Judge31::default());
    let found = cbs.search(&"prompt".into(), &stream, &mut proposer, &mut scorer, true).unwrap();
    assert!(found.trace.iter().all(|step| step.candidates.len() == 1), "{:?}", found.trace);
    assert_eq!(found.best.response, search(&Cbs::plain(8), &stream).0.best.response);
}

#[test]
fn a_score_that_is_no_number_stops_the_search() {
    struct Broken;
    impl Scorer for Broken {
        fn open(&mut self, prompts: &[&PromptText]) -> Result<Vec<Node>> {
            Ok(vec![Node::of_prompt(0); prompts.len()])
        }
        fn score(&mut self, requests: &[ToScore]) -> Result<Vec<Scored>> {
            let scored = |request: &ToScore| Scored {
                node: request.parent.clone(),
                score: f32::NAN,
                fed: 0,
                is_cut: false,
            };
            Ok(requests.iter().map(scored).collect())
        }
        fn retain(&mut self, _root: &Node, _live: &[Node]) {}
    }
    let stream = Stream::new(1, "test", "prompt");
    let error = Cbs::plain(4)
        .search(&"prompt".into(), &stream, &mut Scripted::default(), &mut Broken, false)
        .unwrap_err();
    assert!(error.to_string().contains("NaN"), "{error}");
}
