//! Tiny random models and their tokenizers, trained on a few reviews.

use std::rc::Rc;

use tch::Device;
use w2s::models::{Gpt2Config, Lm, LmConfig, TokenIds};
use w2s::policy::LocalPolicy;
use w2s::sampling::{Sampling, Stream};
use w2s::score::GuidePair;
use w2s::text::reviews::review;
use w2s::text::{PromptTemplate, Tokenizer};

pub fn tokenizer(vocab_size: usize, first: u64) -> Rc<Tokenizer> {
    let texts: Vec<String> = (first..first + 40)
        .map(|i| review(1, "train", i).text)
        .chain(["naïve 日本語 🎬".to_owned()])
        .collect();
    Rc::new(Tokenizer::train_bpe(texts.into_iter(), vocab_size).unwrap())
}

/// A random model whose weights are large enough that its distribution is far from flat.
pub fn model(tokenizer: &Tokenizer, n_embd: i64, name: &str) -> Rc<Lm> {
    let config = Gpt2Config {
        vocab_size: tokenizer.vocab_size() as i64,
        n_positions: 128,
        n_embd,
        n_layer: 2,
        n_head: 2,
        bos_token_id: tokenizer.bos_id(),
        eos_token_id: tokenizer.eos_id().map(TokenIds::One),
        ..Gpt2Config::default()
    };
    let lm =
        Lm::new(LmConfig::Gpt2(config), Stream::new(1, "model", name).seed(), Device::Cpu).unwrap();
    let _no_grad = tch::no_grad_guard();
    for (name, parameter) in lm.parameters() {
        let _ = parameter
            .shallow_clone()
            .g_mul_scalar_(if name.contains("wte") || name.contains("wpe") { 6.0 } else { 1.5 });
    }
    Rc::new(lm)
}

pub fn guide(tokenizer: &Rc<Tokenizer>) -> Rc<GuidePair> {
    let template = PromptTemplate::new("Review: {prompt}", Some(true));
    Rc::new(GuidePair {
        tuned: model(tokenizer, 16, "tuned"),
        untuned: model(tokenizer, 16, "untuned"),
        tokenizer: tokenizer.clone(),
        template,
    })
}

pub fn policy(tokenizer: &Rc<Tokenizer>, stop: &[&str]) -> LocalPolicy {
    let stop = stop.iter().map(|stop| stop.to_string()).collect();
    let template = PromptTemplate::new("{prompt}", Some(true));
    LocalPolicy::new(
        model(tokenizer, 24, "base"),
        tokenizer.clone(),
        template,
        Sampling::new(1.0, 0, 1.0),
        stop,
    )
}

pub fn stream(seed: u64) -> Stream {
    Stream::new(seed, "steer", "prompt")
}
