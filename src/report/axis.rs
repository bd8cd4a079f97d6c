//! The range of a diagram's axis and the round numbers along it. What is drawn along it is in
//! `curves.rs`.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

pub(super) struct Axis {
    low: f64,
    high: f64,
    /// 1, 2 or 5 times a power of ten apart, ascending.
    pub ticks: Vec<f64>,
    /// The last decimal place of the ticks: they are multiples of `10^place`.
    place: i32,
    /// Whether what lies along it are logarithms to the base 2.
    is_log_2: bool,
}

impl Axis {
    /// An axis over finite values, with `margin` of their range more at both ends.
    ///
    /// Around a single value it has a range all the same, and without values it goes from 0 to 1.
    /// Between whole numbers are no ticks.
    pub fn over(values: impl Iterator<Item = f64> + Clone, margin: f64) -> Self {
        let (low, high) =
            values.clone().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let (range, size) = (high - low, low.abs().max(high.abs()));
        // A range no wider than rounding counts as a single value.
        let margin = match range <= 1e-9 * size || range < 1e-100 {
            true if size < 1e-100 => 1.0,
            true => 0.1 * size,
            false => margin * range,
        };
        let (low, high) = (low - margin, high + margin);

        let least_step = (high - low) / 6.0;
        let mut place = least_step.log10().floor() as i32;
        if values.into_iter().all(|value| value.fract() == 0.0) {
            place = place.max(0);
        }
        let mut factor = [1.0, 2.0, 5.0]
            .into_iter()
            .find(|factor| factor * 10f64.powi(place) >= least_step)
            .unwrap_or(10.0);
        if factor == 10.0 {
            (place, factor) = (place + 1, 1.0);
        }
        let step = factor * 10f64.powi(place);
        // The small number keeps ticks at the very ends.
        let (first, last) =
            ((low / step - 1e-6).ceil() as i64, (high / step + 1e-6).floor() as i64);
        Self {
            low,
            high,
            ticks: (first..=last).map(|i| i as f64 * step).collect(),
            place,
            is_log_2: false,
        }
    }

    /// The same range as one of logarithms to the base 2: ticks at powers of 2, a few of them.
    pub fn of_powers_of_2(self) -> Self {
        let (first, last) = (self.low.ceil() as i64, self.high.floor() as i64);
        let step = ((last - first) / 8 + 1) as usize;
        let ticks = (first..=last).step_by(step).map(|power| power as f64).collect();
        Self { ticks, place: 0, is_log_2: true, ..self }
    }

    /// A tick as text, with the digits that tell it from its neighbours.
    pub fn label(&self, tick: f64) -> String {
        if self.is_log_2 {
            return format!("{}", tick.exp2());
        }
        let largest = self.ticks.iter().fold(0f64, |largest, tick| largest.max(tick.abs()));
        if tick == 0.0 {
            "0".to_owned()
        } else if largest >= 1e6 || self.place < -4 {
            let digits = (tick.abs().log10().floor() as i32 - self.place).max(0) as usize;
            format!("{tick:.digits$e}")
        } else {
            let digits = (-self.place).max(0) as usize;
            format!("{tick:.digits$}")
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        first
            + ((value - self.low) / (self.high - self.low) * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, tick: &f64) -> String {
        self.label(*tick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64], margin: f64) -> Vec<String> {
        let axis = Axis::over(values.iter().copied(), margin);
        axis.ticks.iter().map(|&tick| axis.label(tick)).collect()
    }

    #[test]
    fn ticks_by_hand() {
        assert_eq!(labels(&[0.0, 600.0], 0.0), ["0", "100", "200", "300", "400", "500", "600"]);
        assert_eq!(labels(&[0.0, 250.0], 0.0), ["0", "50", "100", "150", "200", "250"]);
        assert_eq!(labels(&[-0.07, 0.3], 0.0), ["0", "0.1", "0.2", "0.3"]);
        assert_eq!(labels(&[1.0, 3.0], 0.0), ["1", "2", "3"], "whole numbers");
        assert_eq!(labels(&[0.0, 2.5e6], 0.0), ["0", "5e5", "1.0e6", "1.5e6", "2.0e6", "2.5e6"]);
        assert_eq!(
            labels(&[0.0, 3e-7], 0.0),
            ["0", "5e-8", "1.0e-7", "1.5e-7", "2.0e-7", "2.5e-7", "3.0e-7"]
        );
        assert_eq!(labels(&[], 0.1), ["0", "1"]);
        let margins = Axis::over([2.0, 4.5].into_iter(), 0.1);
        assert_eq!((margins.low, margins.high), (1.75, 4.75));
    }

    #[test]
    fn any_values_have_a_few_ticks_with_names_of_their_own() {
        let sizes = [0.0, 1e-300, 1e-90, 1e-7, 0.3, 1.0, 17.0, 1e9, 1e15, 1e100];
        for (a, b) in sizes
            .iter()
            .flat_map(|a| sizes.iter().flat_map(move |b| [(*a, *b), (-*a, *b), (-*a, -*b)]))
        {
            for b in [b, b * (1.0 + 1e-7), b * (1.0 + 1e-15)] {
                let axis = Axis::over([a, b].into_iter(), 0.04);
                let mut names = labels(&[a, b], 0.04);
                assert!(
                    axis.low < axis.high && axis.low <= a.min(b) && a.max(b) <= axis.high,
                    "{a} {b}"
                );
                assert!((1..=8).contains(&names.len()), "{a} {b}: {names:?}");
                assert!(
                    axis.ticks.is_sorted() && names.iter().all(|name| name.len() <= 16),
                    "{a} {b}: {names:?}"
                );
                names.dedup();
                assert_eq!(names.len(), axis.ticks.len(), "{a} {b}: {names:?}");
            }
        }
    }
}
