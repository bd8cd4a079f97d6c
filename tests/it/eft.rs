//! Proposals tilted by guides: the identities of emulated fine-tuning and of tilted searches, and
//! the distribution that they sample from.

use std::rc::Rc;

use crate::common::lines::Lines;
use crate::common::searches::{best_of, cbs_of};
use crate::common::tiny::{guide, model, stream, tokenizer};
use w2s::engine::{Base, Engine, SteerSettings};
use w2s::models::Lm;
use w2s::policy::{LocalPolicy, Member};
use w2s::prompt::Prompt;
use w2s::recipe::{Method, Proposal};
use w2s::sampling::Sampling;
use w2s::score::{GuidePair, NoGuide, response_logps};
use w2s::search::{Cbs, Extend, Finish, Proposer, Response, Search};
use w2s::text::{PromptTemplate, Tokenizer};

fn sample(mut policy: LocalPolicy, seed: u64, chunk_len: Option<usize>) -> Response {
    let cbs = Cbs { chunk_len, ..Cbs::plain(30) };
    cbs.search(&"A film".into(), &stream(seed), &mut policy, &mut NoGuide, false)
        .unwrap()
        .best
        .response
}

fn member(lm: &Rc<Lm>, weight: f64) -> Member {
    Member { lm: lm.clone(), template: PromptTemplate::new("{prompt}", Some(true)), weight }
}

fn mixture(
    tokenizer: &Rc<Tokenizer>,
    base: &Rc<Lm>,
    guides: &[(&Rc<Lm>, f64)],
    sampling: Sampling,
) -> LocalPolicy {
    let guides = guides.iter().map(|(lm, weight)| member(lm, *weight)).collect();
    LocalPolicy::mixture(member(base, 1.0), guides, tokenizer.clone(), sampling, Vec::new())
}

const SETTINGS: [Sampling; 3] = [
    Sampling::Greedy,
    Sampling::Random { temperature: 1.0, top_k: 0, top_p: 1.0 },
    Sampling::Random { temperature: 0.7, top_k: 50, top_p: 0.9 },
];

#[test]
fn weight_0_is_the_base_and_weight_1_from_the_untuned_model_is_the_tuned_one() {
    let tokenizer = tokenizer(400, 0);
    let [base, tuned, untuned] =
        ["base", "tuned", "untuned"].map(|name| model(&tokenizer, 16, name));
    let mut changed = 0;
    for sampling in SETTINGS {
        for seed in 0..5 {
            let plain = |lm: &Rc<Lm>| sample(mixture(&tokenizer, lm, &[], sampling), seed, None);
            let steered = |lm: &Rc<Lm>, weight: f64, chunk_len| {
                sample(
                    mixture(&tokenizer, lm, &[(&tuned, weight), (&untuned, -weight)], sampling),
                    seed,
                    chunk_len,
                )
            };
            for chunk_len in [None, Some(1), Some(7)] {
                assert_eq!(steered(&base, 0.0, chunk_len), plain(&base));
                assert_eq!(
                    steered(&untuned, 1.0, chunk_len),
                    plain(&tuned),
                    "{sampling:?} seed {seed}"
                );
                assert_eq!(
                    steered(&base, 0.5, chunk_len),
                    steered(&base, 0.5, None),
                    "chunks do not change a sample"
                );
            }
            changed += usize::from(steered(&base, 1.0, None) != plain(&base));
        }
    }
    assert!(changed > 10, "{changed} of 15 answers changed");
}

/// Greedy answers are, token for token, the arg-max of the sum of full forward passes.
#[test]
fn samples_follow_the_weighted_sum_of_logits() {
    let tokenizer = tokenizer(400, 0);
    let [base, tuned, untuned] =
        ["base", "tuned", "untuned"].map(|name| model(&tokenizer, 16, name));
    for weight in [-1.0, 0.5, 2.0] {
        let mixed =
            mixture(&tokenizer, &base, &[(&tuned, weight), (&untuned, -weight)], Sampling::Greedy);
        let found = sample(mixed, 1, None);
        let prompt = PromptTemplate::new("{prompt}", Some(true))
            .encode(&tokenizer, &"A film".into())
            .unwrap();
        let mut ids = prompt.clone();
        for (t, &token) in found.ids.iter().enumerate().take(8) {
            let logp = |lm: &Rc<Lm>, token: i64| {
                let with = [ids.clone(), vec![token]].concat();
                f64::from(response_logps(&lm.model, &with, ids.len()).unwrap()[0])
            };
            let sum =
                |token| logp(&base, token) + weight * (logp(&tuned, token) - logp(&untuned, token));
            let all: Vec<f64> = (0..tokenizer.vocab_size() as i64).map(sum).collect();
            let best = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert!(all[token as usize] > best - 1e-4, "weight {weight}, token {t}");
            ids.push(token);
        }
    }
}

