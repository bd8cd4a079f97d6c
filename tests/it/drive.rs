//! The driver of searches: bases with latency stay busy, and what befalls one prompt is nothing to
//! the others. Scripted parts, no tensors.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::common::desk::Queue;
use crate::common::scripted::{Judge31, Scripted};
use w2s::error::{Error, Result};
use w2s::prompt::PromptText;
use w2s::sampling::Stream;
use w2s::search::{
    BeamSearch, Cbs, Desk, Drive, Extend, Extended, Found, Node, Proposer, Query, Ticket,
};

const PROMPTS: usize = 200;
const SLOTS: usize = 16;

/// A base behind a network: `SLOTS` requests at once, each of which takes its own random time.
struct Slow {
    scripted: Scripted,
    away: HashMap<Ticket, Extend>,
    queue: Option<Sender<(Ticket, Duration)>>,
    back: Receiver<(Ticket, [Instant; 2])>,
    workers: Vec<JoinHandle<()>>,
    /// When requests were under way.
    busy: Vec<[Instant; 2]>,
    /// Of the full size, 10 ms to 1 s.
    scale: f64,
}

impl Slow {
    fn new(scale: f64) -> Self {
        let (queue, jobs) = channel::<(Ticket, Duration)>();
        let (done, back) = channel();
        let jobs = Arc::new(Mutex::new(jobs));
        let work = || {
            let (jobs, done) = (jobs.clone(), done.clone());
            std::thread::spawn(move || {
                loop {
                    let Ok((ticket, latency)) = jobs.lock().unwrap().recv() else { return };
                    let started = Instant::now();
                    std::thread::sleep(latency);
                    let _ = done.send((ticket, [started, Instant::now()]));
                }
            })
        };
        let workers = (0..SLOTS).map(|_| work()).collect();
        Self {
            scripted: Scripted::default(),
            away: HashMap::new(),
            queue: Some(queue),
            back,
            workers,
            busy: Vec::new(),
            scale,
        }
    }

    /// The share of slots that were busy between the first request and `end`.
    fn busy_share(&self, end: Instant) -> f64 {
        let start = self.busy.iter().map(|span| span[0]).min().unwrap();
        let within =
            |[from, to]: &[Instant; 2]| to.min(&end).saturating_duration_since(*from).as_secs_f64();
        self.busy.iter().map(within).sum::<f64>() / (SLOTS as f64 * (end - start).as_secs_f64())
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.queue = None;
        self.workers.drain(..).for_each(|worker| worker.join().unwrap());
    }
}

impl Proposer for Slow {
    fn open(&mut self, prompts: &[&PromptText]) -> Result<Vec<Node>> {
        self.scripted.open(prompts)
    }

    fn max_call_tokens(&self) -> Option<usize> {
        None
    }

    fn submit(&mut self, requests: Vec<(Ticket, Extend)>) {
        for (ticket, request) in requests {
            let drawn = Stream::new(7, "latency", &ticket.0.to_string()).uniform(0, 0);
            self.queue
                .as_ref()
                .unwrap()
                .send((ticket, Duration::from_secs_f64(self.scale * (0.01 + 0.99 * drawn))))
                .unwrap();
            self.away.insert(ticket, request);
        }
    }

    fn collect(&mut self, patience: Duration) -> Result<Vec<(Ticket, Result<Extended>)>> {
        let first = self.back.recv_timeout(patience).ok();
        let back: Vec<_> = first.into_iter().chain(self.back.try_iter()).collect();
        let mut all = Vec::new();
        for (ticket, span) in back {
            self.busy.push(span);
            if let Some(request) = self.away.remove(&ticket) {
                all.push((ticket, Ok(self.scripted.extend(&request))));
            }
        }
        Ok(all)
    }

    fn retain(&mut self, root: &Node, live: &[Node]) {
        self.scripted.retain(root, live);
    }

    fn release(&mut self, root: &Node) {
        self.away.retain(|_, request| request.node.root() != *root);
        self.scripted.release(root);
    }
}

/// A queue that knows when its last prompt was taken: what comes after is the tail.
struct Timed(Queue, Option<Instant>);

impl Desk for Timed {
    fn next(&mut self, in_flight: usize) -> Result<Option<Query>> {
        let query = self.0.next(in_flight)?;
        if query.is_some() && self.0.taken() == PROMPTS {
            self.1 = Some(Instant::now());
        }
        Ok(query)
    }
    fn done(&mut self, number: usize, found: Found) -> Result<()> {
        self.0.done(number, found)
    }
    fn lost(&mut self, number: usize, error: Error) -> Result<()> {
        self.0.lost(number, error)
    }
}

fn queue(prompts: usize) -> Queue {
    Queue::new((0..prompts).map(|item| ("x", Stream::new(3, "steer", &format!("prompt-{item}")))))
}

