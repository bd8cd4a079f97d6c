//! The value function of PPO: a linear head on hidden states, those of the policy or those of a
//! model of its own.

use std::rc::Rc;

use tch::{Kind, Tensor};

use crate::models::Lm;

/// V(s_t), the return that is expected before token t is drawn.
pub struct Value {
    /// `None` reads the policy's own states.
    body: Option<Rc<Lm>>,
    weight: Tensor, // (hidden_size) f32
    bias: Tensor,   // (1) f32
}

impl Value {
    /// On the states of `policy`; 0 everywhere at first.
    pub fn head(policy: &Lm) -> Self {
        let zeros = |size: i64| {
            Tensor::zeros([size], (Kind::Float, policy.device())).set_requires_grad(true)
        };
        Self { body: None, weight: zeros(policy.model.info().hidden_size), bias: zeros(1) }
    }

    /// On the states of a trainable model of its own; 0 everywhere at first.
    pub fn model(body: Rc<Lm>) -> Self {
        Self { body: Some(body.clone()), ..Self::head(&body) }
    }

    pub(super) fn body(&self) -> Option<&Lm> {
        self.body.as_deref()
    }

    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        // The language head predicts no tokens here.
        let body = self
            .body
            .iter()
            .flat_map(|lm| lm.trainable_parameters())
            .filter(|(name, _)| name != "lm_head.weight");
        let head = [("weight", &self.weight), ("bias", &self.bias)];
        body.map(|(name, tensor)| (format!("value_model.{name}"), tensor))
            .chain(
                head.map(|(name, tensor)| (format!("value_head.{name}"), tensor.shallow_clone())),
            )
            .collect()
    }

    /// (tokens, hidden_size) of any kind to (tokens) f32.
    pub(super) fn of_states(&self, states: &Tensor) -> Tensor {
        states.to_kind(Kind::Float).mv(&self.weight) + &self.bias
    }
}
