//! All that a killed training run needs to go on as if nothing had happened, in one atomically written safetensors file:
//! parameters, AdamW moments, the best parameters so far, and the position in the schedule. The order of examples is a function of the
//! seed and the step, so no other state exists.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::AdamW;
use crate::error::{Error, Result};
use crate::models::weights::{read_metadata, read_tensors, write_tensors};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Optimiser steps done.
    pub step: usize,
    pub optimizer_step: i32,
    /// Step and validation values of the best parameters, if there was a validation.
    pub best: Option<(usize, Vec<(String, f64)>)>,
}

pub struct Checkpoint {
    path: PathBuf,
}

impl Checkpoint {
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn save(&self, position: &Position, optimizer: &AdamW, best: Option<&[Tensor]>) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        let (_, mut tensors) = optimizer.state();
        for (i, (name, weight)) in optimizer.weights().into_iter().enumerate() {
            tensors.push((format!("parameter.{name}"), weight));
            if let Some(best) = best {
                tensors.push((format!("best.{name}"), best[i].shallow_clone()));
            }
        }
        let position = serde_json::to_string(position).map_err(|error| Error::failed(error.to_string()))?;
        write_tensors(&self.path, &tensors, &[("position", &position)])
    }

    /// Restores parameters and optimiser in place; `None` where no checkpoint exists. The second value is the best parameters.
    pub fn load(&self, optimizer: &mut AdamW) -> Result<Option<(Position, Option<Vec<Tensor>>)>> {
        if !self.path.exists() {
            return Ok(None);
        }
        let _no_grad = tch::no_grad_guard();
        let unusable = |what: String| Error::model(&self.path, format!("{what}\n\nhint: start this stage anew with --from"));
        let metadata = read_metadata(&self.path)?;
        let position = metadata.get("position").ok_or_else(|| unusable("no `position` in the checkpoint".into()))?;
        let position: Position = serde_json::from_str(position).map_err(|error| unusable(format!("`position`: {error}")))?;
        let tensors: BTreeMap<String, Tensor> = read_tensors(&self.path)?;
        let find = |name: &str| -> Result<Tensor> {
            tensors.get(name).map(Tensor::shallow_clone).ok_or_else(|| unusable(format!("no tensor `{name}` in the checkpoint")))
        };
        optimizer.restore(position.optimizer_step, find)?;
        let names: Vec<String> = optimizer.weights().into_iter().map(|(name, _)| name).collect();
        let all = |prefix: &str| names.iter().map(|name| find(&format!("{prefix}.{name}"))).collect::<Result<Vec<Tensor>>>();
        optimizer.set_weights(&all("parameter")?);
        let best = position.best.is_some().then(|| all("best")).transpose()?;
        Ok(Some((position, best)))
    }

    pub fn remove(&self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&self.path, "removing")(error)),
            _ => Ok(()),
        }
    }
}
