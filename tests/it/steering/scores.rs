//! Incremental scores against full forward passes.

use std::rc::Rc;

use w2s::prompt::PromptText;
use w2s::score::{PairScorer, WeightedPairs, response_logps};
use w2s::search::{Cbs, Finish, Found, Node, Response, Scored, Scorer, Semantics, ToScore};
use w2s::text::{PromptTemplate, Tokenizer};

use crate::common::tiny::{guide, model, policy, stream, tokenizer};

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
    fn open(&mut self, prompts: &[&PromptText]) -> w2s::error::Result<Vec<Node>> {
        self.pair.open(prompts)
    }
    fn score(&mut self, requests: &[ToScore]) -> w2s::error::Result<Vec<Scored>> {
        let judged = self.pair.score(requests)?;
        for (request, judged) in requests.iter().zip(&judged) {
            let full: f32 = self
                .full
                .token_rewards_in_full(
                    &self.prompt.clone().into(),
                    &request.response,
                    request.ends,
                )?
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
                .search(&prompt.into(), &stream(seed), &mut policy(base, &[]), &mut scorer, false)
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
    let root = pair.open(&[&"A film".into()]).unwrap().remove(0);
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
        let full = pair.token_rewards_in_full(&"A film".into(), &response, ends).unwrap();
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
fn the_bases_own_logprob_is_that_of_a_full_forward_pass() {
    let tokenizer = tokenizer(400, 0);
    let lm = model(&tokenizer, 24, "base");
    let template = PromptTemplate::new("{prompt}", Some(true));
    let (mut ended, mut cut) = (0, 0);
    for seed in 0..12 {
        let cbs = Cbs { beam_width: 2, successors: 2, chunk_len: Some(4), ..Cbs::plain(24) };
        let mut pair = PairScorer::new(guide(&tokenizer), true).unwrap();
        let best = cbs
            .search(&"A film".into(), &stream(seed), &mut policy(&tokenizer, &[]), &mut pair, false)
            .unwrap()
            .best;
        let mut ids = template.encode(&tokenizer, &"A film".into()).unwrap();
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
fn weighted_pairs_add_their_scores() {
    let (base, others) = (tokenizer(330, 0), tokenizer(450, 500));
    let prompt = "A film by";
    let cbs = Cbs { beam_width: 2, successors: 3, chunk_len: Some(4), ..Cbs::plain(16) };
    let pair = |tokenizer: &Rc<Tokenizer>, same| PairScorer::new(guide(tokenizer), same).unwrap();
    let score = |pair: &PairScorer, response: &Response| -> f32 {
        let ends = response.finish == Some(Finish::Eos);
        pair.token_rewards_in_full(&prompt.into(), response, ends).unwrap().iter().sum()
    };
    let found = |weights: &[f32]| {
        let pairs = weights.iter().zip([(&base, true), (&others, false)]).map(
            |(&weight, (tokenizer, same))| -> (f32, Box<dyn Scorer>) {
                (weight, Box::new(pair(tokenizer, same)))
            },
        );
        let mut scorer = WeightedPairs::new(pairs.collect());
        cbs.search(&prompt.into(), &stream(1), &mut policy(&base, &[]), &mut scorer, true).unwrap()
    };
    for weights in [[1.0, -0.5], [-2.0, 0.25]] {
        let Found { best, token_rewards, .. } = found(&weights);
        let expected = weights[0] * score(&pair(&base, true), &best.response)
            + weights[1] * score(&pair(&others, false), &best.response);
        assert!((best.score - expected).abs() < 1e-3, "{} and {expected}", best.score);
        assert!(token_rewards.is_empty(), "two vocabularies have no tokens in common");
    }
    let mut alone = pair(&base, true);
    let single =
        cbs.search(&prompt.into(), &stream(1), &mut policy(&base, &[]), &mut alone, true).unwrap();
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
fn end_tokens_at_the_end_of_a_response_are_one_end_to_the_guides() {
    let others = tokenizer(450, 500);
    let response = |text: &str, ids: &[i64]| Response {
        text: text.to_owned(),
        ids: ids.to_vec(),
        finish: None,
    };
    let mut pair = PairScorer::new(guide(&others), false).unwrap();
    let full = |pair: &PairScorer, response: &Response| {
        pair.token_rewards_in_full(&"A film".into(), response, true).unwrap()
    };
    let once = full(&pair, &response(" good", &[]));
    assert_eq!(once.len(), others.encode_continuation(" good").unwrap().len() + 1);
    for text in [" good<|endoftext|>", " good<|endoftext|>\n", " good<|endoftext|> <|endoftext|>"] {
        let ended = response(text, &[]);
        assert_eq!(full(&pair, &ended), once, "{text:?}");
        // The base had not ended yet, and then did.
        let parent = pair.open(&[&"A film".into()]).unwrap().remove(0);
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
