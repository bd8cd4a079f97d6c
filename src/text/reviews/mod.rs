//! `builtin:reviews`: labelled film reviews written by a seeded grammar, so that the workbench runs without a download.
pub mod draw;
pub mod grammar;
pub mod words;
pub mod world;
pub mod writer;
use draw::Draw;
use writer::Writer;
pub struct Review {
    pub text: String,
    pub label: u8,
}
pub fn compose(seed: u64, split: &str, index: u64) -> (Review, [u32; 2]) {
    let mut draw = Draw::new(seed, split, index);
    let positive = draw.chance(50);
    loop {
        let mut writer = Writer::new(draw, positive);
        let text = writer.write();
        if (45..=90).contains(&writer::words(&text)) {
            return (Review { text, label: u8::from(positive) }, writer.judged);
        }
        draw = writer.into_draw();
    }
}
pub fn review(seed: u64, split: &str, index: u64) -> Review {
    compose(seed, split, index).0
}
