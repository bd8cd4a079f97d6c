//! Model folders: what is saved opens again bit by bit, here and in transformers, and what is wrong
//! with a folder is said at once.

mod configs;
mod openers;
mod saved;

use tch::Device;
use w2s::models::Gpt2Config;

const CPU: Device = Device::Cpu;

fn small() -> Gpt2Config {
    Gpt2Config {
        vocab_size: 50,
        n_positions: 16,
        n_embd: 24,
        n_layer: 3,
        n_head: 4,
        ..Gpt2Config::default()
    }
}
