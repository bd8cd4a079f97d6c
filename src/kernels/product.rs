//! The one place where a product with weights is made: y = x Wᵀ + b and its two gradients, x̄ = ȳ W
//! and W̄ = ȳᵀ x.

use tch::{Kind, Tensor};

use super::Activation;
use super::choice::{Layout, by_onednn};
use super::onednn::{self, Then};

/// Products of about this many rows decide how a weight is packed. On the machines measured that
/// layout is within a few percent of the best for every other number of rows, which the packing for
/// few rows is not.
const PACKED_FOR_ROWS: i64 = 512;

/// So many numbers of a gradient that is added up are made at once.
const GRADIENT_NUMBERS: i64 = 4 << 20;

/// The weight of a linear layer.
#[derive(Debug)]
pub struct Weight {
    /// (out, in), or (in, out) where `transposed`. `None` where only `packed` is left.
    plain: Option<Tensor>,
    transposed: bool,
    /// The packed form of a frozen weight, where oneDNN is faster.
    packed: Option<Tensor>,
    /// (out, in)
    size: (i64, i64),
}

impl Weight {
    /// The weight of a tensor (out, in), or (in, out) where `transposed`, which it aliases.
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

    /// Whether it takes up gradients.
    pub fn learns(&self) -> bool {
        self.plain.as_ref().is_some_and(Tensor::requires_grad)
    }

