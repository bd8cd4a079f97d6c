//! Rules of the run, its data, models and trainings. What other tables ask stands in their files.

use w2s::recipe::{Dtype, load, validate};

use super::{TINY_GPT2, Written, fixture, model_folder, only, plan, problems, sets};

#[test]
fn run_and_data() {
    only(&["run.name=a/b"], "`run.name`: `a/b` cannot name a folder");
    only(&["run.name=.."], "`run.name`: `..` cannot name a folder");
    only(&["run.seeds=[]"], "`run.seeds` is empty");
    only(&["run.seeds=[1,2,1]"], "`run.seeds` holds 1 twice");
    only(&["run.device=gpu"], "`run.device` is `gpu`, expected `cpu`, `cuda` or `cuda:N`");
    only(&["run.device=cuda:+1"], "`run.device` is `cuda:+1`");
    only(&["run.threads=0"], "`run.threads` is 0");
    only(
        &["data.source=builtin:books"],
        "`data.source` is `builtin:books`, but there is no built-in corpus `books`",
    );
    only(&["data.validation=0"], "`data.validation` is 0, but the built-in corpus has no end");
    only(
        &["data.source=data/imdb.jsonl"],
        "`data.source` is `data/imdb.jsonl`, but `data/imdb.jsonl` does not exist",
    );
    only(&["data.source=imdb"], "`data.source` is `imdb`, but `imdb` does not exist\n\nhint: ");
    assert!(problems(&["data.source=imdb"])[0].contains("a hub data set is `owner/name`"));
    // Which splits a hub data set has shows when it has been fetched.
    assert!(
        validate(
            &load(&fixture(), &["data.source=stanfordnlp/imdb@main".into()]).unwrap(),
            &fixture()
        )
        .is_empty()
    );
    only(
        &["data.prompt.min_words=9"],
        "`data.prompt.min_words` = 9 is more than `data.prompt.max_words` = 8",
    );
    only(
        &["data.splits.train=train_sft"],
        "`data.splits` chooses files of a folder, but `data.source` is `builtin:reviews`",
    );
    only(&["data.prompt.min_words=0"], "`data.prompt.min_words` is 0");
    only(
        &["data.columns.label=text"],
        "`data.columns.text` and `data.columns.label` are both `text`",
    );
    only(
        &["data.subset=plain_text"],
        "`data.subset` names a folder below `data.source`, which is not a folder",
    );
    only(&["data.source=src", "data.subset=recpie"], "`data.subset` is `recpie`, but `");
    for (name, dtype) in
        [("f32", Dtype::Float32), ("bf16", Dtype::Bfloat16), ("f16", Dtype::Float16)]
    {
        assert_eq!(
            load(&fixture(), &sets(&[&format!("run.dtype={name}")])).unwrap().run.dtype,
            dtype
        );
    }
}

#[test]
fn models_and_gold() {
    only(&["models.guide.prompt=Review"], "`models.guide.prompt` holds `{prompt}` 0 times");
    only(
        &["models.guide.prompt={prompt} {prompt}"],
        "`models.guide.prompt` holds `{prompt}` 2 times",
    );
    only(
        &["models.other.scratch.n_embd=97"],
        "`models.other.scratch.n_head` = 2 does not divide `models.other.scratch.n_embd` = 97",
    );
    only(&["models.other.scratch.n_layer=0"], "`models.other.scratch.n_layer` is 0");
    only(
        &["models.other.scratch.n_layer=-9223372036854775808"],
        "`models.other.scratch.n_layer` is -9",
    );
    only(
        &["models.other.scratch.n_embd=9223372036854775806"],
        "`models.other.scratch.n_embd` is 9",
    );
    only(
        &["models.other.scratch.tokenizer.vocab_size=259"],
        "`models.other.scratch.tokenizer.vocab_size` is 259, expected 260 to",
    );
    only(
        &["models.base.scratch.tokenizer.model=gide"],
        "`models.base.scratch.tokenizer.model` is `gide`, but there is no `[models.gide]`",
    );
    only(
        &["models.base.scratch.tokenizer.model=base"],
        "`models.base.scratch.tokenizer.model` is the model itself",
    );
    only(
        &["models.other.scratch.tokenizer={kind='same_as', model='base'}"],
        "`models.other.scratch.tokenizer.model` is `base`, which itself takes the tokenizer of \
         `guide`",
    );
    only(
        &["gold.scratch.dim=63"],
        "`gold.scratch.n_heads` = 2 does not divide `gold.scratch.dim` = 63",
    );
    only(&["gold.scratch.vocab_size=5"], "`gold.scratch.vocab_size` is 5");
    let set = ["gold.id=lvwerra/distilbert-imdb", "models.other.id=openai-community/gpt2"]
        .map(str::to_owned);
    assert!(validate(&load(&fixture(), &set).unwrap(), &fixture()).is_empty());
    only(
        &["gold.id=distilbert-imdb"],
        "`gold.id` is `distilbert-imdb`, but `distilbert-imdb` is not a folder\n\nhint: paths in a \
         recipe are relative to the recipe's folder; a hub id is `owner/name`",
    );
}

