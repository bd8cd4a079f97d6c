//! Rules of `[steer]`: bases, methods, guides, and room for responses.

use super::{only, plan, problems};

#[test]
fn bases_and_methods() {
    only(&["steer.prompts=65"], "`steer.prompts` = 65 is more than `data.test` = 64");
    only(&["steer.bases=[]"], "`steer.bases` is empty");
    only(&["steer.bases=['base','base']"], "`steer.bases` holds `base` twice");
    only(&["steer.method=[]"], "`steer.method` is empty");
    only(&["steer.method.1.n=0"], "`steer.method.1.n` is 0");
    only(&["steer.method.2.chunk_len=0"], "`steer.method.2.chunk_len` is 0");
    only(
        &["steer.method.3.name=cbs"],
        "`steer.method.3`: a method before it has the name `cbs` too",
    );
    only(&["steer.method.3.name='a b'"], "`steer.method.3.name`: `a b` cannot name a folder");
    only(&["steer.sampling.top_p=0"], "`steer.sampling.top_p` is 0");
    only(&["steer.stop=['']"], "`steer.stop` holds an empty text");
}

#[test]
fn guides() {
    only(&["steer.tuned=other"], "`steer.tuned` is given without `steer.untuned`");
    only(&["steer.guide=[{tuned='base',untuned='guide',weight=0}]"], "`steer.guide.0.weight` is 0");
    only(
        &["steer.tuned=guide", "steer.untuned=guide"],
        "the tuned and the untuned guide of `[ppo]` are both `guide`, so every reward would be \
         0\n\nhint: ",
    );
    only(
        &["steer.tuned=other", "steer.untuned=guide"],
        "`steer.tuned` is `other` and `steer.untuned` is `guide`, which have a tokenizer each",
    );
    only(
        &["steer.guide=[{weight=1},{tuned='base',untuned='guide'},{weight=-2}]"],
        "`steer.guide.2` is a pair that stands before it too\n\nhint: one pair with the sum of \
         their weights is the same",
    );
    only(
        &["steer.guide=[{untuned='guide'}]"],
        "`steer.guide.0.untuned` is given without `steer.guide.0.tuned`",
    );
    only(
        &["steer.tuned=base", "steer.untuned=guide", "steer.guide=[{weight=-1}]"],
        "`steer.tuned` and `steer.untuned` are given beside",
    );
}

#[test]
fn tilted_proposals() {
    let eft = "steer.method.3={kind='eft',weights=[0.5,2]}";
    // Whether vocabularies differ is found when both are there, and is no mistake of the recipe.
    plan(&[eft]);
    let tilted = "steer.method.3={kind='best_of_n',n=2,tilt=0.5,name='tilted'}";
    plan(&[tilted]);
    only(
        &["steer.bases=['base']", tilted, "steer.method.3.tilt=nan"],
        "`steer.method.3.tilt` is NaN, expected a number",
    );
    only(
        &[
            "steer.bases=['base']",
            "steer.method.3={kind='cbs',beam_width=1,successors=1,chunk_len=2,tilt=1}",
        ],
        "`steer.method.3`: a method before it has the name `cbs` too",
    );
    only(
        &["steer.bases=['base']", "steer.method.3={kind='eft',weights=[]}"],
        "`steer.method.3.weights` is empty",
    );
    only(
        &["steer.bases=['base']", "steer.method.3={kind='eft',weights=[1,2,1]}"],
        "`steer.method.3.weights` holds 1 twice",
    );
    only(
        &["steer.bases=['base']", eft, "steer.method.4={kind='base',name='eft-2'}"],
        "`steer.method.4`: a method before it has the name `eft-2` too",
    );
    only(&["steer.method.3={kind='beam',beam_width=0}"], "`steer.method.3.beam_width` is 0");
}

#[test]
fn a_base_has_settings_of_its_own() {
    let greedy = "models.other.sampling={temperature=0}";
    let told = problems(&[greedy]);
    assert_eq!(told.len(), 2, "best_of_n and cbs: {told:#?}");
    assert!(told[0].contains("but `models.other.sampling.temperature` is 0"), "{told:#?}");
    let once = [greedy, "steer.method.1.bases=['base']", "steer.method.2.bases=['base']"];
    let text = plan(&once).describe();
    assert!(text.contains("     other: up to 24 new tokens; greedy; no stop strings"), "{text}");
    // Both are greedy: one says so.
    assert_eq!(problems(&[greedy, "steer.sampling.temperature=0"]).len(), 2);
    let far = "models.other.max_new_tokens=80";
    only(&[far], "`models.other.max_new_tokens`: a prompt of up to ");
    only(&["models.other.max_new_tokens=0"], "`models.other.max_new_tokens` is 0");
    only(&["models.other.stop=['a','']"], "`models.other.stop` holds an empty text");
    let text = plan(&["models.other.max_new_tokens=8"]).describe();
    assert!(text.contains("× samples 4 × tokens 8 + bases 1 × "), "{text}");
    // The guides of a mixture have room for the longest response of a base.
    let eft = ["steer.method.3={kind='eft',weights=[1]}", "models.guide.scratch.n_positions=60"];
    let told = problems(&[&eft[..], &["models.base.max_new_tokens=40"]].concat());
    assert!(told.iter().any(|told| told.contains("but `models.guide` sees 60")), "{told:#?}");
    let idle = ["models.guide.stop=['a']", "steer.method=[{kind='base'}]"];
    let measured = plan(&idle).warnings();
    assert!(!measured.iter().any(|told| told.contains("its own `sampling`")), "{measured:#?}");
    let idle = plan(&[&idle[..], &["steer.validation_prompts=0"]].concat());
    assert!(
        idle.warnings().iter().any(|told| told.starts_with("`models.guide`: its own `sampling`")),
        "{:#?}",
        idle.warnings()
    );
}

#[test]
fn room_for_responses() {
    assert_eq!(problems(&["steer.sampling.temperature=0"]).len(), 2, "best_of_n and cbs");
    let long = problems(&["steer.max_new_tokens=80"]);
    assert_eq!(long.len(), 3, "both bases, and the guide, which methods sample: {long:#?}");
    // Guides that score read as much as they can; those that are sampled need room for all.
    let short = ["models.guide.scratch.n_positions=60"];
    let short = [
        &short[..],
        &[
            "steer.max_new_tokens=40",
            "steer.bases=['base']",
            "steer.method=[{kind='best_of_n',n=2}]",
        ],
    ]
    .concat();
    let plan = plan(&short);
    assert_eq!(
        plan.warnings(),
        ["`steer.max_new_tokens`: behind a prompt of up to 25 tokens `models.guide` reads 35, \
             and a response may take 40 and an end token: of a longer one only the beginning is \
             scored"]
    );
    for method in [
        "{kind='tuned'}",
        "{kind='untuned'}",
        "{kind='eft',weights=[1]}",
        "{kind='best_of_n',n=2,tilt=1,name='t'}",
    ] {
        let method = format!("steer.method.1={method}");
        let problems = problems(&[&short[..], &[&method]].concat());
        assert!(
            problems.len() == 1
                && problems[0]
                    .contains("40 new ones and an end token make 66, but `models.guide` sees 60"),
            "{problems:?}"
        );
    }
}
