//! Rules of `[ppo]` and of the method that samples what it made.

use super::{Written, only, plan, problems};

#[test]
fn chunk_lengths() {
    for (given, lengths) in [
        ("7", vec!["7"]),
        ("'inf'", vec!["inf"]),
        ("inf", vec!["inf"]),
        ("[1,25,'inf']", vec!["1", "25", "inf"]),
    ] {
        let set = format!("ppo.chunk_len={given}");
        let plan = plan(&[&set, "steer.method.6={kind='base',name='b'}"]);
        assert_eq!(
            plan.recipe
                .ppo
                .unwrap()
                .chunk_len
                .0
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            lengths,
            "{given}"
        );
    }
    let wrong = problems(&["ppo.chunk_len=[5,'whole']"]);
    assert!(
        wrong[0].ends_with("is the text `whole`, expected a number of tokens or \"inf\""),
        "{wrong:?}"
    );
    only(
        &["ppo.chunk_len=[5,'inf',0]"],
        "`ppo.chunk_len` holds 0, expected 1 or more\n\nhint: \"inf\" makes the whole response one \
         chunk",
    );
    only(&["ppo.chunk_len=[5,'inf',5]"], "`ppo.chunk_len` holds 5 twice");
    let without_method = |set: &str| problems(&[set, "steer.method.6={kind='base',name='b'}"]);
    assert!(
        without_method("ppo.chunk_len=[]")[0]
            .contains("`ppo.chunk_len` is empty, expected one chunk length or more\n\nhint: ")
    );
}

#[test]
fn prompts_and_lengths_fit() {
    only(
        &["ppo.tuned=guide", "ppo.untuned=guide"],
        "the tuned and the untuned guide of `[ppo]` are both `guide`, so every reward would be \
         0\n\nhint: name",
    );
    only(&["ppo.prompts=401"], "`ppo.prompts` = 401 is more than `data.train` = 400");
    only(&["ppo.prompts=0"], "`ppo.prompts` is 0, expected 1 or more");
    only(
        &["ppo.prompts=15"],
        "`ppo.training.batch_size` = 16 is more than `ppo.prompts` = 15, and each step takes as \
         many different prompts\n\nhint: raise",
    );
    only(
        &["ppo.validation_prompts=65"],
        "`ppo.validation_prompts` = 65 is more than `data.validation` = 64",
    );
    plan(&["ppo.validation_prompts=0"]);
    only(&["ppo.max_new_tokens=0"], "`ppo.max_new_tokens` is 0, expected 1 or more");
    only(
        &["ppo.policy=bose"],
        "`ppo.policy` is `bose`, but there is no `[models.bose]`\n\nhint: did you mean `base`?",
    );
    let long = problems(&["ppo.max_new_tokens=80"]);
    assert_eq!(long.len(), 1, "the policy: {long:#?}");
    assert!(long[0].contains(
        "`ppo.max_new_tokens`: a prompt of up to 25 tokens, 80 new ones and an end token make 106, \
         but `models.base` sees 96"
    ));
    // A guide with another vocabulary may need half as many tokens again; what it cannot read
    // earns nothing.
    let short_guide = ["models.guide.scratch.n_positions=64", "ppo.max_new_tokens=30"];
    assert_eq!(plan(&short_guide).warnings(), [""; 0]);
    let other = plan(&[&short_guide[..], &["ppo.policy=other"]].concat());
    let warning = "`ppo.max_new_tokens`: behind a prompt of up to 25 tokens `models.guide` reads \
                   39, and a response may take 45 and an end token: of a longer one only the \
                   beginning is scored";
    assert_eq!(other.warnings(), [warning]);
    let text = other.describe();
    assert!(text.contains(&format!("\nwarnings\n  {warning}\n")), "{text}");
    assert!(
        text.contains(
            "     guide reads 39 tokens behind a prompt of up to 25, 1.3 for each new token: of a \
             response"
        ),
        "{text}"
    );
    let none = problems(&[
        "models.guide.scratch.n_positions=25",
        "ppo.policy=other",
        "ppo.max_new_tokens=30",
    ]);
    let expected = "`data.prompt.max_words`: a prompt of up to 25 tokens leaves the guide \
                    `models.guide`, which sees 25, no token of a response";
    assert!(none.iter().any(|problem| problem.contains(expected)), "{none:#?}");
}

