//! Search with real models: the incremental score is the full forward's, whatever the vocabulary,
//! and the special cases of chunk-level beam search are what they claim to be, token for token.

mod long_texts;
mod scores;
mod special_cases;
