//! What a recipe may say of `[ppo]`.

use std::fmt;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::{LoraTable, TrainingTable};
use crate::losses::KlEstimator;

/// PPO of one model of the recipe on the guide pair's dense reward (paper C.3), once for each chunk
/// length and each of `run.seeds`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PpoTable {
    pub policy: String,
    /// Models of the recipe that reward; by default the guides of `[steer]`, or else the results of
    /// `[dpo]` and `[sft]`.
    pub tuned: Option<String>,
    pub untuned: Option<String>,
    /// Tokens whose rewards are paid together; `"inf"` pays the whole response at its end.
    #[serde(default)]
    pub chunk_len: ChunkLens,
    /// β: what the guides' log-ratios are multiplied by.
    #[serde(default = "one")]
    pub scale: f64,
    /// From the training split.
    pub prompts: usize,
    /// From the validation split; 0 measures nothing on the way.
    #[serde(default)]
    pub validation_prompts: usize,
    pub max_new_tokens: usize,
    /// Of the rollouts, and of every log-probability.
    #[serde(default = "default_temperature")]
    pub temperature: f64,
    /// Passes over the rollouts of one step.
    #[serde(default = "four")]
    pub ppo_epochs: usize,
    /// Rollouts of one update of the weights; `training.batch_size` by default, which it must
    /// divide.
    pub minibatch_size: Option<usize>,
    #[serde(default = "one")]
    pub gamma: f64,
    #[serde(default = "default_lam")]
    pub lam: f64,
    /// ε of the policy's ratio.
    #[serde(default = "default_cliprange")]
    pub cliprange: f64,
    /// ε of the value's move.
    #[serde(default = "default_cliprange")]
    pub cliprange_value: f64,
    /// Of the value loss beside the policy's.
    #[serde(default = "default_vf_coef")]
    pub vf_coef: f64,
    #[serde(default)]
    pub value: ValueSource,
    /// Of the value's head, by the schedule of `training.learning_rate`, which is that of
    /// everything else.
    #[serde(default = "default_head_learning_rate")]
    pub head_learning_rate: f64,
    #[serde(default)]
    pub kl: KlTable,
    /// Taken off the reward of a response that is cut by `max_new_tokens`.
    #[serde(default)]
    pub missing_eos_penalty: f64,
    /// A step's updates end where the policy has moved this far from the one that sampled, by
    /// `policy/approxkl_avg`.
    pub target_kl: Option<f64>,
    /// `steps` are batches of rollouts, `batch_size` is rollouts of one step.
    #[serde(default)]
    pub training: TrainingTable,
    pub lora: Option<LoraTable>,
}

impl PpoTable {
    /// Rollouts of one update of the weights.
    pub fn minibatch(&self, batch_size: usize) -> usize {
        self.minibatch_size.unwrap_or(batch_size)
    }
}

/// What V(s_t) is read from: the policy's own states, or those of a second model that starts as a
/// copy of the policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueSource {
    #[default]
    Head,
    Model,
}

/// The penalty on leaving the policy as it was at first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KlTable {
    pub coef: f64,
    pub estimator: KlEstimator,
    /// Adapts the coefficient until `objective/kl` is this.
    pub target: Option<f64>,
    /// Rollouts over which it adapts; 10,000 by default.
    pub horizon: Option<f64>,
}

impl KlTable {
    pub fn horizon(&self) -> f64 {
        self.horizon.unwrap_or(10_000.0)
    }
}

/// `5` or `"inf"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkLen {
    Tokens(usize),
    Whole,
}

/// One chunk length, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ChunkLens(pub Vec<ChunkLen>);

impl ChunkLen {
    /// `None` is the whole response.
    pub fn tokens(self) -> Option<usize> {
        match self {
            Self::Tokens(tokens) => Some(tokens),
            Self::Whole => None,
        }
    }
}

impl fmt::Display for ChunkLen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tokens(tokens) => write!(f, "{tokens}"),
            Self::Whole => write!(f, "{WHOLE}"),
        }
    }
}

const WHOLE: &str = "inf";

impl Serialize for ChunkLen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Tokens(tokens) => serializer.serialize_u64(*tokens as u64),
            Self::Whole => serializer.serialize_str(WHOLE),
        }
    }
}

impl<'de> Deserialize<'de> for ChunkLen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneChunkLen)
    }
}

