//! Bases that others serve, against fakes of their servers in front of a model that is here too.

mod asking;
mod chats;
mod distribution;
mod doctor;
mod eft;
mod foreign;
mod lies;
mod texts;
