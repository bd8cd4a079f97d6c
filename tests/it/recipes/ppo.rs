//! `[ppo]` and the method that samples what it made: what is settled, said and counted.

use w2s::recipe::{GuideSource, Length, Plan, Recipe, Stage};

use super::{Written, memory_of, only, plan, problems};

#[test]
fn it_is_settled_and_survives_being_written() {
    let plan = plan(&[]);
    assert!(plan.has(Stage::Ppo));
    let again: Recipe = toml::from_str(&toml::to_string_pretty(&plan.recipe).unwrap()).unwrap();
    assert_eq!(again, plan.recipe);
    assert_eq!(serde_json::from_str::<Plan>(&serde_json::to_string(&plan).unwrap()).unwrap(), plan);
    let ppo = plan.recipe.ppo.as_ref().unwrap();
    assert_eq!((ppo.temperature, ppo.ppo_epochs, ppo.gamma, ppo.lam), (0.7, 4, 1.0, 0.95));
    assert_eq!((ppo.kl.coef, ppo.kl.target, ppo.kl.horizon()), (0.05, None, 10_000.0));
    let training = plan.training.ppo["base"].clone();
    assert_eq!(
        (training.length, training.warmup_ratio, training.max_length),
        (Length::Steps(4), 0.0, 50)
    );
    assert_eq!(plan.recipe.steer.unwrap().method[6].names(), ["ppo-5", "ppo-inf"]);
}

#[test]
fn a_micro_batch_not_given_divides_the_minibatch() {
    let micro_batch = |more: &[&str]| plan(more).training.ppo["base"].clone().micro_batch_size;
    assert_eq!(micro_batch(&[]), 8);
    assert_eq!(
        micro_batch(&["ppo.prompts=64", "ppo.training.batch_size=60", "ppo.minibatch_size=20"]),
        10
    );
    assert_eq!(micro_batch(&["ppo.minibatch_size=8", "ppo.training.micro_batch_size=2"]), 2);
    let whole = Written::edited(&[("minibatch_size = 8\n", "")]);
    assert_eq!(whole.plan(&[]).training.ppo["base"].clone().micro_batch_size, 16);
}

#[test]
fn the_pair_is_named_or_that_of_steering_or_of_the_stages() {
    let pair =
        |more: &[&str]| plan(more).ppo_pair().map(|pair| (pair.tuned, pair.untuned)).unwrap();
    let model = |name: &str| GuideSource::Model(name.into());
    assert_eq!(pair(&[]), (GuideSource::Dpo(None), GuideSource::Sft));
    let steering = ["steer.tuned=base", "steer.untuned=guide"];
    assert_eq!(pair(&steering), (model("base"), model("guide")));
    let named = [&steering[..], &["ppo.tuned=guide", "ppo.untuned=base"]].concat();
    assert_eq!(pair(&named), (model("guide"), model("base")));
    assert_eq!(plan(&named).recipe.ppo_guide_models(), ["guide", "base"]);
    only(
        &["ppo.tuned=guide"],
        "`ppo.tuned` is given without `ppo.untuned`\n\nhint: a guide pair is two models of one \
         origin",
    );
    only(
        &["ppo.tuned=gide", "ppo.untuned=base"],
        "`ppo.tuned` is `gide`, but there is no `[models.gide]`\n\nhint: did you mean `guide`?",
    );

    let alone = |more: &str| {
        let data = "[run]\nname='a'\n[data]\nsource='builtin:reviews'\ntrain=9\nvalidation=9\n\
                    test=9\n[pretrain]\n";
        let scratch = "architecture='gpt2'\nn_layer=1\nn_head=1\nn_embd=8\n\
                       tokenizer={kind='bpe',vocab_size=300}\n";
        let same = scratch.replace("kind='bpe',vocab_size=300", "kind='same_as',model='m'");
        let models = format!("[models.m.scratch]\n{scratch}[models.n.scratch]\n{same}");
        Written::new(format!(
            "{data}{models}[ppo]\npolicy='m'\nprompts=9\nmax_new_tokens=5\n\
             training={{batch_size=3}}\n{more}"
        ))
    };
    let none = alone("").problems(&[]);
    let expected = "x.toml: `[ppo]` has no guide pair to reward its policy: it names none, \
                    `[steer]` names none, and there is no `[dpo]`\n\n\
                    hint: add `[dpo]`, or name two models as `ppo.tuned` and `ppo.untuned`";
    assert_eq!(none, [expected]);
    let plan = alone("tuned='m'\nuntuned='n'\n").plan(&[]);
    assert_eq!(plan.stages, [Stage::Pretrain, Stage::Ppo]);
    assert!(plan.describe().contains("models.m over models.n with scale 1"), "{}", plan.describe());
}