impl<'de> Deserialize<'de> for ChunkLens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ManyChunkLens)
    }
}

struct OneChunkLen;

impl Visitor<'_> for OneChunkLen {
    type Value = ChunkLen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number of tokens or \"{WHOLE}\"")
    }

    fn visit_u64<E: de::Error>(self, tokens: u64) -> Result<ChunkLen, E> {
        Ok(ChunkLen::Tokens(usize::try_from(tokens).unwrap_or(usize::MAX)))
    }

    fn visit_i64<E: de::Error>(self, tokens: i64) -> Result<ChunkLen, E> {
        let tokens = u64::try_from(tokens)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(tokens), &self))?;
        self.visit_u64(tokens)
    }

    /// TOML's own `inf`, without quotes.
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<ChunkLen, E> {
        if number == f64::INFINITY {
            Ok(ChunkLen::Whole)
        } else {
            Err(E::invalid_value(de::Unexpected::Float(number), &self))
        }
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<ChunkLen, E> {
        if word == WHOLE {
            Ok(ChunkLen::Whole)
        } else {
            Err(E::invalid_value(de::Unexpected::Str(word), &self))
        }
    }
}

struct ManyChunkLens;

impl<'de> Visitor<'de> for ManyChunkLens {
    type Value = ChunkLens;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number of tokens, \"{WHOLE}\", or a list of these")
    }

    fn visit_u64<E: de::Error>(self, tokens: u64) -> Result<ChunkLens, E> {
        OneChunkLen.visit_u64(tokens).map(|one| ChunkLens(vec![one]))
    }

    fn visit_i64<E: de::Error>(self, tokens: i64) -> Result<ChunkLens, E> {
        OneChunkLen.visit_i64(tokens).map(|one| ChunkLens(vec![one]))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<ChunkLens, E> {
        OneChunkLen.visit_f64(number).map(|one| ChunkLens(vec![one]))
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<ChunkLens, E> {
        OneChunkLen.visit_str(word).map(|one| ChunkLens(vec![one]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<ChunkLens, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(ChunkLens(all))
    }
}

impl Default for ChunkLens {
    /// The paper's search has chunks of five tokens.
    fn default() -> Self {
        Self(vec![ChunkLen::Tokens(5)])
    }
}

impl Default for KlTable {
    fn default() -> Self {
        Self { coef: 0.05, estimator: KlEstimator::K1, target: None, horizon: None }
    }
}

fn one() -> f64 {
    1.0
}
fn four() -> usize {
    4
}
fn default_temperature() -> f64 {
    0.7
}
fn default_lam() -> f64 {
    0.95
}
fn default_head_learning_rate() -> f64 {
    1e-3
}
fn default_cliprange() -> f64 {
    0.2
}
fn default_vf_coef() -> f64 {
    0.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ChunkLens, String> {
        #[derive(Deserialize)]
        struct Table {
            chunk_len: ChunkLens,
        }
        toml::from_str::<Table>(text)
            .map(|table| table.chunk_len)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn chunk_lengths_are_one_or_many_and_written_as_read() {
        use ChunkLen::{Tokens, Whole};
        assert_eq!(read("chunk_len = 5").unwrap(), ChunkLens(vec![Tokens(5)]));
        assert_eq!(read("chunk_len = \"inf\"").unwrap(), ChunkLens(vec![Whole]));
        assert_eq!(read("chunk_len = inf").unwrap(), ChunkLens(vec![Whole]));
        let many = read("chunk_len = [1, 25, \"inf\"]").unwrap();
        assert_eq!(many, ChunkLens(vec![Tokens(1), Tokens(25), Whole]));
        assert_eq!(serde_json::to_string(&many).unwrap(), r#"[1,25,"inf"]"#);
        assert_eq!(serde_json::from_str::<ChunkLens>(r#"[1,25,"inf"]"#).unwrap(), many);
        assert_eq!(many.0.iter().map(ChunkLen::to_string).collect::<Vec<_>>(), ["1", "25", "inf"]);
        for wrong in ["-1", "2.5", "-inf", "\"long\"", "[1, \"x\"]", "true"] {
            assert!(
                read(&format!("chunk_len = {wrong}")).unwrap_err().contains("number of tokens"),
                "{wrong}"
            );
        }
    }
}
