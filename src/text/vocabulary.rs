//! Vocabulary identity: two models share ids only if every id means the same token in both. Equal sizes prove nothing.

use std::collections::HashMap;
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
    /// The lowest id that does not mean the same, and what it means in each.
    pub first: (u32, Option<String>, Option<String>),
}

impl Vocabulary {
    pub fn new(ids: HashMap<String, u32>) -> Self {
        let mut tokens: Vec<(u32, String)> = ids.into_iter().map(|(token, id)| (id, token)).collect();
        tokens.sort();
        Self { tokens }
    }

    /// `None` where the vocabularies are the same.
    pub fn difference(&self, other: &Self) -> Option<VocabularyDifference> {
        let (mine, theirs): (HashMap<_, _>, HashMap<_, _>) =
            (self.tokens.iter().cloned().collect(), other.tokens.iter().cloned().collect());
        let unequal = |id: &u32| mine.get(id) != theirs.get(id);
        let first = mine.keys().chain(theirs.keys()).copied().filter(unequal).min()?;
        Some(VocabularyDifference {
            sizes: (mine.len(), theirs.len()),
            shared: mine.iter().filter(|(id, token)| theirs.get(id) == Some(token)).count(),
            first: (first, mine.get(&first).cloned(), theirs.get(&first).cloned()),
        })
    }
}

impl fmt::Display for VocabularyDifference {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let (id, mine, theirs) = &self.first;
        let name = |token: &Option<String>| token.as_ref().map_or_else(|| "no token".to_owned(), |token| format!("`{token}`"));
        write!(
            formatter,
            "{} of {} and {} tokens have the same id; the first difference is id {id}: {} and {}",
            self.shared,
            self.sizes.0,
            self.sizes.1,
            name(mine),
            name(theirs)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(tokens: &[&str]) -> Vocabulary {
        Vocabulary::new(tokens.iter().enumerate().map(|(id, token)| (token.to_string(), id as u32)).collect())
    }

    #[test]
    fn equal_sizes_are_no_identity() {
        let (a, b) = (vocabulary(&["x", "y", "z"]), vocabulary(&["x", "z", "y"]));
        assert_eq!(a, vocabulary(&["x", "y", "z"]));
        assert_eq!(a.difference(&a), None);
        let difference = a.difference(&b).unwrap();
        assert_eq!((difference.shared, difference.first.0), (1, 1));
        assert!(difference.to_string().contains("id 1: `y` and `z`"), "{difference}");
        let longer = a.difference(&vocabulary(&["x", "y", "z", "w"])).unwrap();
        assert!(longer.to_string().ends_with("id 3: no token and `w`"), "{longer}");
    }
}
