//! Rotary position embedding (arXiv 2104.09864) in the halves layout of Hugging Face, with linear
//! and Llama-3.1 scaling of its frequencies.

use std::f64::consts::TAU;

use serde::Deserialize;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// What a config says of the rotation: `rope_theta` and `rope_scaling`, or `rope_parameters` in
/// newer files.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RopeSettings {
    pub theta: f64,
    pub scaling: Scaling,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scaling {
    None,
    Linear {
        factor: f64,
    },
    /// Llama 3.1: low frequencies are divided by `factor`, high ones kept, those between blended.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_context: f64,
    },
}

const DEFAULT_THETA: f64 = 10000.0;

#[derive(Deserialize)]
struct Fields {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
    #[serde(rename = "type")]
    old_type: Option<String>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

impl RopeSettings {
    /// The settings, or what is wrong with them. `parameters` is `rope_parameters` or else
    /// `rope_scaling`.
    pub fn read(theta: Option<f64>, parameters: Option<&Value>) -> Result<Self, String> {
        let Some(parameters) = parameters else {
            return Self { theta: theta.unwrap_or(DEFAULT_THETA), scaling: Scaling::None }
                .checked();
        };
        let fields: Fields = serde_json::from_value(parameters.clone())
            .map_err(|error| format!("the rope settings {parameters}: {error}"))?;
        let theta = fields.rope_theta.or(theta).unwrap_or(DEFAULT_THETA);
        let need = |value: Option<f64>, name: &str| {
            value.ok_or_else(|| format!("the rope settings have no `{name}`"))
        };
        let scaling = match fields.rope_type.or(fields.old_type).as_deref().unwrap_or("default") {
            "default" => Scaling::None,
            "linear" => Scaling::Linear { factor: need(fields.factor, "factor")? },
            "llama3" => Scaling::Llama3 {
                factor: need(fields.factor, "factor")?,
                low_freq_factor: need(fields.low_freq_factor, "low_freq_factor")?,
                high_freq_factor: need(fields.high_freq_factor, "high_freq_factor")?,
                original_context: need(
                    fields.original_max_position_embeddings,
                    "original_max_position_embeddings",
                )?,
            },
            other => {
                return Err(format!(
                    "rope scaling of type `{other}` is not supported, only `default`, `linear` and \
                     `llama3`"
                ));
            }
        };
        Self { theta, scaling }.checked()
    }

    fn checked(self) -> Result<Self, String> {
        let numbers = match self.scaling {
            Scaling::None => vec![self.theta],
            Scaling::Linear { factor } => vec![self.theta, factor],
            Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                if high_freq_factor <= low_freq_factor {
                    return Err(format!(
                        "rope: `high_freq_factor` = {high_freq_factor} must be above \
                         `low_freq_factor` = {low_freq_factor}"
                    ));
                }
                vec![self.theta, factor, low_freq_factor, high_freq_factor, original_context]
            }
        };
        match numbers.iter().find(|number| !(number.is_finite() && **number > 0.0)) {
            Some(number) => {
                Err(format!("the rope settings hold {number}, expected positive numbers"))
            }
            None => Ok(self),
        }
    }

    /// Rotations per token of each pair of dimensions, (head_dim / 2).
    fn frequencies(&self, head_dim: i64) -> Vec<f32> {
        // In f32 from the start, as the reference: at position 100,000 a frequency's last bit moves
        // the angle.
        let plain = (0..head_dim / 2)
            .map(|pair| 1.0 / (self.theta as f32).powf((2 * pair) as f32 / head_dim as f32));
        match self.scaling {
            Scaling::None => plain.collect(),
            Scaling::Linear { factor } => {
                plain.map(|frequency| frequency / factor as f32).collect()
            }
            Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                plain
                    .map(|frequency| {
                        let wavelength = TAU / f64::from(frequency);
                        if wavelength < original_context / high_freq_factor {
                            frequency
                        } else if wavelength > original_context / low_freq_factor {
                            frequency / factor as f32
                        } else {
                            let smooth = (original_context / wavelength - low_freq_factor)
                                / (high_freq_factor - low_freq_factor);
                            ((1.0 - smooth) * f64::from(frequency) / factor
                                + smooth * f64::from(frequency)) as f32
                        }
                    })
                    .collect()
            }
        }
    }
}

