//! Vector registers by name, for loops that the compiler does not turn into them by itself. A
//! function that uses one of these must be compiled for it (`#[target_feature]`), and everything in
//! between must be inlined into it.

use super::simd::widen;

/// The numbers of one register.
pub trait Lanes: Copy {
    const WIDTH: usize;
    fn zero() -> Self;
    fn all(x: f32) -> Self;
    /// # Safety
    /// There are [`Self::WIDTH`] numbers, and the processor has these registers; so everywhere
    /// below.
    unsafe fn load(from: *const f32) -> Self;
    /// Loads numbers that are bf16.
    ///
    /// # Safety
    /// As [`Self::load`].
    unsafe fn load_brain(from: *const u16) -> Self;
    /// # Safety
    /// As [`Self::load`].
    unsafe fn store(self, to: *mut f32);
    /// self + a · b
    fn plus(self, a: Self, b: Self) -> Self;
    fn sum(self) -> f32;
}

/// One number, on any processor.
impl Lanes for f32 {
    const WIDTH: usize = 1;

    #[inline(always)]
    fn zero() -> Self {
        0.0
    }

    #[inline(always)]
    fn all(x: f32) -> Self {
        x
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as the caller has it.
        unsafe { *from }
    }

    #[inline(always)]
    unsafe fn load_brain(from: *const u16) -> Self {
        // SAFETY: as the caller has it.
        widen(unsafe { *from })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as the caller has it.
        unsafe { *to = self }
    }

    #[inline(always)]
    fn plus(self, a: Self, b: Self) -> Self {
        self + a * b
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        self
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Eight, Sixteen};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Lanes;

    /// AVX2 with FMA.
    #[derive(Clone, Copy)]
    pub struct Eight(__m256);

    /// AVX512F.
    #[derive(Clone, Copy)]
    pub struct Sixteen(__m512);

    // SAFETY of all that follows: whoever has such a register has a processor with these
    // instructions; addresses are the caller's part.
    impl Lanes for Eight {
        const WIDTH: usize = 8;

        #[inline(always)]
        fn zero() -> Self {
            Self(unsafe { _mm256_setzero_ps() })
        }

        #[inline(always)]
        fn all(x: f32) -> Self {
            Self(unsafe { _mm256_set1_ps(x) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            Self(unsafe { _mm256_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn load_brain(from: *const u16) -> Self {
            Self(unsafe {
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(
                    _mm_loadu_si128(from.cast()),
                )))
            })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm256_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        fn plus(self, a: Self, b: Self) -> Self {
            Self(unsafe { _mm256_fmadd_ps(a.0, b.0, self.0) })
        }

        #[inline(always)]
        fn sum(self) -> f32 {
            unsafe {
                let four =
                    _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
            }
        }
    }

    impl Lanes for Sixteen {
        const WIDTH: usize = 16;

        #[inline(always)]
        fn zero() -> Self {
            Self(unsafe { _mm512_setzero_ps() })
        }

        #[inline(always)]
        fn all(x: f32) -> Self {
            Self(unsafe { _mm512_set1_ps(x) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            Self(unsafe { _mm512_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn load_brain(from: *const u16) -> Self {
            Self(unsafe {
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(
                    _mm256_loadu_si256(from.cast()),
                )))
            })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        fn plus(self, a: Self, b: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
        }

        #[inline(always)]
        fn sum(self) -> f32 {
            unsafe { _mm512_reduce_add_ps(self.0) }
        }
    }
}