#[test]
fn numbers_in_range() {
    only(
        &["ppo.temperature=0"],
        "`ppo.temperature` is 0, expected a number above 0\n\nhint: greedy rollouts leave no \
         choice; 0.7 is the default",
    );
    for (set, told) in [
        ("temperature=-1", "`ppo.temperature` is -1, expected a number above 0"),
        ("ppo_epochs=0", "`ppo.ppo_epochs` is 0, expected 1 or more"),
        ("gamma=0", "`ppo.gamma` is 0, expected a number above 0 and up to 1"),
        ("gamma=1.1", "`ppo.gamma` is 1.1, expected a number above 0 and up to 1"),
        ("lam=-0.1", "`ppo.lam` is -0.1, expected 0 to 1"),
        ("lam=nan", "`ppo.lam` is NaN, expected 0 to 1"),
        ("cliprange=0", "`ppo.cliprange` is 0, expected a number above 0"),
        ("cliprange_value=0", "`ppo.cliprange_value` is 0, expected a number above 0"),
        ("vf_coef=-1", "`ppo.vf_coef` is -1, expected 0 or more"),
        ("head_learning_rate=0", "`ppo.head_learning_rate` is 0, expected a number above 0"),
        ("scale=0", "`ppo.scale` is 0, so that every reward would be 0"),
        ("scale=inf", "`ppo.scale` is inf, expected a number"),
        ("missing_eos_penalty=-1", "`ppo.missing_eos_penalty` is -1, expected 0 or more"),
        ("target_kl=0", "`ppo.target_kl` is 0, expected a number above 0"),
        ("kl.coef=-0.1", "`ppo.kl.coef` is -0.1, expected 0 or more"),
        ("kl.target=0", "`ppo.kl.target` is 0, expected a number above 0"),
        ("kl={target=6,horizon=0}", "`ppo.kl.horizon` is 0, expected a number above 0"),
        (
            "kl={target=6,horizon=3}",
            "`ppo.kl.horizon` is 3, and a step of 16 rollouts would take the coefficient to 0 or \
             below\n\nhint: more than 3.2",
        ),
        (
            "kl.horizon=100",
            "`ppo.kl.horizon` does nothing without `ppo.kl.target`: the coefficient is \
             fixed\n\nhint: name a target",
        ),
        (
            "kl={target=6,coef=0}",
            "`ppo.kl.target` adapts `ppo.kl.coef` by factors, so it stays at its 0\n\nhint: ",
        ),
    ] {
        only(&[&format!("ppo.{set}")], told);
    }
    plan(&["ppo.lam=0", "ppo.vf_coef=0", "ppo.scale=-0.5", "ppo.kl={coef=0,estimator='k3'}"]);
}

#[test]
fn batches_divide() {
    only(
        &["ppo.minibatch_size=3"],
        "`ppo.minibatch_size` = 3 does not divide `ppo.training.batch_size` = 16\n\nhint: use one \
         of 1, 2, 4, 8, 16",
    );
    only(&["ppo.minibatch_size=0"], "`ppo.minibatch_size` is 0, expected 1 or more");
    only(
        &["ppo.training.micro_batch_size=16"],
        "`ppo.training.micro_batch_size` = 16 does not divide `ppo.minibatch_size` = 8\n\nhint: \
         use one of 1, 2, 4, 8",
    );
    let whole = Written::edited(&[("minibatch_size = 8\n", "")]);
    let told = whole.problems(&["ppo.training.micro_batch_size=3"]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(
        "`ppo.training.micro_batch_size` = 3 does not divide `ppo.training.batch_size` = \
         16\n\nhint: use one of"
    ));
}

