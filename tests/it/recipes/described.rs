//! What `w2s check` says of a plan in words.

use super::plan;

#[test]
fn describe_shows_defaults_and_sizes() {
    let overrides = [
        "run.seeds=[1,2,3]",
        "models.guide.scratch.n_head=4",
        "models.guide.scratch.n_embd=128",
        "models.guide.scratch.n_positions=128",
        "models.guide.scratch.tokenizer.vocab_size=2048",
        "models.base.scratch.n_layer=4",
        "models.base.scratch.n_head=6",
        "models.base.scratch.n_embd=192",
        "models.base.scratch.n_positions=128",
        "models.other.scratch.n_layer=4",
        "models.other.scratch.n_head=6",
        "models.other.scratch.n_embd=192",
        "models.other.scratch.n_positions=128",
        "models.other.scratch.tokenizer.vocab_size=2560",
        "pretrain.training.warmup_ratio=0.05",
        "pretrain.training.weight_decay=0.1",
        "preferences.prompts=1500",
        "data.train=2000",
        "data.test=200",
        "sft.training.batch_size=64",
        "sft.training.micro_batch_size=16",
        "steer.prompts=100",
        "steer.max_new_tokens=50",
        "steer.method.2={kind='cbs',beam_width=4,successors=4,chunk_len=5}",
    ];
    let text = plan(&overrides).describe();
    for shown in [
        "seeds 1, 2, 3; device cpu; dtype float32; all threads that the machine allows",
        "guide: 675,328 parameters, 2 layers × 128 wide, 4 heads, context 128, vocabulary 2,048",
        "base: 2,197,632 parameters",
        "1 epoch of 3,000 examples = 47 steps, batch 64 = 4 × 16",
        "from sft/, which stays the reference; beta 0.1",
        "guides: dpo/ over sft/ with weight 1",
        "temperature 0.7, top-k 50, top-p off",
        "chunk-level beam search, beam width 4, 4 successors, chunks of 5 tokens; bases 2 × seeds \
         3 × prompts 100 × samples 16 × tokens 50 = 480,000",
        "optimizer: 2295936 parameters × 2 moments × 4 B = 17.5 MiB",
        "warm-up 0.05, weight decay 0.1, gradient norm up to 1",
    ] {
        assert!(text.contains(shown), "{shown:?} is not in\n{text}");
    }
}

#[test]
fn describe_shows_what_is_minimised() {
    let shows = |overrides: &[&str], shown: &[&str]| {
        let text = plan(overrides).describe();
        for shown in shown {
            assert!(text.contains(shown), "{shown:?} is not in\n{text}");
        }
    };
    let defaults = [
        "guide on both answers of every pair; loss on the answers",
        "reference; beta 0.1, sigmoid loss, label smoothing 0",
    ];
    shows(&[], &defaults);
    shows(
        &["sft.on=all", "dpo.loss=ipo", "direct.loss=hinge"],
        &[
            "guide on both answers of every pair; loss on prompts and answers",
            "base, SFT on both answers, loss on prompts and answers: ",
            "reference; beta 0.1, ipo loss",
            "base, DPO with beta 0.1, hinge loss: ",
        ],
    );
}

#[test]
fn absurd_counts_are_still_described() {
    let most = i64::MAX;
    let absurd = [
        format!("data.train={most}"),
        format!("data.validation={most}"),
        format!("preferences.prompts={most}"),
        format!("preferences.validation_prompts={most}"),
        format!("preferences.samples_per_prompt={}", most - 1),
        format!("steer.method.1.n={most}"),
        format!("dpo.training.batch_size={most}"),
        format!("dpo.training.micro_batch_size={most}"),
    ];
    let plan = plan(&absurd.each_ref().map(String::as_str));
    let text = plan.describe();
    assert!(text.contains("at most 18,446,744,073,709,551,615 sampled tokens in all"), "{text}");
}

/// "Nothing is left at an unseen default": whatever key of `[steer]` is set, the plan reads
/// differently.
#[test]
fn describe_shows_every_setting_of_steering() {
    let method = |table: &str| format!("steer.method.4={table}");
    let beam = "{kind='beam',beam_width=3,length_penalty=1,early_stopping=false}";
    let tilted = "steer.method.6={kind='best_of_n',n=4,name='tilted',tilt=1}".to_owned();
    let base = [
        method(beam),
        "steer.method.5={kind='eft',weights=[1]}".to_owned(),
        tilted,
        "steer.bases=['base']".to_owned(),
    ];
    let base =
        [&base.each_ref().map(String::as_str)[..], &["steer.tuned=guide", "steer.untuned=base"]]
            .concat();
    let text = |more: &[&str]| plan(&[&base[..], more].concat()).describe();
    let plain = text(&[]);
    assert!(
        plain.contains(
            "token-level beam search of the base, beam width 3, length penalty 1, ends where none \
             can improve"
        ),
        "{plain}"
    );
    let keys = [
        "steer.prompts=7",
        "steer.max_new_tokens=23",
        "steer.prompts_in_flight=3",
        "steer.sampling.temperature=0.8",
        "steer.sampling.top_k=7",
        "steer.sampling.top_p=0.5",
        "steer.stop=['a']",
        "steer.semantics=official",
        "steer.trace=false",
        "steer.method.1.n=5",
        "steer.method.2.beam_width=3",
        "steer.method.2.successors=3",
        "steer.method.2.chunk_len=6",
        "steer.method.4.beam_width=5",
        "steer.method.4.length_penalty=0.5",
        "steer.method.4.early_stopping=true",
        "steer.method.4.name=b",
        "steer.method.5.weights=[2]",
        "steer.method.6.tilt=2",
        "steer.method.6={kind='best_of_n',n=4,name='tilted'}",
    ];
    for key in keys {
        assert_ne!(text(&[key]), plain, "{key} is not shown");
    }
}

#[test]
fn every_key_is_explained_with_its_settled_value() {
    let text = plan(&["dpo.training.epochs=2", "direct={}", "steer.stop=['.']"]).explain();
    for line in [
        "[run]",
        "  seeds = [1]",
        "  threads  ",
        "[models.guide]",
        "  scratch.tokenizer.vocab_size = 1024  ",
        "[dpo]",
        "  beta = 0.1  ",
        "  training.epochs = 2.0  ",
        "  training.learning_rate = ",
        "  lora  ",
        "[direct]",
        "  dpo.batch_size = ",
        "[steer]",
        "  sampling.top_k = 50  ",
        "  stop = [\".\"]  ",
        "  method.1.n = 4  ",
        "  method.2.chunk_len = ",
    ] {
        assert!(text.lines().any(|told| told.starts_with(line)), "{line:?} in\n{text}");
    }
    let said = "  A response ends before the first of these texts\n";
    assert!(text.contains(said), "{text}");
    let tables = text.lines().filter(|line| line.starts_with('['));
    assert!(tables.count() >= 10, "{text}");
}
