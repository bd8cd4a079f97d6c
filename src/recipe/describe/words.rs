//! Settings and numbers as they are read.

use super::super::{LossOn, MethodTable, SamplingTable};

pub(super) fn loss_on_words(on: LossOn) -> &'static str {
    match on {
        LossOn::Response => "loss on the answers",
        LossOn::All => "loss on prompts and answers",
    }
}

pub(super) fn sampling_words(sampling: &SamplingTable) -> String {
    let SamplingTable { temperature, top_k, top_p } = *sampling;
    if temperature == 0.0 {
        return "greedy".to_owned();
    }
    let top_k = if top_k == 0 { "off".to_owned() } else { top_k.to_string() };
    let top_p = if top_p == 1.0 { "off".to_owned() } else { top_p.to_string() };
    format!("temperature {temperature}, top-k {top_k}, top-p {top_p}")
}

pub(super) fn method_words(method: &MethodTable) -> String {
    match method {
        MethodTable::Base { .. } => "the base sampled alone".to_owned(),
        MethodTable::BestOfN { n, .. } => format!("best of {n} by the guides"),
        MethodTable::Cbs { beam_width, successors, chunk_len, .. } => {
            format!("chunk-level beam search, beam width {beam_width}, {successors} successors, chunks of {chunk_len} tokens")
        }
        MethodTable::Eft { weights, .. } => {
            format!("emulated fine-tuning with weight {}", weights.iter().map(f64::to_string).collect::<Vec<_>>().join(", "))
        }
        MethodTable::Beam { beam_width, .. } => format!("token-level beam search of the base, beam width {beam_width}"),
        MethodTable::Tuned { .. } => "the tuned guide sampled alone".to_owned(),
        MethodTable::Untuned { .. } => "the untuned guide sampled alone".to_owned(),
        MethodTable::Direct { .. } => "the directly tuned base sampled alone".to_owned(),
        MethodTable::Ppo { .. } => "what `[ppo]` made of the base sampled alone".to_owned(),
    }
}

pub(super) fn epochs_in_words(epochs: f64) -> String {
    if epochs == 1.0 { "1 epoch".to_owned() } else { format!("{epochs} epochs") }
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub fn bytes_in_words(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut amount = bytes as f64 / 1024.0;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0, 12, 123, 1234, 1_234_567].map(grouped), ["0", "12", "123", "1,234", "1,234,567"]);
        assert_eq!(bytes_in_words(512), "0.5 KiB");
        assert_eq!(bytes_in_words(3 << 29), "1.5 GiB");
        assert_eq!(bytes_in_words(u64::MAX), "16384.0 PiB");
    }
}
