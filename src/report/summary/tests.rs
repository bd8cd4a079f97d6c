//! The summary of answers made by hand.

use super::*;

fn answer(seed: u64, id: &str, reward: f64) -> Answer {
    Answer {
        seed,
        id: id.into(),
        prompt: "p".into(),
        response: "a b c".into(),
        complete: seed == 1,
        score: None,
        gold_reward: Some(reward),
        judges: BTreeMap::from([("kind".to_owned(), 2.0 * reward)]),
        base_logprob_per_token: None,
        response_tokens: 3,
        base_tokens: 3,
        guide_tokens: 0,
        seconds: 1.0,
        guide_seconds: None,
    }
}

#[test]
fn rows_and_paired_comparisons_by_hand() {
    let mut summary = Summary::new("test");
    summary.add(
        "m",
        "base",
        Role::Plain,
        Value::Null,
        &[answer(1, "x", 0.0), answer(1, "y", 2.0), answer(2, "x", 2.0), answer(2, "y", 4.0)],
    );
    summary.add(
        "m",
        "cbs",
        Role::Steered,
        Value::Null,
        &[answer(1, "x", 5.0), answer(1, "y", 5.0), answer(2, "x", 5.0), answer(2, "y", 9.0)],
    );
    summary.compare();
    let reward = summary.rows[0].gold_reward.clone().unwrap();
    assert_eq!((reward.seed_std, reward.bootstrap95), (Some(2f64.sqrt()), Some([1.0, 3.0])));
    assert_eq!((reward.mean, reward.seeds), (2.0, vec![1.0, 3.0]));
    assert!(
        (reward.ci95 - 1.96 * 1.0).abs() < 1e-12,
        "prompts x: 1, y: 3 have the standard error 1"
    );
    let kind = &summary.rows[0].judges["kind"];
    assert_eq!(
        (kind.mean, &kind.seeds[..]),
        (4.0, &[2.0, 6.0][..]),
        "another judge has its own numbers"
    );
    // per prompt: x 5 − 1 = 4, y 7 − 3 = 4
    let comparison = &summary.comparisons[0];
    assert_eq!(
        (comparison.a.as_str(), comparison.b.as_str(), comparison.prompts),
        ("cbs", "base", 2)
    );
    assert_eq!((comparison.difference, comparison.standard_error), (4.0, 0.0));
    assert_eq!(summary.rows[0].complete_fraction, 0.5);
    assert_eq!(summary.rows[0].prompts, 2);
    assert!(summary.notes.is_empty());
}

#[test]
fn what_learned_or_chose_nothing_is_noted() {
    let scored = |score: f64| Answer { score: Some(score), ..answer(1, "x", 0.0) };
    let mut summary = Summary::new("test");
    summary.add("m", "cbs", Role::Steered, Value::Null, &[scored(0.0), scored(0.1)]);
    summary.add("m", "base", Role::Plain, Value::Null, &[answer(1, "x", 0.0)]);
    summary.note_training("sft", &serde_json::json!({ "changed": true }));
    summary.note_training("dpo", &Value::Null);
    let of_pairs = |loss: f64| {
        serde_json::json!({
            "changed": true,
            "loss_at_start": 2f64.ln(),
            "validation": [["validation/loss", loss]]
        })
    };
    summary.note_training("dpo", &of_pairs(0.69));
    assert_eq!(summary.notes, Vec::<String>::new());
    for method in ["best_of_n", "tuned"] {
        summary.add("m", method, Role::Other, Value::Null, &[scored(0.0), scored(0.0)]);
    }
    summary.note_training("dpo", &serde_json::json!({ "changed": false }));
    summary.note_training("direct/m/dpo", &of_pairs(0.7));
    assert_eq!(summary.notes.len(), 3);
    assert!(
        summary.notes[2]
            .starts_with("direct/m/dpo: the held-out loss 0.7000 is no lower than 0.6931")
    );
    assert!(
        summary.notes[0].starts_with("m: every score is 0")
            && summary.notes[1].starts_with("dpo: nothing was learned")
    );
}

