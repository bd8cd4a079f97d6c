//! Settings and numbers as they are read.

use super::super::{LossOn, SamplingTable};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            [0, 12, 123, 1234, 1_234_567].map(grouped),
            ["0", "12", "123", "1,234", "1,234,567"]
        );
    }
}
