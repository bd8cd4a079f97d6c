//! Where each model of a plan is put, and in which precision it computes.

use std::collections::BTreeMap;

use tch::{Device, Kind};

use crate::error::{Error, Result};
use crate::machine::device;
use crate::recipe::{Dtype, Plan};

/// Where a model is put, and the kind of its weights at inference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    pub device: Device,
    pub kind: Kind,
}

pub struct Placements {
    models: BTreeMap<String, Placement>,
    judges: BTreeMap<String, Placement>,
}

impl Placements {
    /// # Errors
    /// [`Error::Recipe`] where this machine lacks a device that the plan names.
    pub fn of(plan: &Plan) -> Result<Self> {
        let recipe = &plan.recipe;
        let place = |device: Option<&str>, dtype: Option<Dtype>| -> Result<Placement> {
            let device = device::parse(device.unwrap_or(&recipe.run.device))?;
            Ok(Placement {
                device,
                kind: device::inference_kind(dtype.unwrap_or(recipe.run.dtype), device),
            })
        };
        let models = recipe
            .models
            .iter()
            .map(|(name, model)| Ok((name.clone(), place(model.device.as_deref(), model.dtype)?)));
        let judges = recipe
            .judges()
            .into_iter()
            .map(|judge| Ok((judge.name.to_owned(), place(judge.device, judge.dtype)?)));
        Ok(Self { models: models.collect::<Result<_>>()?, judges: judges.collect::<Result<_>>()? })
    }

    /// Where the model `name` of the recipe is put; what descends from it goes with it.
    pub fn model(&self, name: &str) -> Result<Placement> {
        self.models
            .get(name)
            .copied()
            .ok_or_else(|| Error::recipe(format!("no model `{name}` in the recipe")))
    }

    pub fn judge(&self, name: &str) -> Result<Placement> {
        self.judges
            .get(name)
            .copied()
            .ok_or_else(|| Error::recipe(format!("no judge `{name}` in the recipe")))
    }
}