/// Rewards of the prompts a, b, c, … by one seed.
fn answers(rewards: &[f64]) -> Vec<Answer> {
    let id = |i: usize| char::from(b'a' + i as u8).to_string();
    rewards.iter().enumerate().map(|(i, reward)| answer(1, &id(i), *reward)).collect()
}

fn compared() -> Summary {
    let mut summary = Summary::new("test");
    let swept = |name: &str| serde_json::json!({ "guide": name });
    for (base, method, role, settings, rewards) in [
        ("m", "base", Role::Plain, Value::Null, [0.0, 1.0, 2.0, 3.0]),
        ("m", "cbs-x", Role::Steered, swept("x"), [2.0, 2.0, 5.0, 3.0]),
        ("m", "cbs-y", Role::Steered, swept("y"), [1.0, 2.5, 3.0, 4.0]),
        ("m", "direct", Role::Direct, Value::Null, [2.0, 3.0, 4.0, 6.0]),
        ("g", "tuned-x", Role::Tuned, swept("x"), [1.0, 0.0, 1.0, 1.0]),
        ("g", "tuned-y", Role::Tuned, swept("y"), [1.0, 0.0, 1.0, 2.0]),
        ("g", "untuned", Role::Untuned, Value::Null, [0.0, 0.0, 0.0, 1.0]),
    ] {
        summary.add(base, method, role, settings, &answers(&rewards));
    }
    summary.compare();
    summary
}

#[test]
fn every_pair_of_a_base_and_every_guide_is_compared_by_each_judge() {
    let summary = compared();
    // Of m 6 pairs and 4 · 3 with the guides, of g 3 pairs; by the gold and by `kind`.
    assert_eq!(summary.comparisons.len(), 2 * (6 + 12 + 3));
    assert!(summary.comparisons[..21].iter().all(|it| it.judge == "gold"));
    let find = |a: &str, b: &str, judge: &str| {
        let is =
            |it: &&Comparison| (it.a.as_str(), it.b.as_str(), it.judge.as_str()) == (a, b, judge);
        summary.comparisons.iter().find(is).unwrap().clone()
    };
    let first = find("cbs-x", "base", "gold");
    assert_eq!((first.difference, first.against.as_deref()), (1.5, None)); // 2, 1, 3, 0
    assert_eq!((first.wins, first.ties, first.losses, first.p_wins), (3, 1, 0, Some(0.25)));
    assert_eq!(find("cbs-x", "base", "kind").difference, 3.0);
    let guide = find("cbs-x", "tuned-x", "gold");
    assert_eq!((guide.difference, guide.against.as_deref()), (2.25, Some("g")));
    // The family of `base` has three: the smallest p is tripled.
    let family: Vec<Comparison> =
        ["cbs-x", "cbs-y", "direct"].map(|a| find(a, "base", "gold")).into();
    let least = family.iter().min_by(|a, b| a.p.unwrap().total_cmp(&b.p.unwrap())).unwrap();
    assert!((least.p_holm.unwrap() - 3.0 * least.p.unwrap()).abs() < 1e-12);
    assert!(family.iter().all(|it| it.p_holm >= it.p && it.p_holm <= Some(1.0)));
    // The interval of the differences 2, 1, 3, 0 alone.
    let [low, high] = first.bootstrap95.unwrap();
    assert!((0.0..1.0).contains(&low) && (2.0..=3.0).contains(&high), "{low} {high}");
    let text = serde_json::to_string(&summary).unwrap();
    assert!(!text.contains("NaN"), "{text}");
    // Written and read again a number may lose its last bit.
    let back: Summary = serde_json::from_str(&text).unwrap();
    let names = |it: &Comparison| (it.a.clone(), it.b.clone(), it.against.clone(), it.wins);
    let [ours, theirs] =
        [&summary, &back].map(|it| it.comparisons.iter().map(names).collect::<Vec<_>>());
    assert_eq!((theirs, back.weak_to_strong.len()), (ours, 2));
}