fn answers(cbs: &Cbs, prompts: usize) -> Vec<Found> {
    let mut queue = queue(prompts);
    let mut drive = Drive {
        proposer: &mut Scripted::default(),
        scorer: &mut Judge31::default(),
        in_flight: 32,
    };
    drive.run(&|opened| cbs.begin(opened, true), &mut queue).unwrap();
    queue.found()
}

/// Whether two answers differ in their seconds only.
fn same(a: &Found, b: &Found) -> bool {
    let bare = |found: &Found| {
        (
            found.best.response.clone(),
            found.best.score,
            found.trace.clone(),
            found.sampled,
            found.fed,
        )
    };
    bare(a) == bare(b)
}

/// `W2S_LATENCY=1 cargo test --release drive:: -- --nocapture` runs it at full size, 10 ms to
/// 1 s a request.
#[test]
fn a_base_with_latency_is_kept_busy_and_says_the_same() {
    let scale: f64 = std::env::var("W2S_LATENCY").map_or(0.02, |scale| scale.parse().unwrap());
    let searches = [
        ("cbs 2,2,3", Cbs { beam_width: 2, successors: 2, chunk_len: Some(3), ..Cbs::plain(18) }),
        ("one sample in chunks", Cbs { chunk_len: Some(2), ..Cbs::plain(18) }),
    ];
    for (name, cbs) in searches {
        let (mut slow, mut timed) = (Slow::new(scale), Timed(queue(PROMPTS), None));
        let started = Instant::now();
        let mut drive =
            Drive { proposer: &mut slow, scorer: &mut Judge31::default(), in_flight: 32 };
        drive.run(&|opened| cbs.begin(opened, true), &mut timed).unwrap();
        let seconds = started.elapsed().as_secs_f64();
        let share = slow.busy_share(timed.1.unwrap());
        println!(
            "{name}: {:.1} % of {SLOTS} slots busy, {} requests, {seconds:.1} s, the tail left out",
            100.0 * share,
            slow.busy.len()
        );
        assert!(share > 0.9, "{name}: {share}");
        assert!(slow.scripted.responses.is_empty());
        for (slow, alone) in timed.0.found().iter().zip(answers(&cbs, PROMPTS)) {
            assert!(same(slow, &alone), "{slow:?} {alone:?}");
        }
    }
}

#[test]
fn a_cancelled_prompt_frees_its_rows_and_changes_nothing_for_the_others() {
    let cbs = Cbs { beam_width: 2, successors: 3, chunk_len: Some(2), ..Cbs::plain(14) };
    let alone = answers(&cbs, 12);
    let long = alone.iter().position(|found| found.trace.len() > 3).unwrap();
    for after in [0, 1] {
        let (mut scripted, mut scorer, mut queue) =
            (Scripted::default(), Judge31::default(), queue(12));
        queue.cancel = Some((long, after));
        let mut drive = Drive { proposer: &mut scripted, scorer: &mut scorer, in_flight: 5 };
        drive.run(&|opened| cbs.begin(opened, true), &mut queue).unwrap();
        assert!(scripted.responses.is_empty() && scorer.texts.is_empty(), "its rows are free");
        for (number, answer) in queue.answers.into_iter().enumerate() {
            match answer {
                Some(found) => {
                    assert!(number != long && same(&found.unwrap(), &alone[number]), "{number}")
                }
                None => assert_eq!(number, long),
            }
        }
    }
    // With requests on their way, which come back to nobody.
    let (mut slow, mut queue) = (Slow::new(0.005), queue(12));
    queue.cancel = Some((long, 0));
    Drive { proposer: &mut slow, scorer: &mut Judge31::default(), in_flight: 12 }
        .run(&|opened| cbs.begin(opened, true), &mut queue)
        .unwrap();
    assert!(slow.scripted.responses.is_empty() && slow.away.is_empty());
    let others = queue
        .answers
        .into_iter()
        .zip(&alone)
        .filter_map(|(answer, alone)| Some((answer?.unwrap(), alone)));
    assert_eq!(others.inspect(|(found, alone)| assert!(same(found, alone))).count(), 11);
}

/// Fails some requests, and has none of the rows that it gave up asked for again.
struct Failing {
    scripted: Scripted,
    /// The prompt whose requests fail, from its second round on.
    prompt: Node,
}

