//! Search with real models: the incremental score is the full forward's, whatever the vocabulary,
//! and the special cases of chunk-level beam search are what they claim to be, token for token.

use std::rc::Rc;
use std::time::Duration;

use crate::common::desk::Queue;
use crate::common::tiny::{guide, model, policy, stream, tokenizer};
use w2s::policy::LocalPolicy;
use w2s::sampling::Stream;
use w2s::score::{GuidePair, NoGuide, PairScorer, WeightedPairs, response_logps};
use w2s::search::{
    BeamSearch, Cbs, Drive, Extend, Extended, Finish, Found, Node, Proposer, Response, Scored,
    Scorer, Semantics, Ticket, ToScore,
};
use w2s::text::reviews::review;
use w2s::text::{PromptTemplate, Tokenizer};

/// Checks every score that a search asks for against full forward passes over the text as it
/// stands.
struct Checked<'a> {
    pair: PairScorer,
    full: &'a PairScorer,
    prompt: String,
    checked: usize,
    worst: f32,
    cut_characters: usize,
}

impl Scorer for Checked<'_> {
    fn open(&mut self, prompts: &[&str]) -> w2s::error::Result<Vec<Node>> {
        self.pair.open(prompts)
    }
    fn score(&mut self, requests: &[ToScore]) -> w2s::error::Result<Vec<Scored>> {
        let judged = self.pair.score(requests)?;
        for (request, judged) in requests.iter().zip(&judged) {
            let full: f32 = self
                .full
                .token_rewards_in_full(&self.prompt, &request.response, request.ends)?
                .iter()
                .sum();
            self.worst = self.worst.max((judged.score - full).abs());
            self.checked += 1;
            self.cut_characters += usize::from(request.response.text.ends_with('\u{FFFD}'));
        }
        Ok(judged)
    }
    fn retain(&mut self, root: &Node, live: &[Node]) {
        self.pair.retain(root, live);
    }
    fn token_rewards(&self, node: &Node) -> Vec<f32> {
        self.pair.token_rewards(node)
    }
}

fn check_incremental(
    base: &Rc<Tokenizer>,
    guides: &Rc<Tokenizer>,
    same: bool,
) -> (usize, usize, u64) {
    let guide = guide(guides);
    let full = PairScorer::new(guide.clone(), same).unwrap();
    let (mut checked, mut cut, mut fed) = (0, 0, 0);
    for (seed, prompt) in [(1, "A film by"), (2, "naïve"), (3, "I saw The Paper Key")] {
        for (chunk_len, semantics) in [
            (1, Semantics::Paper),
            (3, Semantics::Paper),
            (5, Semantics::Paper),
            (40, Semantics::Paper),
            (5, Semantics::Official),
        ] {
            let pair = PairScorer::new(guide.clone(), same).unwrap();
            let mut scorer = Checked {
                pair,
                full: &full,
                prompt: prompt.into(),
                checked: 0,
                worst: 0.0,
                cut_characters: 0,
            };
            let cbs = Cbs {
                beam_width: 3,
                successors: 2,
                chunk_len: Some(chunk_len),
                semantics,
                ..Cbs::plain(24)
            };
            let found = cbs
                .search(prompt, &stream(seed), &mut policy(base, &[]), &mut scorer, false)
                .unwrap();
            assert!(
                scorer.worst < 1e-4,
                "seed {seed}, L {chunk_len}: {} on `{}`",
                scorer.worst,
                found.best.response.text
            );
            assert!(found.best.score.abs() > 1e-2, "random guides disagree");
            (checked, cut, fed) =
                (checked + scorer.checked, cut + scorer.cut_characters, fed + found.fed);
        }
    }
    (checked, cut, fed)
}

#[test]
fn incremental_score_is_the_full_forward_with_one_vocabulary() {
    let tokenizer = tokenizer(400, 0);
    let (checked, ..) = check_incremental(&tokenizer, &tokenizer, true);
    assert!(checked > 300, "{checked}");
}