#[test]
fn the_bases_own_logprob_is_told_not_the_mixtures() {
    let tokenizer = tokenizer(400, 0);
    let [base, tuned, untuned] =
        ["base", "tuned", "untuned"].map(|name| model(&tokenizer, 16, name));
    for sampling in SETTINGS {
        let mut policy = mixture(&tokenizer, &base, &[(&tuned, 2.0), (&untuned, -2.0)], sampling);
        let node = Proposer::open(&mut policy, &[&"A film".into()]).unwrap().remove(0);
        let extended = policy
            .extend(&[Extend { node, stream: stream(3), slot: 0, max_tokens: 12 }])
            .unwrap()
            .remove(0);
        if extended.response.finish.is_some() {
            continue;
        }
        let mut ids = PromptTemplate::new("{prompt}", Some(true))
            .encode(&tokenizer, &"A film".into())
            .unwrap();
        let prompt_len = ids.len();
        ids.extend(&extended.response.ids);
        let full: f32 = response_logps(&base.model, &ids, prompt_len).unwrap().iter().sum();
        assert!((extended.logprob.unwrap() - f64::from(full)).abs() < 1e-3);
    }
}

fn settings(sampling: Sampling) -> SteerSettings {
    SteerSettings {
        sampling,
        max_new_tokens: 20,
        stop: Vec::new(),
        semantics: w2s::search::Semantics::Paper,
        trace: false,
        prompts_in_flight: 2,
    }
}

fn base(tokenizer: &Rc<Tokenizer>, n_embd: i64, settings: &SteerSettings) -> Box<dyn Base> {
    let template = PromptTemplate::new("{prompt}", Some(true));
    Box::new(LocalPolicy::new(
        model(tokenizer, n_embd, "base"),
        tokenizer.clone(),
        template,
        settings.sampling,
        Vec::new(),
    ))
}

/// (response, how it ended, score) of each prompt.
fn answers(
    tokenizer: &Rc<Tokenizer>,
    proposal: Proposal,
    search: &Search,
    sampling: Sampling,
) -> Vec<(String, Finish, f32)> {
    let (method, settings) = (Method { proposal, search: search.clone() }, settings(sampling));
    let base = base(tokenizer, 24, &settings);
    let mut engine = Engine::open(method, settings, base, vec![(1.0, guide(tokenizer))]).unwrap();
    let prompts =
        ["A film", "I saw The Paper Key", "naïve"].map(|prompt| Prompt::new(prompt, prompt));
    let mut lines = Lines::new(prompts.to_vec());
    engine.answer(1, engine.plan(&prompts).unwrap(), &mut lines).unwrap();
    lines
        .answered()
        .into_iter()
        .map(|line| (line.response, line.finish, line.score.unwrap()))
        .collect()
}

#[test]
fn a_search_with_tilt_0_is_the_search() {
    let tokenizer = tokenizer(400, 0);
    let random = Sampling::Random { temperature: 0.7, top_k: 50, top_p: 1.0 };
    for search in [cbs_of(2, 3, 5), cbs_of(4, 1, 3), best_of(4)] {
        let tilted = |weight| answers(&tokenizer, Proposal::Tilted { weight }, &search, random);
        let plain = answers(&tokenizer, Proposal::Base, &search, random);
        assert_eq!(tilted(0.0), plain, "{search:?}");
        assert_ne!(tilted(1.0), plain, "{search:?}: a tilt matters");
    }
}

#[test]
fn a_tilted_search_that_samples_once_is_emulated_fine_tuning() {
    let tokenizer = tokenizer(400, 0);
    let eft = |weight, sampling| {
        let method = Method::sampled(Proposal::Tilted { weight });
        answers(&tokenizer, method.proposal, &method.search, sampling)
    };
    for sampling in SETTINGS {
        for weight in [-1.0, 0.5, 2.0] {
            let sampled = eft(weight, sampling);
            let tilted =
                |search| answers(&tokenizer, Proposal::Tilted { weight }, &search, sampling);
            assert_eq!(tilted(best_of(1)), sampled, "{sampling:?}, weight {weight}");
            // Scores of chunks sum up to that of the whole but for rounding.
            for (chunked, whole) in tilted(cbs_of(1, 1, 5)).into_iter().zip(sampled) {
                assert_eq!(
                    (chunked.0, chunked.1),
                    (whole.0, whole.1),
                    "{sampling:?}, weight {weight}"
                );
                assert!((chunked.2 - whole.2).abs() < 1e-4, "{} and {}", chunked.2, whole.2);
            }
        }
        assert_ne!(eft(0.5, sampling), eft(2.0, sampling));
    }
}

#[test]
fn guides_of_another_vocabulary_are_refused_with_the_first_difference() {
    let (base_tokenizer, guide_tokenizer) = (tokenizer(330, 0), tokenizer(450, 500));
    let propose = |guide_tokenizer: &Rc<Tokenizer>, search: Search| {
        let settings = settings(Sampling::Greedy);
        let base = base(&base_tokenizer, 16, &settings);
        let guide: Rc<GuidePair> = guide(guide_tokenizer);
        Engine::open(
            Method { proposal: Proposal::Tilted { weight: 1.0 }, search },
            settings,
            base,
            vec![(1.0, guide)],
        )
        .map(drop)
    };
    let sample = || Method::sampled(Proposal::Base).search;
    assert!(
        propose(&base_tokenizer, sample()).is_ok()
            && propose(&base_tokenizer, cbs_of(2, 2, 2)).is_ok()
    );
    for (search, what, hint) in [
        (sample(), "`eft` needs one", "hint: steer this base with `cbs`"),
        (cbs_of(2, 2, 2), "`tilt` needs one", "hint: leave `tilt` out"),
    ] {
        let error = propose(&guide_tokenizer, search).unwrap_err().to_string();
        assert!(
            error.contains("the first difference is id")
                && error.contains(what)
                && error.contains(hint),
            "{error}"
        );
    }
}
