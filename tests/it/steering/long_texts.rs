//! Texts that are longer than the guides can read.

use w2s::prompt::PromptText;
use w2s::score::{GuidePair, PairScorer, WeightedPairs, response_logps};
use w2s::search::{
    BeamSearch, Cbs, Drive, Finish, Node, Response, Scored, Scorer, Semantics, ToScore,
};

use crate::common::desk::Queue;
use crate::common::tiny::{guide, policy, stream, tokenizer};

/// What the guides can read of a response behind a prompt, in 128 positions: the first of its
/// tokens, and the EOS only behind all of them. By full forward passes over just that.
fn read_by_hand(
    guide: &GuidePair,
    prompt: &str,
    response: &Response,
    ends: bool,
    same: bool,
) -> (Vec<f32>, bool) {
    let mut ids = guide.template.encode(&guide.tokenizer, &prompt.into()).unwrap();
    let prompt_len = ids.len();
    let text = if ends { &response.text[..] } else { response.text.trim_end_matches('\u{FFFD}') };
    ids.extend(if same {
        response.ids.clone()
    } else {
        guide.tokenizer.encode_continuation(text).unwrap()
    });
    ids.extend(ends.then(|| guide.tokenizer.eos_id().unwrap()));
    let is_cut = ids.len() > 128;
    if is_cut {
        // Neither what is beyond nor, where only the end is, the end itself.
        ids.truncate(128);
    }
    if ids.len() == prompt_len {
        return (Vec::new(), is_cut);
    }
    let of = |lm: &w2s::models::Lm| response_logps(&lm.model, &ids, prompt_len).unwrap();
    (
        of(&guide.tuned)
            .iter()
            .zip(of(&guide.untuned))
            .map(|(tuned, untuned)| tuned - untuned)
            .collect(),
        is_cut,
    )
}

/// Holds every score that a search asks for against [`read_by_hand`].
struct HeldAgainst<'a> {
    pair: PairScorer,
    guide: &'a GuidePair,
    prompt: &'a str,
    same: bool,
    scored: u64,
    cut: u64,
}

impl Scorer for HeldAgainst<'_> {
    fn open(&mut self, prompts: &[&PromptText]) -> w2s::error::Result<Vec<Node>> {
        self.pair.open(prompts)
    }
    fn score(&mut self, requests: &[ToScore]) -> w2s::error::Result<Vec<Scored>> {
        let judged = self.pair.score(requests)?;
        for (request, judged) in requests.iter().zip(&judged) {
            let (expected, is_cut) =
                read_by_hand(self.guide, self.prompt, &request.response, request.ends, self.same);
            let found = self.pair.token_rewards(&judged.node);
            assert_eq!(
                (found.len(), judged.is_cut),
                (expected.len(), is_cut),
                "`{}`",
                request.response.text
            );
            assert!(
                found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4),
                "{found:?} and {expected:?}"
            );
            assert!((judged.score - expected.iter().sum::<f32>()).abs() < 1e-3);
            self.scored += 1;
            self.cut += u64::from(is_cut);
        }
        Ok(judged)
    }
    fn token_rewards(&self, node: &Node) -> Vec<f32> {
        self.pair.token_rewards(node)
    }
    fn retain(&mut self, root: &Node, live: &[Node]) {
        self.pair.retain(root, live);
    }
}

#[test]
fn a_text_longer_than_the_guides_can_read_is_worth_its_beginning_and_ends_no_search() {
    let (base, bytes) = (tokenizer(600, 0), tokenizer(257, 0));
    let prompt = "A film by";
    let guide = guide(&bytes);
    for (seed, chunk_len, semantics) in [
        (1, Some(5), Semantics::Paper),
        (2, Some(1), Semantics::Paper),
        (3, None, Semantics::Paper),
        (1, Some(7), Semantics::Official),
    ] {
        let pair = PairScorer::new(guide.clone(), false).unwrap();
        let mut scorer =
            HeldAgainst { pair, guide: &guide, prompt, same: false, scored: 0, cut: 0 };
        let cbs = Cbs { beam_width: 2, successors: 3, chunk_len, semantics, ..Cbs::plain(90) };
        let found = cbs
            .search(&prompt.into(), &stream(seed), &mut policy(&base, &[]), &mut scorer, true)
            .unwrap();
        assert!(found.best.response.finish.is_some() && found.best.score.is_finite());
        assert!(scorer.cut > 0, "seed {seed}: none of {} candidates is too long", scorer.scored);
        assert_eq!(found.cut, scorer.cut, "each is counted");
        assert!(chunk_len.is_none() || scorer.cut < scorer.scored, "the first chunks fit");
    }
}