#[test]
fn incremental_score_is_the_full_forward_across_vocabularies() {
    let (base, guides) = (tokenizer(330, 0), tokenizer(450, 500));
    assert_ne!(base.vocabulary(), guides.vocabulary());
    let (checked, cut, _) = check_incremental(&base, &guides, false);
    // Random bytes cut characters often: the case is exercised.
    assert!(checked > 300 && cut > 20, "{checked} {cut}");
}

#[test]
fn scores_of_empty_and_rewritten_responses() {
    let tokenizer = tokenizer(400, 0);
    let guide = guide(&tokenizer);
    let mut pair = PairScorer::new(guide, false).unwrap();
    let root = pair.open(&["A film"]).unwrap().remove(0);
    let response = |text: &str, finish| Response {
        text: text.into(),
        ids: tokenizer.encode(text).unwrap(),
        finish,
    };
    let mut parent = root.clone();
    // Each continues the last one's node, though only a part of its tokens, or none, is shared.
    for (text, finish) in [
        ("", None),
        (" was", None),
        (" was not b", None),
        (" was not bad", None),
        (" was dull", Some(Finish::Length)),
        ("", None),
        (" was not bad at all", Some(Finish::Eos)),
    ] {
        let response = response(text, finish);
        let ends = finish == Some(Finish::Eos);
        let judged = pair
            .score(&[ToScore { parent: parent.clone(), response: response.clone(), ends }])
            .unwrap()
            .remove(0);
        let full = pair.token_rewards_in_full("A film", &response, ends).unwrap();
        let kept = pair.token_rewards(&judged.node);
        assert_eq!(kept.len(), full.len());
        assert!(
            kept.iter().zip(&full).all(|(kept, full)| (kept - full).abs() < 1e-4),
            "`{text}`: {kept:?} and {full:?}"
        );
        let full: f32 = full.iter().sum();
        assert!((judged.score - full).abs() < 1e-4, "`{text}`: {} and {full}", judged.score);
        parent = judged.node;
    }
    let (empty, ended) = (response("", None), response("", Some(Finish::Eos)));
    let to_score = |response: Response, ends| ToScore { parent: root.clone(), response, ends };
    let scores = pair.score(&[to_score(empty, false), to_score(ended, true)]);
    assert!(scores.is_ok(), "the root stays usable");
    let scores = scores.unwrap();
    assert_eq!(scores[0].score, 0.0);
    assert_ne!(scores[1].score, 0.0, "EOS at once is scored");
}

