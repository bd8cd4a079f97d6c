//! The integration tests: one program with a module for each theme, so that libtorch is linked
//! once and `cargo test --release lineage` runs what its line below says. What only one room of the
//! house can see is tested beside it in `src/`.
//!
//! Tests share this process. None of them changes what belongs to all of it: the environment, the
//! current folder, signals, libtorch's global generator. Whoever needs that runs the program
//! (`common::w2s`), which has a process of its own. libtorch has one thread wherever a test makes a
//! model here (`common::one_thread`).

// What themes share: the program and small parts, goldens, a hub, and other people's programs.
mod common;
mod golden;
mod hub_server;
mod judge;

// The search.
/// Token-level beam search: transformers' answers.
mod beam;
/// The driver of searches: latency, cancelled and failing prompts, calls of few tokens, unequal
/// budgets.
mod drive;
/// Identities of emulated fine-tuning and of tilted searches, and their distribution by full
/// forward passes.
mod eft;
/// The engine and its desk: a base known by its texts alone, lost and cancelled prompts, what is
/// told on the way.
mod engine;
/// Token-level beam search under the guides against brute force, by tables and by full forward
/// passes.
mod guided_beam;
/// Chunk-level beam search against a brute-force Algorithm 1 and against the released code's loop,
/// with scripted parts and no tensors.
mod search;
/// Appendix A of the paper: a decision process solved exactly, the score and the searches in it.
mod soft_optimal;
/// Incremental scores against full forward passes, same and other vocabulary; the special cases of
/// the search.
mod steering;
/// The dense reward's sums against the pair's score by full forward passes, same and other
/// vocabulary.
mod token_rewards;

// Servers.
/// Whole runs over a served base: kept busy, killed, on bad days, and what its recipes may not say.
mod served;

// Models and their files.
/// Readers of files and recipes given mutated ones.
mod fuzz;
/// The hub played by a loopback server, well and badly.
mod hub;
/// Folders of models: saved and opened, families, misfits.
mod model_folders;
/// Logits and rewards against transformers', caches, padding.
mod models;
/// Models that cannot be used: every problem of every model at once, by headers, before any work,
/// by all commands.
mod unfit_models;
/// Files of weights: shards, `torch.save`, hostile files.
mod weight_files;

// Texts.
/// Chat templates against transformers' renderings.
mod chat;
/// What is read before a response, and greedy texts: transformers' `generate`; BOS by recipe and
/// shell.
mod prompts;
/// Real tokenizers, texts, chats and greedy answers.
mod real_tokenizers;
/// Whole prompts: posts, ends, lengths; templates and exemplars from files, and prompts that they
/// do not go with.
mod whole_prompts;

// Training.
/// Adapters: what they train, merge and save, PEFT's folders, a killed run that tunes by them.
mod lora;
/// Preference, reward, cross-entropy and PPO losses and their gradients, PPO's advantages: the
/// answers of TRL's own code.
mod losses;
/// Trainings that are too short or change nothing do not look like success.
mod nothing_learned;
/// Losses of SFT and DPO step by step: TRL's trainers.
mod parity;
/// The update of PPO on toy worlds that are solved only if signs, masks and indices are right;
/// first ratio 1 to the bit.
mod ppo;

// The stages of a run.
/// Directly tuned bases learn the pairs, by weights, metrics and samples; what a changed setting
/// redoes.
mod direct;
/// `dpo.sweep`: several guides in one run.
mod guide_sweep_run;
/// The stage of PPO: killed and resumed bit for bit, other vocabularies, adapters, value model,
/// rewards that are not finite.
mod ppo_run;
/// Pairs of files and of samples: labels, what is left out, the card, killed labelling bit for bit,
/// bad files.
mod preferences;
/// Reward models and adapters with a head learn the pairs and become a gold; the head's own rate;
/// logits against transformers'.
mod reward_model;
/// Gold rewards of texts: layouts, where they are read, alone and in a batch.
mod rewards;
/// Judges that are programs of the user's or servers: the same numbers by command and by HTTP,
/// killed runs, and all that goes wrong on the other side.
mod rewards_of_others;

// Whole runs.
/// Win rates by the `alpaca_eval` package, and runs exported for it and for Inspect.
mod alpaca_eval;
/// Journals with a line too many, too few or half a line; the summary's numbers recomputed from the
/// journals in Python.
mod evaluation;
/// What a changed key, moved files and more prompts do again, and what they do not; a project
/// killed and moved again and again, bit for bit.
mod lineage;
/// A run killed in pretraining, a reward model, DPO, direct tuning and steering against an
/// untouched one, bit for bit.
mod resume;
/// Steering in shards, killed, overlapping, stale and side by side, against the unsharded run.
mod shards;

// Other people's servers.
/// The client for bad days and the server that plays them.
mod http;
/// Bases that others serve: fakes of eight servers, what each gets wrong, what a probe finds out.
mod remote;
/// Guides that others serve score as they do here, or are refused with the reason.
mod served_guides;

// The program.
/// Bad input through the real program.
mod cli;
/// A model that the program trained, served by llama.cpp, answers as `w2s steer` does.
mod llama_cpp;
/// The program among others: OpenMP's spin, signals, threads and memory within control groups.
mod process;
/// Recipes: the shipped ones parse, what a plan says, what is refused and in which words.
mod recipes;
/// TensorBoard reads our events.
mod tensorboard;

// The house.
/// Imports go down only and in no circle.
mod architecture;
/// Files are short and narrow enough to be read.
mod layout;
/// The README's tree and glossary are true.
mod readme;
