//! Whole prompts and what stands around them: posts, ends and lengths; templates and exemplars from
//! files, and prompts that these do not go with.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::{failure, lines, output, stderr, success, tiny_model, w2s};

/// A folder with a model, prompts and a recipe that steers over them; 32 characters fit the model.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(rows: &[Value], tables: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        tiny_model(folder.path());
        let bench = Self { folder };
        let rows: String = rows.iter().map(|row| format!("{row}\n")).collect();
        bench.write("prompts.jsonl", &rows);
        bench.write(
            "x.toml",
            &format!(
                "[run]\nname='whole'\ndtype='float32'\n{tables}\n[steer]\nbases=['base']\n\
                 prompts=2\nmax_new_tokens=3\nmethod=[{{kind='base'}}]\n\
                 [data]\nsource='prompts.jsonl'\ntest=0\n"
            ),
        );
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn ask(&self, word: &str, set: &[&str]) -> Command {
        let mut command = w2s();
        command.arg(word).arg(self.path("x.toml")).current_dir(self.folder.path());
        if word == "run" {
            command.arg("--out").arg(self.path("run"));
        }
        for set in set {
            command.args(["--set", set]);
        }
        command
    }

    fn answers(&self) -> Vec<Value> {
        lines(&self.path("run/steer/base/base/seed-1.jsonl"))
    }

    /// The prompts of the answers.
    fn asked(&self) -> Vec<String> {
        let answers = self.answers();
        answers.iter().map(|line| line["prompt"].as_str().unwrap().to_owned()).collect()
    }
}

fn asks(prompts: &[&str]) -> Vec<Value> {
    prompts.iter().map(|prompt| json!({ "prompt": prompt })).collect()
}

const PLAIN: &str = "[models.base]\nid='model'\n";
const COLUMN: &str = "data.columns.prompt=prompt";

#[test]
fn posts_are_prompts_once_each_and_articles_are_none() {
    let post =
        |text: &str, subreddit: &str| json!({ "info": { "post": text, "subreddit": subreddit } });
    let article = json!({ "info": { "post": null, "subreddit": null, "article": "News" } });
    let rows = [post("a", ""), article, post("a", ""), post("b", "")];
    let bench = Bench::new(&rows, PLAIN);
    let said = stderr(&output(&mut bench.ask("run", &["data.columns.prompt=info"])));
    assert_eq!(bench.asked(), ["POST: a\n\nTL;DR:", "POST: b\n\nTL;DR:"]);
    let told = "test: 1 of 4 rows have the post of an earlier one and are no prompts";
    assert!(said.contains(told) && said.contains("test: 1 of 4 rows have no post"), "{said}");
}

#[test]
fn long_prompts_are_left_out_or_cut_and_counted() {
    let rows = asks(&["a b c d e", "a b", "c d TL;DR:", "e f g"]);
    let bench = Bench::new(&rows, PLAIN);
    let sets = [COLUMN, "data.prompt={max_words=3,end='TL;DR:'}"];
    let plan = success(&mut bench.ask("check", &sets));
    let told = ["test: 2 of 4 prompts have more than 3 words and are left out", "test: 1 of 4"];
    assert!(told.iter().all(|told| plan.contains(told)), "{plan}");
    success(&mut bench.ask("run", &sets));
    assert_eq!(bench.asked(), ["a b\nTL;DR:", "c d TL;DR:"]);
    let cut = [COLUMN, "data.prompt={max_words=3,end='TL;DR:',long='cut'}"];
    let said = stderr(&output(&mut bench.ask("run", &cut)));
    assert!(said.contains("test: 2 of 4 prompts have more than 3 words and are cut"), "{said}");
    let asked = bench.asked();
    assert!(asked.contains(&"a b\nTL;DR:".to_owned()), "{asked:?}");
    let more = [COLUMN, "data.prompt={max_words=3,end='TL;DR:'}", "steer.prompts=3"];
    let error = failure(&mut bench.ask("check", &more), 2);
    assert!(error.contains("there are only 2 test prompts of 3 words or less;"), "{error}");
}

#[test]
fn a_refusal_of_long_prompts_names_the_words_that_would_fit() {
    let long = "x".repeat(40);
    let rows = asks(&[&format!("{long} b c d"), "a b c", &format!("{long} b c"), "d"]);
    let bench = Bench::new(&rows, PLAIN);
    let error = failure(&mut bench.ask("run", &[COLUMN, "steer.prompts=4"]), 1);
    assert!(
        error.contains("2 prompts are too long\n")
            && error.contains(
                "hint: shorten the prompt, or `data.prompt.max_words = 2`, which leaves out 3 of \
                 these 4 prompts"
            ),
        "{error}"
    );
    success(&mut bench.ask("run", &[COLUMN, "data.prompt.max_words=2", "steer.prompts=1"]));
    assert_eq!(bench.asked(), ["d"]);
}

