//! Token-level beam search under the guides, against a brute force over all tokens: with tables and
//! no tensors, and with real pairs by full forward passes.

use std::rc::Rc;

use serde_json::json;
use w2s::engine::{Engine, SteerLine, SteerSettings};
use w2s::policy::LocalPolicy;
use w2s::prompt::Prompt;
use w2s::recipe::{Method, Proposal};
use w2s::sampling::{Sampling, Stream};
use w2s::score::{GuidePair, response_logps};
use w2s::search::{Drive, Finish, Found, Query, Search, Semantics};
use w2s::text::{PromptTemplate, Tokenizer};

use crate::common::lines::Lines;
use crate::common::tables::{Table, TableBase, TablePair, letter};
use crate::common::tiny::{guide, model, stream, tokenizer};

fn guided_beam(beam_width: usize, top_k: usize) -> Search {
    let keys = json!({ "beam_width": beam_width, "top_k": top_k });
    Search::read("guided_beam", keys).unwrap().unwrap()
}

/// Numbers that are hard to guess, one for each of four letters and the end.
fn numbers(what: &str, seed: u64, text: &str) -> Vec<f32> {
    let stream = Stream::new(seed, what, text);
    (0..5).map(|token| (6.0 * stream.uniform(token, 0) - 3.0) as f32).collect()
}

fn logprobs(numbers: &[f32]) -> Vec<f32> {
    let sum = numbers.iter().map(|number| number.exp()).sum::<f32>().ln();
    numbers.iter().map(|number| number - sum).collect()
}

fn search(search: &Search, max_new_tokens: usize, base: Table, ratios: Table) -> (Found, usize) {
    let (mut proposer, mut scorer) = (TableBase::new(base), TablePair::new(ratios));
    let asked =
        w2s::search::Asked { max_new_tokens, semantics: Semantics::Paper, with_trace: true };
    let query = Query { prompt: Prompt::new("", ""), stream: stream(1) };
    let found = Drive { proposer: &mut proposer, scorer: &mut scorer, in_flight: 1 }
        .answer(query, &|opened| search.settings().begin(&asked, opened))
        .unwrap();
    (found, scorer.scored)
}

/// The W best of all that may come next, step by step.
fn brute_force(
    (beam_width, top_k, max_new_tokens): (usize, usize, usize),
    base: Table,
    pair: &TablePair,
) -> (String, Option<Finish>, f32) {
    let mut kept: Vec<(String, Option<Finish>)> = vec![(String::new(), None)];
    let worth = |(text, finish): &(String, Option<Finish>)| {
        pair.worth(text, finish.is_some_and(Finish::is_complete))
    };
    for length in 1..=max_new_tokens {
        let (mut all, open): (Vec<_>, Vec<_>) =
            kept.into_iter().partition(|(_, finish)| finish.is_some());
        for (text, _) in open {
            let mut next: Vec<(usize, f32)> = base(&text).into_iter().enumerate().collect();
            next.sort_by(|one, other| other.1.total_cmp(&one.1));
            let inspected = if top_k == 0 { next.len() } else { top_k };
            for (token, _) in next.into_iter().take(inspected) {
                let cut = (length == max_new_tokens).then_some(Finish::Length);
                all.push(match token {
                    4 => (text.clone(), Some(Finish::Eos)),
                    token => (format!("{text}{}", letter(token as i64)), cut),
                });
            }
        }
        all.sort_by(|one, other| worth(other).total_cmp(&worth(one)));
        all.truncate(beam_width);
        kept = all;
    }
    let best = kept.swap_remove(0);
    let worth = worth(&best);
    (best.0, best.1, worth)
}

#[test]
fn equals_the_best_of_all_next_tokens() {
    let mut ended = 0;
    for seed in 0..60 {
        let base = |text: &str| logprobs(&numbers("base", seed, text));
        let ratios = |text: &str| numbers("ratios", seed, text);
        let pair = TablePair::new(&ratios);
        for (beam_width, top_k, tokens) in [(1, 0, 4), (2, 0, 5), (3, 2, 4), (5, 0, 3), (4, 1, 6)] {
            let case = (beam_width, top_k, tokens);
            let (found, scored) = search(&guided_beam(beam_width, top_k), tokens, &base, &ratios);
            let expected = brute_force(case, &base, &pair);
            let best = &found.best;
            assert_eq!(
                (&best.response.text, best.response.finish),
                (&expected.0, expected.1),
                "{case:?} seed {seed}"
            );
            assert!((best.score - expected.2).abs() < 1e-4, "{} {expected:?}", best.score);
            assert_eq!(scored, 1, "no candidate is read for itself, the answer once");
            let kept = |step: &w2s::search::TraceStep| {
                step.candidates.iter().filter(|candidate| candidate.kept).count()
            };
            assert!(found.trace.iter().all(|step| (1..=beam_width).contains(&kept(step))));
            ended += usize::from(best.response.finish == Some(Finish::Eos));
        }
    }
    assert!((50..250).contains(&ended), "{ended} of 300 answers end by themselves");
}

