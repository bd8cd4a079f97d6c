//! `dpo.sweep`: several guides in one recipe.

use w2s::recipe::{Recipe, Stage};
use w2s::stages::tasks;

use super::{Written, memory_of, only, plan, problems};

#[test]
fn a_sweep_is_all_combinations_or_the_rows_as_they_are() {
    let settings = |sweep: &str| {
        let plan = plan(&[&format!("dpo.sweep={sweep}"), NO_PPO, METHODS]);
        let recipe = &plan.recipe;
        let again: Recipe = toml::from_str(&toml::to_string_pretty(recipe).unwrap()).unwrap();
        assert_eq!(&again, recipe);
        let settled = plan.training.dpo.iter();
        let settled = settled.map(|dpo| {
            let name = dpo.setting.clone().unwrap();
            (name, dpo.objective.beta, dpo.training.weight_decay)
        });
        settled.collect::<Vec<_>>()
    };
    let named = |name: &str, beta, decay| (name.to_owned(), beta, decay);
    assert_eq!(
        settings("{weight_decay=[0.01,0.02],beta=[1,0.5]}"),
        [
            named("weight_decay-0.01-beta-1", 1.0, 0.01),
            named("weight_decay-0.01-beta-0.5", 0.5, 0.01),
            named("weight_decay-0.02-beta-1", 1.0, 0.02),
            named("weight_decay-0.02-beta-0.5", 0.5, 0.02),
        ]
    );
    assert_eq!(
        settings("[{beta=0.1,weight_decay=0.01},{weight_decay=0.03,beta=0.2}]"),
        [
            named("beta-0.1-weight_decay-0.01", 0.1, 0.01),
            named("beta-0.2-weight_decay-0.03", 0.2, 0.03),
        ]
    );
}

const NO_PPO: &str = "ppo.tuned=base";
const METHODS: &str = "ppo.untuned=guide";

#[test]
fn guided_methods_run_with_each_guide_and_others_once() {
    let methods = "steer.method=[{kind='base'},{kind='best_of_n',n=2},{kind='eft',weights=[1,2]},\
                   {kind='tuned'},{kind='untuned'}]";
    let plan = plan(&[
        "dpo.sweep={beta=[0.1,0.2]}",
        NO_PPO,
        METHODS,
        methods,
        "steer.bases=['base']",
        "run.seeds=[1]",
    ]);
    let names = |stage| {
        let tasks = tasks::tasks(&plan, stage).unwrap().into_iter();
        tasks.map(|task| task.name()).collect::<Vec<_>>()
    };
    assert_eq!(names(Stage::Sft), ["sft"]);
    assert_eq!(names(Stage::Dpo), ["dpo/beta-0.1", "dpo/beta-0.2"]);
    let steered = names(Stage::Steer);
    let (alone, steered): (Vec<String>, _) =
        steered.into_iter().partition(|name| name.starts_with("steer/gap"));
    let (chosen, steered): (Vec<String>, Vec<String>) =
        steered.into_iter().partition(|name| name.contains("/validation-"));
    let [first, second] = ["dpo-beta-0.1", "dpo-beta-0.2"];
    let samples = |guide: &str| format!("steer/gap/{guide}/validation-seed-1");
    assert_eq!(alone[..3], [first, "sft", second].map(samples), "each guide once");
    assert_eq!((alone.len(), alone[6].as_str()), (7, "steer/gap"));
    assert_eq!(chosen.len(), 4, "both weights with either guide");
    assert_eq!(
        steered,
        [
            "steer/base/base/seed-1",
            "steer/base/best_of_n-beta-0.1/seed-1",
            "steer/base/best_of_n-beta-0.2/seed-1",
            "steer/base/eft-1-beta-0.1/seed-1",
            "steer/base/eft-1-beta-0.2/seed-1",
            "steer/base/eft-2-beta-0.1/seed-1",
            "steer/base/eft-2-beta-0.2/seed-1",
            "steer/guide/tuned-beta-0.1/seed-1",
            "steer/guide/tuned-beta-0.2/seed-1",
            "steer/guide/untuned/seed-1",
        ]
    );
    let said = plan.describe();
    for shown in [
        "2 guides\n     beta-0.1: ",
        "guides: dpo/beta-0.1/ over sft/ with weight 1; or dpo/beta-0.2/ over sft/ with weight 1",
        "best_of_n-beta-0.1, best_of_n-beta-0.2: ",
        "     base: ",
    ] {
        assert!(said.contains(shown), "{shown}\n{said}");
    }
    assert_eq!(memory_of(&plan, Stage::Dpo).model, "guide");
}

