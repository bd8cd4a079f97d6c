//! A slow server is kept busy.

use std::time::{Duration, Instant};

use w2s::policy::remote::{Asking, RemoteBase, Server};
use w2s::recipe::{Api, Unsupported};
use w2s::sampling::{Sampling, Stream};
use w2s::search::{Cbs, Drive};
use w2s::text::PromptTemplate;

use super::Words;
use crate::common::desk::Queue;
use crate::common::one_of_three;
use crate::common::scripted::Judge31;

const PROMPTS: usize = 200;
const SLOTS: usize = 64;

/// `W2S_LATENCY=1 cargo test --release served::busy -- --nocapture` runs it at full size: 50 to
/// 500 ms a request, 50 tokens.
#[test]
fn all_slots_of_a_slow_server_are_busy() {
    one_of_three(|| {
        let of_ideal = measured();
        if of_ideal < 1.15 { Ok(()) } else { Err(format!("{of_ideal} of the ideal time")) }
    });
}

/// The time that all prompts took, in units of that of a server with all its slots at work.
fn measured() -> f64 {
    let scale: f64 = std::env::var("W2S_LATENCY").map_or(0.3, |scale| scale.parse().unwrap());
    let tokens = if scale < 1.0 { 15 } else { 50 };
    let words = Words::start(move |drawn| Duration::from_secs_f64(scale * (0.05 + 0.45 * drawn)));
    let api = format!("url = \"{}\"\nlimits = {{ at_once = {SLOTS} }}", words.url());
    let api: Api = toml::from_str(&api).unwrap();
    let asking = Asking {
        template: PromptTemplate::new("{prompt}", None),
        tokenizer: None,
        sampling: Sampling::new(1.0, 0, 1.0),
        stop: Vec::new(),
        max_new_tokens: tokens,
        unsupported: Unsupported::Refuse,
    };
    let mut base = RemoteBase::new(Server::open("served", &api).unwrap(), asking, None).unwrap();
    let in_flight = base.at_once();
    let cbs = Cbs { beam_width: 4, successors: 4, chunk_len: Some(5), ..Cbs::plain(tokens) };
    let prompts = (0..PROMPTS).map(|item| {
        let name = format!("say {item}");
        (name.clone(), Stream::new(3, "steer", &name))
    });
    let names: Vec<_> = prompts.collect();
    let mut queue = Queue::new(names.iter().map(|(name, stream)| (name.as_str(), stream.clone())));
    let started = Instant::now();
    Drive { proposer: &mut base, scorer: &mut Judge31::default(), in_flight }
        .run(&|opened| cbs.begin(opened, true), &mut queue)
        .unwrap();
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(queue.found().len(), PROMPTS);
    let worked: f64 =
        words.book.spans().iter().map(|[came, due]| (*due - *came).as_secs_f64()).sum();
    let ideal = worked / SLOTS as f64;
    println!(
        "{} requests of {:.0} ms, {SLOTS} at once: {seconds:.2} s, {:.3} of the ideal {ideal:.2} s",
        words.book.requests(),
        1e3 * worked / words.book.requests() as f64,
        seconds / ideal
    );
    assert!(words.loopback.in_flight_most() <= SLOTS, "{}", words.loopback.in_flight_most());
    seconds / ideal
}