/// With every token among its successors, chunk-level beam search of single tokens is the same.
#[test]
fn is_the_limit_of_chunk_level_beam_search() {
    for seed in 0..20 {
        let base = |_: &str| vec![0.2_f32.ln(); 5];
        let ratios = |text: &str| numbers("ratios", seed, text);
        for beam_width in [1, 3] {
            let cbs = |successors: usize, beam_width: usize| {
                let keys = json!({
                    "beam_width": beam_width, "successors": successors, "chunk_len": 1
                });
                search(&Search::read("cbs", keys).unwrap().unwrap(), 4, &base, &ratios).0.best
            };
            let (all, _) = search(&guided_beam(beam_width, 0), 4, &base, &ratios);
            let (sampled, found) = (cbs(150, beam_width), all.best);
            assert_eq!(sampled.response, found.response, "seed {seed}");
            assert!((sampled.score - found.score).abs() < 1e-5);
            // A beam that holds everything has the best there is.
            let (best, _) = search(&guided_beam(1000, 0), 4, &base, &ratios);
            assert!(best.best.score >= cbs(4, beam_width).score - 1e-5);
            assert!(best.best.score >= found.score - 1e-5);
        }
    }
}

#[test]
fn chunks_of_whole_responses_are_best_of_n() {
    for seed in 0..10 {
        let base = |text: &str| logprobs(&numbers("base", seed, text));
        let ratios = |text: &str| numbers("ratios", seed, text);
        let of = |kind: &str, keys| {
            search(&Search::read(kind, keys).unwrap().unwrap(), 6, &base, &ratios).0.best.response
        };
        let whole = json!({ "beam_width": 2, "successors": 4, "chunk_len": "inf" });
        assert_eq!(of("cbs", whole), of("best_of_n", json!({ "n": 8 })), "seed {seed}");
    }
}

const NEW_TOKENS: usize = 3;

fn engine(tokenizer: &Rc<Tokenizer>, pairs: Vec<(f64, Rc<GuidePair>)>, stop: &[&str]) -> Engine {
    let settings = SteerSettings {
        sampling: Sampling::Greedy,
        max_new_tokens: NEW_TOKENS,
        stop: stop.iter().map(|stop| (*stop).to_owned()).collect(),
        semantics: Semantics::Paper,
        trace: true,
        prompts_in_flight: 2,
    };
    let method = Method { proposal: Proposal::Base, search: guided_beam(2, 0) };
    let template = PromptTemplate::new("{prompt}", Some(true));
    let base = LocalPolicy::new(
        model(tokenizer, 24, "base"),
        tokenizer.clone(),
        template,
        settings.sampling,
        settings.stop.clone(),
    );
    Engine::open(method, settings, Box::new(base), pairs).unwrap()
}

const PROMPTS: [&str; 3] = ["A film", "I saw The Paper Key", "naïve"];

fn answers(mut engine: Engine) -> Vec<SteerLine> {
    let prompts = PROMPTS.map(|prompt| Prompt::new(prompt, prompt));
    let mut lines = Lines::new(prompts.to_vec());
    engine.answer(1, engine.plan(&prompts).unwrap(), &mut lines).unwrap();
    lines.answered()
}

/// The weighted score of ids by full forward passes, with the end where it `ends`.
fn worth(pairs: &[(f64, Rc<GuidePair>)], prompt: &str, ids: &[i64], ends: bool) -> f32 {
    let of = |(weight, pair): &(f64, Rc<GuidePair>)| {
        let read = pair.template.encode(&pair.tokenizer, &prompt.into()).unwrap();
        let end = pair.tokenizer.eos_id().filter(|_| ends);
        let all: Vec<i64> = read.iter().chain(ids).copied().chain(end).collect();
        let logps = |lm: &w2s::models::Lm| -> f32 {
            response_logps(&lm.model, &all, read.len()).unwrap().iter().sum()
        };
        if all.len() == read.len() {
            return 0.0;
        }
        *weight as f32 * (logps(&pair.tuned) - logps(&pair.untuned))
    };
    pairs.iter().map(of).sum()
}

