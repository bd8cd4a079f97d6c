//! Losses equal to TRL's own code on the same tensors, and to transformers' on the same model (`tests/golden/losses.py`).

mod golden;

use serde_json::Value;
use tch::{Device, Kind, Tensor};
use w2s::losses::{DpoObjective, PreferenceLoss, bradley_terry, dpo};
use w2s::models::Lm;
use w2s::train::{Sequence, sequence_logps};

const TOLERANCE: f64 = 1e-6;

fn expected(name: &str) -> Value {
    let text = std::fs::read_to_string(golden::folder("losses.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[name].take()
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Above 1, of the size of the number: one f32 has no more digits.
fn error(found: f64, expected: f64) -> f64 {
    let error = (found - expected).abs() / expected.abs().max(1.0);
    if error.is_nan() { f64::INFINITY } else { error }
}

/// The golden's responses of one side (0 chosen, 1 rejected), and what `of` says of each; f32, (pairs).
fn side(pairs: &Value, side: usize, of: impl Fn(&[f64]) -> f64) -> Tensor {
    let values: Vec<f32> = pairs.as_array().unwrap().iter().map(|pair| of(&numbers(&pair[side])) as f32).collect();
    Tensor::from_slice(&values)
}

#[test]
fn preference_losses_equal_those_of_trl() {
    let golden = expected("dpo");
    let sums = |model: &str| [0, 1].map(|which| side(&golden[model], which, |logps| logps.iter().sum()));
    let reference = sums("reference");
    let tokens = [0, 1].map(|which| side(&golden["policy"], which, |logps| logps.len() as f64));
    let cases = golden["cases"].as_array().unwrap();
    let objectives: Vec<DpoObjective> = cases.iter().map(|case| serde_json::from_value(case["objective"].clone()).unwrap()).collect();
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
        assert!(largest(&DpoObjective { beta: objective.beta * 1.001, ..*objective }) > TOLERANCE, "{objective}");
        if objective.loss == PreferenceLoss::Sigmoid {
            assert!(largest(&DpoObjective { label_smoothing: objective.label_smoothing + 1e-3, ..*objective }) > TOLERANCE, "{objective}");
        }
    }
    println!("preference losses, gradients and metrics: {worst:.1e}");
}

#[test]
fn the_reward_loss_equals_that_of_trl() {
    let golden = expected("reward");
    let rewards = Tensor::from_slice(&numbers(&golden["rewards"])).to_kind(Kind::Float).set_requires_grad(true);
    let sides = rewards.chunk(2, 0);
    let output = bradley_terry(&sides[0], &sides[1]);
    let loss = output.losses.mean(Kind::Float);
    loss.backward();
    assert!(error(loss.double_value(&[]), golden["loss"].as_f64().unwrap()) < TOLERANCE);
    assert!(error(output.accuracies.mean(Kind::Double).double_value(&[]), golden["accuracy"].as_f64().unwrap()) < TOLERANCE);
    let gradients = Vec::<f32>::try_from(rewards.grad()).unwrap();
    for (found, expected) in gradients.into_iter().zip(numbers(&golden["gradients"])) {
        assert!(error(f64::from(found), expected) < TOLERANCE, "{found} against {expected}");
    }
    assert!(
        error(bradley_terry(&(&sides[0] + 1e-3), &sides[1]).losses.mean(Kind::Float).double_value(&[]), loss.double_value(&[])) > TOLERANCE
    );
}

#[test]
fn cross_entropy_on_responses_and_on_everything_equals_that_of_trl_and_transformers() {
    let golden = expected("cross_entropy");
    let lm = Lm::open(&golden::folder("gpt2"), Device::Cpu, Kind::Float).unwrap();
    let _no_grad = tch::no_grad_guard();
    let mean = |scored_from: &dyn Fn(usize) -> usize| {
        let sequence = |example: &Value| {
            let ids = |part: &str| -> Vec<i64> { serde_json::from_value(example[part].clone()).unwrap() };
            let prompt = ids("prompt");
            Sequence { scored_from: scored_from(prompt.len()), ids: [prompt, ids("response")].concat() }
        };
        let sequences: Vec<Sequence> = golden["examples"].as_array().unwrap().iter().map(sequence).collect();
        let groups: Vec<Vec<&Sequence>> = sequences.iter().map(|sequence| vec![sequence]).collect();
        let (tokens, _) = sequence_logps(&lm.model, &groups, false).unwrap();
        -tokens.logps.mean(Kind::Double).double_value(&[])
    };
    for (on, found) in [("response", mean(&|prompt| prompt)), ("all", mean(&|_| 1))] {
        for theirs in ["trl", "transformers"] {
            let expected = golden["losses"][on][theirs].as_f64().unwrap();
            println!("{on}: {found}, {theirs} {expected}: {:.1e}", error(found, expected));
            assert!(error(found, expected) < TOLERANCE, "{on}: {found} against {theirs}' {expected}");
        }
    }
    // One token more or less is another loss.
    let expected = golden["losses"]["response"]["trl"].as_f64().unwrap();
    assert!(error(mean(&|prompt| prompt.max(2) - 1), expected) > 1e3 * TOLERANCE);
}
