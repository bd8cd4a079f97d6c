//! The engine as its guests see it: prompts pulled, checked, answered, streamed, cancelled and
//! lost, with a local base and with one that is known by its texts only.

use std::time::Duration;

use crate::common::lines::Lines;
use crate::common::scripted::Scripted;
use crate::common::searches::{best_of, cbs_of};
use crate::common::tiny::{guide, model, tokenizer};
use w2s::engine::{Base, Engine, PromptReader, Reader, Sizes, SteerLine, SteerSettings};
use w2s::error::{Error, Result};
use w2s::policy::LocalPolicy;
use w2s::prompt::{Prompt, PromptText};
use w2s::recipe::{Method, Proposal};
use w2s::sampling::Sampling;
use w2s::search::{Extend, Extended, Finish, Node, Proposer, Search, Semantics, Ticket};
use w2s::text::{PromptTemplate, Vocabulary};

/// Whoever continues text: no vocabulary, no size, and one prompt that it fails for.
struct BlackBox {
    scripted: Scripted,
    fails: Option<Node>,
}

impl Proposer for BlackBox {
    fn open(&mut self, prompts: &[&PromptText]) -> Result<Vec<Node>> {
        self.scripted.open(prompts)
    }
    fn max_call_tokens(&self) -> Option<usize> {
        None
    }
    fn submit(&mut self, requests: Vec<(Ticket, Extend)>) {
        self.scripted.submit(requests);
    }
    fn collect(&mut self, _patience: Duration) -> Result<Vec<(Ticket, Result<Extended>)>> {
        let submitted = std::mem::take(&mut self.scripted.submitted);
        let outcome = |(ticket, request): (Ticket, Extend)| {
            let fails = self.fails == Some(request.node.root());
            (
                ticket,
                if fails { Err(Error::failed("503")) } else { Ok(self.scripted.extend(&request)) },
            )
        };
        Ok(submitted.into_iter().map(outcome).collect())
    }
    fn retain(&mut self, root: &Node, live: &[Node]) {
        self.scripted.retain(root, live);
    }
    fn release(&mut self, root: &Node) {
        self.scripted.release(root);
    }
}

impl Base for BlackBox {
    fn vocabulary(&self) -> Option<Vocabulary> {
        None
    }
    fn prompt_readers(&self) -> Vec<PromptReader> {
        Vec::new()
    }
    fn footprint(&self, _prompt: &PromptText, _sizes: &Sizes) -> Result<Vec<Reader>> {
        Ok(Vec::new())
    }
}

fn black_box(fails: Option<u32>) -> Box<dyn Base> {
    Box::new(BlackBox { scripted: Scripted::default(), fails: fails.map(Node::of_prompt) })
}

fn settings(max_new_tokens: usize, stop: &[&str]) -> SteerSettings {
    SteerSettings {
        sampling: Sampling::new(1.0, 0, 1.0),
        max_new_tokens,
        stop: stop.iter().map(|stop| stop.to_string()).collect(),
        semantics: Semantics::Paper,
        trace: false,
        prompts_in_flight: 3,
    }
}

fn method(search: Search) -> Method {
    Method { proposal: Proposal::Base, search }
}

fn cbs() -> Method {
    method(cbs_of(2, 2, 3))
}

fn prompts(texts: &[&str]) -> Vec<Prompt> {
    texts.iter().enumerate().map(|(i, text)| Prompt::new(format!("p{i}"), *text)).collect()
}

fn answer(engine: &mut Engine, prompts: &[Prompt], lines: &mut Lines) {
    let in_flight = engine.plan(prompts).unwrap();
    engine.answer(1, in_flight, lines).unwrap();
}

/// All but the seconds.
fn said(line: &SteerLine) -> SteerLine {
    SteerLine { seconds: 0.0, guide_seconds: None, ..line.clone() }
}

#[test]
fn a_base_known_by_its_texts_is_steered_and_loses_only_what_it_fails_for() {
    let prompts = prompts(&["A film", "naïve", "I saw", "It was", "The Paper Key"]);
    let lines = |fails| {
        let pairs = vec![(1.0, guide(&tokenizer(400, 0)))];
        let mut engine = Engine::open(cbs(), settings(12, &[]), black_box(fails), pairs).unwrap();
        let mut lines = Lines::new(prompts.clone());
        answer(&mut engine, &prompts, &mut lines);
        lines
    };
    let whole = lines(None).answered();
    assert!(whole.iter().all(|line| line.score.is_some()
        && line.tokens.guide > 0
        && line.base_logprob_per_token.is_none()));
    // What each guide token is worth is told with or without a tree, and adds up to the score; the
    // guides' time is part of the prompt's.
    for line in &whole {
        let sum: f32 = line.token_rewards.as_ref().unwrap().iter().sum();
        assert!((sum - line.score.unwrap()).abs() < 1e-4, "{line:?}");
        let of_guides = line.guide_seconds.unwrap();
        assert!(of_guides > 0.0 && of_guides < line.seconds, "{line:?}");
    }
    for (number, outcome) in lines(Some(3)).outcomes.into_iter().enumerate() {
        match outcome.unwrap() {
            Ok(line) => assert!(number != 3 && said(&line) == said(&whole[number])),
            Err(error) => assert!(number == 3 && error.to_string() == "503"),
        }
    }
}

