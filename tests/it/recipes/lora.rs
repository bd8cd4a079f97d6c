//! Adapters: resolved for each model, and refused with a way out.

use w2s::recipe::{LoraSave, Stage, StageTraining};

use super::{memory_of, plan, problems};

#[test]
fn it_is_resolved_for_each_model_and_shown() {
    let overrides = [
        "sft.lora={}",
        "dpo.lora={rank=4, alpha=4, save='adapter'}",
        "direct.lora={rank=2, targets=['c_attn','c_fc']}",
    ];
    let all = plan(&overrides);
    let StageTraining { sft, direct, .. } = &all.training;
    let [sft, dpo] = [sft.as_ref(), all.training.first_dpo()]
        .map(|training| training.unwrap().lora.as_ref().unwrap());
    assert_eq!(
        (sft.rank, sft.alpha, sft.targets.join(" "), sft.save),
        (16, 32.0, "c_attn".to_owned(), LoraSave::Merged)
    );
    assert_eq!((dpo.rank, dpo.alpha, dpo.save), (4, 4.0, LoraSave::Adapter));
    let base = &direct["base"];
    assert_eq!(base.dpo.lora, base.sft.as_ref().unwrap().lora);
    let text = all.describe();
    for line in [
        // 2 layers · 16 · (64 + 192)
        "LoRA of rank 16, alpha 32, on c_attn: 8,192 trainable parameters over 171,776 frozen ones \
         (4.77 %); saved merged",
        "LoRA of rank 4, alpha 4, on c_attn: 2,048 trainable parameters over 171,776 frozen ones \
         (1.19 %); saved as a PEFT adapter",
        // 2 layers · 2 · (96 + 288 + 96 + 384)
        "LoRA of rank 2, alpha 4, on c_attn, c_fc: 3,456 trainable parameters over ",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let alone = plan(&["sft.lora={}", "dpo.lora={}"]);
    assert!(
        alone.training.direct.values().all(|direct| direct.dpo.lora.is_none()),
        "the guide's is not the bases'"
    );
}

#[test]
fn frozen_weights_need_no_gradients_and_no_moments() {
    let parts = |overrides: &[&str]| {
        let plan = plan(overrides);
        let memory = memory_of(&plan, Stage::Dpo);
        memory.parts.iter().take(3).map(|part| part.bytes).collect::<Vec<_>>()
    };
    let all = 171_776;
    assert_eq!(parts(&[]), [4 * all, 4 * all, 8 * all]);
    assert_eq!(parts(&["dpo.lora={}"]), [4 * all, 8 * 8192, 8 * 8192]);
    assert_eq!(parts(&["dpo.lora={}", "run.dtype=bfloat16"]), [2 * all, 8 * 8192, 8 * 8192]);
}

#[test]
fn what_cannot_be_is_told_with_a_way_out() {
    for (set, expected) in [
        ("sft.lora={rank=0}", "`sft.lora.rank` is 0, expected 1 or more"),
        ("sft.lora={alpha=0}", "`sft.lora.alpha` is 0, expected a number above 0"),
        ("sft.lora={alpha=inf}", "`sft.lora.alpha` is inf, expected a number above 0"),
        (
            "sft.lora={targets=[]}",
            "`sft.lora.targets` is empty\n\nhint: leave it out for the layers that are usual for \
             the model",
        ),
        (
            "sft.lora={targets=['proj']}",
            "`sft.lora.targets` holds `proj`, but `models.guide` has no linear layer of that \
             name\n\n\
             hint: its layers: `attn.c_attn`, `attn.c_proj`, `mlp.c_fc`, `mlp.c_proj`",
        ),
        (
            "direct.lora={rank=97, targets=['attn.c_proj']}",
            "`direct.lora.rank` is 97, more than the rank of `attn.c_proj` of `models.base`, which \
             has 96 inputs and 96 outputs",
        ),
        ("dpo.lora={r=8}", "unknown key `r` in `dpo.lora`"),
        ("reward_model.lora={rank=0}", "`reward_model.lora.rank` is 0, expected 1 or more"),
        (
            "reward_model.lora={targets=['q_proj']}",
            "`reward_model.lora.targets` holds `q_proj`, but `models.guide` has no linear layer",
        ),
        ("dpo.lora={save='both'}", "`dpo.lora.save`"),
    ] {
        let problems = problems(&[set]);
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{set}: {problems:?}");
    }
    assert_eq!(problems(&["direct.lora={rank=0}"]).len(), 1, "told once for both bases");
    let two = problems(&["sft.lora={save='adapter'}", "dpo.lora={rank=8}"]);
    assert!(
        two.len() == 1
            && two[0].contains("`dpo.lora` goes on training the adapter that `sft.lora` saves"),
        "{two:?}"
    );
    let two = problems(&["sft.lora={save='adapter'}", "reward_model.lora={alpha=1}"]);
    assert!(
        two.len() == 1
            && two[0]
                .contains("`reward_model.lora` goes on training the adapter that `sft.lora` saves"),
        "{two:?}"
    );
    let own =
        ["sft.lora={save='adapter'}", "reward_model.lora={alpha=1}", "reward_model.from=model"];
    plan(&own); // It starts from the model's own weights.
    plan(&["sft.lora={save='adapter'}", "dpo.lora={}"]);
    plan(&["sft.lora={save='adapter'}"]); // Merged, and every weight trained.
}