#[test]
fn a_baseline_may_be_any_method_and_a_guide() {
    let summary = compared();
    let family = against(&summary.comparisons, "gold", "m", "cbs-y");
    let told: Vec<(&str, &str, f64)> =
        family.iter().map(|it| (it.a.as_str(), it.b.as_str(), it.difference)).collect();
    assert_eq!(
        told,
        [("base", "cbs-y", -1.125), ("cbs-x", "cbs-y", 0.375), ("direct", "cbs-y", 1.125)]
    );
    // Turned: base − cbs-y loses where cbs-y − base wins.
    assert_eq!((family[0].wins, family[0].ties, family[0].losses), (0, 0, 4));
    let [low, high] = family[0].bootstrap95.unwrap();
    assert!(low < -1.125 && -1.125 < high && high < 0.0, "{low} {high}");
    let least = family.iter().filter_map(|it| it.p).fold(1.0, f64::min);
    assert!(family.iter().any(|it| it.p_holm == Some((3.0 * least).min(1.0))), "{family:?}");
    let tuned = against(&summary.comparisons, "gold", "m", "tuned-y");
    assert_eq!(tuned.len(), 4);
    assert!(tuned.iter().all(|it| it.against.as_deref() == Some("g")));
    assert!(against(&summary.comparisons, "gold", "m", "nothing").is_empty());
}

#[test]
fn weak_to_strong_takes_the_guides_that_steered() {
    let rows = compared().weak_to_strong;
    let of = |row: &WeakToStrong| {
        let difference =
            |over: &Option<weak_to_strong::Over>| over.as_ref().map(|it| it.difference);
        [&row.over_tuned, &row.over_base, &row.over_direct].map(difference)
    };
    let names: Vec<&str> = rows.iter().map(|row| row.method.as_str()).collect();
    assert_eq!(names, ["cbs-x", "cbs-y"]);
    assert_eq!((rows[0].gold_reward, of(&rows[0])), (3.0, [Some(2.25), Some(1.5), Some(-0.75)]));
    assert_eq!(of(&rows[1]), [Some(1.625), Some(1.125), Some(-1.125)]);
    let mut summary = Summary::new("test");
    summary.add("m", "cbs", Role::Steered, Value::Null, &answers(&[1.0]));
    summary.compare();
    assert_eq!(of(&summary.weak_to_strong[0]), [None; 3]);
}

#[test]
fn what_cannot_be_tested_is_left_out() {
    let mut summary = Summary::new("test");
    summary.add("m", "base", Role::Plain, Value::Null, &answers(&[1.0]));
    summary.add("m", "cbs", Role::Steered, Value::Null, &answers(&[2.0]));
    // Of other prompts, and of none.
    summary.add("m", "beam", Role::Other, Value::Null, &answers(&[1.0, 4.0])[1..]);
    summary.add("m", "eft", Role::Steered, Value::Null, &[]);
    summary.add_not_applicable("m", "ppo", Value::Null, "why".into());
    summary.compare();
    assert_eq!(summary.comparisons.len(), 2);
    let one = &summary.comparisons[0];
    assert_eq!((one.difference, one.prompts, one.wins, one.p_wins), (1.0, 1, 1, Some(1.0)));
    assert_eq!((one.p, one.p_holm, one.bootstrap95, one.detectable), (None, None, None, None));
    let reward = summary.rows[0].gold_reward.as_ref().unwrap();
    assert_eq!((reward.seed_std, reward.bootstrap95), (None, None));
    let text = serde_json::to_string(&summary).unwrap();
    assert!(serde_json::from_str::<Summary>(&text).is_ok(), "{text}");
}

#[test]
fn a_summary_of_before_is_read() {
    let old = serde_json::json!({
        "run": "old",
        "rows": [{
            "base": "m", "method": "base", "settings": {}, "score": null,
            "gold_reward": { "mean": 1.0, "std": 1.0, "ci95": 0.5, "seeds": [1.0] },
            "base_logprob_per_token": null, "response_tokens": 3.0, "complete_fraction": 1.0,
            "distinct_2": 0.5, "tokens": { "base": 3.0, "guide": 0.0 }, "seconds": 1.0,
            "prompts": 2
        }],
        "comparisons": [{
            "base": "m", "a": "cbs", "b": "base", "difference": 1.0, "standard_error": 0.5,
            "prompts": 2
        }],
        "guide": null,
        "gold": null
    });
    let summary: Summary = serde_json::from_value(old).unwrap();
    assert_eq!((summary.comparisons[0].judge.as_str(), summary.comparisons[0].p), ("gold", None));
}
