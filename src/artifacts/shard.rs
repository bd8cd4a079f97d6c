//! One share of a run's prompts: shard 2/8 takes every eighth prompt from the second on.

use std::fmt;
use std::str::FromStr;

/// `number` of `count`, both from 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shard {
    count: usize,
    number: usize,
}

impl Shard {
    pub fn new(number: usize, count: usize) -> Option<Self> {
        (1..=count).contains(&number).then_some(Self { count, number })
    }

    /// The one of `count` shards that takes the item `index` (from 0).
    pub fn of_item(index: usize, count: usize) -> Self {
        Self { count, number: index % count + 1 }
    }

    pub fn takes(self, index: usize) -> bool {
        Self::of_item(index, self.count) == self
    }

    pub fn number(self) -> usize {
        self.number
    }

    pub fn count(self) -> usize {
        self.count
    }

    /// Stands for it in the names of files, which can hold no `/`.
    pub fn tag(self) -> String {
        format!("{}-of-{}", self.number, self.count)
    }

    /// The shard with this [`Self::tag`].
    pub fn from_tag(tag: &str) -> Option<Self> {
        let (number, count) = tag.split_once("-of-")?;
        Self::new(number.parse().ok()?, count.parse().ok()?).filter(|shard| shard.tag() == tag)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text
            .split_once('/')
            .and_then(|(number, count)| Some((number.parse().ok()?, count.parse().ok()?)));
        numbers.and_then(|(number, count)| Self::new(number, count)).ok_or_else(|| {
            "expected I/N with whole numbers 1 <= I <= N, for example 2/8".to_owned()
        })
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_taken_by_one_shard() {
        for count in 1..6 {
            for index in 0..20 {
                let takers: Vec<usize> = (1..=count)
                    .filter(|&number| Shard::new(number, count).unwrap().takes(index))
                    .collect();
                assert_eq!(takers, [index % count + 1]);
            }
        }
    }

    #[test]
    fn only_shards_that_exist_are_understood() {
        let shard: Shard = "2/8".parse().unwrap();
        assert_eq!((shard.to_string(), shard.tag()), ("2/8".to_owned(), "2-of-8".to_owned()));
        assert_eq!(Shard::from_tag("2-of-8"), Some(shard));
        for text in [
            "", "a", "2", "0/4", "5/4", "1/0", "1/", "/4", "-1/4", "1/4/4", "1.0/4", " 1/4",
            "2-of-8",
        ] {
            assert!(text.parse::<Shard>().unwrap_err().contains("for example 2/8"), "{text}");
        }
        for tag in ["2/8", "02-of-8", "9-of-8", "2-of-8-of-9", "2-of-"] {
            assert_eq!(Shard::from_tag(tag), None, "{tag}");
        }
    }
}