#[test]
fn chunk_length_does_not_change_one_sample() {
    let tokenizer = tokenizer(400, 0);
    for seed in 0..4 {
        let sample = |chunk_len| {
            let cbs = Cbs { chunk_len, ..Cbs::plain(30) };
            cbs.search("A film", &stream(seed), &mut policy(&tokenizer, &[]), &mut NoGuide, false)
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
            .search("A film", &stream(seed), &mut policy(&tokenizer, &[]), &mut pair, false)
            .unwrap();
        let mut policy = policy(&tokenizer, &[]);
        let node = policy.open(&["A film"]).unwrap().remove(0);
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
            pair.token_rewards_in_full("A film", sample, sample.finish == Some(Finish::Eos))
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
    fn open(&mut self, prompts: &[&str]) -> w2s::error::Result<Vec<Node>> {
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
        .search("A film", &streams[2], &mut policy(&tokenizer, &[]), &mut NoGuide, false)
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
                policy.open_rows(&["A film", "naïve"])
            } else {
                policy.open(&["A film", "naïve"])
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
    let prompts = ["A film", "I saw The Paper Key in a small town", "naïve"];
    let streams: Vec<Stream> = (0..3).map(stream).collect();
    let sample = |as_rows: bool| {
        let mut together = policy(&tokenizer, &[]);
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
                    cbs.search(prompt, stream, &mut policy(&base, &[]), &mut pair, true).unwrap()
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
fn the_bases_own_logprob_is_that_of_a_full_forward_pass() {
    let tokenizer = tokenizer(400, 0);
    let lm = model(&tokenizer, 24, "base");
    let template = PromptTemplate::new("{prompt}", Some(true));
    let (mut ended, mut cut) = (0, 0);
    for seed in 0..12 {
        let cbs = Cbs { beam_width: 2, successors: 2, chunk_len: Some(4), ..Cbs::plain(24) };
        let mut pair = PairScorer::new(guide(&tokenizer), true).unwrap();
        let best = cbs
            .search("A film", &stream(seed), &mut policy(&tokenizer, &[]), &mut pair, false)
            .unwrap()
            .best;
        let mut ids = template.encode(&tokenizer, "A film").unwrap();
        let prompt_len = ids.len();
        ids.extend(&best.response.ids);
        if best.response.finish == Some(Finish::Eos) {
            ids.push(tokenizer.eos_id().unwrap());
            ended += 1;
        } else {
            cut += 1;
        }
        let full: f64 = response_logps(&lm.model, &ids, prompt_len)
            .unwrap()
            .iter()
            .map(|&logp| f64::from(logp))
            .sum();
        let found = best.logprob.unwrap();
        assert!((found - full).abs() < 1e-3, "seed {seed}: {found} and {full}");
        assert!(full < -1.0);
    }
    assert!(ended + cut == 12 && cut > 0, "{ended} {cut}");
}

#[test]
fn a_stop_string_ends_a_response_before_it() {
    let tokenizer = tokenizer(400, 0);
    let free = Cbs::plain(40)
        .search("A film", &stream(2), &mut policy(&tokenizer, &[]), &mut NoGuide, false)
        .unwrap()
        .best
        .response;
    let middle = free.text.char_indices().nth(free.text.chars().count() / 2).unwrap().0;
    let stop: String = free.text[middle..].chars().take(2).collect();
    let at = free.text.find(&stop).unwrap();
    let mut policy = policy(&tokenizer, &[&stop]);
    let stopped = Cbs::plain(40)
        .search("A film", &stream(2), &mut policy, &mut NoGuide, false)
        .unwrap()
        .best
        .response;
    assert_eq!((stopped.text.as_str(), stopped.finish), (&free.text[..at], Some(Finish::Stop)));
    assert_eq!(tokenizer.decode(&stopped.ids).unwrap(), stopped.text);
}

/// What the guides can read of a response behind a prompt, in 128 positions: the first of its
/// tokens, and the EOS only behind all of them. By full forward passes over just that.
fn read_by_hand(
    guide: &GuidePair,
    prompt: &str,
    response: &Response,
    ends: bool,
    same: bool,
) -> (Vec<f32>, bool) {
    let mut ids = guide.template.encode(&guide.tokenizer, prompt).unwrap();
    let prompt_len = ids.len();
    let text = if ends { &response.text[..] } else { response.text.trim_end_matches('\u{FFFD}') };
    ids.extend(if same {
        response.ids.clone()
    } else {
        guide.tokenizer.encode_continuation(text).unwrap()
    });
    ids.extend(ends.then(|| guide.tokenizer.eos_id().unwrap()));
    let is_cut = ids.len() > 128;
    if is_cut {
        // Neither what is beyond nor, where only the end is, the end itself.
        ids.truncate(128);
    }
    if ids.len() == prompt_len {
        return (Vec::new(), is_cut);
    }
    let of = |lm: &w2s::models::Lm| response_logps(&lm.model, &ids, prompt_len).unwrap();
    (
        of(&guide.tuned)
            .iter()
            .zip(of(&guide.untuned))
            .map(|(tuned, untuned)| tuned - untuned)
            .collect(),
        is_cut,
    )
}

/// Holds every score that a search asks for against [`read_by_hand`].
struct HeldAgainst<'a> {
    pair: PairScorer,
    guide: &'a GuidePair,
    prompt: &'a str,
    same: bool,
    scored: u64,
    cut: u64,
}

impl Scorer for HeldAgainst<'_> {
    fn open(&mut self, prompts: &[&str]) -> w2s::error::Result<Vec<Node>> {
        self.pair.open(prompts)
    }
    fn score(&mut self, requests: &[ToScore]) -> w2s::error::Result<Vec<Scored>> {
        let judged = self.pair.score(requests)?;
        for (request, judged) in requests.iter().zip(&judged) {
            let (expected, is_cut) =
                read_by_hand(self.guide, self.prompt, &request.response, request.ends, self.same);
            let found = self.pair.token_rewards(&judged.node);
            assert_eq!(
                (found.len(), judged.is_cut),
                (expected.len(), is_cut),
                "`{}`",
                request.response.text
            );
            assert!(
                found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4),
                "{found:?} and {expected:?}"
            );
            assert!((judged.score - expected.iter().sum::<f32>()).abs() < 1e-3);
            self.scored += 1;
            self.cut += u64::from(is_cut);
        }
        Ok(judged)
    }
    fn token_rewards(&self, node: &Node) -> Vec<f32> {
        self.pair.token_rewards(node)
    }
    fn retain(&mut self, root: &Node, live: &[Node]) {
        self.pair.retain(root, live);
    }
}

#[test]
fn a_text_longer_than_the_guides_can_read_is_worth_its_beginning_and_ends_no_search() {
    let (base, bytes) = (tokenizer(600, 0), tokenizer(257, 0));
    let prompt = "A film by";
    let guide = guide(&bytes);
    for (seed, chunk_len, semantics) in [
        (1, Some(5), Semantics::Paper),
        (2, Some(1), Semantics::Paper),
        (3, None, Semantics::Paper),
        (1, Some(7), Semantics::Official),
    ] {
        let pair = PairScorer::new(guide.clone(), false).unwrap();
        let mut scorer =
            HeldAgainst { pair, guide: &guide, prompt, same: false, scored: 0, cut: 0 };
        let cbs = Cbs { beam_width: 2, successors: 3, chunk_len, semantics, ..Cbs::plain(90) };
        let found =
            cbs.search(prompt, &stream(seed), &mut policy(&base, &[]), &mut scorer, true).unwrap();
        assert!(found.best.response.finish.is_some() && found.best.score.is_finite());
        assert!(scorer.cut > 0, "seed {seed}: none of {} candidates is too long", scorer.scored);
        assert_eq!(found.cut, scorer.cut, "each is counted");
        assert!(chunk_len.is_none() || scorer.cut < scorer.scored, "the first chunks fit");
    }
}

#[test]
fn an_end_that_does_not_fit_is_not_scored() {
    let tokenizer = tokenizer(400, 0);
    let guide = guide(&tokenizer);
    for same in [true, false] {
        let mut pair = PairScorer::new(guide.clone(), same).unwrap();
        let parent = pair.open(&["A film"]).unwrap().remove(0);
        let room = 128 - guide.template.encode(&tokenizer, "A film").unwrap().len();
        for (tokens, ends) in
            [(room - 1, true), (room, false), (room, true), (room + 1, true), (room + 40, false)]
        {
            // Bytes that merge with nothing.
            let text = "~^".repeat(room)[..tokens].to_owned();
            let response =
                Response { ids: tokenizer.encode_continuation(&text).unwrap(), text, finish: None };
            assert_eq!(response.ids.len(), tokens);
            let judged = pair
                .score(&[ToScore { parent: parent.clone(), response: response.clone(), ends }])
                .unwrap()
                .remove(0);
            let (expected, is_cut) = read_by_hand(&guide, "A film", &response, ends, same);
            assert_eq!((judged.is_cut, is_cut), (tokens + usize::from(ends) > room, is_cut));
            let found = pair.token_rewards(&judged.node);
            assert_eq!(found.len(), expected.len(), "{tokens} tokens, ends {ends}");
            assert_eq!(
                found.len(),
                room.min(tokens + usize::from(ends)),
                "{tokens} tokens, ends {ends}"
            );
            assert!((judged.score - expected.iter().sum::<f32>()).abs() < 1e-3);
        }
        let error = pair.open(&["A film", &"~^".repeat(80)]).unwrap_err().to_string();
        assert!(
            error.contains("a prompt of")
                && error.contains("does not fit the guides' context of 128"),
            "{error}"
        );
    }
}

#[test]
fn each_of_several_pairs_reads_as_much_as_it_can() {
    let (words, bytes) = (tokenizer(600, 0), tokenizer(257, 0));
    let text = " The film was not bad at all and I liked the story".repeat(3);
    let response = Response { ids: words.encode_continuation(&text).unwrap(), text, finish: None };
    let guides = [guide(&words), guide(&bytes)];
    let pair = |which: usize| PairScorer::new(guides[which].clone(), which == 0).unwrap();
    let mut both = WeightedPairs::new(vec![(1.0, pair(0)), (-2.0, pair(1))]);
    let parent = both.open(&["A film by"]).unwrap().remove(0);
    let judged = both
        .score(&[ToScore { parent: parent.clone(), response: response.clone(), ends: false }])
        .unwrap()
        .remove(0);
    let [first, second] =
        [0, 1].map(|which| read_by_hand(&guides[which], "A film by", &response, false, which == 0));
    assert!(!first.1 && second.1 && judged.is_cut);
    let expected = first.0.iter().sum::<f32>() - 2.0 * second.0.iter().sum::<f32>();
    assert!((judged.score - expected).abs() < 1e-3, "{} and {expected}", judged.score);
}

#[test]
fn the_answer_of_a_beam_search_is_scored_as_far_as_the_guides_can_read() {
    let (base, bytes) = (tokenizer(600, 0), tokenizer(257, 0));
    let guide = guide(&bytes);
    let search = BeamSearch {
        beam_width: 2,
        max_new_tokens: 100,
        length_penalty: 2.0,
        early_stopping: false,
    };
    let mut pair = PairScorer::new(guide.clone(), false).unwrap();
    let mut queue = Queue::new([("A film by", stream(1))]);
    let mut drive = Drive { proposer: &mut policy(&base, &[]), scorer: &mut pair, in_flight: 1 };
    drive.run(&|opened| search.begin(opened), &mut queue).unwrap();
    let found = queue.found().remove(0);
    let ends = found.best.response.finish.is_some_and(Finish::is_complete);
    let (expected, is_cut) = read_by_hand(&guide, "A film by", &found.best.response, ends, false);
    assert!(is_cut && found.cut == 1, "{:?}", found.best.response.text);
    assert!((found.best.score - expected.iter().sum::<f32>()).abs() < 1e-3);
}

#[test]
fn weighted_pairs_add_their_scores() {
    let (base, others) = (tokenizer(330, 0), tokenizer(450, 500));
    let prompt = "A film by";
    let cbs = Cbs { beam_width: 2, successors: 3, chunk_len: Some(4), ..Cbs::plain(16) };
    let pair = |tokenizer: &Rc<Tokenizer>, same| PairScorer::new(guide(tokenizer), same).unwrap();
    let score = |pair: &PairScorer, response: &Response| -> f32 {
        let ends = response.finish == Some(Finish::Eos);
        pair.token_rewards_in_full(prompt, response, ends).unwrap().iter().sum()
    };
    let found = |weights: &[f32]| {
        let pairs = weights
            .iter()
            .zip([(&base, true), (&others, false)])
            .map(|(&weight, (tokenizer, same))| (weight, pair(tokenizer, same)));
        let mut scorer = WeightedPairs::new(pairs.collect());
        cbs.search(prompt, &stream(1), &mut policy(&base, &[]), &mut scorer, true).unwrap()
    };
    for weights in [[1.0, -0.5], [-2.0, 0.25]] {
        let Found { best, token_rewards, .. } = found(&weights);
        let expected = weights[0] * score(&pair(&base, true), &best.response)
            + weights[1] * score(&pair(&others, false), &best.response);
        assert!((best.score - expected).abs() < 1e-3, "{} and {expected}", best.score);
        assert!(token_rewards.is_empty(), "two vocabularies have no tokens in common");
    }
    let mut alone = pair(&base, true);
    let single = cbs.search(prompt, &stream(1), &mut policy(&base, &[]), &mut alone, true).unwrap();
    let Found { best, token_rewards, .. } = found(&[1.0]);
    assert_eq!(
        (&best.response, best.score, &token_rewards),
        (&single.best.response, single.best.score, &single.token_rewards)
    );
    let against = found(&[-1.0]).best;
    assert!(
        score(&alone, &against.response) < score(&alone, &best.response),
        "a negative weight steers the other way"
    );
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
            .find(|prompt| template.encode(&tokenizer, prompt).unwrap().len() <= room)
            .unwrap();
        let mut pair = PairScorer::new(guide(&tokenizer), true).unwrap();
        let mut full = prompt.to_owned();
        let guide_template = PromptTemplate::new("Review: {prompt}", Some(true));
        while guide_template.encode(&tokenizer, &(full.clone() + " a")).unwrap().len() + new_tokens
            < 128
        {
            full.push_str(" a");
        }
        let mut base = policy(&tokenizer, &[]);
        let cbs =
            Cbs { beam_width: 2, successors: 2, chunk_len: Some(3), ..Cbs::plain(new_tokens) };
        let best = cbs.search(&full, &stream(2), &mut base, &mut pair, false).unwrap().best;
        let ends = best.response.finish == Some(Finish::Eos);
        let expected: f32 =
            pair.token_rewards_in_full(&full, &best.response, ends).unwrap().iter().sum();
        assert!(
            (best.score - expected).abs() < 1e-4,
            "{new_tokens}: {} and {expected}",
            best.score
        );
    }
}

#[test]
fn end_tokens_at_the_end_of_a_response_are_one_end_to_the_guides() {
    let others = tokenizer(450, 500);
    let response = |text: &str, ids: &[i64]| Response {
        text: text.to_owned(),
        ids: ids.to_vec(),
        finish: None,
    };
    let mut pair = PairScorer::new(guide(&others), false).unwrap();
    let full = |pair: &PairScorer, response: &Response| {
        pair.token_rewards_in_full("A film", response, true).unwrap()
    };
    let once = full(&pair, &response(" good", &[]));
    assert_eq!(once.len(), others.encode_continuation(" good").unwrap().len() + 1);
    for text in [" good<|endoftext|>", " good<|endoftext|>\n", " good<|endoftext|> <|endoftext|>"] {
        let ended = response(text, &[]);
        assert_eq!(full(&pair, &ended), once, "{text:?}");
        // The base had not ended yet, and then did.
        let parent = pair.open(&["A film"]).unwrap().remove(0);
        let open = pair
            .score(&[ToScore { parent: parent.clone(), response: ended.clone(), ends: false }])
            .unwrap()
            .remove(0);
        let judged = pair
            .score(&[ToScore { parent: open.node, response: ended.clone(), ends: true }])
            .unwrap()
            .remove(0);
        assert!((judged.score - once.iter().sum::<f32>()).abs() < 1e-4, "{text:?}");
        assert_eq!(pair.token_rewards(&judged.node).len(), once.len());
    }
    let within = full(&pair, &response(" good<|endoftext|> bad", &[]));
    assert_eq!(
        within.len(),
        once.len() + others.encode_continuation(" bad").unwrap().len() + 1,
        "within a text it is a token as any other"
    );
    // One vocabulary, but the base goes on where the guides end.
    let same = PairScorer::new(guide(&others), true).unwrap();
    let ids = others.encode_continuation(" good").unwrap();
    assert_eq!(
        full(&same, &response(" good", &[&ids[..], &[0, 0]].concat())),
        full(&same, &response(" good", &ids))
    );
}
