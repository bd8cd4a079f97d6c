//! The variables of a model under their names, and which of them are there packed alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use super::layers::LinearLayer;
use crate::kernels::Weight;
use crate::machine::memory;

/// The variables of one model.
pub struct Variables {
    store: VarStore,
    /// Weights whose plain tensors are gone.
    packed: BTreeMap<String, Weight>,
}

impl Variables {
    /// The kind is set before anything is built, so a large model never exists in f32.
    pub(super) fn new(device: Device, kind: Kind) -> Self {
        let mut store = VarStore::new(device);
        store.set_kind(kind);
        Self { store, packed: BTreeMap::new() }
    }

    pub(super) fn root(&self) -> tch::nn::Path<'_> {
        self.store.root()
    }

    /// Packed ones are unpacked for it.
    pub(super) fn all(&self) -> BTreeMap<String, Tensor> {
        let packed = self.packed.iter().map(|(name, weight)| (name.clone(), weight.unpacked()));
        self.store.variables().into_iter().chain(packed).collect()
    }

    pub(super) fn names(&self) -> BTreeSet<String> {
        self.store.variables().into_keys().chain(self.packed.keys().cloned()).collect()
    }

    pub(super) fn one(&self, name: &str) -> Option<Tensor> {
        self.packed.get(name).map(Weight::unpacked).or_else(|| self.store.variables().remove(name))
    }

    /// Packs the weights of `layers`, named below `prefix`, whose plain tensors nobody else reads.
    pub(super) fn pack(&mut self, layers: Vec<LinearLayer>, prefix: &str) {
        for layer in layers {
            let name =
                if prefix.is_empty() { layer.name } else { format!("{prefix}.{}", layer.name) };
            self.pack_one(format!("{name}.weight"), layer.weight);
        }
    }

    /// After the last weight is packed.
    pub(super) fn settle(&self) {
        if !self.packed.is_empty() {
            memory::return_unused();
        }
    }

    pub(super) fn pack_one(&mut self, name: String, weight: &mut Weight) {
        if weight.pack() {
            let place = weight.plain().data_ptr();
            weight.keep_packed_alone();
            self.packed.insert(name.clone(), weight.alias());
            let mut store = self.store.variables_.lock().unwrap_or_else(PoisonError::into_inner);
            store.named_variables.remove(&name);
            store.trainable_variables.retain(|variable| variable.tensor.data_ptr() != place);
        }
    }

    pub(super) fn freeze(&mut self) {
        self.store.freeze();
    }

    pub(super) fn unfreeze(&mut self) {
        self.store.unfreeze();
    }

    pub fn device(&self) -> Device {
        self.store.device()
    }

    pub fn kind(&self) -> Kind {
        self.store.kind()
    }
}
