//! Rows that are held out by the hash of what they say, in whole groups: what is measured on them
//! was not seen in training. The hash is of the text alone, so several tables that read one file
//! hold out the same of it, whatever their seeds are.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

/// The rows by the SHA-256 of their `keys`, the lowest first; equal keys in their order.
pub(super) fn by_hash(keys: &[&str]) -> Vec<usize> {
    let hashes: Vec<_> = keys.iter().map(|key| Sha256::digest(key.as_bytes())).collect();
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by_key(|&row| &hashes[row]);
    order
}

/// Parts `order` (each row once) into rows held out, `wanted` of them for each part, and the rest,
/// which comes last. Rows of equal `keys`, exact to the byte, stay together: for each part groups
/// are taken in the order of their first row, each if it still fits, so a part has at most the rows
/// wanted; where no group fits, the smallest one is taken. Rows of a part stay in their order.
pub(super) fn hold_out(order: &[usize], keys: &[&str], wanted: &[usize]) -> Vec<Vec<usize>> {
    let mut group_of: HashMap<&str, usize> = HashMap::new();
    let mut sizes: Vec<usize> = Vec::new();
    for &row in order {
        let group = *group_of.entry(keys[row]).or_insert_with(|| {
            sizes.push(0);
            sizes.len() - 1
        });
        sizes[group] += 1;
    }
    let rest = wanted.len();
    let mut part_of = vec![rest; sizes.len()];
    for (part, &wanted) in wanted.iter().enumerate() {
        let mut missing = wanted;
        for group in 0..sizes.len() {
            if part_of[group] == rest && sizes[group] <= missing {
                part_of[group] = part;
                missing -= sizes[group];
            }
        }
        if wanted > 0 && missing == wanted {
            let free = (0..sizes.len()).filter(|&group| part_of[group] == rest);
            if let Some(smallest) = free.min_by_key(|&group| sizes[group]) {
                part_of[smallest] = part;
            }
        }
    }
    let mut parts = vec![Vec::new(); rest + 1];
    for &row in order {
        parts[part_of[group_of[keys[row]]]].push(row);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stay_whole_and_come_near_what_is_wanted() {
        let keys = ["a", "b", "a", "c", "a", "b", "d"];
        let order = [6, 0, 1, 2, 3, 4, 5];
        // d (1) and then a (3) fit in 4; of what is left b (2) does not fit in 1, c does
        assert_eq!(hold_out(&order, &keys, &[4, 1]), [vec![6, 0, 2, 4], vec![3], vec![1, 5]]);
        // in 3: d fits, a does not any more, b does
        assert_eq!(hold_out(&order, &keys, &[3]), [vec![6, 1, 5], vec![0, 2, 3, 4]]);
        assert_eq!(hold_out(&order, &keys, &[0, 0]), [vec![], vec![], order.to_vec()]);
        // nothing fits in 1: the smallest group, of equals the first
        let pairs = ["a", "a", "a", "b", "b", "c", "c"];
        assert_eq!(
            hold_out(&[0, 3, 5, 1, 2, 4, 6], &pairs, &[1]),
            [vec![3, 4], vec![0, 5, 1, 2, 6]]
        );
        assert_eq!(
            hold_out(&[1, 0], &["a", "a"], &[1]),
            [vec![1, 0], vec![]],
            "one group leaves nothing"
        );
    }

    #[test]
    fn the_lowest_hashes_come_first_whatever_else_is_there() {
        // sha256: a = ca97…, b = 3e23…, c = 2e7d…, d = 18ac…
        assert_eq!(by_hash(&["a", "b", "c", "d", "b"]), [3, 2, 1, 4, 0]);
        assert_eq!(by_hash(&["d", "a"]), [0, 1]);
    }

    #[test]
    fn rows_that_differ_are_taken_in_their_order() {
        let keys = ["a", "b", "c", "d", "A", "a "];
        assert_eq!(
            hold_out(&[5, 3, 4, 1, 0, 2], &keys, &[2, 1]),
            [vec![5, 3], vec![4], vec![1, 0, 2]]
        );
    }
}
