//! Loops over numbers in main memory that the compiler turns into vector instructions, chosen by
//! what the processor has.

/// Numbers handled at once; wide enough for the widest vector registers.
pub const LANES: usize = 32;

/// A loop, written so that it has no branches inside; `run` must be `#[inline(always)]` to be
/// compiled for each processor.
pub trait Work {
    type Answer;
    fn run(self) -> Self::Answer;
}

/// Compiles the work for the widest registers too and chooses at run time.
pub fn dispatch<W: Work>(work: W) -> W::Answer {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
        fn wide<W: Work>(work: W) -> W::Answer {
            work.run()
        }
        #[target_feature(enable = "avx2,fma")]
        fn middle<W: Work>(work: W) -> W::Answer {
            work.run()
        }
        match widest() {
            // SAFETY: the processor has these instructions.
            Widest::Avx512 => return unsafe { wide(work) },
            Widest::Avx2 => return unsafe { middle(work) },
            Widest::Neither => {}
        }
    }
    work.run()
}

/// The widest registers of this processor that there are loops for.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Widest {
    /// With its extensions BW, VL and DQ.
    Avx512,
    /// With FMA.
    Avx2,
    Neither,
}

#[cfg(target_arch = "x86_64")]
pub fn widest() -> Widest {
    let has_wide = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq");
    if !is_x86_feature_detected!("fma") {
        Widest::Neither
    } else if has_wide {
        Widest::Avx512
    } else if is_x86_feature_detected!("avx2") {
        Widest::Avx2
    } else {
        Widest::Neither
    }
}

/// The f32 whose upper half a bf16 is.
#[inline(always)]
pub fn widen(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

/// The bf16 nearest to an f32, ties to even; NaN stays NaN.
#[inline(always)]
pub fn narrow(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
    if x.is_nan() { 0x7fc0 } else { rounded }
}

/// e^x for x <= 0, to about 2e-7 of its value: 2^n of the nearest whole n times a polynomial of the
/// rest (Cephes' coefficients).
#[inline(always)]
pub fn exp_of_negative(x: f32) -> f32 {
    let x = if x > -87.0 { x } else { -87.0 };
    // The sum's lower bits are the nearest whole number.
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5e-1;
    let value = p * r * r + r + 1.0;
    let exponent =
        ((shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32)).wrapping_add(127) << 23;
    value * f32::from_bits(exponent as u32)
}

/// 1 / (1 + e^-x), to about 3e-7 of its value.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    let e = exp_of_negative(-x.abs());
    let above = if x >= 0.0 { 1.0 } else { e };
    above / (1.0 + e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_those_of_double_precision() {
        for x in (0..2000).map(|i| -0.0437 * i as f32) {
            let (found, exact) = (f64::from(exp_of_negative(x)), f64::from(x.max(-87.0)).exp());
            assert!((found - exact).abs() < 3e-7 * exact, "exp {x} is {exact}, not {found}");
        }
        for x in (-1000..1000).map(|i| 0.0437 * i as f32) {
            let (found, exact) = (f64::from(sigmoid(x)), 1.0 / (1.0 + f64::from(-x).exp()));
            assert!((found - exact).abs() < 4e-7 * exact, "sigmoid {x} is {exact}, not {found}");
        }
    }
}
