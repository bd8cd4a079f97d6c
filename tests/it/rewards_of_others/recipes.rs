//! What recipes may say of programs and servers, and in which words a plan tells it.

use w2s::recipe::{JudgeSource, Plan, load, validate};

use super::Bench;

const HEAD: &str = "[run]\nname='r'\n[data]\nsource='builtin:reviews'\n\
                    train=8\nvalidation=8\ntest=8\n";

/// The problems of a recipe with these tables.
fn problems(tables: &str) -> Vec<String> {
    let bench = Bench::new("");
    let file = bench.path("r.toml");
    std::fs::write(&file, format!("{HEAD}{tables}")).unwrap();
    validate(&load(&file, &[]).unwrap(), &file)
}

#[test]
fn a_judge_comes_from_one_place_and_its_keys_do_something() {
    assert_eq!(problems("[gold]\ncommand=['python3', 'reward.py']\nseconds=5\n"), [""; 0]);
    let served = "[gold]\nurl='http://127.0.0.1:9/get_reward'\ntext='{prompt} {response}'\n\
                  key='REWARD_KEY'\nlimits={at_once=2}\n";
    assert_eq!(problems(served), [""; 0]);
    let place = "command=['python3']\n";
    for (keys, told) in [
        ("command=[]\n", "`gold.command` names no program"),
        ("command=['no-such-program']\n", "`gold.command`: there is no program `no-such-program`"),
        ("command=['./gone']\n", "`gold.command`: there is no program `./gone`"),
        ("id='.'\ncommand=['sh']\n", "`gold` has `id`, `command`, expected one of them"),
        ("command=['sh']\nurl='http://h/x'\n", "`gold` has `command`, `url`, expected one"),
        (&format!("{place}text='{{prompt}}{{response}}'"), "`gold.text` does nothing where"),
        (&format!("{place}device='cpu'"), "`gold.device` does nothing where `gold.command` judges"),
        ("url='http://h/x'\ndtype='float32'", "`gold.dtype` does nothing where `gold.url` judges"),
        (&format!("{place}model='m'"), "`gold.model` does nothing without `gold.url`"),
        (&format!("{place}key='K'"), "`gold.key` does nothing without `gold.url`"),
        ("url='http://h/x'\nseconds=5", "`gold.seconds` does nothing without `gold.command`"),
        ("url='http://h/x'\nmodel='m'", "`gold.model` does nothing where a server has one model"),
        ("url='h/x'", "`gold.url` is `h/x`, which is no address"),
        ("url='http://me:secret@h/x'", "`gold.url` holds a user or a password"),
        ("url='http://h/x'\nkey='sk-123'", "`gold.key` is not the name of an environment variable"),
        (&format!("{place}seconds=0"), "`gold.seconds` is 0, expected 1 or more"),
    ] {
        let all = problems(&format!("[gold]\n{keys}\n"));
        assert!(all.iter().any(|problem| problem.contains(told)), "{keys}: {all:#?}");
        assert!(all.iter().all(|problem| !problem.contains("secret")), "{all:#?}");
    }
    let none = problems("[judges.kind]\n[evaluate]\n");
    assert!(
        none.iter().any(|problem| problem.contains("`judges.kind` has none of `id`, `command`")),
        "{none:#?}"
    );
}

#[test]
fn the_plan_says_who_judges_and_loads_nothing() {
    let bench = Bench::new("");
    let file = bench.path("r.toml");
    let tables = "[gold]\ncommand=['python3', 'reward.py']\n";
    std::fs::write(&file, format!("{HEAD}{tables}")).unwrap();
    let recipe = load(&file, &["gold.url=http://h/v1/classify".into()]).unwrap();
    let plan = Plan::new(recipe, &file).unwrap();
    assert!(plan.recipe.gold.as_ref().unwrap().command.is_none(), "by hand in the file's place");
    assert!(plan.describe().contains("gold: asks the server at http://h/v1/classify"));
    let plan = Plan::new(load(&file, &[]).unwrap(), &file).unwrap();
    assert!(plan.describe().contains("gold: asks the program `python3 reward.py`"));
    assert!(matches!(plan.recipe.judge("gold").unwrap().source, JudgeSource::Program(_)));
    assert!(plan.memory().is_empty() && plan.gold.is_none());
    assert_eq!(plan.folder, bench.path(""));
}