/// What a template says counts, not where it lies.
#[test]
fn templates_and_exemplars_of_files_are_their_contents() {
    let table = "[models.base]\nid='model'\nprompt={file='p.txt'}\n\
                 exemplars={file='e.csv',template='<{prompt}|{response}>'}\n";
    let bench = Bench::new(&asks(&["a", "b"]), table);
    bench.write("p.txt", "Q {prompt} A\n");
    bench.write("e.csv", "prompt,response\nc,d\n");
    success(&mut bench.ask("run", &[COLUMN]));
    let answers = bench.answers();
    let inline = [
        "models.base.prompt=Q {prompt} A",
        "models.base.exemplars.rows=\
                   [{prompt='c',response='d'}]",
    ];
    // The same by other files, and inline.
    fs::create_dir(bench.path("other")).unwrap();
    fs::rename(bench.path("p.txt"), bench.path("other/q.txt")).unwrap();
    fs::rename(bench.path("e.csv"), bench.path("other/f.csv")).unwrap();
    let moved =
        [COLUMN, "models.base.prompt.file=other/q.txt", "models.base.exemplars.file=other/f.csv"];
    let again = |sets: &[&str]| stderr(&output(&mut bench.ask("run", sets)));
    let said = again(&moved);
    assert!(said.contains("done") && bench.answers() == answers, "{said}");
    let text = fs::read_to_string(bench.path("x.toml")).unwrap();
    bench.write("x.toml", &text.replace("file='e.csv',", ""));
    let said = again(&[COLUMN, inline[0], inline[1]]);
    assert_eq!(bench.answers(), answers, "{said}");
    let plan = success(&mut bench.ask("check", &[COLUMN, inline[0], inline[1]]));
    assert!(plan.contains("    prompt \"Q {prompt} A\" behind one exemplar, BOS"), "{plan}");
    let other = "models.base.exemplars.rows=[{prompt='c',response='e'}]";
    again(&[COLUMN, inline[0], other]);
    assert_ne!(bench.answers(), answers, "another answer is read");
    let kept = fs::read_to_string(bench.path("run/recipe.toml")).unwrap();
    assert!(kept.contains("Q {prompt} A") && !kept.contains("q.txt"), "{kept}");
}

#[test]
fn what_a_template_does_not_go_with_is_refused_before_any_work() {
    let rows = asks(&["a TL;DR:", "b TL;DR:"]);
    let table = "[models.base]\nid='model'\nprompt='{prompt}TL;DR:'\n";
    let bench = Bench::new(&rows, table);
    let twice = "prompts already end in `TL;DR:`, which `models.base.prompt` adds again\n\nhint: \
                 leave it out of the template: `prompt = \"{prompt}\"`";
    for (word, code) in [("run", 1), ("check", 2)] {
        let error = failure(&mut bench.ask(word, &[COLUMN]), code);
        assert!(error.contains(twice), "{error}");
    }
    let known = "models.base.exemplars.rows=[{prompt='c',response='d'},{prompt='b',response='d'}]";
    let sets = [COLUMN, "models.base.prompt={prompt}", "data.prompt.end=TL;DR:", known];
    for (word, code) in [("run", 1), ("check", 2)] {
        let error = failure(&mut bench.ask(word, &sets), code);
        let expected = "exemplar 2 of `models.base` is test prompt `test-1`";
        assert!(error.contains(expected), "{error}");
    }
    assert!(!bench.path("run/steer").exists());
}

#[test]
fn exemplars_with_mistakes_are_told_with_all_other_problems() {
    let bench = Bench::new(&asks(&["a", "b"]), PLAIN);
    bench.write("e.csv", "prompt,answer\na,b\n");
    let problem = |sets: &[&str]| failure(&mut bench.ask("check", &[&[COLUMN], sets].concat()), 2);
    let rows = "models.base.exemplars.rows=[{prompt='c:',response='d'}]";
    for (sets, expected) in [
        (&["models.base.prompt.file=p.txt"][..], "`models.base.prompt.file` is `p.txt`, but"),
        (&["models.base.exemplars.file=e.jsonl"], "`models.base.exemplars.file` is `e.jsonl`, but"),
        (&["models.base.exemplars.file=e.csv"], "e.csv:2: no column `response`; found `prompt`,"),
        (&["models.base.exemplars={}"], "`models.base.exemplars` has neither `rows` nor a `file`"),
        (&[rows, "models.base.exemplars.file=e.csv"], "has `rows` and a `file`"),
        (&[rows, "models.base.exemplars.template={prompt}"], "holds `{response}` 0 times"),
        (
            &[rows, "models.base.prompt={prompt}:"],
            "exemplar 1 of `models.base.exemplars` ends in `:`",
        ),
        (&["models.base.exemplars.rows=[{prompt='c',response=' '}]"], "rows.0.response` is empty"),
        (&["models.base.prompt={files='a'}"], "files"),
    ] {
        let error = problem(sets);
        assert!(error.contains(expected), "{error}\nexpected {expected}");
    }
    let both = problem(&["models.base.exemplars.file=e.csv", "steer.prompts=0"]);
    assert!(both.contains("no column `response`") && both.contains("`steer.prompts`"), "{both}");
}
