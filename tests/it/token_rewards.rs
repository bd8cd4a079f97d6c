//! The dense reward: whatever the vocabularies, the tokens of a response share exactly the guides'
//! score of its text.

use std::rc::Rc;

use crate::common::tiny::{guide, policy, stream, tokenizer};
use w2s::prompt::PromptText;
use w2s::score::{GuidePair, PairScorer, TokenRewards};
use w2s::search::{Extend, Response};
use w2s::text::Tokenizer;
use w2s::text::reviews::review;

/// Responses of a random policy to many prompts at once.
fn responses(tokenizer: &Rc<Tokenizer>, prompts: &[&PromptText]) -> Vec<Response> {
    let mut policy = policy(tokenizer, &[]);
    let nodes = policy.open_rows(prompts).unwrap();
    let streams: Vec<_> = (0..prompts.len() as u64).map(stream).collect();
    let requests: Vec<Extend> = nodes
        .iter()
        .zip(&streams)
        .map(|(node, stream)| Extend {
            node: node.clone(),
            stream: stream.clone(),
            slot: 0,
            max_tokens: 24,
        })
        .collect();
    policy.extend(&requests).unwrap().into_iter().map(|extended| extended.response).collect()
}

fn check(policy: &Rc<Tokenizer>, guides: &Rc<Tokenizer>, same: bool) {
    let texts: Vec<String> = (0..24)
        .map(|i| {
            review(3, "test", i)
                .text
                .split_whitespace()
                .take(3 + i as usize % 5)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    let prompts: Vec<PromptText> = texts.iter().map(|text| text.as_str().into()).collect();
    let prompts: Vec<&PromptText> = prompts.iter().collect();
    let responses = responses(policy, &prompts);
    // A random model seldom ends: every third one is taken to.
    let asked: Vec<(&Response, bool)> =
        responses.iter().enumerate().map(|(i, response)| (response, i % 3 == 0)).collect();
    let guide = guide(guides);
    let rewards = TokenRewards::new(guide.clone(), policy.clone())
        .unwrap()
        .rewards(&prompts, &asked)
        .unwrap();
    let full = PairScorer::new(guide, same).unwrap();
    for ((prompt, (response, ends)), rewards) in prompts.iter().zip(&asked).zip(&rewards) {
        let expected = full.token_rewards_in_full(prompt, response, *ends).unwrap();
        assert_eq!(rewards.len(), response.ids.len() + usize::from(*ends));
        if same {
            assert!(
                rewards
                    .iter()
                    .zip(&expected)
                    .all(|(reward, &ratio)| (reward - f64::from(ratio)).abs() < 1e-4),
                "{rewards:?}, {expected:?}"
            );
        }
        let (found, expected): (f64, f64) =
            (rewards.iter().sum(), expected.iter().map(|&ratio| f64::from(ratio)).sum());
        assert!((found - expected).abs() < 1e-4, "{found}, {expected} for {:?}", response.text);
    }
}

/// What `rewards` say of `text` as tokens of `policy`.
fn rewards_of(guide: &Rc<GuidePair>, policy: &Rc<Tokenizer>, text: &str, ends: bool) -> Vec<f64> {
    let response = Response {
        text: text.to_owned(),
        ids: policy.encode_continuation(text).unwrap(),
        finish: None,
    };
    TokenRewards::new(guide.clone(), policy.clone())
        .unwrap()
        .rewards(&[&"A film by".into()], &[(&response, ends)])
        .unwrap()
        .remove(0)
}

#[test]
fn each_policy_token_earns_what_it_closes() {
    // 257 tokens are single bytes and EOS.
    let (bytes, words) = (tokenizer(257, 0), tokenizer(450, 500));
    let guide = guide(&words);
    let pair = PairScorer::new(guide.clone(), false).unwrap();
    for text in [" was not bad at all", " naïve", " 日本語 film"] {
        let response = Response { text: text.to_owned(), ids: Vec::new(), finish: None };
        let ratios = pair.token_rewards_in_full(&"A film by".into(), &response, true).unwrap();
        let ids = words.encode_continuation(text).unwrap();
        assert!(ids.len() + 1 == ratios.len() && ids.len() < text.len());
        // The policy says byte after byte: a guide token that ends with the text's byte n is paid
        // at policy token n − 1; one that ends inside a character where that character ends.
        let mut expected = vec![0.0; text.len() + 1];
        for (i, ratio) in ratios.iter().enumerate() {
            let end = (i + 1..=ids.len())
                .map(|count| words.decode_continuation(&ids[..count]).unwrap())
                .find(|said| text.starts_with(said.as_str()));
            expected[end.map_or(text.len(), |said| said.len() - 1)] += f64::from(*ratio);
        }
        let found = rewards_of(&guide, &bytes, text, true);
        assert!(
            found.len() == expected.len()
                && found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4),
            "{text}: {found:?}, {expected:?}"
        );
        assert!(found.iter().filter(|reward| **reward != 0.0).count() > 2, "dense: {found:?}");
    }
}

#[test]
fn what_the_guides_cannot_see_earns_nothing() {
    // The guides see 128 tokens.
    let (policy, words) = (tokenizer(600, 0), tokenizer(257, 0));
    let text = " The film was not bad at all and I liked the story".repeat(4);
    let rewards = rewards_of(&guide(&words), &policy, &text, true);
    let last = rewards.iter().rposition(|reward| *reward != 0.0).unwrap();
    let said = policy
        .decode_continuation(&policy.encode_continuation(&text).unwrap()[..=last])
        .unwrap()
        .len();
    assert!((90..128).contains(&said), "{said} bytes of {}", text.len());
    assert!(rewards.iter().all(|reward| reward.is_finite()));
    // What is earned is what the guides read, as in search, also where they read half of a
    // character last.
    for (tokenizer, text) in [
        (&policy, text.as_str()),
        (&words, &text),
        (&policy, &"é".repeat(200)),
        (&policy, &("a".to_owned() + &"é".repeat(200))),
    ] {
        let guide = guide(&words);
        let response = Response {
            text: text.to_owned(),
            ids: tokenizer.encode_continuation(text).unwrap(),
            finish: None,
        };
        let expected = PairScorer::new(guide.clone(), false)
            .unwrap()
            .token_rewards_in_full(&"A film by".into(), &response, true)
            .unwrap();
        let rewards = rewards_of(&guide, tokenizer, text, true);
        assert_eq!(rewards.len(), response.ids.len() + 1);
        let expected_sum: f64 = expected.iter().map(|&ratio| f64::from(ratio)).sum();
        assert!(
            (rewards.iter().sum::<f64>() - expected_sum).abs() < 1e-4,
            "{rewards:?}, {expected:?}"
        );
        let last = rewards.iter().rposition(|reward| *reward != 0.0).unwrap();
        let said = tokenizer.decode_continuation(&response.ids[..=last]).unwrap().len();
        assert!(
            (expected.len()..expected.len() + 20).contains(&said),
            "{} bytes read, paid up to byte {said} of {}",
            expected.len(),
            text.len()
        );
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

#[test]
fn the_guides_end_is_paid_once_and_at_the_end() {
    let words = tokenizer(450, 500);
    let guide = guide(&words);
    for policy in [tokenizer(257, 0), words.clone()] {
        let plain = rewards_of(&guide, &policy, " was good", true);
        let ended = rewards_of(&guide, &policy, " was good<|endoftext|>", true);
        // The end token in the text is one more token of the policy's, which earns nothing.
        let [eos, before] = [plain.last().unwrap(), ended.last().unwrap()];
        assert!((eos - before).abs() < 1e-5 && eos.abs() > 1e-3, "{plain:?}, {ended:?}");
        let same = plain
            .iter()
            .zip(&ended)
            .take(plain.len() - 1)
            .all(|(plain, ended)| (plain - ended).abs() < 1e-5);
        assert!(
            same && ended.len() == plain.len() + 1 && ended[plain.len() - 1] == 0.0,
            "{plain:?}, {ended:?}"
        );
    }
}
