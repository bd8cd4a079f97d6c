//! How many prompts fit into memory at once, before any is searched.
//!
//! One prompt in flight holds its prompt's keys and values once in each model, those of its rows twice while a chunk's survivors are copied
//! to their new places, and for each row the logits and the widest activations. Results do not depend on the number, so a
//! larger one than fits is lowered; where not even one fits, nothing is begun.

use std::collections::BTreeMap;

use tch::Device;
use tracing::warn;

use crate::error::{Error, Result};
use crate::models::Lm;
use crate::models::memory::{self, Bound, MainMemory};

/// Of what is free; the rest is for the allocator's slack and other programs.
const SHARE: f64 = 0.9;

/// Rows grow their caches by this many tokens at once.
const SLACK_TOKENS: usize = 32;

/// One model's part of a search.
pub(super) struct Reader<'a> {
    pub name: String,
    pub lm: &'a Lm,
    /// Of the longest prompt and of a response, in this model's tokens.
    pub prompt_tokens: usize,
    pub new_tokens: usize,
    pub rows: usize,
    /// Tokens of a row that go through it at once.
    pub chunk: usize,
    /// Whether all its rows' logits exist at once; guides take a slice of a fixed size.
    pub is_sampled: bool,
}

/// What one prompt takes on a device.
struct Need {
    name: String,
    device: Device,
    arithmetic: String,
    bytes: u64,
}

impl Reader<'_> {
    fn need(&self) -> Need {
        let info = self.lm.model.info();
        let element = self.lm.kind().elt_size_in_bytes();
        let token = info.n_layer as usize * info.kv_size as usize * element;
        let row_tokens = self.new_tokens + SLACK_TOKENS;
        // Logits once as they come and once in f32; of activations the feed-forward layer's, four times the hidden size, are the widest.
        let logits = if self.is_sampled { info.vocab_size as usize * (element + 4) } else { 0 };
        let row = logits + self.chunk * 8 * info.hidden_size as usize * element;
        // Settings that nobody means must not come out small by wrapping.
        let tokens = self.rows.saturating_mul(2 * row_tokens).saturating_add(self.prompt_tokens);
        let bytes = tokens.saturating_mul(token).saturating_add(self.rows.saturating_mul(row));
        let arithmetic = format!(
            "({} prompt tokens + 2 × {} rows × {row_tokens} tokens) × {} of keys and values each + {} rows × {} of logits and activations",
            self.prompt_tokens,
            self.rows,
            readable(token as u64),
            self.rows,
            readable(row as u64)
        );
        Need { name: self.name.clone(), device: self.lm.model.device(), arithmetic, bytes: bytes as u64 }
    }
}

/// `asked`, or as many prompts as fit into what `free` tells of each device, with a warning.
///
/// # Errors
/// [`Error::Failed`] with the arithmetic where one prompt does not fit.
pub(super) fn prompts_in_flight(asked: usize, readers: &[Reader], free: impl Fn(Device) -> Option<u64>) -> Result<usize> {
    let mut devices: BTreeMap<String, Vec<Need>> = BTreeMap::new();
    for need in readers.iter().map(Reader::need) {
        devices.entry(format!("{:?}", need.device)).or_default().push(need);
    }
    let mut fitting = asked;
    for (device, needs) in devices {
        let Some(mut left) = free(needs[0].device) else { continue };
        let one = needs.iter().fold(0u64, |sum, need| sum.saturating_add(need.bytes));
        let share = |left: u64| (left as f64 * SHARE) as u64;
        if share(left) / one.max(1) < fitting as u64 {
            // Before less is done for it: what an earlier stage has left behind is free, too.
            memory::return_unused();
            left = free(needs[0].device).unwrap_or(left);
        }
        let usable = share(left);
        let fit = usize::try_from(usable / one.max(1)).unwrap_or(usize::MAX);
        let parts =
            || needs.iter().map(|need| format!("  {}: {} = {}", need.name, need.arithmetic, readable(need.bytes))).collect::<Vec<_>>();
        if fit == 0 {
            return Err(Error::failed(format!(
                "one prompt takes {} of memory on {device}, of which {} are free and {} may be used{}:\n{}\n\n\
                 hint: lower the rows (`n`, or `beam_width` × `successors`) or `max_new_tokens`, use dtype = \"bfloat16\", or free some memory",
                readable(one),
                readable(left),
                readable(usable),
                who_bounds(needs[0].device),
                parts().join("\n")
            )));
        }
        if fit < fitting {
            warn!(
                "{fitting} prompts in flight take {fitting} × {} of memory on {device}, where {} may be used: {fit} at once instead\n{}",
                readable(one),
                readable(usable),
                parts().join("\n")
            );
            fitting = fit;
        }
    }
    Ok(fitting)
}

/// In words, where it is not the machine alone.
fn who_bounds(device: Device) -> String {
    let memory = MainMemory::now().filter(|memory| device == Device::Cpu && memory.bound != Bound::Machine);
    memory.map_or_else(String::new, |memory| format!(" ({memory})"))
}

fn readable(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;
    use crate::models::{Gpt2Config, LmConfig};

    #[test]
    fn the_number_is_kept_lowered_or_refused_with_the_arithmetic() {
        let config = Gpt2Config { vocab_size: 100, n_embd: 8, n_layer: 3, n_head: 2, n_positions: 64, ..Gpt2Config::default() };
        let lm = Lm::with_random_weights(LmConfig::Gpt2(config), Device::Cpu, Kind::Float, 1).unwrap();
        let reader =
            |name: &str| Reader { name: name.to_owned(), lm: &lm, prompt_tokens: 10, new_tokens: 18, rows: 4, chunk: 1, is_sampled: true };
        // (10 + 2 × 4 × 50) tokens × 3 layers × 16 numbers × 4 B, and 4 rows × (100 × 8 + 64 × 4) B.
        let one = 410 * 192 + 4 * (800 + 256);
        let fit = |free: u64| prompts_in_flight(8, &[reader("base"), reader("tuned guide")], |_| Some(free));
        let needed = |prompts: u64| (prompts as f64 * 2.0 * one as f64 / SHARE).ceil() as u64;
        assert_eq!(fit(needed(8)).unwrap(), 8);
        assert_eq!(fit(needed(8) - 10).unwrap(), 7);
        assert_eq!(fit(needed(1)).unwrap(), 1);
        let error = fit(needed(1) - 10).unwrap_err().to_string();
        for part in ["one prompt takes 165.9 kB", "tuned guide: (10 prompt tokens + 2 × 4 rows × 50 tokens) × 192 B", "hint: lower"] {
            assert!(error.contains(part), "{error}");
        }
        let absurd = Reader { rows: usize::MAX / 2, ..reader("base") };
        assert!(prompts_in_flight(8, &[absurd, reader("tuned guide")], |_| Some(1 << 40)).is_err(), "nothing wraps round");
        assert_eq!(prompts_in_flight(8, &[reader("base")], |_| None).unwrap(), 8);
    }
}