impl Proposer for Failing {
    fn open(&mut self, prompts: &[&PromptText]) -> Result<Vec<Node>> {
        self.scripted.open(prompts)
    }
    fn max_call_tokens(&self) -> Option<usize> {
        Some(4)
    }
    fn submit(&mut self, requests: Vec<(Ticket, Extend)>) {
        self.scripted.submit(requests);
    }
    fn collect(&mut self, _patience: Duration) -> Result<Vec<(Ticket, Result<Extended>)>> {
        let submitted = std::mem::take(&mut self.scripted.submitted);
        let outcome = |(ticket, request): (Ticket, Extend)| {
            let fails = request.node.root() == self.prompt && request.node != self.prompt;
            (
                ticket,
                if fails {
                    Err(Error::failed("the server is tired"))
                } else {
                    Ok(self.scripted.extend(&request))
                },
            )
        };
        Ok(submitted.into_iter().map(outcome).collect())
    }
    fn retain(&mut self, root: &Node, live: &[Node]) {
        self.scripted.retain(root, live);
    }
    fn release(&mut self, root: &Node) {
        self.scripted.release(root);
    }
}

#[test]
fn a_base_that_fails_for_one_prompt_loses_that_prompt_alone() {
    let cbs = Cbs { beam_width: 2, successors: 3, chunk_len: Some(2), ..Cbs::plain(14) };
    let alone = answers(&cbs, 12);
    let lost = alone.iter().position(|found| found.trace.len() > 3).unwrap();
    for in_flight in [1, 4, 12] {
        let mut failing =
            Failing { scripted: Scripted::default(), prompt: Node::of_prompt(lost as u32) };
        let (mut scorer, mut queue) = (Judge31::default(), queue(12));
        Drive { proposer: &mut failing, scorer: &mut scorer, in_flight }
            .run(&|opened| cbs.begin(opened, true), &mut queue)
            .unwrap();
        assert!(failing.scripted.responses.is_empty() && scorer.texts.is_empty());
        for (number, answer) in queue.answers.into_iter().enumerate() {
            match answer.unwrap() {
                Ok(found) => assert!(number != lost && same(&found, &alone[number]), "{number}"),
                Err(error) => assert!(
                    number == lost && error.to_string() == "the server is tired",
                    "{number}: {error}"
                ),
            }
        }
    }
}

#[test]
fn calls_of_few_tokens_make_the_same_chunks() {
    let searches = [
        Cbs { beam_width: 2, successors: 3, chunk_len: Some(7), ..Cbs::plain(20) },
        Cbs::best_of_n(5, 23),
        Cbs::plain(23),
        Cbs { semantics: w2s::search::Semantics::Official, ..Cbs::best_of_n(5, 23) },
    ];
    for cbs in searches {
        let whole = answers(&cbs, 20);
        for call in [1, 3, 16, 100] {
            let (mut scripted, mut queue) =
                (Scripted { call: Some(call), ..Scripted::default() }, queue(20));
            Drive { proposer: &mut scripted, scorer: &mut Judge31::default(), in_flight: 6 }
                .run(&|opened| cbs.begin(opened, true), &mut queue)
                .unwrap();
            assert!(scripted.responses.is_empty());
            for (number, found) in queue.found().iter().enumerate() {
                assert!(same(found, &whole[number]), "calls of {call} tokens, prompt {number}");
            }
        }
    }
}

#[test]
fn what_is_committed_only_grows_and_begins_the_answer() {
    let searches = [
        (Cbs::plain(24), 2),
        (Cbs { beam_width: 2, successors: 3, chunk_len: Some(2), ..Cbs::plain(24) }, 1),
        (Cbs::best_of_n(6, 24), 0),
    ];
    for (cbs, least) in searches {
        let (mut scripted, mut queue) =
            (Scripted { call: Some(2), ..Scripted::default() }, queue(30));
        Drive { proposer: &mut scripted, scorer: &mut Judge31::default(), in_flight: 4 }
            .run(&|opened| cbs.begin(opened, false), &mut queue)
            .unwrap();
        let committed = std::mem::take(&mut queue.committed);
        let most = committed.iter().map(Vec::len).max().unwrap();
        assert!(most >= least, "{cbs:?}: {most}");
        for (texts, found) in committed.iter().zip(queue.found()) {
            assert!(
                texts
                    .windows(2)
                    .all(|two| two[1].starts_with(&two[0]) && two[1].len() > two[0].len()),
                "{texts:?}"
            );
            assert!(
                texts.iter().all(|text| found.best.response.text.starts_with(text)),
                "{texts:?} and {}",
                found.best.response.text
            );
        }
    }
}

#[test]
fn a_base_that_tells_no_next_tokens_is_no_base_of_a_beam_search() {
    let beam =
        BeamSearch { beam_width: 2, max_new_tokens: 4, length_penalty: 1.0, early_stopping: false };
    let error =
        Drive { proposer: &mut Scripted::default(), scorer: &mut Judge31::default(), in_flight: 2 }
            .run(&|opened| beam.begin(opened), &mut queue(3))
            .unwrap_err();
    assert!(error.to_string().contains("does not tell its next tokens"), "{error}");
}
