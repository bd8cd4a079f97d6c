//! A method: what proposes responses, and which search chooses among them.

use serde_json::{Value, json};

use crate::search::{ChunkLen, Sample, Search};

/// What responses are sampled from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Proposal {
    /// The model that is steered.
    Base,
    /// The guides themselves.
    Tuned,
    Untuned,
    /// What `[direct]` made of the base.
    Direct,
    /// What `[ppo]` with chunks of this length made of the base.
    Ppo {
        chunk_len: ChunkLen,
    },
    /// log π_base + weight · (log π* − log π_ref), token by token; `weight` is the paper's 1/β.
    Tilted {
        weight: f64,
    },
}

/// How a response is found.
#[derive(Debug, Clone, PartialEq)]
pub struct Method {
    pub proposal: Proposal,
    pub search: Search,
}

impl Proposal {
    /// What is sampled, as `w2s check` says it.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Base | Self::Tilted { .. } => "the base",
            Self::Tuned => "the tuned guide",
            Self::Untuned => "the untuned guide",
            Self::Direct => "the directly tuned base",
            Self::Ppo { .. } => "what `[ppo]` made of the base",
        }
    }

    /// The weight with which the guides take part in what is sampled.
    pub fn tilt(self) -> Option<f64> {
        match self {
            Self::Tilted { weight } => Some(weight),
            _ => None,
        }
    }
}

impl Method {
    /// One sample of `proposal` for each prompt.
    pub fn sampled(proposal: Proposal) -> Self {
        Self { proposal, search: Search::Sample(Sample {}) }
    }

    /// Whether it cannot do without a guide pair.
    pub fn needs_guides(&self) -> bool {
        self.search.kind().compares || self.proposal.tilt().is_some()
    }

    /// Whether it is emulated fine-tuning, whose weight is the paper's 1/β.
    pub fn is_eft(&self) -> bool {
        self.proposal.tilt().is_some() && matches!(self.search, Search::Sample(_))
    }

    /// Whether it cannot do with guides of another vocabulary than the base's.
    pub fn needs_one_vocabulary(&self) -> bool {
        self.search.kind().one_vocabulary || self.proposal.tilt().is_some()
    }

    /// What makes one method of a recipe differ from another, by the names of its keys.
    pub fn settings(&self) -> Value {
        let mut settings = json!(self.search);
        match (self.proposal, &self.search) {
            (Proposal::Ppo { chunk_len }, _) => settings["chunk_len"] = json!(chunk_len),
            // The paper's β is 1/weight, the release's `beta` the weight itself.
            (Proposal::Tilted { weight }, Search::Sample(_)) => {
                settings["weight"] = json!(weight);
                settings["beta"] = if weight == 0.0 { json!("inf") } else { json!(1.0 / weight) };
            }
            (Proposal::Tilted { weight }, _) => settings["tilt"] = json!(weight),
            _ => {}
        }
        settings
    }
}

/// The one rule of guides that propose, whose logits are added to the base's token by token, and of
/// those that are asked for all of its next tokens: their vocabulary is the base's. This says what
/// is wrong where the two have `how`, of a method with this search.
pub fn two_vocabularies(search: &Search, base: &str, guide: &str, how: &str) -> String {
    let (what, hint) = match search {
        search if search.kind().one_vocabulary => {
            (search.kind().name, "steer this base with `cbs`, whose guides read text")
        }
        Search::Sample(_) => {
            ("eft", "steer this base with `cbs` or `best_of_n`, whose guides read text")
        }
        _ => (
            "tilt",
            "leave `tilt` out, for guides that only score read text, or give this base a recipe of \
             its own",
        ),
    };
    format!("`{what}` needs one vocabulary, but {base} and {guide} have {how}\n\nhint: {hint}")
}

/// What is wrong with a method called `what` where others serve guides that it asks for more than
/// scores.
pub fn served_guides_only_score(what: &str) -> String {
    format!(
        "`{what}` needs the guides' distribution of every next token, and guides that others serve \
         only score: servers tell a few likely tokens at most\n\nhint: use `cbs` or `best_of_n`, \
         or name the guides' folders or hub ids"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_tell_methods_apart() {
        let keys = json!({ "beam_width": 4, "successors": 3, "chunk_len": 5 });
        let cbs = Search::read("cbs", keys).unwrap().unwrap();
        let of = |proposal, search: &Search| Method { proposal, search: search.clone() }.settings();
        assert_eq!(
            of(Proposal::Base, &cbs),
            json!({ "beam_width": 4, "successors": 3, "chunk_len": 5 })
        );
        assert_eq!(
            of(Proposal::Tilted { weight: 0.0 }, &cbs),
            json!({ "beam_width": 4, "successors": 3, "chunk_len": 5, "tilt": 0.0 })
        );
        let sampled = |proposal| Method::sampled(proposal).settings();
        assert_eq!(sampled(Proposal::Base), json!({}));
        assert_eq!(
            sampled(Proposal::Tilted { weight: 4.0 }),
            json!({ "weight": 4.0, "beta": 0.25 })
        );
        assert_eq!(
            sampled(Proposal::Tilted { weight: 0.0 }),
            json!({ "weight": 0.0, "beta": "inf" })
        );
        assert_eq!(
            sampled(Proposal::Ppo { chunk_len: ChunkLen::Whole }),
            json!({ "chunk_len": "inf" })
        );
    }
}
