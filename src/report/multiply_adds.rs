//! What the answers of a row have cost in arithmetic. How it is counted is said by whoever counts.

use serde::{Deserialize, Serialize};

/// Mean multiply-adds for one prompt; each is two FLOPs. A part that others serve is absent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MultiplyAdds {
    /// Of the model that is sampled from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<f64>,
    /// Of all guides together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guide: Option<f64>,
}
