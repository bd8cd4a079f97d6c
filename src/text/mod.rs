//! Text: tokenizers and their vocabularies, prompts, data sets, preference pairs, and the built-in corpus.

mod dataset;
mod pairs;
mod prompt;
mod records;
pub mod reviews;
mod tokenizer;
mod train_tokenizer;
mod vocabulary;

pub use dataset::{Dataset, Example, first_words_prompt, load as load_dataset};
pub use pairs::{Pair, read_pairs, read_prompts};
pub use prompt::PromptTemplate;
pub use tokenizer::Tokenizer;
pub use vocabulary::{Vocabulary, VocabularyDifference};
