//! Bytes and mangled recipes never make the loader panic.

use proptest::prelude::*;
use w2s::recipe::{Plan, load, validate};

use super::{Written, fixture};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_bytes_make_the_loader_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        set in "\\PC{0,30}",
    ) {
        let written = Written::new(bytes);
        let _ = load(&written.path(), &[set]);
    }

    #[test]
    fn no_mangled_recipe_makes_the_loader_panic(
        cuts in proptest::collection::vec((0.0..1.0_f64, 0..40_usize, "[\\[\\]{}=.,\"'\n \
                                                                       a-c0-9-]{0,6}"), 1..6),
        key in "(run|data|steer|models|gold|x)(\\.(method|guide|id|scratch|0|7|name|seeds)){0,3}",
        value in "(-?[0-9]{1,25}|[a-z\\[\\]{}=,'\" ]{0,10}|nan|1e400|\\[\\[1\\]\\])",
    ) {
        let mut text: Vec<char> = std::fs::read_to_string(fixture()).unwrap().chars().collect();
        for (place, length, insert) in cuts {
            let start = (place * text.len() as f64) as usize;
            let end = (start + length).min(text.len());
            text.splice(start..end, insert.chars());
        }
        let written = Written::new(text.into_iter().collect::<String>());
        for overrides in [vec![], vec![format!("{key}={value}")]] {
            if let Ok(recipe) = load(&written.path(), &overrides) {
                let problems = validate(&recipe, &written.path());
                let planned = Plan::new(recipe, &written.path());
                prop_assert_eq!(problems.is_empty(), planned.is_ok());
                let _ = planned.map(|plan| plan.describe());
            }
        }
    }
}
