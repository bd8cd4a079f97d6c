//! Which library makes a product on the CPU: oneDNN, called with its weight packed or plain, or
//! whatever libtorch's own operator takes.
//!
//! libtorch gives f32 to MKL, which on processors other than Intel's runs generic code, and bf16 to
//! oneDNN, but lays the weight out anew in each call. The choice follows from the processor, the
//! kind of number and the weight's shape, never from a timing or from the number of rows: else two
//! runs, or one prompt in two companies, would differ in their last bits. The figures behind the
//! table are in benches/README.md.

use std::fmt;
use std::sync::OnceLock;

use tch::{Device, Kind, Tensor};

use super::onednn;

/// How a weight lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// As oneDNN wants it, once for all products: a frozen weight.
    Packed,
    /// As the model's file has it: a weight that changes.
    Plain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maker {
    Intel,
    /// MKL does not know its instructions.
    Other,
}

/// oneDNN is faster where one of these fits; where none does, the product is libtorch's own.
const RULES: [(Option<Maker>, Kind, Layout); 3] = [
    (Some(Maker::Other), Kind::Float, Layout::Packed),
    (Some(Maker::Other), Kind::Float, Layout::Plain),
    (None, Kind::BFloat16, Layout::Packed),
];

/// The least weight: a call costs more than the product of a smaller one. Numbers, and the shorter
/// side.
const LEAST: (i64, i64) = (1 << 15, 32);

/// Whether oneDNN makes the products of a weight (out, in) or (in, out) of this kind and layout.
pub fn by_onednn(device: Device, kind: Kind, layout: Layout, shape: (i64, i64)) -> bool {
    device == Device::Cpu && is_large(shape) && wins(kind, layout)
}

/// Whether a weight of this shape is worth oneDNN's call.
pub fn is_large((rows, columns): (i64, i64)) -> bool {
    rows * columns >= LEAST.0 && rows.min(columns) >= LEAST.1
}

fn wins(kind: Kind, layout: Layout) -> bool {
    let fits = |(maker, of, laid): &(Option<Maker>, Kind, Layout)| {
        maker.is_none_or(|maker| maker == self::maker()) && *of == kind && *laid == layout
    };
    cfg!(target_arch = "x86_64") && RULES.iter().any(fits) && works(kind)
}

/// Whether oneDNN has products of this kind on this processor at all, asked once of a small one:
/// bf16 needs AVX512.
fn works(kind: Kind) -> bool {
    static FLOAT: OnceLock<bool> = OnceLock::new();
    static BF16: OnceLock<bool> = OnceLock::new();
    let answer = if kind == Kind::Float { &FLOAT } else { &BF16 };
    *answer.get_or_init(|| onednn::pack(&Tensor::zeros([64, 64], (kind, Device::Cpu)), 64).is_ok())
}

fn maker() -> Maker {
    static MAKER: OnceLock<Maker> = OnceLock::new();
    *MAKER.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            let answer = std::arch::x86_64::__cpuid(0);
            let name = [answer.ebx, answer.edx, answer.ecx].map(u32::to_le_bytes).concat();
            if name == b"GenuineIntel" {
                return Maker::Intel;
            }
        }
        Maker::Other
    })
}

/// The table as it comes out on this machine, for `w2s doctor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProductReport;

impl fmt::Display for ProductReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, word) in [(Kind::Float, "f32"), (Kind::BFloat16, "bf16")] {
            let [frozen, trained] = [Layout::Packed, Layout::Plain]
                .map(|layout| if wins(kind, layout) { "oneDNN" } else { "libtorch" });
            write!(f, "{word}: {frozen}")?;
            if frozen != trained {
                write!(f, " ({trained} where weights are trained)")?;
            }
            write!(f, "; ")?;
        }
        write!(f, "f16: libtorch, slow on most processors")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_knows_neither_rows_nor_time_and_leaves_small_weights_to_libtorch() {
        let chosen = |kind, layout, shape| by_onednn(Device::Cpu, kind, layout, shape);
        assert!(!by_onednn(Device::Cuda(0), Kind::Float, Layout::Packed, (768, 768)));
        for layout in [Layout::Packed, Layout::Plain] {
            for shape in [(1, 50257), (50257, 8), (16, 16), (128, 128)] {
                assert!(!chosen(Kind::Float, layout, shape), "{shape:?}");
            }
            assert!(!chosen(Kind::Half, layout, (768, 768)));
            let other = cfg!(target_arch = "x86_64") && maker() == Maker::Other;
            assert_eq!(chosen(Kind::Float, layout, (768, 768)), other);
            assert_eq!(chosen(Kind::Float, layout, (50257, 768)), other);
        }
        assert!(!chosen(Kind::BFloat16, Layout::Plain, (768, 768)));
        assert_eq!(chosen(Kind::BFloat16, Layout::Packed, (768, 768)), works(Kind::BFloat16));
    }
}