#[test]
fn what_cannot_be_joined_is_refused() {
    let refused = |method, pairs| {
        Engine::open(method, settings(8, &[]), black_box(None), pairs)
            .err()
            .expect("refused")
            .to_string()
    };
    let pairs = || vec![(1.0, guide(&tokenizer(400, 0)))];
    assert!(refused(cbs(), Vec::new()).contains("needs a guide pair"));
    let tilted = Method { proposal: Proposal::Tilted { weight: 1.0 }, ..cbs() };
    assert!(refused(tilted.clone(), Vec::new()).contains("needs a guide pair"));
    assert!(refused(tilted, pairs()).contains("does not tell its next tokens"));
}

fn local(stop: &[&str], max_new_tokens: usize, method: Method) -> Engine {
    let (tokenizer, settings) = (tokenizer(400, 0), settings(max_new_tokens, stop));
    let template = PromptTemplate::new("{prompt}", Some(true));
    let base = LocalPolicy::new(
        model(&tokenizer, 24, "base"),
        tokenizer.clone(),
        template,
        settings.sampling,
        settings.stop.clone(),
    );
    Engine::open(method, settings, Box::new(base), vec![(1.0, guide(&tokenizer))]).unwrap()
}

#[test]
fn a_prompt_that_does_not_fit_is_lost_and_the_others_are_answered() {
    let long = "~^".repeat(60);
    let prompts = prompts(&["A film", &long, "naïve", &long]);
    let mut engine = local(&[], 20, cbs());
    assert!(engine.check(&prompts[0]).is_ok());
    let mut lines = Lines::new(prompts.clone());
    engine.answer(1, 2, &mut lines).unwrap();
    let alone = {
        let mut lines = Lines::new(vec![prompts[2].clone()]);
        engine.answer(1, 1, &mut lines).unwrap();
        lines.answered().remove(0)
    };
    let outcomes: Vec<_> = lines.outcomes.into_iter().flatten().collect();
    assert_eq!(
        outcomes[2].as_ref().unwrap().response,
        alone.response,
        "answered as alone, by its id"
    );
    for (place, id) in [(1, "p1"), (3, "p3")] {
        let error = outcomes[place].as_ref().unwrap_err().to_string();
        assert!(
            error.contains(&format!("prompt `{id}`: "))
                && error.contains("do not fit the model's context of 128"),
            "{error}"
        );
        assert_eq!(error, engine.check(&prompts[place]).unwrap_err().to_string());
    }
}

#[test]
fn one_prompt_is_cancelled_and_the_others_do_not_notice() {
    let prompts = prompts(&["A film", "naïve", "I saw", "It was"]);
    for method in [method(cbs_of(1, 3, 2)), Method::sampled(Proposal::Base)] {
        let mut engine = local(&[], 40, method);
        let (mut whole, mut lines) = (Lines::new(prompts.clone()), Lines::new(prompts.clone()));
        answer(&mut engine, &prompts, &mut whole);
        assert!(!whole.committed[1].is_empty(), "it is streamed: {:?}", whole.committed);
        lines.cancel = Some(1);
        answer(&mut engine, &prompts, &mut lines);
        let whole = whole.answered();
        assert!(lines.outcomes[1].is_none());
        for number in [0, 2, 3] {
            let line = lines.outcomes[number].as_ref().unwrap().as_ref().unwrap();
            assert_eq!(
                (&line.response, line.finish, line.tokens),
                (&whole[number].response, whole[number].finish, whole[number].tokens)
            );
            assert!((line.score.unwrap() - whole[number].score.unwrap()).abs() < 1e-4);
        }
    }
}

#[test]
fn what_is_streamed_begins_the_answer_also_where_a_stop_string_ends_it() {
    let prompts = prompts(&["A film", "naïve", "I saw"]);
    let methods = [method(best_of(1)), method(cbs_of(1, 2, 1))];
    let mut stopped = 0;
    for method in methods {
        let mut free = Lines::new(prompts.clone());
        answer(&mut local(&[], 40, method.clone()), &prompts, &mut free);
        let text = free.answered()[0].response.clone();
        let stop: String = text.chars().skip(text.chars().count() / 2).take(3).collect();
        let mut lines = Lines::new(prompts.clone());
        answer(&mut local(&[&stop], 40, method), &prompts, &mut lines);
        let committed = std::mem::take(&mut lines.committed);
        assert!(committed.iter().any(|texts| texts.len() > 1), "{committed:?}");
        for (texts, line) in committed.iter().zip(lines.answered()) {
            assert!(
                texts.iter().all(|text| line.response.starts_with(text)),
                "{texts:?} and {:?}",
                line.response
            );
            stopped += usize::from(line.finish == Finish::Stop);
        }
    }
    assert!(stopped >= 2, "{stopped}");
}