#[test]
fn model_folders() {
    let folder = tempfile::tempdir().unwrap();
    let set = format!("models.other.id={}", folder.path().display());
    let problems = problems(&[&set]);
    assert!(problems[0].contains("holds no `config.json`, `tokenizer.json`"), "{problems:?}");
    model_folder(folder.path(), TINY_GPT2);
    plan(&[&set]);
    only(
        &[&set, "steer.max_new_tokens=40"],
        "`steer.max_new_tokens`: a prompt of up to 25 tokens, 40 new ones and an end token make \
         66, but `models.other` sees 64",
    );
    model_folder(folder.path(), "{\"n_positions\": \"many\"}");
    only(&[&set], "`models.other.id`: `n_positions` in its config.json is \"many\"");
    model_folder(folder.path(), "{");
    only(&[&set], "`models.other.id`: its config.json is not JSON");
}

#[test]
fn optimisation() {
    only(
        &["sft.training.micro_batch_size=3"],
        "`sft.training.micro_batch_size` = 3 does not divide `sft.training.batch_size` = \
         16\n\nhint: use one of 1, 2, 4, 8, 16",
    );
    only(&["pretrain.training.epochs=1"], "`pretrain.training` has both `steps` and `epochs`");
    only(&["dpo.training.epochs=0"], "`dpo.training.epochs` is 0, expected a number above 0");
    only(&["dpo.training.learning_rate=nan"], "`dpo.training.learning_rate` is NaN");
    only(&["dpo.training.learning_rate=-1e-5"], "`dpo.training.learning_rate` is -0.00001");
    only(&["gold.training.warmup_ratio=1"], "`gold.training.warmup_ratio` is 1");
    only(&["gold.training.batch_size=0"], "`gold.training.batch_size` is 0");
    only(
        &["dpo.training.max_length=97"],
        "`dpo.training.max_length` = 97 is more than the 96 tokens that `models.guide` sees",
    );
    only(&["dpo.beta=inf"], "`dpo.beta` is inf");
    assert_eq!(
        problems(&["dpo.loss=sigmod", "sft.on=answer"]),
        [
            "--set dpo.loss=sigmod: `dpo.loss` is `sigmod`, expected one of `sigmoid`, `ipo`, \
             `hinge`\n\nhint: did you mean `sigmoid`?",
            "--set sft.on=answer: `sft.on` is `answer`, expected one of `response`, `all`",
        ]
    );
    only(
        &["dpo.label_smoothing=0.5"],
        "`dpo.label_smoothing` is 0.5, expected 0 or more and below 0.5",
    );
    only(&["dpo.label_smoothing=nan"], "`dpo.label_smoothing` is NaN");
    only(
        &["dpo.loss=ipo", "dpo.label_smoothing=0.1"],
        "`dpo.label_smoothing` is 0.1, but only the loss `sigmoid` smooths labels\n\nhint: leave \
         it out, or set `dpo.loss` to `sigmoid`",
    );
}

#[test]
fn data_is_asked_for_by_the_stages_that_read_it() {
    let head = "[run]\nname='a'\n";
    let model = "[models.m.scratch]\narchitecture='gpt2'\nn_layer=1\nn_head=1\nn_embd=8\n\
                 tokenizer={kind='bpe',vocab_size=300}\n[pretrain]\n";
    let steer = "[steer]\nbases=['m']\nprompts=1\nmax_new_tokens=5\nmethod=[{kind='base'}]\n";
    let problems = Written::new(format!("{head}{model}{steer}")).problems(&[]);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(
        problems[0].starts_with(
            "x.toml: missing table `[data]`, which is read by `[pretrain]`, \
             `[steer]`\n\nhint: give `source`"
        ),
        "{problems:#?}"
    );
    let data = "[data]\nsource='builtin:reviews'\n";
    let problems = Written::new(format!("{head}{data}{model}{steer}")).problems(&[]);
    let expected = [
        ("train", "`[pretrain]`"),
        ("validation", "`[pretrain]`"),
        ("test", "`[steer]`"),
    ]
    .map(|(split, reader)| {
        format!(
            "x.toml: missing key `data.{split}`: {reader} reads that split\n\nhint: give its \
             rows; 0 takes all there are in files"
        )
    });
    assert_eq!(problems, expected);
    let rows = "train=9\nvalidation=9\n";
    Written::new(format!("{head}{data}{rows}{model}")).plan(&[]);
    let tuned = "[models.g]\nid='g'\n[preferences]\nsource='p.jsonl'\nvalidation_pairs=1\n\
                 label='kept'\npolicy='g'\n[sft]\n";
    let written = Written::new(format!("{head}{tuned}"));
    model_folder(&written.folder.path().join("g"), TINY_GPT2);
    std::fs::write(written.folder.path().join("p.jsonl"), "{}").unwrap();
    assert_eq!(written.plan(&[]).recipe.data, None);
    let half = written.problems(&["data.source=builtin:reviews", "data.train=1"]);
    assert!(half[0].contains("`data.train` and `data.validation` go together"), "{half:#?}");
}

