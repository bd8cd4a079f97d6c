//! PPO on toy worlds that are solved in seconds, and only if signs, masks and indices are right.

use std::rc::Rc;

use tch::{Device, Kind, Tensor};
use w2s::losses::{KlEstimator, pay_by_chunk};
use w2s::models::{Gpt2Config, Lm, LmConfig, TokenIds};
use w2s::policy::LocalPolicy;
use w2s::prompt::PromptText;
use w2s::sampling::{Sampling, Stream};
use w2s::search::{Extend, Finish};
use w2s::text::{PromptTemplate, Tokenizer};
use w2s::train::tasks::{Ppo, PpoSettings, Rollout, Value};
use w2s::train::{AdamW, AdamWSettings, Metrics, Sequence};

use crate::common::one_thread;

const VOCAB: i64 = 12;
const EOS: i64 = 0;

/// A world: what it asks, how long answers are, and what each token of an answer earns.
struct World<F: Fn(&[i64], &[i64]) -> Vec<f64>> {
    answer: usize,
    reward: F,
}

struct Learner<'a> {
    ppo: Ppo<'a>,
    optimizer: AdamW,
    tokenizer: Rc<Tokenizer>,
}

fn settings() -> PpoSettings {
    PpoSettings {
        temperature: 0.7,
        epochs: 4,
        minibatch_size: 32,
        micro_batch_size: 32,
        gamma: 1.0,
        lam: 0.95,
        cliprange: 0.2,
        cliprange_value: 0.2,
        vf_coef: 0.1,
        kl_estimator: KlEstimator::K1,
        target_kl: None,
        max_grad_norm: 1.0,
        activation_checkpointing: false,
    }
}

fn learner(settings: &PpoSettings) -> Learner<'_> {
    learner_with(settings, |policy, _| Value::head(policy))
}

fn learner_with(settings: &PpoSettings, value: impl Fn(&Lm, Rc<Lm>) -> Value) -> Learner<'_> {
    one_thread();
    let config = Gpt2Config {
        vocab_size: VOCAB,
        n_positions: 16,
        n_embd: 32,
        n_layer: 2,
        n_head: 2,
        bos_token_id: None,
        eos_token_id: Some(TokenIds::One(EOS)),
        ..Gpt2Config::default()
    };
    let new = || Rc::new(Lm::new(LmConfig::Gpt2(config.clone()), 3, Device::Cpu).unwrap());
    let policy = new();
    let value = value(&policy, new());
    let ppo = Ppo { settings, policy, reference: new(), value };
    let optimizer = AdamW::new(ppo.parameters(), AdamWSettings::with_decay(0.0));
    Learner {
        ppo,
        optimizer,
        tokenizer: Rc::new(Tokenizer::numbered(VOCAB as usize, Some(EOS)).unwrap()),
    }
}

impl Learner<'_> {
    /// Answers to prompts of one random token each, by the engine of the search.
    fn rollouts<F: Fn(&[i64], &[i64]) -> Vec<f64>>(
        &self,
        world: &World<F>,
        step: u64,
        count: usize,
    ) -> Vec<Rollout> {
        let sampling = Sampling::new(self.ppo.settings.temperature, 0, 1.0);
        let template = PromptTemplate::new("{prompt}", Some(false));
        let mut policy = LocalPolicy::new(
            self.ppo.policy.clone(),
            self.tokenizer.clone(),
            template,
            sampling,
            Vec::new(),
        );
        let asked = Stream::new(7, "prompts", &step.to_string());
        let ids: Vec<i64> = (0..count)
            .map(|i| 1 + (asked.uniform(i as u64, 0) * (VOCAB - 1) as f64) as i64)
            .collect();
        let prompts: Vec<PromptText> = ids.iter().map(|id| format!("t{id}").into()).collect();
        let nodes = policy.open_rows(&prompts.iter().collect::<Vec<_>>()).unwrap();
        let streams: Vec<Stream> =
            (0..count).map(|i| Stream::new(9, "answers", &format!("{step}/{i}"))).collect();
        let requests: Vec<Extend> = nodes
            .iter()
            .zip(&streams)
            .map(|(node, stream)| Extend {
                node: node.clone(),
                stream: stream.clone(),
                slot: 0,
                max_tokens: world.answer,
            })
            .collect();
        let answers = policy.extend(&requests).unwrap();
        (ids.iter().zip(answers))
            .map(|(&prompt, answer)| {
                let mut response = answer.response.ids;
                response.extend((answer.response.finish == Some(Finish::Eos)).then_some(EOS));
                let rewards = (world.reward)(&[prompt], &response);
                Rollout {
                    sequence: Sequence { ids: [vec![prompt], response].concat(), scored_from: 1 },
                    rewards,
                }
            })
            .collect()
    }

    fn learn<F: Fn(&[i64], &[i64]) -> Vec<f64>>(
        &mut self,
        world: &World<F>,
        steps: u64,
        kl_coef: f64,
    ) -> Vec<Metrics> {
        (0..steps)
            .map(|step| {
                let rollouts = self.rollouts(world, step, 64);
                let order = |epoch: usize| {
                    Stream::new(5, "order", &format!("{step}/{epoch}")).permutation(rollouts.len())
                };
                self.ppo.update(&mut self.optimizer, &rollouts, kl_coef, 3e-3, &order).unwrap()
            })
            .collect()
    }
}

