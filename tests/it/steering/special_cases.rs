//! The special cases of chunk-level beam search, whoever is searched beside.

use std::time::Duration;

use w2s::policy::LocalPolicy;
use w2s::prompt::PromptText;
use w2s::sampling::Stream;
use w2s::score::{NoGuide, PairScorer};
use w2s::search::{Cbs, Drive, Extend, Extended, Finish, Found, Node, Proposer, Response, Ticket};
use w2s::text::PromptTemplate;
use w2s::text::reviews::review;

use crate::common::desk::Queue;
use crate::common::tiny::{guide, policy, stream, tokenizer};

#[test]
fn chunk_length_does_not_change_one_sample() {
    let tokenizer = tokenizer(400, 0);
    for seed in 0..4 {
        let sample = |chunk_len| {
            let cbs = Cbs { chunk_len, ..Cbs::plain(30) };
            cbs.search(
                &"A film".into(),
                &stream(seed),
                &mut policy(&tokenizer, &[]),
                &mut NoGuide,
                false,
            )
            .unwrap()
            .best
            .response
        };
        let plain = sample(None);
        assert!(!plain.ids.is_empty());
        for chunk_len in [1, 2, 5, 7, 29, 30, 31] {
            assert_eq!(sample(Some(chunk_len)), plain, "L = {chunk_len}, seed {seed}");
        }
    }
}

#[test]
fn best_of_n_is_the_best_of_n_samples() {
    let tokenizer = tokenizer(400, 0);
    let guide = guide(&tokenizer);
    for seed in 0..4 {
        let mut pair = PairScorer::new(guide.clone(), true).unwrap();
        let cbs = Cbs { beam_width: 1, successors: 6, chunk_len: None, ..Cbs::plain(20) };
        let found = cbs
            .search(&"A film".into(), &stream(seed), &mut policy(&tokenizer, &[]), &mut pair, false)
            .unwrap();
        let mut policy = policy(&tokenizer, &[]);
        let node = policy.open(&[&"A film".into()]).unwrap().remove(0);
        let stream = stream(seed);
        let requests: Vec<Extend> = (0..6)
            .map(|slot| Extend { node: node.clone(), stream: stream.clone(), slot, max_tokens: 20 })
            .collect();
        let mut samples: Vec<Response> = policy
            .extend(&requests)
            .unwrap()
            .into_iter()
            .map(|extended| extended.response)
            .collect();
        for sample in &mut samples {
            sample.finish = sample.finish.or(Some(Finish::Length));
        }
        let score = |sample: &Response| -> f32 {
            pair.token_rewards_in_full(&"A film".into(), sample, sample.finish == Some(Finish::Eos))
                .unwrap()
                .iter()
                .sum()
        };
        let best = samples.iter().max_by(|a, b| score(a).total_cmp(&score(b))).unwrap();
        assert_eq!(found.best.response, *best);
        assert_eq!(Cbs::best_of_n(6, 20), cbs);
    }
}

/// A policy whose chunks are sampled in one call, however long.
struct Whole(LocalPolicy);

impl Proposer for Whole {
    fn open(&mut self, prompts: &[&PromptText]) -> w2s::error::Result<Vec<Node>> {
        self.0.open(prompts)
    }
    fn max_call_tokens(&self) -> Option<usize> {
        None
    }
    fn submit(&mut self, requests: Vec<(Ticket, Extend)>) {
        self.0.submit(requests);
    }
    fn collect(
        &mut self,
        patience: Duration,
    ) -> w2s::error::Result<Vec<(Ticket, w2s::error::Result<Extended>)>> {
        self.0.collect(patience)
    }
    fn retain(&mut self, root: &Node, live: &[Node]) {
        self.0.retain(root, live);
    }
    fn release(&mut self, root: &Node) {
        self.0.release(root);
    }
}