#[test]
fn with_real_pairs_it_is_the_best_of_all_by_full_forward_passes() {
    let tokenizer = tokenizer(290, 0);
    let second = GuidePair {
        tuned: model(&tokenizer, 16, "other tuned"),
        untuned: model(&tokenizer, 16, "other untuned"),
        tokenizer: tokenizer.clone(),
        template: PromptTemplate::new("{prompt}", Some(true)),
    };
    let pairs = vec![(1.0, guide(&tokenizer)), (-0.5, Rc::new(second))];
    let found = answers(engine(&tokenizer, pairs.clone(), &[]));
    let eos = tokenizer.eos_id().unwrap();
    for (prompt, line) in PROMPTS.into_iter().zip(found) {
        // (ids, whether they end, score), best first.
        let mut kept: Vec<(Vec<i64>, bool, f32)> = vec![(Vec::new(), false, 0.0)];
        for _ in 0..NEW_TOKENS {
            let (mut all, open): (Vec<_>, Vec<_>) =
                kept.into_iter().partition(|(_, ends, _)| *ends);
            for (ids, ..) in open {
                for token in 0..tokenizer.vocab_size() as i64 {
                    let ends = token == eos;
                    let more = if ends { ids.clone() } else { [&ids[..], &[token]].concat() };
                    let score = worth(&pairs, prompt, &more, ends);
                    all.push((more, ends, score));
                }
            }
            all.sort_by(|one, other| other.2.total_cmp(&one.2));
            all.truncate(2);
            kept = all;
        }
        let (ids, ends, score) = &kept[0];
        assert_eq!(line.response, tokenizer.decode_response(ids, false).unwrap(), "{prompt}");
        assert_eq!(line.finish == Finish::Eos, *ends);
        assert!((line.score.unwrap() - score).abs() < 1e-3, "{:?} {score}", line.score);
        let rewards = line.token_rewards.unwrap();
        assert_eq!(rewards.len(), ids.len() + usize::from(*ends));
        assert!((rewards.iter().sum::<f32>() - score).abs() < 1e-3, "{rewards:?} {score}");
        let base = model(&tokenizer, 24, "base");
        let template = PromptTemplate::new("{prompt}", Some(true));
        let read = template.encode(&tokenizer, &prompt.into()).unwrap();
        let all: Vec<i64> = read.iter().chain(ids).copied().chain(ends.then_some(eos)).collect();
        let logps = response_logps(&base.model, &all, read.len()).unwrap();
        let mean = f64::from(logps.iter().sum::<f32>()) / logps.len() as f64;
        assert!((line.base_logprob_per_token.unwrap() - mean).abs() < 1e-3);
    }
}

/// A response that a stop string ends is worth what it says before it, with the guides' end.
#[test]
fn stop_strings_end_responses() {
    let tokenizer = tokenizer(290, 0);
    let pairs = vec![(1.0, guide(&tokenizer))];
    // The first letter of the best response: the token that says it is looked at first.
    let plain = answers(engine(&tokenizer, pairs.clone(), &[]));
    let said = |line: &SteerLine| line.response.chars().find(char::is_ascii_alphabetic);
    let stops: Vec<String> = plain.iter().filter_map(said).map(String::from).collect();
    let mut stopped = 0;
    for stop in &stops {
        let found = answers(engine(&tokenizer, pairs.clone(), &[stop]));
        for (prompt, line) in PROMPTS.into_iter().zip(found) {
            assert!(!line.response.contains(stop), "{stop}: {:?}", line.response);
            let candidates = line.trace.into_iter().flatten().flat_map(|step| step.candidates);
            for candidate in candidates.filter(|known| known.finish == Some(Finish::Stop)) {
                stopped += 1;
                let ids = tokenizer.encode_response(&candidate.text, false).unwrap();
                let score = worth(&pairs, prompt, &ids, true);
                assert!((candidate.score - score).abs() < 1e-3, "{} {score}", candidate.score);
            }
        }
    }
    assert!(stopped > 0, "no response stopped at {stops:?}");
}

#[test]
fn guides_of_another_vocabulary_are_refused() {
    let (mine, theirs) = (tokenizer(290, 0), tokenizer(300, 7));
    let method = Method { proposal: Proposal::Base, search: guided_beam(2, 0) };
    let Engine { settings, .. } = engine(&mine, vec![(1.0, guide(&mine))], &[]);
    let template = PromptTemplate::new("{prompt}", Some(true));
    let base = model(&mine, 24, "base");
    let base = LocalPolicy::new(base, mine, template, settings.sampling, Vec::new());
    let refused = Engine::open(method, settings, Box::new(base), vec![(1.0, guide(&theirs))]);
    let error = refused.err().expect("it is refused").to_string();
    assert!(error.starts_with("`guided_beam` needs one vocabulary, but base and guide have two: "));
}