fn metric(metrics: &Metrics, name: &str) -> f64 {
    metrics.mean(name).unwrap_or_else(|| panic!("no {name}"))
}

fn mean_score(metrics: &[Metrics]) -> f64 {
    metrics.iter().map(|metrics| metric(metrics, "objective/scores")).sum::<f64>()
        / metrics.len() as f64
}

/// One token, worth 1 if it is t4: the policy must come to say it nearly always.
#[test]
fn a_bandit_finds_its_arm() {
    let settings = settings();
    let mut learner = learner(&settings);
    let world =
        World { answer: 1, reward: |_: &[i64], answer: &[i64]| vec![f64::from(answer[0] == 4)] };
    let metrics = learner.learn(&world, 25, 0.0);
    let (first, last) = (mean_score(&metrics[..3]), mean_score(&metrics[22..]));
    assert!(first < 0.3 && last > 0.95, "{first} {last}");
}

/// Each token is worth 1 if it repeats the prompt's, −0.2 otherwise: off by one in targets, states
/// or rewards, and nothing is learned.
#[test]
fn tokens_that_copy_the_prompt_are_learned_with_dense_and_with_sparse_pay() {
    for chunk_len in [Some(1), Some(2), None] {
        let settings = settings();
        let mut learner = learner(&settings);
        let reward = |prompt: &[i64], answer: &[i64]| {
            let each: Vec<f64> =
                answer.iter().map(|token| if *token == prompt[0] { 1.0 } else { -0.2 }).collect();
            pay_by_chunk(&each, chunk_len)
        };
        let metrics = learner.learn(&World { answer: 4, reward }, 120, 0.0);
        let (first, last) = (mean_score(&metrics[..3]), mean_score(&metrics[115..]));
        assert!(first < 0.2 && last > 3.0, "{chunk_len:?}: {first} {last}");
        let known = metrics
            .iter()
            .map(|metrics| metric(metrics, "val/explained_variance"))
            .fold(f64::NEG_INFINITY, f64::max);
        assert!(
            known > 0.5,
            "{chunk_len:?}: the values never said more than {known} of the returns"
        );
    }
}

