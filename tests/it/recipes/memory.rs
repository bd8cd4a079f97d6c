//! The memory that a plan tells of each stage. Adapters and PPO have theirs in their files.

use std::path::Path;

use w2s::recipe::Stage;

use super::{fixture, memory_of, plan, resolve};

/// As many rows as the stage samples together.
#[test]
fn memory_of_preferences_is_that_of_the_rows_that_are_sampled_together() {
    let cache = |samples: usize, prompts: u64| {
        let plan =
            resolve(&fixture(), &[&format!("preferences.samples_per_prompt={samples}")]).unwrap();
        let new_tokens = plan.recipe.preferences.as_ref().unwrap().max_new_tokens as u64;
        let memory = memory_of(&plan, Stage::Preferences);
        let rows = prompts * samples as u64;
        let expected =
            2 * rows * (25 + new_tokens + 32) * 2 * 128 * 4 + rows * (8 * 64 * 4 + 1024 * 8);
        assert_eq!(
            memory.parts.iter().find(|part| part.name == "KV cache").unwrap().bytes,
            expected,
            "{samples} samples"
        );
    };
    cache(2, 32);
    cache(6, 10);
    cache(100, 1);
}

#[test]
fn judges_are_counted_where_they_are_loaded() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden.join("gpt2-reward/config.json"), folder.path().join("config.json"))
        .unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    let judge = format!("judges.kind.id={}", folder.path().display());
    let of = |more: &[&str], stage: Stage| {
        let plan = plan(more);
        memory_of(&plan, stage)
    };
    // Nobody reads responses again here.
    const SAMPLED: &str = "steer.method=[{kind='base'}]";
    let alone = of(&[SAMPLED], Stage::Evaluate);
    assert_eq!((alone.model.as_str(), alone.least_bytes()), ("gold", 176_066 * 4));
    // As many texts at once as are sampled, of 25 + 36 tokens, and the widest of their activations.
    assert_eq!(alone.bytes() - alone.least_bytes(), 64 * (25 + 36) * 12 * 64 * 4);
    let steering = of(&[], Stage::Steer);
    assert!(
        steering.parts.iter().all(|part| !["gold", "judge"].contains(&part.name)),
        "{steering:?}"
    );
    assert_eq!(steering, of(&[&judge], Stage::Steer), "a judge is no part of the search");
    // One judge is open at a time, so the largest counts.
    let small = [
        "gold.scratch.dim=8",
        "gold.scratch.hidden_dim=8",
        "gold.scratch.vocab_size=100",
        &judge,
        SAMPLED,
    ];
    assert_eq!(of(&small, Stage::Evaluate).model, "kind");
    assert_eq!(of(&[&judge, SAMPLED], Stage::Evaluate), alone);
}

#[test]
fn memory_grows_with_what_it_is_made_of() {
    let bytes = |overrides: &[&str], stage: Stage| {
        let plan = plan(overrides);
        memory_of(&plan, stage).bytes()
    };
    assert!(bytes(&["dpo.training.micro_batch_size=8"], Stage::Dpo) < bytes(&[], Stage::Dpo));
    assert!(bytes(&["models.base.scratch.n_layer=4"], Stage::Direct) > bytes(&[], Stage::Direct));
    assert!(bytes(&["direct.dpo.micro_batch_size=8"], Stage::Direct) < bytes(&[], Stage::Direct));
    assert!(bytes(&["steer.method.1.n=64"], Stage::Steer) > bytes(&[], Stage::Steer));
    assert!(bytes(&["run.dtype=bfloat16"], Stage::Steer) < bytes(&[], Stage::Steer));
    let sft = |dtype: &str| bytes(&[&format!("run.dtype={dtype}")], Stage::Sft);
    assert!(sft("bfloat16") > sft("float32"), "bf16 weights stand beside the f32 masters");
    assert_eq!(sft("auto"), sft("bfloat16"), "the larger of what auto may be");
}