#[test]
fn describe_says_all_of_it() {
    let text = plan(&["run.seeds=[1,2,3]"]).describe();
    for shown in [
        "ppo: base; rewarded by dpo/ over sft/ with scale 1, at the end of each chunk of 5, inf \
         tokens",
        "chunk lengths 2 × seeds 3 = 6 trainings; 4 steps of 16 rollouts each, 384 rollouts in all",
        "32 prompts and 8 for validation; up to 24 new tokens, temperature 0.7; missing-EOS \
         penalty 0",
        "4 epochs × 2 minibatches of 8 = 8 updates a step, 8 rollouts in a forward pass of up to \
         50 tokens each",
        "a value head on the policy's states, value coefficient 0.1, learning rate of the head \
         1e-3",
        "gamma 1, lambda 0.95; clip 0.2, value clip 0.2, target KL off\n     KL penalty by k1 with \
         coefficient 0.05, fixed\n",
        "learning rate 1e-4 linear after warm-up 0, weight decay 0, gradient norm up to 1; \
         validated every 2 steps, checkpoint every 2",
        // 384 rollouts and 6 · 3 validations of 8 prompts
        "at most 12,672 sampled tokens in all, validation included",
        "ppo-5, ppo-inf: what `[ppo]` made of the base sampled alone; bases 1 × seeds 3 × prompts \
         8 × samples 2 × tokens 24 = 1,152",
    ] {
        assert!(text.contains(shown), "{shown:?} is not in\n{text}");
    }
    let more = [
        "ppo.value=model",
        "ppo.kl={estimator='k3',target=6}",
        "ppo.target_kl=0.02",
        "ppo.validation_prompts=0",
    ];
    let text = plan(&more).describe();
    for shown in [
        "a value model that starts as a copy of the policy",
        "value clip 0.2, target KL 0.02\n     KL penalty by k3 with coefficient 0.05, adapted to a \
         divergence of 6 with horizon 10000\n",
        "gradient norm up to 1; no validation, checkpoint every 2",
        "at most 3,072 sampled tokens in all, validation included",
    ] {
        assert!(text.contains(shown), "{shown:?} is not in\n{text}");
    }
}

#[test]
fn several_policies_are_trained_one_after_the_other() {
    let several = plan(&["ppo.policy=['base','other']"]);
    assert_eq!(several.training.ppo.keys().collect::<Vec<_>>(), ["base", "other"]);
    let recipe = &several.recipe;
    let again: Recipe = toml::from_str(&toml::to_string_pretty(recipe).unwrap()).unwrap();
    assert_eq!(&again, recipe);
    let text = several.describe();
    assert!(
        text.contains("ppo: base, other; rewarded by")
            && text.contains("policies 2 × chunk lengths 2 × seeds 1 = 4 trainings;"),
        "{text}"
    );
    only(&["ppo.policy=[]"], "`ppo.policy` is empty, expected one model or more");
    only(&["ppo.policy=['base','base']"], "`ppo.policy` holds `base` twice");
    let of_no_kind = problems(&["ppo.policy=3"]);
    assert!(of_no_kind[0].contains("the name of a model, or a list of names"), "{of_no_kind:?}");
}

#[test]
fn memory_holds_every_model() {
    let parts = |more: &[&str]| {
        let memory = memory_of(&plan(more), Stage::Ppo);
        assert_eq!(memory.model, "base");
        memory
            .parts
            .into_iter()
            .map(|part| (part.name, part.bytes))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let (policy, guide, gold) = (331_392, 171_776, 176_066);
    // A frozen model has its head once more, packed, beside the embedding that it is.
    let (frozen_policy, frozen_guide) = (policy + 1024 * 96, guide + 1024 * 64);
    let float = parts(&[]);
    let scored = |new: u64| 16 * ((25 + 2 * (new + 32)) * 2 * 128 * 4 + new * 8 * 64 * 4);
    // Prompts of up to 25 tokens; 2 layers with keys and values of 96 and of 64 numbers.
    let expected = [
        ("weights", 4 * policy),
        ("gradients", 4 * policy),
        ("optimizer", 8 * policy),
        ("activations", 8 * 50 * 2 * 16 * 96 * 4),
        ("logits", 8 * 50 * 1024 * 4),
        ("reference", 4 * frozen_policy),
        // Rows of 25 + 24 tokens and 32 to grow by, twice, and their logits and activations.
        ("KV cache", 2 * 16 * 81 * 2 * 192 * 4 + 16 * (8 * 96 * 4 + 1024 * 8)),
        ("tuned", 4 * frozen_guide),
        ("tuned cache", scored(24)),
        ("untuned", 4 * frozen_guide),
        ("untuned cache", scored(24)),
        ("judge", 4 * gold),
        // As many texts at once as are sampled, of 25 + 36 tokens.
        ("judge activations", 64 * (25 + 36) * 12 * 64 * 4),
    ];
    assert_eq!(float, expected.into_iter().collect());
    assert!(!parts(&["ppo.validation_prompts=0"]).contains_key("judge"));
    let half = parts(&["run.dtype=bfloat16"]);
    assert_eq!(
        (half["reference"], half["bf16 weights and gradients"]),
        (2 * frozen_policy, 4 * policy)
    );
    let f16 = parts(&["run.dtype=float16"]);
    assert_eq!(
        (f16["reference"], f16["tuned"]),
        (4 * frozen_policy, 2 * guide),
        "what is trained is never f16"
    );
    let valued = parts(&["ppo.value=model"]);
    assert_eq!(
        (valued["value model"], valued["value activations"]),
        (16 * policy, float["activations"])
    );
    assert_eq!(parts(&["ppo.value=model", "run.dtype=bfloat16"])["value model"], 20 * policy);
    let adapters = 2 * 16 * (96 + 288);
    let adapted = parts(&["ppo.lora={}"]);
    assert_eq!(
        (adapted["optimizer"], adapted["packed weights"]),
        (8 * adapters, 4 * 2 * 12 * 96 * 96)
    );
    assert!(
        !parts(&["ppo.lora={}", "run.device=cuda"]).contains_key("packed weights"),
        "only main memory has packed ones"
    );
    assert_eq!(parts(&["run.device=cuda"])["tuned"], 4 * guide);
    // No more than 64 rollouts are held, and another vocabulary makes the guides' texts longer.
    let many = parts(&["ppo.prompts=128", "ppo.training.batch_size=128"]);
    assert_eq!(many["KV cache"], 4 * float["KV cache"]);
    let other = memory_of(&plan(&["ppo.policy=other"]), Stage::Ppo);
    assert_eq!(
        other.parts.iter().find(|part| part.name == "tuned cache").unwrap().bytes,
        scored(36)
    );
}