#[test]
fn what_is_swept_by_hand_takes_the_place_of_what_the_file_gives() {
    let rates = |sets: &[&str]| {
        let plan = plan(&[&[NO_PPO, METHODS], sets].concat());
        let dpo = plan.training.dpo.iter();
        dpo.map(|dpo| (dpo.objective.beta, dpo.training.learning_rate)).collect::<Vec<_>>()
    };
    let both = "dpo.sweep={learning_rate=[1e-3,1e-2]}";
    assert_eq!(rates(&[both]), [(0.1, 1e-3), (0.1, 1e-2)]);
    assert_eq!(rates(&["dpo.sweep.learning_rate=[1e-3]"]), [(0.1, 1e-3)]);
    let written = Written::edited(&[(
        "[dpo.training]\nepochs = 2\nbatch_size = 16\nlearning_rate = 1e-4\n",
        "[dpo]\nsweep = { learning_rate = [1e-3, 1e-2] }\n[dpo.training]\nepochs = 2\nbatch_size = 16\n",
    )]);
    let plan = written.plan(&[NO_PPO, METHODS, "dpo.training.learning_rate=1e-5"]);
    assert_eq!((plan.recipe.dpo.unwrap().sweep, plan.training.dpo.len()), (None, 1));
    let twice = Written::edited(&[(
        "[dpo.training]\n",
        "[dpo]\nsweep = { epochs = [1, 2] }\n[dpo.training]\n",
    )]);
    assert_eq!(
        twice.problems(&[NO_PPO, METHODS]),
        [
            "x.toml: `dpo.training.epochs` is given beside the `dpo.sweep` over it\n\nhint: leave one \
          of the two out"
        ]
    );
}

#[test]
fn a_sweep_that_cannot_be_is_refused() {
    let told = |sweep: &str, problem: &str| {
        only(&[&format!("dpo.sweep={sweep}"), NO_PPO, METHODS], problem);
    };
    told(
        "{colour=[1]}",
        "`dpo.sweep` has `colour`, which cannot be swept\n\nhint: `beta`, `loss`, \
         `label_smoothing`, or a key of `dpo.training` such as `learning_rate`",
    );
    told("{beta=[0.1,0.1]}", "`dpo.sweep` holds `beta-0.1` twice");
    told("{beta=[0.1,-1]}", "`dpo.beta` is -1, expected a number above 0");
    told("{beta=['x']}", "`dpo.sweep.beta` holds the text `x`, expected a number");
    told(
        "{max_length=[50,5000]}",
        "`dpo.training.max_length` = 5000 is more than the 96 tokens that `models.guide` sees",
    );
    for (sweep, problem) in [
        ("{}", "`sweep` is empty"),
        ("3", "`sweep` is `3`, expected a table of lists or a list of tables"),
        ("{beta=0.1}", "`sweep.beta` is `0.1`, expected a list"),
        ("{beta=[]}", "`sweep.beta` is empty"),
        ("{beta=[[1]]}", "`sweep.beta` holds"),
        ("[{beta=1},{loss='ipo'}]", "row 2 of `sweep` has other keys than the first"),
    ] {
        let found = problems(&[&format!("dpo.sweep={sweep}"), NO_PPO, METHODS]);
        assert!(found.iter().any(|found| found.contains(problem)), "{sweep}: {found:?}");
    }
    only(
        &["dpo.sweep={beta=[0.1,0.2]}"],
        "`[ppo]` is rewarded by one guide pair, and `dpo.sweep` makes several\n\n\
         hint: name two models as `ppo.tuned` and `ppo.untuned`, or leave the sweep out",
    );
}