#[test]
fn keys_that_do_nothing_are_refused() {
    for (set, hint) in [
        ("epochs=1", "`steps` counts batches of rollouts"),
        ("max_length=32", "leave it out: a rollout ends by"),
        ("early_stop=2", "leave it out: all `steps` are taken"),
        ("spike_factor=2", "leave it out: the level"),
        ("max_skips=2", "leave it out: training stops"),
    ] {
        let key = set.split_once('=').unwrap().0;
        only(
            &[&format!("ppo.training.{set}")],
            &format!("`ppo.training.{key}` does nothing in `[ppo]`\n\nhint: {hint}"),
        );
    }
    only(&["ppo.training.steps=0"], "`ppo.training.steps` is 0, expected 1 or more");
    only(
        &["ppo.training.learning_rate=0"],
        "`ppo.training.learning_rate` is 0, expected a number above 0",
    );
    plan(&[
        "ppo.training.keep_checkpoints=2",
        "ppo.training.checkpoints_gib=1",
        "ppo.training.activation_checkpointing=true",
    ]);
}

#[test]
fn adapters_are_those_of_the_policy() {
    only(&["ppo.lora={rank=0}"], "`ppo.lora.rank` is 0, expected 1 or more");
    only(
        &["ppo.lora={targets=['q_proj']}"],
        "`ppo.lora.targets` holds `q_proj`, but `models.base` has no linear layer of that \
         name\n\nhint: its layers: ",
    );
    // 2 layers · 4 · (96 + 288)
    let shown = "LoRA of rank 4, alpha 8, on c_attn: 3,072 trainable parameters over 331,392 \
                 frozen ones (0.93 %); saved as a PEFT adapter";
    let text = plan(&["ppo.lora={rank=4,save='adapter'}"]).describe();
    assert!(text.contains(shown), "{text}");
}

#[test]
fn the_method_samples_what_the_stage_made() {
    only(
        &["steer.method.6.chunk_len=[5,7]"],
        "`steer.method.6.chunk_len` holds `7`, which `ppo.chunk_len` does not\n\nhint: `[ppo]` \
         trains with `5`, `inf`",
    );
    only(&["steer.method.6.chunk_len=[]"], "`steer.method.6.chunk_len` is empty");
    only(&["steer.method.6.chunk_len=[5,5]"], "`steer.method.6.chunk_len` holds 5 twice");
    only(
        &["steer.bases=['other']"],
        "`steer.method.6`: `ppo` samples what became of `ppo.policy` = `base`, which is not among \
         `steer.bases`\n\nhint: name it there",
    );
    only(
        &["steer.method.6.name=cbs", "steer.method.6.chunk_len=5"],
        "`steer.method.6`: a method before it has the name `cbs` too",
    );
    assert_eq!(
        plan(&["steer.method.6={kind='ppo'}"]).recipe.steer.unwrap().method[6].names(),
        ["ppo"]
    );
    let head = "[run]\nname='a'\n[data]\nsource='builtin:reviews'\ntrain=9\nvalidation=9\ntest=9\n\
                [pretrain]\n";
    let model = "[models.m.scratch]\narchitecture='gpt2'\nn_layer=1\nn_head=1\nn_embd=8\n\
                 tokenizer={kind='bpe',vocab_size=300}\n";
    let steer = "[steer]\nbases=['m']\nprompts=1\nmax_new_tokens=5\n\
                 method=[{kind='ppo',chunk_len='inf'}]\n";
    let alone = Written::new(format!("{head}{model}{steer}")).problems(&[]);
    assert_eq!(
        alone,
        ["x.toml: `steer.method.0`: `ppo` samples what PPO made of a base, and there is no \
          `[ppo]`\n\n\
          hint: add `[ppo]` with its `policy`, `prompts` and `max_new_tokens`"]
    );
}