    /// Packs the weight, which must not change any more, if that makes its products faster; whether
    /// it did. The plain one stays.
    pub fn pack(&mut self) -> bool {
        let plain = self.plain();
        if self.packed.is_none()
            && by_onednn(plain.device(), plain.kind(), Layout::Packed, self.size)
        {
            let _no_grad = tch::no_grad_guard();
            self.packed = Some(
                onednn::pack(&self.view(), PACKED_FOR_ROWS)
                    .unwrap_or_else(|message| panic!("{message}")),
            );
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
        Self {
            plain: again(&self.plain),
            transposed: self.transposed,
            packed: again(&self.packed),
            size: self.size,
        }
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
    pub fn activated_product(
        &self,
        x: &Tensor,
        bias: Option<&Tensor>,
        activation: Activation,
    ) -> Tensor {
        match (activation, &self.packed) {
            (Activation::GeluTanh, Some(packed)) if !onednn::learns(x, None, bias) => {
                onednn::product(x, packed, bias, Then::GeluTanh)
            }
            _ => activation.forward(self.product(x, bias)),
        }
    }

    /// [`Self::product`] added to `other` (.., out).
    pub fn added_product(&self, x: &Tensor, bias: Option<&Tensor>, other: &Tensor) -> Tensor {
        match &self.packed {
            Some(packed)
                if !onednn::learns(x, None, bias) && !onednn::learns(other, None, None) =>
            {
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

    /// x̄ = ȳ W: of the gradient `y` (rows, out) that of what was multiplied, (rows, in); nothing
    /// is recorded.
    pub fn input_gradient(&self, y: &Tensor) -> Tensor {
        let transposed = self.view().transpose(0, 1); // (in, out)
        if self.plain_wins() {
            onednn::product(y, &transposed, None, Then::Nothing)
        } else {
            y.linear(&transposed, None::<&Tensor>)
        }
    }

    /// Adds W̄ = ȳᵀ x to `sum`, which has the shape of the plain weight (out, in): `y` (rows, out),
    /// `x` (rows, in); nothing is recorded.
    pub fn add_gradient(&self, sum: &mut Tensor, y: &Tensor, x: &Tensor) {
        debug_assert!(!self.transposed, "only heads are asked");
        let turned = y.transpose(0, 1);
        if !self.plain_wins() {
            let _ = sum.addmm_(&turned, x);
            return;
        }
        // oneDNN adds to nothing: part by part, so that no second sum of a whole vocabulary is
        // there.
        let (n_out, n_in) = self.size;
        let part = (GRADIENT_NUMBERS / n_in).max(1);
        for start in (0..n_out).step_by(part as usize) {
            let length = part.min(n_out - start);
            let product = onednn::product(
                &turned.narrow(0, start, length),
                &x.transpose(0, 1),
                None,
                Then::Nothing,
            );
            let _ = sum.narrow(0, start, length).g_add_(&product);
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
        self.plain
            .as_ref()
            .is_some_and(|plain| by_onednn(plain.device(), plain.kind(), Layout::Plain, self.size))
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn wave(shape: &[i64], seed: f64) -> Tensor {
        let count = shape.iter().product::<i64>();
        ((Tensor::arange(count, (Kind::Double, Device::Cpu)) * 0.7310 + seed).sin() * 0.9)
            .view(shape)
            .to_kind(Kind::Float)
    }

    /// The largest difference over the largest number.
    fn error(found: &Tensor, expected: &Tensor) -> f64 {
        let [found, expected] = [found, expected].map(|of| of.to_kind(Kind::Double));
        ((found - &expected).abs().max() / expected.abs().max()).double_value(&[])
    }

    /// oneDNN itself, whichever library the table takes on this machine.
    fn onednn_works(kind: Kind) -> bool {
        onednn::pack(&Tensor::zeros([64, 64], (kind, Device::Cpu)), 64).is_ok()
    }

    #[test]
    fn gradients_are_libtorchs() {
        for (transposed, packed, frozen, bias) in [
            (false, false, false, true),
            (true, false, false, true),
            (true, true, true, true),
            (false, true, true, false),
        ] {
            let plain = || {
                wave(if transposed { &[96, 352] } else { &[352, 96] }, 1.0)
                    .set_requires_grad(!frozen)
            };
            let bias = bias.then(|| wave(&[352], 2.0));
            let run = |product: &dyn Fn(&Tensor, &Tensor, Option<&Tensor>) -> Tensor| {
                let (x, plain) = (wave(&[3, 17, 96], 3.0).set_requires_grad(true), plain());
                let bias = bias.as_ref().map(|bias| bias.copy().set_requires_grad(true));
                let y = product(&x, &plain, bias.as_ref());
                (&y * wave(&[3, 17, 352], 4.0)).sum(Kind::Float).backward();
                let gradients = [Some(&x), (!frozen).then_some(&plain), bias.as_ref()]
                    .map(|leaf| leaf.map(Tensor::grad));
                (y.detach(), gradients, plain)
            };
            let view = |plain: &Tensor| {
                if transposed { plain.transpose(0, 1) } else { plain.shallow_clone() }
            };
            let (expected, gradients, _) = run(&|x, plain, bias| x.linear(&view(plain), bias));
            let (found, ours, plain) = run(&|x, plain, bias| {
                let packed =
                    packed.then(|| onednn::pack(&view(plain).detach(), PACKED_FOR_ROWS).unwrap());
                onednn::learned_product(x, &view(plain), packed.as_ref(), true, bias)
            });
            assert!(error(&found, &expected) < 1e-6);
            for (ours, theirs) in ours.iter().zip(&gradients) {
                match (ours, theirs) {
                    (Some(ours), Some(theirs)) => assert!(
                        error(ours, theirs) < 1e-5,
                        "{} of {:?}",
                        error(ours, theirs),
                        theirs.size()
                    ),
                    (ours, theirs) => assert!(ours.is_none() && theirs.is_none()),
                }
            }
            assert!(frozen || plain.grad().is_contiguous(), "a gradient lies as its weight does");
        }
    }

    #[test]
    fn a_gradient_goes_through_frozen_bf16_weights() {
        if !onednn_works(Kind::BFloat16) {
            return;
        }
        let weight = wave(&[352, 96], 1.0).to_kind(Kind::BFloat16);
        let packed = onednn::pack(&weight, PACKED_FOR_ROWS).unwrap();
        let run = |product: &dyn Fn(&Tensor) -> Tensor| {
            let x = wave(&[5, 96], 3.0).to_kind(Kind::BFloat16).set_requires_grad(true);
            product(&x).sum(Kind::Float).backward();
            x.grad()
        };
        let (ours, theirs) = (
            run(&|x| onednn::learned_product(x, &weight, Some(&packed), false, None)),
            run(&|x| x.linear(&weight, None::<&Tensor>)),
        );
        assert!(error(&ours, &theirs) < 1e-2);
    }

    #[test]
    fn what_is_packed_gives_the_same_products_and_comes_back_to_the_bit() {
        for kind in [Kind::Float, Kind::BFloat16].into_iter().filter(|&kind| onednn_works(kind)) {
            let bound = if kind == Kind::Float { 2e-6 } else { 1e-2 };
            for transposed in [false, true] {
                let plain =
                    wave(if transposed { &[104, 341] } else { &[341, 104] }, 1.0).to_kind(kind);
                let mut weight = Weight::new(&plain, transposed);
                assert_eq!(weight.pack(), by_onednn(Device::Cpu, kind, Layout::Packed, (341, 104)));
                weight.packed = Some(onednn::pack(&weight.view(), PACKED_FOR_ROWS).unwrap());
                weight.keep_packed_alone();
                assert!(weight.unpacked().equal(&plain) && weight.unpacked().is_contiguous());
                let view = if transposed { plain.transpose(0, 1) } else { plain };
                let bias = wave(&[341], 2.0).to_kind(kind);
                for rows in [1, 2, 16, 130] {
                    let x = wave(&[rows, 104], 3.0).to_kind(kind);
                    let exact = x
                        .to_kind(Kind::Double)
                        .linear(&view.to_kind(Kind::Double), Some(&bias.to_kind(Kind::Double)));
                    assert!(
                        error(&weight.product(&x, Some(&bias)), &exact) < bound,
                        "{kind:?}, {rows} rows"
                    );
                    let activated = weight.activated_product(&x, Some(&bias), Activation::GeluTanh);
                    assert!(
                        error(&activated, &exact.gelu("tanh")) < bound,
                        "{kind:?}, {rows} rows"
                    );
                    let other = wave(&[rows, 341], 5.0).to_kind(kind);
                    assert!(
                        error(
                            &weight.added_product(&x, Some(&bias), &other),
                            &(exact + other.to_kind(Kind::Double))
                        ) < bound
                    );
                }
            }
        }
    }

    #[test]
    fn gradients_at_a_head_are_added_part_by_part() {
        let (vocab, size, rows) = (GRADIENT_NUMBERS / 64 + 1000, 64, 5);
        let (y, x) = (wave(&[rows, vocab], 1.0), wave(&[rows, size], 2.0));
        let weight = Weight::new(&wave(&[vocab, size], 3.0), false);
        let mut sum = Tensor::ones([vocab, size], (Kind::Float, Device::Cpu));
        weight.add_gradient(&mut sum, &y, &x);
        assert!(error(&sum, &(y.transpose(0, 1).matmul(&x) + 1.0)) < 1e-5);
        // Sums of 66,536 numbers that nearly cancel.
        let exact = y.to_kind(Kind::Double).matmul(&weight.plain().to_kind(Kind::Double));
        assert!(
            error(&weight.input_gradient(&y), &exact) < 1e-4,
            "{}",
            error(&weight.input_gradient(&y), &exact)
        );
    }

    #[test]
    #[should_panic(expected = "only products read a packed one")]
    fn no_gradient_goes_through_a_weight_that_is_packed_alone() {
        let mut weight = Weight::new(&wave(&[352, 96], 1.0), false);
        weight.packed = Some(onednn::pack(weight.plain(), PACKED_FOR_ROWS).unwrap());
        weight.keep_packed_alone();
        let _ = weight.product(&wave(&[2, 96], 1.0).set_requires_grad(true), None);
    }
}