#[test]
fn calls_of_sixteen_tokens_make_the_chunks_of_one_call() {
    let tokenizer = tokenizer(400, 0);
    let streams: Vec<Stream> = (0..5).map(stream).collect();
    let stop = Cbs::plain(40)
        .search(&"A film".into(), &streams[2], &mut policy(&tokenizer, &[]), &mut NoGuide, false)
        .unwrap()
        .best
        .response
        .text;
    let stop: String = stop.chars().skip(25).take(2).collect();
    for (cbs, stop) in
        [(Cbs::best_of_n(6, 50), ""), (Cbs::plain(50), ""), (Cbs::best_of_n(4, 40), stop.as_str())]
    {
        let stops: Vec<&str> = Some(stop).filter(|stop| !stop.is_empty()).into_iter().collect();
        let answers = |proposer: &mut dyn Proposer, in_flight: usize| -> Vec<Found> {
            let mut queue = Queue::new(
                ["A film", "naïve", "I saw", "A film", "It"]
                    .into_iter()
                    .zip(streams.iter().cloned()),
            );
            let mut pair = PairScorer::new(guide(&tokenizer), true).unwrap();
            Drive { proposer, scorer: &mut pair, in_flight }
                .run(&|opened| cbs.begin(opened, true), &mut queue)
                .unwrap();
            queue.found()
        };
        assert_eq!(policy(&tokenizer, &stops).max_call_tokens(), Some(16));
        for in_flight in [1, 5] {
            let whole = answers(&mut Whole(policy(&tokenizer, &stops)), in_flight);
            let pieces = answers(&mut policy(&tokenizer, &stops), in_flight);
            for (whole, pieces) in whole.iter().zip(&pieces) {
                assert_eq!(pieces.best.response, whole.best.response);
                // Which rows share a product shows in the last bits, where several threads share
                // it.
                let [pieces_logprob, whole_logprob] =
                    [pieces, whole].map(|found| found.best.logprob);
                assert_eq!(pieces_logprob.is_some(), whole_logprob.is_some());
                assert!(
                    (pieces_logprob.unwrap_or_default() - whole_logprob.unwrap_or_default()).abs()
                        < 1e-5
                );
                assert_eq!(
                    (pieces.sampled, pieces.fed, pieces.trace.len()),
                    (whole.sampled, whole.fed, whole.trace.len())
                );
            }
        }
    }
}

#[test]
fn continuations_of_one_prompt_may_have_unequal_budgets() {
    let tokenizer = tokenizer(400, 0);
    let stream = stream(3);
    let budgets = [20, 3, 11, 20, 1, 3, 7, 20];
    let extend = |policy: &mut LocalPolicy, nodes: &[Node], budgets: &[usize]| {
        let request = |(slot, (node, &max_tokens)): (usize, (&Node, &usize))| Extend {
            node: node.clone(),
            stream: stream.clone(),
            slot: slot as u64,
            max_tokens,
        };
        policy
            .extend(&nodes.iter().zip(budgets).enumerate().map(request).collect::<Vec<_>>())
            .unwrap()
    };
    for as_rows in [false, true] {
        let mut together = policy(&tokenizer, &[]);
        let open = |policy: &mut LocalPolicy| {
            let opened = if as_rows {
                policy.open_rows(&[&"A film".into(), &"naïve".into()])
            } else {
                policy.open(&[&"A film".into(), &"naïve".into()])
            }
            .unwrap();
            [0, 0, 1, 1, 0, 0, 1, 1].map(|prompt: usize| opened[prompt].clone())
        };
        let roots = open(&mut together);
        let first = extend(&mut together, &roots, &budgets);
        // Those that can go on do so together, though some lie in batches of their own.
        let open_rows: Vec<usize> =
            (0..budgets.len()).filter(|&row| first[row].response.finish.is_none()).collect();
        assert!(
            open_rows.len() > 4
                && open_rows.iter().all(|&row| first[row].response.ids.len() == budgets[row])
        );
        let nodes: Vec<Node> = open_rows.iter().map(|&row| first[row].node.clone()).collect();
        let second = extend(&mut together, &nodes, &vec![5; nodes.len()]);
        for row in 0..budgets.len() {
            let mut alone = policy(&tokenizer, &[]);
            let root = open(&mut alone)[row].clone();
            let request =
                |node, slot, max_tokens| Extend { node, stream: stream.clone(), slot, max_tokens };
            let expected =
                alone.extend(&[request(root, row as u64, budgets[row])]).unwrap().remove(0);
            assert_eq!(
                (&first[row].response, first[row].sampled),
                (&expected.response, expected.sampled),
                "row {row}"
            );
            assert!((first[row].logprob.unwrap() - expected.logprob.unwrap()).abs() < 1e-4);
            if let Some(place) = open_rows.iter().position(|&open| open == row) {
                let expected =
                    alone.extend(&[request(expected.node, place as u64, 5)]).unwrap().remove(0);
                assert_eq!(second[place].response, expected.response, "row {row} goes on");
                assert!((second[place].logprob.unwrap() - expected.logprob.unwrap()).abs() < 1e-4);
            }
        }
    }
}

