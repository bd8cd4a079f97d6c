//! Losses equal to TRL's own code on the same tensors, and to transformers' on the same model
//! (`tests/golden/losses.py`, and `ppo.py` for PPO).

use crate::golden;
use serde_json::Value;
use tch::{Device, Kind, Tensor};
use w2s::losses::{
    DpoObjective, KlEstimator, PreferenceLoss, adapt_kl_coefficient, approx_kl, bradley_terry, dpo,
    gae, pay_by_chunk, ppo_policy, ppo_value, whiten,
};
use w2s::models::Lm;
use w2s::train::{Sequence, sequence_logps};

const TOLERANCE: f64 = 1e-6;

fn expected(file: &str, name: &str) -> Value {
    let text = std::fs::read_to_string(golden::folder(file)).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[name].take()
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

/// What PPO's golden says of each token, one row a response.
fn token_rows(value: &Value) -> Vec<Vec<f32>> {
    serde_json::from_value(value.clone()).unwrap()
}

fn largest_error(found: &[Vec<f32>], expected: &Value) -> f64 {
    let expected: Vec<Vec<f64>> = serde_json::from_value(expected.clone()).unwrap();
    assert!(found.iter().map(Vec::len).eq(expected.iter().map(Vec::len)));
    let both = found.iter().flatten().zip(expected.iter().flatten());
    both.map(|(&found, &expected)| error(f64::from(found), expected)).fold(0.0, f64::max)
}

/// Above 1, of the size of the number: one f32 has no more digits.
fn error(found: f64, expected: f64) -> f64 {
    let error = (found - expected).abs() / expected.abs().max(1.0);
    if error.is_nan() { f64::INFINITY } else { error }
}

/// The golden's responses of one side (0 chosen, 1 rejected), and what `of` says of each; f32,
/// (pairs).
fn side(pairs: &Value, side: usize, of: impl Fn(&[f64]) -> f64) -> Tensor {
    let values: Vec<f32> =
        pairs.as_array().unwrap().iter().map(|pair| of(&numbers(&pair[side])) as f32).collect();
    Tensor::from_slice(&values)
}

#[test]
fn preference_losses_equal_those_of_trl() {
    let golden = expected("losses.json", "dpo");
    let sums =
        |model: &str| [0, 1].map(|which| side(&golden[model], which, |logps| logps.iter().sum()));
    let reference = sums("reference");
    let tokens = [0, 1].map(|which| side(&golden["policy"], which, |logps| logps.len() as f64));
    let cases = golden["cases"].as_array().unwrap();
    let objectives: Vec<DpoObjective> = cases
        .iter()
        .map(|case| serde_json::from_value(case["objective"].clone()).unwrap())
        .collect();
    for loss in [PreferenceLoss::Sigmoid, PreferenceLoss::Ipo, PreferenceLoss::Hinge] {
        assert!(objectives.iter().any(|objective| objective.loss == loss), "{loss:?}");
    }
    assert!(objectives.iter().any(|objective| objective.label_smoothing > 0.0));
    let mut worst = 0f64;
    for (case, objective) in cases.iter().zip(&objectives) {
        let largest = |objective: &DpoObjective| {
            let policy = sums("policy").map(|logps| logps.set_requires_grad(true));
            let output = dpo(objective, policy.each_ref(), reference.each_ref(), tokens.each_ref());
            output.losses.sum(Kind::Float).backward();
            let gradients = policy.each_ref().map(Tensor::grad);
            let mut largest = 0f64;
            for (i, pair) in case["pairs"].as_array().unwrap().iter().enumerate() {
                let at = |tensor: &Tensor| tensor.double_value(&[i as i64]);
                let (chosen, rejected) = (at(&output.chosen_rewards), at(&output.rejected_rewards));
                let metrics = &pair["metrics"];
                for (found, expected) in [
                    (at(&output.losses), &pair["loss"]),
                    (at(&gradients[0]), &pair["gradients"][0]),
                    (at(&gradients[1]), &pair["gradients"][1]),
                    (chosen, &metrics["rewards/chosen"]),
                    (rejected, &metrics["rewards/rejected"]),
                    (chosen - rejected, &metrics["rewards/margins"]),
                    (at(&output.accuracies), &metrics["rewards/accuracies"]),
                    (at(&policy[0]), &metrics["logps/chosen"]),
                    (at(&policy[1]), &metrics["logps/rejected"]),
                ] {
                    largest = largest.max(error(found, expected.as_f64().unwrap()));
                }
            }
            largest
        };
        let error = largest(objective);
        worst = worst.max(error);
        assert!(error < TOLERANCE, "{objective}: {error}");
        // What the comparison would not forgive: another strength, another smoothing.
        assert!(
            largest(&DpoObjective { beta: objective.beta * 1.001, ..*objective }) > TOLERANCE,
            "{objective}"
        );
        if objective.loss == PreferenceLoss::Sigmoid {
            assert!(
                largest(&DpoObjective {
                    label_smoothing: objective.label_smoothing + 1e-3,
                    ..*objective
                }) > TOLERANCE,
                "{objective}"
            );
        }
    }
    println!("preference losses, gradients and metrics: {worst:.1e}");
}

#[test]
fn the_reward_loss_equals_that_of_trl() {
    let golden = expected("losses.json", "reward");
    let rewards = Tensor::from_slice(&numbers(&golden["rewards"]))
        .to_kind(Kind::Float)
        .set_requires_grad(true);
    let sides = rewards.chunk(2, 0);
    let output = bradley_terry(&sides[0], &sides[1]);
    let loss = output.losses.mean(Kind::Float);
    loss.backward();
    assert!(error(loss.double_value(&[]), golden["loss"].as_f64().unwrap()) < TOLERANCE);
    assert!(
        error(
            output.accuracies.mean(Kind::Double).double_value(&[]),
            golden["accuracy"].as_f64().unwrap()
        ) < TOLERANCE
    );
    let gradients = Vec::<f32>::try_from(rewards.grad()).unwrap();
    for (found, expected) in gradients.into_iter().zip(numbers(&golden["gradients"])) {
        assert!(error(f64::from(found), expected) < TOLERANCE, "{found} against {expected}");
    }
    assert!(
        error(
            bradley_terry(&(&sides[0] + 1e-3), &sides[1])
                .losses
                .mean(Kind::Float)
                .double_value(&[]),
            loss.double_value(&[])
        ) > TOLERANCE
    );
}

#[test]
fn cross_entropy_on_responses_and_on_everything_equals_that_of_trl_and_transformers() {
    let golden = expected("losses.json", "cross_entropy");
    let lm = Lm::open(&golden::folder("gpt2"), Device::Cpu, Kind::Float).unwrap();
    let _no_grad = tch::no_grad_guard();
    let mean = |scored_from: &dyn Fn(usize) -> usize| {
        let sequence = |example: &Value| {
            let ids =
                |part: &str| -> Vec<i64> { serde_json::from_value(example[part].clone()).unwrap() };
            let prompt = ids("prompt");
            Sequence {
                scored_from: scored_from(prompt.len()),
                ids: [prompt, ids("response")].concat(),
            }
        };
        let sequences: Vec<Sequence> =
            golden["examples"].as_array().unwrap().iter().map(sequence).collect();
        let groups: Vec<Vec<&Sequence>> = sequences.iter().map(|sequence| vec![sequence]).collect();
        let (tokens, _) = sequence_logps(&lm.model, &groups, false).unwrap();
        -tokens.logps.mean(Kind::Double).double_value(&[])
    };
    for (on, found) in [("response", mean(&|prompt| prompt)), ("all", mean(&|_| 1))] {
        for theirs in ["trl", "transformers"] {
            let expected = golden["losses"][on][theirs].as_f64().unwrap();
            println!("{on}: {found}, {theirs} {expected}: {:.1e}", error(found, expected));
            assert!(
                error(found, expected) < TOLERANCE,
                "{on}: {found} against {theirs}' {expected}"
            );
        }
    }
    // One token more or less is another loss.
    let expected = golden["losses"]["response"]["trl"].as_f64().unwrap();
    assert!(error(mean(&|prompt| prompt.max(2) - 1), expected) > 1e3 * TOLERANCE);
}

#[test]
fn the_rewards_of_ppos_tokens_equal_those_of_trl() {
    let (tokens, golden) = (expected("ppo.json", "tokens"), expected("ppo.json", "rewards"));
    let (policy, reference) = (token_rows(&tokens["old_logps"]), token_rows(&tokens["reference"]));
    let scores = numbers(&golden["scores"]);
    let paid = |coefficient: f64| -> Vec<Vec<f32>> {
        let row = |(policy, (reference, &score)): (&Vec<f32>, (&Vec<f32>, &f64))| {
            let mut rewards = vec![0.0; policy.len()];
            rewards[0] = score;
            let paid = pay_by_chunk(&rewards, None);
            let kls = policy
                .iter()
                .zip(reference)
                .map(|(&logp, &reference)| KlEstimator::K1.estimate(logp, reference));
            paid.iter()
                .zip(kls)
                .map(|(paid, kl)| (paid - coefficient * f64::from(kl)) as f32)
                .collect()
        };
        policy.iter().zip(reference.iter().zip(&scores)).map(row).collect()
    };
    let coefficient = golden["kl_coefficient"].as_f64().unwrap();
    assert!(largest_error(&paid(coefficient), &golden["rewards"]) < TOLERANCE);
    assert!(largest_error(&paid(coefficient * 1.001), &golden["rewards"]) > TOLERANCE);
}

#[test]
fn advantages_and_returns_equal_those_of_trl() {
    let tokens = expected("ppo.json", "tokens");
    let rewards: Vec<Vec<f64>> = token_rows(&tokens["rewards"])
        .iter()
        .map(|row| row.iter().map(|&reward| f64::from(reward)).collect())
        .collect();
    let values = token_rows(&tokens["old_values"]);
    let mut worst = 0f64;
    for case in expected("ppo.json", "advantages").as_array().unwrap() {
        let errors = |gamma: f64, lambda: f64| {
            let (plain, returns): (Vec<_>, Vec<_>) =
                rewards.iter().zip(&values).map(|(r, v)| gae(r, v, gamma, lambda)).unzip();
            let mut whitened = plain.clone();
            whiten(whitened.iter_mut().flatten());
            [(plain, "advantages"), (returns, "returns"), (whitened, "whitened")]
                .map(|(found, name)| largest_error(&found, &case[name]))
        };
        let (gamma, lambda) = (case["gamma"].as_f64().unwrap(), case["lambda"].as_f64().unwrap());
        for error in errors(gamma, lambda) {
            assert!(error < TOLERANCE, "gamma {gamma}, lambda {lambda}: {error}");
            worst = worst.max(error);
        }
        // What the comparison would not forgive: another discount, another mixture.
        for (gamma, lambda) in [(gamma * 0.999, lambda), (gamma, lambda + 1e-3)] {
            assert!(
                errors(gamma, lambda).iter().all(|&error| error > TOLERANCE),
                "gamma {gamma}, lambda {lambda}"
            );
        }
    }
    println!("advantages, returns and whitened advantages: {worst:.1e}");
}

#[test]
fn the_clipped_losses_equal_those_of_trl() {
    let golden = expected("ppo.json", "tokens");
    let flat = |name: &str| Tensor::from_slice(&token_rows(&golden[name]).concat());
    let (old_logps, advantages, old_values, returns) =
        (flat("old_logps"), flat("advantages"), flat("old_values"), flat("returns"));
    let count = old_logps.numel() as f64;
    let mut worst = 0f64;
    for case in expected("ppo.json", "losses").as_array().unwrap() {
        let largest = |clip: f64, value_clip: f64| {
            let [logps, values] =
                ["logps", "values"].map(|name| flat(name).set_requires_grad(true));
            let policy = ppo_policy(&logps, &old_logps, &advantages, clip);
            let value = ppo_value(&values, &old_values, &returns, value_clip);
            let mean = |tensor: &Tensor| tensor.mean(Kind::Double).double_value(&[]);
            let mut of_policy =
                error(mean(&approx_kl(&logps, &old_logps)), case["approxkl"].as_f64().unwrap());
            let mut of_value = 0f64;
            for (worst, losses, clipped, by, names) in [
                (
                    &mut of_policy,
                    &policy.losses,
                    &policy.clipped,
                    &logps,
                    ["policy_loss", "policy_clipfrac", "logp_gradients"],
                ),
                (
                    &mut of_value,
                    &value.losses,
                    &value.clipped,
                    &values,
                    ["value_loss", "value_clipfrac", "value_gradients"],
                ),
            ] {
                for (found, name) in [(mean(losses), names[0]), (mean(clipped), names[1])] {
                    *worst = worst.max(error(found, case[name].as_f64().unwrap()));
                }
                // Gradients of the sum, so that they are of the size of 1.
                losses.sum(Kind::Float).backward();
                let expected: Vec<f64> =
                    case[names[2]].as_array().unwrap().iter().flat_map(numbers).collect();
                for (found, expected) in
                    Vec::<f32>::try_from(by.grad()).unwrap().into_iter().zip(expected)
                {
                    *worst = worst.max(error(f64::from(found), expected * count));
                }
            }
            [of_policy, of_value]
        };
        let (clip, value_clip) =
            (case["clip"].as_f64().unwrap(), case["value_clip"].as_f64().unwrap());
        for error in largest(clip, value_clip) {
            assert!(error < TOLERANCE, "clip {clip}, value clip {value_clip}: {error}");
            worst = worst.max(error);
        }
        assert!(
            largest(clip * 1.001, value_clip * 1.001).iter().all(|&error| error > TOLERANCE),
            "clip {clip}, value clip {value_clip}"
        );
    }
    println!("clipped losses, gradients and shares: {worst:.1e}");
}

#[test]
fn the_adapted_kl_coefficient_equals_that_of_trl() {
    let golden = expected("ppo.json", "adaptive_kl");
    let [first, target, horizon] =
        ["coefficient", "target", "horizon"].map(|name| golden[name].as_f64().unwrap());
    let worst = |target: f64| {
        let mut coefficient = first;
        let mut worst = 0f64;
        for step in golden["steps"].as_array().unwrap() {
            coefficient = adapt_kl_coefficient(
                coefficient,
                step["kl"].as_f64().unwrap(),
                target,
                horizon,
                step["samples"].as_u64().unwrap() as usize,
            );
            worst = worst.max((coefficient - step["coefficient"].as_f64().unwrap()).abs());
        }
        worst
    };
    assert!(worst(target) < 1e-12, "{}", worst(target));
    assert!(worst(target * 1.001) > 1e-6);
}
