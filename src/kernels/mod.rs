//! The loops and products that everything above spends its time in, chosen by what the processor
//! has.
//!
//! Three kinds: matrix products, made by oneDNN or by libtorch itself ([`product`], chosen by the
//! table in [`choice`]); vector loops of our own over numbers in main memory; and libtorch's
//! operators wherever neither is better, which is everywhere on CUDA.

pub mod attention;
pub mod choice;
pub mod product;
pub mod vocabulary_rows;

mod activation;
mod lanes;
pub(crate) mod onednn;
pub(crate) mod parallel;
pub(crate) mod simd;

pub use activation::Activation;
pub use product::Weight;