#[test]
fn samples_do_not_depend_on_the_company_they_keep() {
    let tokenizer = tokenizer(400, 0);
    let prompts: [PromptText; 3] =
        ["A film", "I saw The Paper Key in a small town", "naïve"].map(PromptText::from);
    let streams: Vec<Stream> = (0..3).map(stream).collect();
    let sample = |as_rows: bool| {
        let mut together = policy(&tokenizer, &[]);
        let prompts = prompts.each_ref();
        let nodes =
            if as_rows { together.open_rows(&prompts) } else { together.open(&prompts) }.unwrap();
        let requests: Vec<Extend> = (0..6)
            .map(|i| Extend {
                node: nodes[i / 2].clone(),
                stream: streams[i / 2].clone(),
                slot: (i % 2) as u64,
                max_tokens: 16,
            })
            .collect();
        together.extend(&requests).unwrap()
    };
    let (together, as_rows) = (sample(false), sample(true));
    assert!(
        together.iter().zip(&as_rows).all(|(a, b)| a.response == b.response),
        "shared or not, the samples are the same"
    );
    for (i, prompt) in prompts.iter().enumerate() {
        for slot in 0..2 {
            let mut alone = policy(&tokenizer, &[]);
            let node = alone.open(&[prompt]).unwrap().remove(0);
            let request =
                Extend { node, stream: streams[i].clone(), slot: slot as u64, max_tokens: 16 };
            assert_eq!(
                alone.extend(&[request]).unwrap()[0].response,
                together[2 * i + slot].response,
                "{prompt} slot {slot}"
            );
        }
    }
}