#[test]
fn an_end_that_does_not_fit_is_not_scored() {
    let tokenizer = tokenizer(400, 0);
    let guide = guide(&tokenizer);
    for same in [true, false] {
        let mut pair = PairScorer::new(guide.clone(), same).unwrap();
        let parent = pair.open(&[&"A film".into()]).unwrap().remove(0);
        let room = 128 - guide.template.encode(&tokenizer, &"A film".into()).unwrap().len();
        for (tokens, ends) in
            [(room - 1, true), (room, false), (room, true), (room + 1, true), (room + 40, false)]
        {
            // Bytes that merge with nothing.
            let text = "~^".repeat(room)[..tokens].to_owned();
            let response =
                Response { ids: tokenizer.encode_continuation(&text).unwrap(), text, finish: None };
            assert_eq!(response.ids.len(), tokens);
            let judged = pair
                .score(&[ToScore { parent: parent.clone(), response: response.clone(), ends }])
                .unwrap()
                .remove(0);
            let (expected, is_cut) = read_by_hand(&guide, "A film", &response, ends, same);
            assert_eq!((judged.is_cut, is_cut), (tokens + usize::from(ends) > room, is_cut));
            let found = pair.token_rewards(&judged.node);
            assert_eq!(found.len(), expected.len(), "{tokens} tokens, ends {ends}");
            assert_eq!(
                found.len(),
                room.min(tokens + usize::from(ends)),
                "{tokens} tokens, ends {ends}"
            );
            assert!((judged.score - expected.iter().sum::<f32>()).abs() < 1e-3);
        }
        let error =
            pair.open(&[&"A film".into(), &"~^".repeat(80).into()]).unwrap_err().to_string();
        assert!(
            error.contains("a prompt of")
                && error.contains("does not fit the guides' context of 128"),
            "{error}"
        );
    }
}

#[test]
fn each_of_several_pairs_reads_as_much_as_it_can() {
    let (words, bytes) = (tokenizer(600, 0), tokenizer(257, 0));
    let text = " The film was not bad at all and I liked the story".repeat(3);
    let response = Response { ids: words.encode_continuation(&text).unwrap(), text, finish: None };
    let guides = [guide(&words), guide(&bytes)];
    let pair = |which: usize| -> Box<dyn Scorer> {
        Box::new(PairScorer::new(guides[which].clone(), which == 0).unwrap())
    };
    let mut both = WeightedPairs::new(vec![(1.0, pair(0)), (-2.0, pair(1))]);
    let parent = both.open(&[&"A film by".into()]).unwrap().remove(0);
    let judged = both
        .score(&[ToScore { parent: parent.clone(), response: response.clone(), ends: false }])
        .unwrap()
        .remove(0);
    let [first, second] =
        [0, 1].map(|which| read_by_hand(&guides[which], "A film by", &response, false, which == 0));
    assert!(!first.1 && second.1 && judged.is_cut);
    let expected = first.0.iter().sum::<f32>() - 2.0 * second.0.iter().sum::<f32>();
    assert!((judged.score - expected).abs() < 1e-3, "{} and {expected}", judged.score);
}

#[test]
fn the_answer_of_a_beam_search_is_scored_as_far_as_the_guides_can_read() {
    let (base, bytes) = (tokenizer(600, 0), tokenizer(257, 0));
    let guide = guide(&bytes);
    let search = BeamSearch {
        beam_width: 2,
        max_new_tokens: 100,
        length_penalty: 2.0,
        early_stopping: false,
    };
    let mut pair = PairScorer::new(guide.clone(), false).unwrap();
    let mut queue = Queue::new([("A film by", stream(1))]);
    let mut drive = Drive { proposer: &mut policy(&base, &[]), scorer: &mut pair, in_flight: 1 };
    drive.run(&|opened| search.begin(opened), &mut queue).unwrap();
    let found = queue.found().remove(0);
    let ends = found.best.response.finish.is_some_and(Finish::is_complete);
    let (expected, is_cut) = read_by_hand(&guide, "A film by", &found.best.response, ends, false);
    assert!(is_cut && found.cut == 1, "{:?}", found.best.response.text);
    assert!((found.best.score - expected.iter().sum::<f32>()).abs() < 1e-3);
}
