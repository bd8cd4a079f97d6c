//! The border to onednn.cpp, which [`super::product`] alone crosses.

use std::ffi::{CStr, c_char};
use std::ptr;

use tch::Tensor;

/// `at::Tensor` of libtorch, which tch keeps behind a pointer.
#[repr(C)]
struct AtTensor {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn w2s_product_error() -> *const c_char;
    fn w2s_pack(weight: *const AtTensor, rows: i64) -> *mut AtTensor;
    fn w2s_product(
        x: *const AtTensor,
        weight: *const AtTensor,
        bias: *const AtTensor,
        gelu: bool,
        other: *const AtTensor,
    ) -> *mut AtTensor;
    fn w2s_learned_product(
        x: *const AtTensor,
        weight: *const AtTensor,
        packed: *const AtTensor,
        plain_wins: bool,
        bias: *const AtTensor,
    ) -> *mut AtTensor;
    fn w2s_learns(x: *const AtTensor, weight: *const AtTensor, bias: *const AtTensor) -> bool;
}

/// What comes after a product, in the same pass over its numbers.
#[derive(Debug, Clone, Copy)]
pub enum Then<'a> {
    Nothing,
    /// `gelu_new`, as [`super::Activation::GeluTanh`].
    GeluTanh,
    /// The sum with this, of the product's own shape.
    Add(&'a Tensor),
}

/// `weight` (out, in) laid out for products of about `rows` rows; only [`product`] reads such a
/// tensor, and `to_dense` gives it back to the bit.
///
/// # Errors
/// libtorch's message where oneDNN cannot use this kind of number on this processor.
pub fn pack(weight: &Tensor, rows: i64) -> Result<Tensor, String> {
    // SAFETY: the pointer is a tensor's.
    taken(unsafe { w2s_pack(of(weight), rows) })
}

/// x (.., in) times `weight` (out, in), plain, a transposed view, or packed, without a gradient.
///
/// # Panics
/// As tch does, with libtorch's message.
pub fn product(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, then: Then) -> Tensor {
    let (gelu, other) = match then {
        Then::Nothing => (false, None),
        Then::GeluTanh => (true, None),
        Then::Add(other) => (false, Some(other)),
    };
    // SAFETY: the pointers are tensors' or null where null is allowed.
    taken(unsafe { w2s_product(of(x), of(weight), maybe(bias), gelu, maybe(other)) })
        .unwrap_or_else(|message| panic!("{message}"))
}

/// The product with a gradient, which reads the plain `weight` (out, in); the product itself reads
/// `packed` where there is one. The two products on the way back are oneDNN's where `plain_wins`.
///
/// # Panics
/// As tch does, with libtorch's message.
pub fn learned_product(
    x: &Tensor,
    weight: &Tensor,
    packed: Option<&Tensor>,
    plain_wins: bool,
    bias: Option<&Tensor>,
) -> Tensor {
    // SAFETY: as in `product`.
    let made =
        unsafe { w2s_learned_product(of(x), of(weight), maybe(packed), plain_wins, maybe(bias)) };
    taken(made).unwrap_or_else(|message| panic!("{message}"))
}

/// Whether gradients are recorded and one of these takes part.
pub fn learns(x: &Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>) -> bool {
    // SAFETY: as in `product`.
    unsafe { w2s_learns(of(x), maybe(weight), maybe(bias)) }
}

fn of(tensor: &Tensor) -> *const AtTensor {
    tensor.as_ptr().cast()
}

fn maybe(tensor: Option<&Tensor>) -> *const AtTensor {
    tensor.map_or(ptr::null(), of)
}

fn taken(made: *mut AtTensor) -> Result<Tensor, String> {
    if made.is_null() {
        // SAFETY: the message of this thread's last failure, which ends in a zero.
        return Err(unsafe { CStr::from_ptr(w2s_product_error()) }.to_string_lossy().into_owned());
    }
    // SAFETY: a new tensor that nobody else owns.
    Ok(unsafe { Tensor::from_ptr(made.cast()) })
}
