use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

use super::*;

const MANY: u64 = 20_000;

fn texts(split: &str, count: u64) -> Vec<Review> {
    (0..count).map(|index| review(0, split, index)).collect()
}

fn tokens(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
}

fn first_words(text: &str, count: usize) -> String {
    text.split_whitespace().take(count).collect::<Vec<_>>().join(" ")
}

/// Test accuracy of a multinomial naive Bayes classifier over what `features` makes of a text.
fn naive_bayes(train: &[Review], test: &[Review], features: impl Fn(&str) -> Vec<String>) -> f64 {
    let mut counts: HashMap<String, [f64; 2]> = HashMap::new();
    let (mut total, mut prior) = ([0.0; 2], [0.0; 2]);
    for example in train {
        let label = usize::from(example.label);
        prior[label] += 1.0;
        for feature in features(&example.text) {
            counts.entry(feature).or_default()[label] += 1.0;
            total[label] += 1.0;
        }
    }
    let size = counts.len() as f64;
    let right = test.iter().filter(|example| {
        let score = |label: usize| -> f64 {
            let known = features(&example.text);
            let words: f64 = known
                .iter()
                .map(|f| {
                    ((counts.get(f).map_or(0.0, |c| c[label]) + 1.0) / (total[label] + size)).ln()
                })
                .sum();
            words + f64::ln(prior[label])
        };
        u8::from(score(1) > score(0)) == example.label
    });
    right.count() as f64 / test.len() as f64
}

#[test]
fn a_review_depends_on_seed_split_and_index_alone() {
    let late = review(7, "test", 1_000_000_007);
    let all: Vec<_> = (0..50).map(|index| review(7, "test", index)).collect();
    for index in (0..50).rev() {
        assert_eq!(review(7, "test", index), all[index as usize]);
    }
    assert_eq!(review(7, "test", 1_000_000_007), late);
    assert_ne!(review(8, "test", 3), all[3]);
    assert_ne!(review(7, "train", 3), all[3]);
}

/// The corpus must never change silently: results on it would no longer compare. Change the version
/// in `draw.rs` with it.
#[test]
fn the_first_hundred_texts_are_pinned() {
    let mut hash = Sha256::new();
    for example in texts("train", 100) {
        hash.update(format!("{}\t{}\n", example.label, example.text));
    }
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "6223a528f02648cc4cc8013b86e952514711039110e8c1258ef658c6a199ca69");
}

#[test]
fn texts_are_balanced_distinct_short_and_plain() {
    let mut seen = HashSet::new();
    let mut vocabulary: HashSet<String> = HashSet::new();
    for split in ["train", "validation", "test"] {
        let all = texts(split, MANY);
        let positive = all.iter().filter(|example| example.label == 1).count() as f64 / MANY as f64;
        assert!((0.45..0.55).contains(&positive), "{split}: {positive}");
        for Review { text, .. } in all {
            assert!((45..=90).contains(&writer::word_count(&text)), "{text}");
            assert!(
                text.is_ascii()
                    && !text.contains(['{', '}', '|', '+', '\n'])
                    && !text.contains("  "),
                "{text}"
            );
            assert!(
                text.starts_with(|c: char| c.is_ascii_uppercase()) && text.ends_with(['.', '?']),
                "{text}"
            );
            for sentence in text.split_inclusive(['.', '?']) {
                let start = sentence.trim_start();
                assert!(!start.starts_with(|c: char| c.is_ascii_lowercase()), "{text}");
            }
            vocabulary.extend(tokens(&text));
            assert!(seen.insert(text.clone()), "twice, or in two splits: {text}");
        }
    }
    assert!((900..=1500).contains(&vocabulary.len()), "{} distinct words", vocabulary.len());
}

#[test]
fn articles_agree_with_the_next_word() {
    for Review { text, .. } in texts("train", 5_000) {
        let words: Vec<String> = tokens(&text).collect();
        for pair in words.windows(2) {
            let vowel = pair[1].starts_with(['a', 'e', 'i', 'o', 'u', '8']) || pair[1] == "honest";
            assert!(
                !(pair[0] == "a" && vowel || pair[0] == "an" && !vowel),
                "`{} {}` in {text}",
                pair[0],
                pair[1]
            );
        }
    }
}

/// A lower bound from one path through the grammar: an opening that names title, year and director,
/// then a first judgement "{np} {is} {adj} and {adj}" and a verdict that names a noun. Every choice
/// can be read off the text, so the products are distinct.
#[test]
fn the_grammar_has_more_than_a_billion_texts() {
    let films = world::plain_titles()
        * 70
        * (world::FEMALE.len() + world::MALE.len()) as u64
        * world::LAST.len() as u64;
    let judgement: u64 = aspects::COMMON
        .iter()
        .map(|aspect| {
            (aspect.names.len() * aspect.adjectives.good.len() * (aspect.adjectives.good.len() - 1))
                as u64
        })
        .sum();
    assert!(films * judgement * words::FILM_NOUN.good.len() as u64 > 1_000_000_000_000);
}

