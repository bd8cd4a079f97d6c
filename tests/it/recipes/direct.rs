//! Direct tuning: what it takes from the guides, and its rules.

use w2s::losses::{DpoObjective, PreferenceLoss};
use w2s::recipe::{DirectTraining, Length, Training};

use super::{Written, only, plan, problems};

#[test]
fn direct_tuning_is_as_the_guides_but_for_what_it_says() {
    let training =
        plan(&["sft.training.warmup_ratio=0.2", "dpo.beta=0.3", "dpo.training.micro_batch_size=8"])
            .training;
    assert_eq!(training.direct.keys().collect::<Vec<_>>(), ["base", "other"]);
    for direct in training.direct.values() {
        assert_eq!(
            (&direct.sft, direct.objective.beta, Some(&direct.dpo)),
            (&training.sft, 0.3, training.first_dpo())
        );
    }
    let own = [
        "direct.models=['other']",
        "direct.beta=0.5",
        "direct.sft.steps=3",
        "direct.dpo.batch_size=12",
        "direct.dpo.learning_rate=1e-5",
        "steer.method.5.kind=base",
        "steer.method.5.name=twice",
    ];
    let own = plan(&own).training;
    assert_eq!(own.direct.keys().collect::<Vec<_>>(), ["other"]);
    let DirectTraining { sft: Some(sft), objective, dpo } = &own.direct["other"] else {
        panic!("no sft")
    };
    assert_eq!((sft.length, sft.learning_rate, objective.beta), (Length::Steps(3), 1e-4, 0.5));
    assert_eq!(
        (dpo.length, dpo.batch_size, dpo.micro_batch_size, dpo.learning_rate),
        (Length::Epochs(2.0), 12, 12, 1e-5)
    );
    assert_eq!(
        (own.sft.clone(), own.first_dpo().map(|dpo| dpo.batch_size)),
        (training_of("sft"), Some(16)),
        "the guide's own stays"
    );

    // A length is the model's own: the prompt around the raw one makes it longer, and another
    // vocabulary the response.
    let lengths = |overrides: &[&str]| {
        let short = ["dpo.training.max_length=50", "sft.training.max_length=50"];
        let direct = plan(&[&short[..], overrides].concat()).training.direct;
        ["base", "other"].map(|model| direct[model].dpo.max_length)
    };
    assert_eq!(
        lengths(&[]),
        [50, 62],
        "25 tokens of a prompt, 24 new ones or half as many again, and an end token"
    );
    assert_eq!(lengths(&["models.base.prompt=Here is a film review: {prompt}"]), [60, 62]);
    assert_eq!(lengths(&["preferences.max_new_tokens=70"]), [96, 96], "no more than they see");
    assert_eq!(lengths(&["direct.dpo.max_length=40"]), [40, 40]);
}

fn training_of(stage: &str) -> Option<Training> {
    let training = plan(&[]).training;
    if stage == "sft" { training.sft } else { training.first_dpo().cloned() }
}

#[test]
fn direct_tuning_takes_the_guides_loss_and_its_smoothing_with_it() {
    let objective = |overrides: &[&str]| {
        let plan = plan(overrides);
        plan.training.direct["base"].objective
    };
    let smooth = ["dpo.beta=0.2", "dpo.label_smoothing=0.1"];
    let with = |more: &[&str]| objective(&[&smooth[..], more].concat());
    let expected = |loss, beta, label_smoothing| DpoObjective { loss, beta, label_smoothing };
    assert_eq!(with(&[]), expected(PreferenceLoss::Sigmoid, 0.2, 0.1));
    assert_eq!(with(&["direct.label_smoothing=0"]), expected(PreferenceLoss::Sigmoid, 0.2, 0.0));
    assert_eq!(with(&["direct.loss=hinge"]), expected(PreferenceLoss::Hinge, 0.2, 0.0));
    assert_eq!(objective(&["dpo.loss=ipo"]), expected(PreferenceLoss::Ipo, 0.1, 0.0));
    let own =
        ["dpo.loss=ipo", "direct.loss=sigmoid", "direct.label_smoothing=0.3", "direct.beta=1"];
    assert_eq!(objective(&own), expected(PreferenceLoss::Sigmoid, 1.0, 0.3));
}

#[test]
fn direct_tuning_has_sft_where_the_guide_has_or_where_it_is_asked_for() {
    let direct = |written: &Written, overrides: &[&str]| {
        let plan = written.plan(overrides);
        assert!(plan.training.sft.is_none());
        plan.training.direct["base"].clone()
    };
    let without_sft = Written::without(&["sft", "reward_model"]);
    assert_eq!(direct(&without_sft, &[]).sft, None);
    let asked = direct(&without_sft, &["direct.sft={}"]);
    assert_eq!(asked.sft.map(|sft| (sft.batch_size, sft.learning_rate)), Some((64, 2e-5)));
    // Without a guide's DPO too, all defaults are the stages' own.
    let alone = Written::without(&["sft", "reward_model", "dpo", "ppo"]);
    let alone = direct(&alone, &["steer.method=[{kind='direct'}]"]);
    let DirectTraining { sft, objective, dpo } = alone;
    assert_eq!(objective, DpoObjective::plain(0.1));
    assert_eq!((sft, dpo.batch_size, dpo.learning_rate), (None, 256, 1e-6));
}

#[test]
fn direct_tuning() {
    only(
        &["direct.models=[]", "steer.method.5.kind=base", "steer.method.5.name=x"],
        "`direct.models` is empty, expected one model",
    );
    only(
        &["direct.models=['base','othr']", "steer.bases=['base']"],
        "`direct.models` is `othr`, but there is no `[models.othr]`\n\nhint: did you mean `other`?",
    );
    only(&["direct.models=['base','other','base']"], "`direct.models` holds `base` twice");
    only(&["direct.beta=0"], "`direct.beta` is 0, expected a number above 0");
    only(&["direct.label_smoothing=-0.1"], "`direct.label_smoothing` is -0.1, expected 0 or more");
    only(
        &["dpo.loss=hinge", "direct.label_smoothing=0.1"],
        "`direct.label_smoothing` is 0.1, but only the loss `sigmoid`",
    );
    only(
        &["direct.models=['base']"],
        "`steer.method.5`: `direct` samples every base, but `direct.models` leaves out \
         `other`\n\nhint: name them there too, or leave",
    );
    only(
        &["direct.sft.micro_batch_size=3"],
        "`direct.sft.micro_batch_size` = 3 does not divide `direct.sft.batch_size` = 16",
    );
    only(
        &["dpo.training.micro_batch_size=3"],
        "`dpo.training.micro_batch_size` = 3 does not divide",
    );
    only(&["direct.dpo.epochs=0"], "`direct.dpo.epochs` is 0, expected a number above 0");
    only(
        &["direct.models=['base']", "steer.bases=['base']", "direct.dpo.max_length=97"],
        "`direct.dpo.max_length` = 97 is more than the 96",
    );
    only(
        &[
            "models.other.scratch.n_positions=54",
            "steer.max_new_tokens=4",
            "preferences.max_new_tokens=30",
        ],
        "`preferences.max_new_tokens`: a prompt of up to 25 tokens, 30 new ones and an end token \
         make 56, but `models.other` sees 54",
    );
    assert_eq!(
        Written::without(&["direct"]).problems(&[]),
        ["x.toml: `steer.method.5`: `direct` samples directly tuned bases, and there is no \
          `[direct]`\n\nhint: add `[direct]`; all its keys have defaults"]
    );
    assert!(problems(&["direct.sft.learnign_rate=1"])[0].contains("did you mean `learning_rate`?"));
}
