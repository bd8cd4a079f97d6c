//! What is measured on the way: sums under the glossary's names, each with the number of things
//! that it sums. They are written down by `run.rs` through the monitor.

/// Means of a step or of a validation, in the order in which their names first came.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics(Vec<Metric>);

#[derive(Debug, Clone, PartialEq)]
struct Metric {
    name: &'static str,
    sum: f64,
    count: f64,
}

impl Metrics {
    /// Adds a sum over `count` things (tokens, pairs, texts) to what stands under `name`.
    pub fn add(&mut self, name: &'static str, sum: f64, count: f64) {
        match self.0.iter_mut().find(|known| known.name == name) {
            Some(known) => (known.sum, known.count) = (known.sum + sum, known.count + count),
            None => self.0.push(Metric { name, sum, count }),
        }
    }

    /// Adds a value that is no mean over things.
    pub fn set(&mut self, name: &'static str, value: f64) {
        self.add(name, value, 1.0);
    }

    /// Adds everything that `other` measured.
    pub fn merge(&mut self, other: Self) {
        other.0.into_iter().for_each(|Metric { name, sum, count }| self.add(name, sum, count));
    }

    /// What was added under `name`: the sum, and over how many things; nothing over 0 things where
    /// there is none.
    pub fn sum(&self, name: &str) -> (f64, f64) {
        self.0
            .iter()
            .find(|known| known.name == name)
            .map_or((0.0, 0.0), |known| (known.sum, known.count))
    }

    /// The mean under `name`.
    pub fn mean(&self, name: &str) -> Option<f64> {
        self.means().find(|(known, _)| *known == name).map(|(_, mean)| mean)
    }

    /// All names with their means.
    pub fn means(&self) -> impl Iterator<Item = (&'static str, f64)> {
        self.0.iter().map(|Metric { name, sum, count }| (*name, sum / count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_micro_batches_become_means_over_all_they_sum() {
        let mut total = Metrics::default();
        for (sum, count) in [(3.0, 1.0), (1.0, 3.0)] {
            let mut part = Metrics::default();
            part.add("loss", sum, count);
            part.add("kl", 2.0 * sum, 2.0);
            total.merge(part);
        }
        total.set("rate", 0.5);
        assert_eq!(total.means().collect::<Vec<_>>(), [("loss", 1.0), ("kl", 2.0), ("rate", 0.5)]);
        assert_eq!((total.mean("kl"), total.mean("other")), (Some(2.0), None));
        assert_eq!((total.sum("loss"), total.sum("other")), ((4.0, 4.0), (0.0, 0.0)));
    }
}
