//! The dense reward: whatever the vocabularies, the tokens of a response share exactly the guides' score of its text.

#[path = "common/tiny.rs"]
mod tiny;

use std::rc::Rc;

use tiny::{guide, policy, stream, tokenizer};
use w2s::score::{GuidePair, TokenRewards};
use w2s::search::{Extend, Proposer, Response};
use w2s::text::Tokenizer;
use w2s::text::reviews::review;

/// Responses of a random policy to many prompts at once.
fn responses(tokenizer: &Rc<Tokenizer>, prompts: &[&str]) -> Vec<Response> {
    let mut policy = policy(tokenizer, &[]);
    let nodes = policy.open_rows(prompts).unwrap();
    let streams: Vec<_> = (0..prompts.len() as u64).map(stream).collect();
    let requests: Vec<Extend> =
        nodes.iter().zip(&streams).map(|(&node, stream)| Extend { node, stream, slot: 0, max_tokens: 24 }).collect();
    policy.extend(&requests).unwrap().into_iter().map(|extended| extended.response).collect()
}

fn check(policy: &Rc<Tokenizer>, guides: &Rc<Tokenizer>, same: bool) {
    let texts: Vec<String> =
        (0..24).map(|i| review(3, "test", i).text.split_whitespace().take(3 + i as usize % 5).collect::<Vec<_>>().join(" ")).collect();
    let prompts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let responses = responses(policy, &prompts);
    // A random model seldom ends: every third one is taken to.
    let asked: Vec<(&Response, bool)> = responses.iter().enumerate().map(|(i, response)| (response, i % 3 == 0)).collect();
    let guide = guide(guides);
    let rewards = TokenRewards::new(guide.clone(), policy.clone()).unwrap().rewards(&prompts, &asked).unwrap();
    let full = GuidePair::new(guide, same).unwrap();
    for ((prompt, (response, ends)), rewards) in prompts.iter().zip(&asked).zip(&rewards) {
        let expected = full.token_rewards_in_full(prompt, response, *ends).unwrap();
        assert_eq!(rewards.len(), response.ids.len() + usize::from(*ends));
        let (found, expected): (f64, f64) = (rewards.iter().sum(), expected.iter().map(|&ratio| f64::from(ratio)).sum());
        assert!((found - expected).abs() < 1e-4, "{found}, {expected} for {:?}", response.text);
    }
}

#[test]
fn with_one_vocabulary() {
    let tokenizer = tokenizer(400, 0);
    check(&tokenizer, &tokenizer, true);
}

#[test]
fn across_vocabularies() {
    let (policy, guides) = (tokenizer(330, 0), tokenizer(450, 500));
    assert_ne!(policy.vocabulary(), guides.vocabulary());
    check(&policy, &guides, false);
}