/// A value model learns beside the policy: its values come to know the returns, and its gradients
/// leave the policy's alone.
#[test]
fn a_value_model_of_its_own_learns_the_returns() {
    let settings = settings();
    let mut learner = learner_with(&settings, |_, body| Value::model(body));
    let reward = |prompt: &[i64], answer: &[i64]| {
        answer.iter().map(|token| if *token == prompt[0] { 1.0 } else { -0.2 }).collect()
    };
    let metrics = learner.learn(&World { answer: 4, reward }, 60, 0.0);
    let (first, last) = (mean_score(&metrics[..3]), mean_score(&metrics[55..]));
    assert!(first < 0.2 && last > 1.0, "{first} {last}");
    let known = metrics
        .iter()
        .map(|metrics| metric(metrics, "val/explained_variance"))
        .fold(f64::NEG_INFINITY, f64::max);
    assert!(known > 0.5, "the values never said more than {known} of the returns");
    let names: Vec<String> = learner.ppo.parameters().into_iter().map(|(name, _)| name).collect();
    assert!(
        names.iter().any(|name| name == "value_model.transformer.wte.weight")
            && !names.iter().any(|name| name.contains("lm_head"))
    );

    // With nothing to learn for the policy, only the values move.
    let flat = PpoSettings { cliprange: 1e-9, ..settings.clone() };
    let mut learner = learner_with(&flat, |_, body| Value::model(body));
    let before: Vec<(String, Tensor)> = learner
        .optimizer
        .weights()
        .into_iter()
        .map(|(name, weight)| (name, weight.copy()))
        .collect();
    learner.learn(&World { answer: 1, reward: |_: &[i64], _: &[i64]| vec![1.0] }, 1, 0.0);
    let moved = |(name, weight): (String, Tensor)| {
        let (_, before) = before.iter().find(|(known, _)| *known == name).unwrap();
        ((&weight - before).abs().max().double_value(&[]) > 1e-5).then_some(name)
    };
    let moved: Vec<String> = learner.optimizer.weights().into_iter().filter_map(moved).collect();
    assert!(!moved.is_empty() && moved.iter().all(|name| name.starts_with("value_")), "{moved:?}");
}

#[test]
fn before_anything_is_learned_every_ratio_is_one_to_the_bit() {
    let settings = PpoSettings { micro_batch_size: 8, ..settings() };
    let mut learner = learner(&settings);
    let world = World { answer: 4, reward: |_: &[i64], answer: &[i64]| vec![1.0; answer.len()] };
    for metrics in learner.learn(&world, 3, 0.1) {
        assert_eq!(metric(&metrics, "val/first_ratio_error"), 0.0);
        assert!(
            metric(&metrics, "policy/approxkl_avg") > 0.0,
            "later minibatches are of another policy"
        );
    }
}

/// With a large coefficient the policy stays where it was, whatever the reward says; without one it
/// leaves.
#[test]
fn the_penalty_holds_the_policy_to_the_reference() {
    let run = |coefficient: f64| {
        let settings = settings();
        let mut learner = learner(&settings);
        let world = World {
            answer: 1,
            reward: |_: &[i64], answer: &[i64]| vec![f64::from(answer[0] == 4)],
        };
        let metrics = learner.learn(&world, 20, coefficient);
        assert!(metric(&metrics[0], "objective/kl").abs() < 1e-6);
        metrics[15..].iter().map(|metrics| metric(metrics, "objective/kl")).sum::<f64>() / 5.0
    };
    let (free, held) = (run(0.0), run(20.0));
    assert!(free > 1.0 && held < 0.1, "{free} {held}");
}

#[test]
fn micro_batches_give_the_update_of_the_whole_minibatch() {
    let weights = |micro_batch_size: usize| {
        let settings = PpoSettings { micro_batch_size, ..settings() };
        let mut learner = learner(&settings);
        let world = World {
            answer: 3,
            reward: |_: &[i64], answer: &[i64]| {
                answer.iter().map(|token| *token as f64 / 10.0).collect()
            },
        };
        learner.learn(&world, 1, 0.05);
        learner.optimizer.weights()
    };
    for ((name, whole), (_, split)) in weights(32).iter().zip(weights(5)) {
        let error = (whole - split).abs().max().double_value(&[]);
        // Adam's first steps have the size of the rate whatever the gradient: signs of gradients
        // near 0 may differ.
        assert!((whole.kind() == Kind::Float) && error < 2e-3, "{name}: {error}");
    }
}

#[test]
fn a_reward_that_is_no_number_is_refused() {
    let settings = settings();
    let mut learner = learner(&settings);
    let sequence = Sequence { ids: vec![1, 2, 3], scored_from: 1 };
    for rewards in [vec![1.0, f64::NAN], vec![1.0]] {
        let rollout = Rollout { sequence: sequence.clone(), rewards };
        let error = learner
            .ppo
            .update(&mut learner.optimizer, &[rollout], 0.1, 1e-3, &|_| vec![0])
            .unwrap_err()
            .to_string();
        assert!(error.contains("rollout 0 of 2 tokens"), "{error}");
    }
}