#[test]
fn single_words_tell_the_label_in_part_and_word_pairs_tell_more() {
    let (train, test) = (texts("train", 6_000), texts("test", 1_000));
    let single = naive_bayes(&train, &test, |text| tokens(text).collect());
    assert!((0.75..0.94).contains(&single), "unigrams: {single}");
    let pairs = naive_bayes(&train, &test, |text| {
        let words: Vec<String> = tokens(text).collect();
        words.windows(2).map(|pair| pair.join(" ")).chain(words.iter().cloned()).collect()
    });
    assert!(pairs > single + 0.03, "unigrams {single}, with bigrams {pairs}");
}

#[test]
fn the_opening_does_not_give_the_label_away() {
    let (train, test) = (texts("train", 6_000), texts("test", 1_000));
    for count in [4, 6, 8] {
        let accuracy =
            naive_bayes(&train, &test, |text| tokens(&first_words(text, count)).collect());
        assert!(accuracy < 0.56, "first {count} words: {accuracy}");
    }
}

#[test]
fn judgements_agree_with_the_label_in_the_large_majority() {
    let (mut agree, mut disagree) = (0, 0);
    for index in 0..5_000 {
        let (_, [with, against]) = compose(0, "train", index);
        assert!(with > against, "review {index}: {with} with, {against} against the label");
        agree += with;
        disagree += against;
    }
    let share = f64::from(agree) / f64::from(agree + disagree);
    assert!((0.75..0.97).contains(&share), "{share}");
}

#[test]
fn opinion_starts_early() {
    let opinions: HashSet<&str> = aspects::COMMON
        .iter()
        .chain(genres::GENRES.iter().map(|genre| &genre.own))
        .chain([&aspects::FILM, &aspects::ACTING])
        .map(|aspect| aspect.adjectives)
        .chain([
            words::NOUN,
            words::FELT,
            words::LIKE,
            words::LIKED,
            words::CHANGE,
            words::EFFECT,
            words::FILM_NOUN,
            words::ADVICE,
        ])
        .flat_map(|pair| [pair.good, pair.bad].concat())
        .flat_map(str::split_whitespace)
        .filter(|word| word.len() > 3 && *word != "time")
        .collect();
    let early = texts("train", 2_000)
        .iter()
        .filter(|r| tokens(&first_words(&r.text, 25)).any(|w| opinions.contains(w.as_str())))
        .count();
    assert!(early > 1_900, "{early} of 2000");
}

#[test]
fn denial_contrast_and_concession_occur_in_both_classes() {
    let all = texts("train", 6_000);
    for pattern in [
        "never ",
        "hardly ",
        "far from ",
        "anything but ",
        "not ",
        ", but ",
        ", yet ",
        "espite ",
        "even if ",
        "Granted",
        "I expected",
        "my sister",
        "My sister",
    ] {
        for label in [0, 1] {
            let count = all
                .iter()
                .filter(|example| example.label == label && example.text.contains(pattern))
                .count();
            assert!(count >= 20, "`{pattern}` occurs in {count} texts of label {label}");
        }
    }
    for (good, bad) in [
        ("good", "bad"),
        ("moving", "boring"),
        ("superb", "wooden"),
        ("love", "hate"),
        ("gem", "mess"),
    ] {
        for (word, label) in [(good, 0), (bad, 1)] {
            let count = all
                .iter()
                .filter(|example| {
                    example.label == label && tokens(&example.text).any(|w| w == word)
                })
                .count();
            assert!(count >= 20, "`{word}` occurs in {count} texts of label {label}");
        }
    }
}

#[test]
fn later_mentions_agree_with_earlier_ones() {
    for index in 0..3_000 {
        let Review { text, label } = review(0, "train", index);
        if let Some((before, _)) = text.split_once("/10") {
            let mark: u32 = before
                .rsplit(|c: char| !c.is_ascii_digit())
                .next()
                .and_then(|mark| mark.parse().ok())
                .unwrap_or(0);
            assert_eq!(mark >= 7, label == 1, "{text}");
        }
        // A lead is a man or a woman throughout: the pronouns of the two never stand in one text
        // but for those of "my sister said".
        let others = words::OTHERS.iter().any(|(who, ..)| text.to_ascii_lowercase().contains(who));
        if !others {
            let words: HashSet<String> = tokens(&text).collect();
            let (she, he) = (["she", "her"], ["he", "him", "his"]);
            assert!(
                !(she.iter().any(|w| words.contains(*w)) && he.iter().any(|w| words.contains(*w))),
                "{text}"
            );
        }
    }
}
