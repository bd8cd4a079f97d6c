//! Text: tokenizers and their vocabularies, prompts, data sets, preference pairs, and the built-in
//! corpus. Nothing here knows a model's weights.

mod chat;
mod continuation;
mod csv_rows;
mod data_report;
mod dataset;
mod encoding;
mod examples;
mod file_kind;
mod hold_out;
mod jinja_filters;
mod jinja_format;
mod jinja_methods;
mod jinja_python;
mod jinja_source;
mod json_file;
mod json_rows;
mod learned_prompts;
mod lines;
mod listed_answers;
mod messages;
mod pair_files;
mod pair_layout;
mod pairs;
mod parquet;
mod posts;
mod prompt;
mod prompt_files;
mod prompt_traps;
mod recipe_texts;
mod record;
mod records;
mod reference_outputs;
mod report;
pub mod reviews;
mod special_tokens;
mod split_file;
mod splits;
mod tokenizer;
mod tokenizer_class;
mod train_tokenizer;
mod unpacked;
mod vocabulary;
mod whole_prompts;

pub use chat::ChatTemplate;
pub use data_report::DataReport;
pub use dataset::{holds_out as holds_out_rows, load as load_dataset};
pub use examples::{Dataset, Example, Prompts, RowPrompt, Split, first_words_prompt};
pub use file_kind::extension as data_extension;
pub use learned_prompts::{LearnedPrompts, TestPrompts};
pub use pair_files::{
    PairRow, PairRows, files as pair_files, holds_out as holds_out_pairs, load as load_pair_rows,
    read_responses,
};
pub use pairs::{LeftOut, Pair, Reason, read_pairs};
pub use prompt::PromptTemplate;
pub use prompt_files::read_prompts;
pub use prompt_traps::{answered_before, ends_otherwise, said_twice};
pub use recipe_texts::read_recipe_texts;
pub use reference_outputs::{
    ReferenceOutput, instruction, prompts_of_reference, read_reference_outputs,
};
pub use report::{
    bos_problems, folder_reports, named, pair_problems, plan_report, two_vocabularies_problems,
};
pub use splits::{
    Trouble as SplitTrouble, chosen_files, chosen_pair_files, files as dataset_files,
};
pub use tokenizer::Tokenizer;
pub use vocabulary::{Vocabulary, VocabularyDifference};
pub use whole_prompts::words as prompt_words;
