//! Vocabulary identity: two models share ids only if every id means the same token in both. Equal
//! sizes prove nothing.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    /// (id, token) in the order of the ids.
    tokens: Vec<(u32, String)>,
}

/// How two vocabularies differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VocabularyDifference {
    pub sizes: (usize, usize),
    /// Tokens with the same id in both.
    pub shared: usize,
    /// Tokens that both have, under whatever id.
    pub common: usize,
    /// The lowest id that does not mean the same, and what it means in each.
    pub first: (u32, Option<String>, Option<String>),
}

impl Vocabulary {
    pub fn new(ids: HashMap<String, u32>) -> Self {
        let mut tokens: Vec<(u32, String)> =
            ids.into_iter().map(|(token, id)| (id, token)).collect();
        tokens.sort_unstable();
        Self { tokens }
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// `None` where the vocabularies are the same.
    pub fn difference(&self, other: &Self) -> Option<VocabularyDifference> {
        let (mine, theirs) = (&self.tokens, &other.tokens);
        let (mut i, mut j, mut shared) = (0, 0, 0);
        let mut first = None;
        while i < mine.len() || j < theirs.len() {
            let order = match (mine.get(i), theirs.get(j)) {
                (Some(a), Some(b)) => a.0.cmp(&b.0),
                (Some(_), None) => Ordering::Less,
                _ => Ordering::Greater,
            };
            let here = (order != Ordering::Greater).then(|| &mine[i]);
            let there = (order != Ordering::Less).then(|| &theirs[j]);
            if here == there {
                shared += 1;
            } else if first.is_none() {
                let id = here.or(there).map_or(0, |(id, _)| *id);
                first = Some((
                    id,
                    here.map(|(_, token)| token.clone()),
                    there.map(|(_, token)| token.clone()),
                ));
            }
            i += usize::from(here.is_some());
            j += usize::from(there.is_some());
        }
        let known: HashSet<&str> = mine.iter().map(|(_, token)| token.as_str()).collect();
        let common = theirs.iter().filter(|(_, token)| known.contains(token.as_str())).count();
        first.map(|first| VocabularyDifference {
            sizes: (mine.len(), theirs.len()),
            shared,
            common,
            first,
        })
    }
}

impl fmt::Display for VocabularyDifference {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let (id, mine, theirs) = &self.first;
        let name = |token: &Option<String>| {
            token.as_ref().map_or_else(|| "no token".to_owned(), |token| format!("`{token}`"))
        };
        write!(
            formatter,
            "{} of {} and {} tokens have the same id, {} are in both; the first difference is id \
             {id}: {} and {}",
            self.shared,
            self.sizes.0,
            self.sizes.1,
            self.common,
            name(mine),
            name(theirs)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(tokens: &[&str]) -> Vocabulary {
        Vocabulary::new(
            tokens.iter().enumerate().map(|(id, token)| (token.to_string(), id as u32)).collect(),
        )
    }

    #[test]
    fn equal_sizes_are_no_identity() {
        let (a, b) = (vocabulary(&["x", "y", "z"]), vocabulary(&["x", "z", "y"]));
        assert_eq!(a, vocabulary(&["x", "y", "z"]));
        assert_eq!(a.difference(&a), None);
        let difference = a.difference(&b).unwrap();
        assert_eq!((difference.shared, difference.common, difference.first.0), (1, 3, 1));
        assert!(difference.to_string().contains("id 1: `y` and `z`"), "{difference}");
        let longer = a.difference(&vocabulary(&["x", "y", "z", "w"])).unwrap();
        assert!(longer.to_string().ends_with("id 3: no token and `w`"), "{longer}");
    }

    #[test]
    fn gaps_between_ids_are_differences() {
        let with = |ids: &[(&str, u32)]| {
            Vocabulary::new(ids.iter().map(|(token, id)| (token.to_string(), *id)).collect())
        };
        let (gap, whole) =
            (with(&[("a", 0), ("c", 2), ("d", 5)]), with(&[("a", 0), ("b", 1), ("c", 2)]));
        let difference = gap.difference(&whole).unwrap();
        assert_eq!((difference.shared, difference.common), (2, 2));
        assert_eq!(difference.first, (1, None, Some("b".into())));
        assert_eq!(whole.difference(&gap).unwrap().first, (1, Some("b".into()), None));
    }
}