#[test]
fn a_search_does_not_depend_on_how_many_prompts_are_in_flight() {
    let (base, guides) = (tokenizer(330, 0), tokenizer(450, 500));
    let prompts: Vec<String> = (0..7)
        .map(|i| {
            review(3, "test", i).text.split(' ').take(2 + i as usize).collect::<Vec<_>>().join(" ")
        })
        .collect();
    let streams: Vec<Stream> =
        (0..7).map(|i| Stream::new(5, "steer", &format!("prompt-{i}"))).collect();
    for (guide_tokenizer, same) in [(&base, true), (&guides, false)] {
        for chunk_len in [Some(3), None] {
            let cbs = Cbs { beam_width: 2, successors: 3, chunk_len, ..Cbs::plain(14) };
            let mut pair = PairScorer::new(guide(guide_tokenizer), same).unwrap();
            let alone: Vec<Found> = (prompts.iter().zip(&streams))
                .map(|(prompt, stream)| {
                    cbs.search(
                        &prompt.as_str().into(),
                        stream,
                        &mut policy(&base, &[]),
                        &mut pair,
                        true,
                    )
                    .unwrap()
                })
                .collect();
            for in_flight in [2, 3, 50] {
                let mut queue =
                    Queue::new(prompts.iter().map(String::as_str).zip(streams.iter().cloned()));
                let mut drive =
                    Drive { proposer: &mut policy(&base, &[]), scorer: &mut pair, in_flight };
                drive.run(&|opened| cbs.begin(opened, true), &mut queue).unwrap();
                assert!(queue.pauses > 0);
                for (alone, together) in alone.iter().zip(queue.found()) {
                    assert_eq!(
                        together.best.response, alone.best.response,
                        "{in_flight} in flight"
                    );
                    // The same numbers in another batch: only the order of sums in a matrix product
                    // may differ.
                    assert!((together.best.score - alone.best.score).abs() < 1e-4);
                    assert_eq!(
                        (together.sampled, together.fed, together.trace.len()),
                        (alone.sampled, alone.fed, alone.trace.len())
                    );
                    assert!(
                        (together.token_rewards.iter().sum::<f32>() - alone.best.score).abs()
                            < 1e-4
                    );
                }
            }
        }
    }
}

#[test]
fn a_stop_string_ends_a_response_before_it() {
    let tokenizer = tokenizer(400, 0);
    let free = Cbs::plain(40)
        .search(&"A film".into(), &stream(2), &mut policy(&tokenizer, &[]), &mut NoGuide, false)
        .unwrap()
        .best
        .response;
    let middle = free.text.char_indices().nth(free.text.chars().count() / 2).unwrap().0;
    let stop: String = free.text[middle..].chars().take(2).collect();
    let at = free.text.find(&stop).unwrap();
    let mut policy = policy(&tokenizer, &[&stop]);
    let stopped = Cbs::plain(40)
        .search(&"A film".into(), &stream(2), &mut policy, &mut NoGuide, false)
        .unwrap()
        .best
        .response;
    assert_eq!((stopped.text.as_str(), stopped.finish), (&free.text[..at], Some(Finish::Stop)));
    assert_eq!(tokenizer.decode(&stopped.ids).unwrap(), stopped.text);
}

#[test]
fn a_prompt_that_fills_the_context_can_be_answered_to_its_last_position() {
    let tokenizer = tokenizer(400, 0);
    let text = review(3, "test", 1).text.repeat(3);
    let template = PromptTemplate::new("{prompt}", Some(true));
    for new_tokens in [1, 2, 7] {
        // The guides' template is longer than the base's by its own words.
        let room = 128 - new_tokens - 8;
        let prompt =
            (0..text.len()).rev().filter(|&end| text.is_char_boundary(end)).map(|end| &text[..end]);
        let prompt = prompt
            .into_iter()
            .find(|&prompt| template.encode(&tokenizer, &prompt.into()).unwrap().len() <= room)
            .unwrap();
        let mut pair = PairScorer::new(guide(&tokenizer), true).unwrap();
        let mut full = prompt.to_owned();
        let guide_template = PromptTemplate::new("Review: {prompt}", Some(true));
        while guide_template.encode(&tokenizer, &(full.clone() + " a").into()).unwrap().len()
            + new_tokens
            < 128
        {
            full.push_str(" a");
        }
        let mut base = policy(&tokenizer, &[]);
        let cbs =
            Cbs { beam_width: 2, successors: 2, chunk_len: Some(3), ..Cbs::plain(new_tokens) };
        let best =
            cbs.search(&full.clone().into(), &stream(2), &mut base, &mut pair, false).unwrap().best;
        let ends = best.response.finish == Some(Finish::Eos);
        let expected: f32 = pair
            .token_rewards_in_full(&full.clone().into(), &best.response, ends)
            .unwrap()
            .iter()
            .sum();
        assert!(
            (best.score - expected).abs() < 1e-4,
            "{new_tokens}: {} and {expected}",
            best.score
        );
    }
}
