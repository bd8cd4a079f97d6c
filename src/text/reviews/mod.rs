//! `builtin:reviews`: labelled film reviews written by a seeded grammar, so that the workbench runs
//! without a download.
//!
//! What it is: synthetic English of 45 to 90 words in about 1,100 distinct ones, ASCII only. A
//! review is an opening that is neutral or independent of the label, a first judgement, a sentence
//! on the lead, more judgements, and a verdict. The label (1 positive, 0 negative) is the overall
//! opinion. Single words tell it only in part, because both word lists occur in both classes:
//! denied ("hardly dull"), conceded ("despite the wooden dialogue, …"), weighed ("more hollow than
//! funny") or reported and rejected ("my sister was bored; I was moved"). The whole text always
//! tells it: most judgements agree with the label, the others are conceded in the same or the next
//! sentence, and the verdict agrees always. What is named early (title, people, pronouns, genre,
//! part) is taken up again later, and no aspect is judged twice.
//!
//! What it is not: natural text. It has a few hundred sentence skeletons, judgements that do not
//! argue with each other, no irony, no spelling errors, and marks out of ten that settle the label
//! wherever they occur. A good result on it shows that the machinery works, not how well it does on
//! real reviews.

mod aspects;
mod draw;
mod genres;
mod grammar;
#[cfg(test)]
mod tests;
mod words;
mod world;
mod writer;

use draw::Draw;
use writer::Writer;

/// One generated review; label 1 = positive, 0 = negative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    pub text: String,
    pub label: u8,
}

/// Review number `index` of `split` (`train`, `validation` or `test`) for `seed`. It depends on
/// these three alone, so any review can be had without those before it.
pub fn review(seed: u64, split: &str, index: u64) -> Review {
    compose(seed, split, index).0
}

/// The review, and how many of its judgements agree and disagree with the label.
fn compose(seed: u64, split: &str, index: u64) -> (Review, [u32; 2]) {
    let mut draw = Draw::new(seed, split, index);
    let positive = draw.chance(50);
    loop {
        let mut writer = Writer::new(draw, positive);
        let text = writer.write();
        if (45..=90).contains(&writer::word_count(&text)) {
            return (Review { text, label: u8::from(positive) }, writer.judged());
        }
        draw = writer.into_draw();
    }
}
