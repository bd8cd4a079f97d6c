//! Model families on libtorch behind small traits, and the Hugging Face folders they are read from
//! and saved to.
//!
//! A model here is weights and arithmetic: batches in, hidden states and logits out. Sampling,
//! losses, optimisers and text stay outside. There is no dropout anywhere: the recipes train small
//! models for few epochs, and a run without dropout is reproducible bit by bit.

pub mod bert;
pub mod config;
pub mod distilbert;
pub mod folder;
pub mod gpt2;
pub mod init;
pub mod kv_cache;
pub mod llama;
pub mod llama_config;
pub mod packing;
pub mod reward;
pub mod weights;

mod adapter;
mod adapter_config;
mod adapter_options;
mod attention;
mod causal_lm;
mod classifier;
mod config_keys;
mod contents;
mod encoder;
mod generation_config;
mod input;
mod json_file;
mod labels;
mod layers;
mod lora;
mod notes;
mod quantization;
mod rope;
mod score_bias;
mod segment;
mod shapes;
mod variables;
mod with_tokenizer;
mod work;

pub use adapter_config::base_of_adapter;
pub use bert::BertConfig;
pub use causal_lm::{CausalLm, Decoder, LmInfo, gradient_of};
pub use classifier::Classifier;
pub use config::{ClassifierConfig, LmConfig};
pub use config_keys::TokenIds;
pub use contents::contents;
pub use distilbert::DistilBertConfig;
pub use folder::Lm;
pub use gpt2::Gpt2Config;
pub use input::Input;
pub use kv_cache::KvCache;
pub use llama_config::LlamaConfig;
pub use lora::check_resumes;
pub use notes::{ends, notes};
pub use packing::{Packing, Span};
pub use reward::{RewardHead, RewardModel};
pub use segment::Segment;
pub use with_tokenizer::{
    check_lm_config, check_lm_folder, check_lm_folders, check_vocabulary, end_token_ids,
    lora_reward_model_with_tokenizer, open_lora_with_tokenizer, open_trainable_with_tokenizer,
    open_with_tokenizer, reward_model_with_tokenizer, tokenizer_and_context,
};
pub use work::Work;
