//! The one place where a product with weights is made: y = x Wᵀ + b and its two gradients, x̄ = ȳ W and W̄ = ȳᵀ x.

use tch::{Kind, Tensor};

use super::Activation;
use super::choice::{Layout, by_onednn};
use super::onednn::{self, Then};

/// Products of about this many rows decide how a weight is packed. On the machines measured that layout is within a few percent of the best
/// for every other number of rows, which the packing for few rows is not.
const PACKED_FOR_ROWS: i64 = 512;

/// The weight of a linear layer.
#[derive(Debug)]
pub struct Weight {
    /// (out, in), or (in, out) where `transposed`. `None` where only `packed` is left.
    plain: Option<Tensor>,
    transposed: bool,
    /// Of a frozen weight, where oneDNN is faster.
    packed: Option<Tensor>,
    /// (out, in)
    size: (i64, i64),
}

impl Weight {
    /// Of a tensor (out, in), or (in, out) where `transposed`, which it aliases.
    pub fn new(plain: &Tensor, transposed: bool) -> Self {
        let (rows, columns) = plain.size2().expect("a weight has two dimensions");
        let size = if transposed { (columns, rows) } else { (rows, columns) };
        Self { plain: Some(plain.shallow_clone()), transposed, packed: None, size }
    }

    /// As [`Self::new`] made it.
    ///
    /// # Panics
    /// Where only the packed one is left.
    pub fn plain(&self) -> &Tensor {
        self.plain.as_ref().expect("the plain weight is gone: only products read a packed one")
    }

    /// (out, in)
    pub fn size(&self) -> (i64, i64) {
        self.size
    }

    pub fn is_transposed(&self) -> bool {
        self.transposed
    }

    pub fn is_packed(&self) -> bool {
        self.packed.is_some()
    }

    /// Whether it takes up gradients.
    pub fn learns(&self) -> bool {
        self.plain.as_ref().is_some_and(Tensor::requires_grad)
    }

    /// Packs the weight, which must not change any more, if that makes its products faster; whether it did. The plain one stays.
    pub fn pack(&mut self) -> bool {
        let plain = self.plain();
        if self.packed.is_none() && by_onednn(plain.device(), plain.kind(), Layout::Packed, self.size) {
            let _no_grad = tch::no_grad_guard();
            self.packed = Some(onednn::pack(&self.view(), PACKED_FOR_ROWS).unwrap_or_else(|message| panic!("{message}")));
        }
        self.packed.is_some()
    }

    /// Forgets the plain weight of a packed one: no gradient goes through it from then on.
    pub fn keep_packed_alone(&mut self) {
        if self.packed.is_some() {
            self.plain = None;
        }
    }

    /// The plain weight, made anew where it is gone.
    pub fn unpacked(&self) -> Tensor {
        match (&self.plain, &self.packed) {
            (None, Some(packed)) => {
                let dense = packed.to_dense(None::<Kind>, false); // (out, in)
                if self.transposed { dense.transpose(0, 1).contiguous() } else { dense }
            }
            _ => self.plain().shallow_clone(),
        }
    }

    /// Another name of the same numbers.
    pub fn alias(&self) -> Self {
        let again = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::shallow_clone);
        Self { plain: again(&self.plain), transposed: self.transposed, packed: again(&self.packed), size: self.size }
    }

    /// x (.., in) to x Wᵀ + b (.., out), with its gradients where they are recorded.
    pub fn product(&self, x: &Tensor, bias: Option<&Tensor>) -> Tensor {
        if onednn::learns(x, self.plain.as_ref(), bias) {
            return self.learned_product(x, bias);
        }
        match self.for_onednn() {
            Some(weight) => onednn::product(x, &weight, bias, Then::Nothing),
            None => x.linear(&self.view(), bias),
        }
    }

    /// [`Self::product`] and the activation of it.
    pub fn activated_product(&self, x: &Tensor, bias: Option<&Tensor>, activation: Activation) -> Tensor {
        match (activation, &self.packed) {
            (Activation::GeluTanh, Some(packed)) if !onednn::learns(x, None, bias) => onednn::product(x, packed, bias, Then::GeluTanh),
            _ => activation.forward(self.product(x, bias)),
        }
    }

    /// [`Self::product`] added to `other` (.., out).
    pub fn added_product(&self, x: &Tensor, bias: Option<&Tensor>, other: &Tensor) -> Tensor {
        match &self.packed {
            Some(packed) if !onednn::learns(x, None, bias) && !onednn::learns(other, None, None) => {
                onednn::product(x, packed, bias, Then::Add(other))
            }
            _ => other + self.product(x, bias),
        }
    }

    fn learned_product(&self, x: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let plain_wins = self.plain_wins();
        if !plain_wins && self.packed.is_none() {
            return x.linear(&self.view(), bias);
        }
        onednn::learned_product(x, &self.view(), self.packed.as_ref(), plain_wins, bias)
    }

    /// x̄ = ȳ W: of the gradient `y` (rows, out) that of what was multiplied, (rows, in); nothing is recorded.
    pub fn input_gradient(&self, y: &Tensor) -> Tensor {
        let transposed = self.view().transpose(0, 1); // (in, out)
        if self.plain_wins() { onednn::product(y, &transposed, None, Then::Nothing) } else { y.linear(&transposed, None::<&Tensor>) }
    }

    /// Adds W̄ = ȳᵀ x to `sum`, which has the shape of the plain weight (out, in): `y` (rows, out), `x` (rows, in); nothing is recorded.
    pub fn add_gradient(&self, sum: &mut Tensor, y: &Tensor, x: &Tensor) {
        debug_assert!(!self.transposed, "only heads are asked");
        let turned = y.transpose(0, 1);
        if self.plain_wins() {
            let _ = sum.g_add_(&onednn::product(&turned, &x.transpose(0, 1), None, Then::Nothing));
        } else {
            let _ = sum.addmm_(&turned, x);
        }
    }

    /// (out, in), a view of the plain weight.
    fn view(&self) -> Tensor {
        let plain = self.plain();
        if self.transposed { plain.transpose(0, 1) } else { plain.shallow_clone() }
    }

    /// What a product of oneDNN reads, if it is oneDNN's.
    fn for_onednn(&self) -> Option<Tensor> {
        match &self.packed {
            Some(packed) => Some(packed.shallow_clone()),
            None => self.plain_wins().then(|| self.view()),
        }
    }

    fn plain_wins(&self) -> bool {
        self.plain.as_ref().is_some_and(|plain| by_onednn(plain.device(), plain.kind(), Layout::Plain, self.size))
    }
}