#[test]
fn rules_on_whole_prompts_and_on_first_words_do_not_mix() {
    let head = "[run]\nname='a'\n[data]\nsource='builtin:reviews'\ntest=9\n[models.m]\nid='g'\n\
                [steer]\nbases=['m']\nprompts=1\nmax_new_tokens=1\nmethod=[{kind='base'}]\n";
    let written = Written::new(head);
    model_folder(&written.folder.path().join("g"), TINY_GPT2);
    let problem = |overrides: &[&str]| {
        let problems = written.problems(overrides);
        assert_eq!(problems.len(), 1, "{problems:#?}");
        problems[0].clone()
    };
    let whole = "data.columns.prompt=instruction";
    for (overrides, expected) in [
        (&[whole, "data.prompt.min_words=3"][..], "names a column of whole prompts\n\nhint: leave"),
        (&["data.prompt.end=TL;DR:"], "`data.prompt.end` is about whole prompts, but prompts are"),
        (&["data.prompt.long=cut"], "`data.prompt.long` is about whole prompts, but prompts are"),
        (&[whole, "data.prompt.long=cut"], "no prompt is too long without `data.prompt.max_words`"),
        (&[whole, "data.prompt.end=\" \""], "`data.prompt.end` is empty"),
        (
            &[whole, "data.prompt.end=in short", "data.prompt.max_words=2"],
            "`data.prompt.max_words` = 2 leaves no word before the 2 of `data.prompt.end`",
        ),
    ] {
        let found = problem(overrides);
        assert!(found.contains(expected), "{found}\nexpected {expected}");
    }
    let all = [whole, "data.prompt={max_words=9,long='cut',end='in short'}"];
    let plan = written.plan(&all).describe();
    assert!(
        plan.contains(
            "  prompt: what column `instruction` holds, which ends in \"in short\"; those of more \
             than 9 words are cut\n"
        ),
        "{plan}"
    );
}

#[test]
fn stages_need_what_comes_before_them() {
    let head = "[run]\nname='a'\n[data]\nsource='builtin:reviews'\ntrain=9\nvalidation=9\ntest=9\n";
    let stages = "[sft]\n[reward_model]\n[dpo]\n[direct]\n[evaluate]\n[models.m.scratch]\n\
                  architecture='gpt2'\nn_layer=1\nn_head=1\nn_embd=8\n\
                  tokenizer={kind='bpe',vocab_size=300}";
    let problems = Written::new(format!("{head}{stages}")).problems(&[]);
    let expected = [
        "`models.m.scratch` is to be pretrained, but there is no `[pretrain]`\n\nhint: add \
         `[pretrain]`; all its keys have defaults",
        "`[sft]` needs `[preferences]`",
        "`[reward_model]` needs `[preferences]`",
        "`[dpo]` needs `[preferences]`",
        "`[direct]` needs `[preferences]`",
        "`[evaluate]` needs `[steer]`",
        "`[evaluate]` needs `[gold]`\n\nhint: add `[gold]`, the judge whose rewards are compared, or \
         leave `[evaluate]` out",
        "`[direct]` tunes `steer.bases`, and there is no `[steer]`\n\nhint: add `[steer]`, or name \
         models as `direct.models`",
    ];
    assert_eq!(problems, expected.map(|what| format!("x.toml: {what}")));
    assert!(Written::new(head).problems(&[])[0].starts_with("x.toml: the recipe has no stage"));

    let steer = "[pretrain]\n[steer]\nbases=['m']\nprompts=1\nmax_new_tokens=5\n\
                 method=[{kind='base'},{kind='tuned'},\
                 {kind='cbs',beam_width=1,successors=1,chunk_len=1}]\n";
    let model = stages.split_once("[models").unwrap().1;
    let problems = Written::new(format!("{head}{steer}[models{model}")).problems(&[]);
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(
        problems[0]
            .starts_with("x.toml: `steer.method.1`: `tuned` needs guides, and there are none"),
        "{problems:#?}"
    );
}
