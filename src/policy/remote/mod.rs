//! A base that others serve: what is asked of a server, in which dialect, and how what comes back
//! becomes responses. How requests fare is left to the room `http`.

mod ask;
mod asking;
mod base;
mod dialect;
mod facts;
mod grown;
mod joining;
mod meter;
mod paid;
mod probe;
mod prompts;
mod server;
mod spaces;
mod tilted;
mod tilting;
mod tokens;
mod under_way;
mod whole;
mod words;

pub use ask::{Ask, Choice, End, Given, Read};
pub use asking::Asking;
pub use base::RemoteBase;
pub use dialect::{Dialect, Route};
pub use facts::{Facts, Ids};
pub use paid::{Paid, Receipt};
pub use probe::{Finding, Report, probe};
pub use server::Server;
pub use tilted::TiltedBase;