/// The frequencies on the model's device.
pub(super) struct Rope {
    frequencies: Tensor, // (head_dim / 2) f32
}

/// Cosines and sines of one batch's angles, both (batch, 1, seq, head_dim / 2); shared by all
/// layers.
pub(super) struct Rotation {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    pub fn new(settings: &RopeSettings, head_dim: i64, device: Device) -> Self {
        Self { frequencies: Tensor::from_slice(&settings.frequencies(head_dim)).to_device(device) }
    }

    /// positions: (batch, seq) i64.
    pub fn rotation(&self, positions: &Tensor, kind: Kind) -> Rotation {
        // (batch, seq, head_dim / 2)
        let angles = positions.to_kind(Kind::Float).unsqueeze(-1) * &self.frequencies;
        let angles = angles.unsqueeze(1);
        Rotation { cos: angles.cos().to_kind(kind), sin: angles.sin().to_kind(kind) }
    }
}

impl Rotation {
    /// (batch, heads, seq, head_dim) to the same shape: dimension i turns with dimension i +
    /// head_dim / 2.
    pub fn apply(&self, states: &Tensor) -> Tensor {
        let halves = states.chunk(2, -1);
        let (first, second) = (&halves[0], &halves[1]);
        Tensor::cat(
            &[first * &self.cos - second * &self.sin, second * &self.cos + first * &self.sin],
            -1,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn turning_keeps_lengths_and_depends_on_distance_only() {
        let rope =
            Rope::new(&RopeSettings { theta: 100.0, scaling: Scaling::None }, 8, Device::Cpu);
        let states =
            (Tensor::arange(16, (Kind::Float, Device::Cpu)) * 0.7).sin().view([1, 1, 2, 8]);
        let turned = |positions: [i64; 2]| {
            rope.rotation(&Tensor::from_slice(&positions).unsqueeze(0), Kind::Float).apply(&states)
        };
        let dot = |turned: &Tensor| {
            (turned.select(2, 0) * turned.select(2, 1)).sum(Kind::Float).double_value(&[])
        };
        assert!((dot(&turned([3, 7])) - dot(&turned([10, 14]))).abs() < 1e-5);
        assert!((dot(&turned([3, 7])) - dot(&turned([3, 8]))).abs() > 1e-3);
        assert!((turned([3, 7]).norm() - states.norm()).abs().double_value(&[]) < 1e-5);
        assert!(turned([0, 0]).allclose(&states, 0.0, 0.0, false));
    }

    #[test]
    fn settings_are_read_from_old_and_new_files_and_nonsense_is_refused() {
        let read = |theta, parameters: Value| RopeSettings::read(theta, Some(&parameters));
        let linear = RopeSettings { theta: 5e5, scaling: Scaling::Linear { factor: 2.0 } };
        assert_eq!(read(Some(5e5), json!({ "type": "linear", "factor": 2.0 })).unwrap(), linear);
        assert_eq!(
            read(None, json!({ "rope_type": "linear", "factor": 2.0, "rope_theta": 5e5 })).unwrap(),
            linear
        );
        assert_eq!(RopeSettings::read(None, None).unwrap().theta, 10000.0);
        assert!(
            read(None, json!({ "rope_type": "yarn", "factor": 2.0 }))
                .unwrap_err()
                .contains("`yarn` is not supported")
        );
        assert!(read(None, json!({ "rope_type": "linear" })).unwrap_err().contains("no `factor`"));
        assert!(
            read(None, json!({ "rope_type": "linear", "factor": 0.0 }))
                .unwrap_err()
                .contains("expected positive")
        );
        assert!(
            read(None, json!({ "rope_type": "linear", "factor": "two" }))
                .unwrap_err()
                .contains("invalid type")
        );
    }
}
