//! Guides that others serve: the same scores as by the models themselves, token by token, for
//! servers that tell the log-probabilities of given tokens; the reason where they do not.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::json;
use tempfile::TempDir;
use w2s::engine::{Engine, SteerSettings};
use w2s::policy::remote::Server;
use w2s::prompt::PromptText;
use w2s::recipe::{Api, Method, Proposal};
use w2s::sampling::Sampling;
use w2s::score::{Guide, GuidePair, Half, PairScorer, ServedGuide, ServedPair, ServedScorer};
use w2s::search::{Response, Scored, Scorer, Semantics, ToScore};
use w2s::text::PromptTemplate;

use crate::common::fakes::{Fake, Kind, Options};
use crate::common::{failure, lines, success, tiny, w2s};

/// A pair of the same models as folders, and as they are.
struct Place {
    _scratch: TempDir,
    folders: [PathBuf; 2],
    pair: Rc<GuidePair>,
}

impl Place {
    fn new(template: &str, bos: bool) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let tokenizer = tiny::tokenizer(400, 0);
        let template = PromptTemplate::new(template, Some(bos));
        let models = ["tuned", "untuned"].map(|name| tiny::model(&tokenizer, 16, name));
        let folders = ["tuned", "untuned"].map(|name| scratch.path().join(name));
        for (model, folder) in models.iter().zip(&folders) {
            model.save(folder).unwrap();
            tokenizer.save(folder).unwrap();
        }
        let [tuned, untuned] = models;
        let pair = Rc::new(GuidePair { tuned, untuned, tokenizer, template });
        Self { _scratch: scratch, folders, pair }
    }

    fn template(&self) -> PromptTemplate {
        self.pair.template.clone()
    }

    fn serve(&self, kind: Kind, options: &Options) -> [Fake; 2] {
        [0, 1].map(|half| Fake::start(kind, &self.folders[half], options.clone()))
    }

    fn served(&self, fakes: &[Fake; 2]) -> Result<Rc<ServedPair>, String> {
        let halves = fakes.each_ref().map(|fake| self.half(fake));
        let [tuned, untuned] = halves;
        Ok(Rc::new(ServedPair::new(tuned?, untuned?, self.template()).unwrap()))
    }

    fn half(&self, fake: &Fake) -> Result<Half, String> {
        let api = json!({ "url": fake.url(), "limits": { "attempts": 2 } });
        let api: Api = serde_json::from_value(api).unwrap();
        let server = Server::open("models.guide.api", &api).map_err(|error| error.to_string())?;
        let guide = ServedGuide::open(server, &self.folders[0], self.template());
        guide.map(|guide| Half::Served(Rc::new(guide))).map_err(|error| error.to_string())
    }
}

/// Responses of the guides' own vocabulary: of no token, of few, with an end, and too long.
fn responses(place: &Place) -> Vec<(Response, bool)> {
    let tokenizer = &place.pair.tokenizer;
    let texts = ["", " a", " a great film", " naïve 日本語 🎬", " It was. It was not"];
    let mut all = Vec::new();
    for text in texts.iter().map(|text| (*text).to_owned()).chain([" so long".repeat(90)]) {
        let ids = tokenizer.encode_continuation(&text).unwrap();
        for ends in [false, true] {
            all.push((Response { text: text.clone(), ids: ids.clone(), finish: None }, ends));
        }
    }
    all
}

fn score(
    scorer: &mut dyn Scorer,
    prompt: &PromptText,
    responses: &[(Response, bool)],
) -> Vec<(Scored, Vec<f32>)> {
    let root = scorer.open(&[prompt]).unwrap().remove(0);
    let requests: Vec<ToScore> = responses
        .iter()
        .map(|(response, ends)| ToScore {
            parent: root.clone(),
            response: response.clone(),
            ends: *ends,
        })
        .collect();
    let scored = scorer.score(&requests).unwrap();
    let rewards: Vec<Vec<f32>> =
        scored.iter().map(|scored| scorer.token_rewards(&scored.node)).collect();
    scored.into_iter().zip(rewards).collect()
}

/// Asserts equal scores; how many tokens were compared.
fn assert_same(served: &[(Scored, Vec<f32>)], here: &[(Scored, Vec<f32>)], what: &str) -> usize {
    let mut compared = 0;
    for (number, ((served, theirs), (here, ours))) in served.iter().zip(here).enumerate() {
        // Servers read one token less, for they sample one.
        let is_longest = here.is_cut;
        assert!(served.is_cut == here.is_cut, "{what}, {number}");
        assert_eq!(theirs.len() + usize::from(is_longest), ours.len(), "{what}, {number}");
        for (theirs, ours) in theirs.iter().zip(ours) {
            assert!((theirs - ours).abs() < 1e-4, "{what}, {number}: {theirs} and {ours}");
            compared += 1;
        }
        let sum: f32 = theirs.iter().sum();
        assert!((served.score - sum).abs() < 1e-4);
    }
    compared
}

#[test]
fn served_pairs_score_as_their_models_do_here() {
    let place = Place::new("Review: {prompt}", true);
    let prompt = PromptText::Plain("I saw The Paper Key".to_owned());
    for kind in [Kind::Vllm, Kind::Sglang] {
        let fakes = place.serve(kind, &Options::default());
        let pair = place.served(&fakes).unwrap();
        for same in [true, false] {
            let responses = responses(&place);
            let mut here = PairScorer::new(place.pair.clone(), same).unwrap();
            let mut served = ServedScorer::new(pair.clone(), same).unwrap();
            let here = score(&mut here, &prompt, &responses);
            let served = score(&mut served, &prompt, &responses);
            assert!(assert_same(&served, &here, &format!("{kind:?}, {same}")) > 100);
            let spread = here.iter().map(|(scored, _)| scored.score.abs()).fold(0.0, f32::max);
            assert!(spread > 1.0, "scores of 0 compare nothing");
        }
    }
}

#[test]
fn one_half_may_be_here() {
    let place = Place::new("{prompt}", true);
    let prompt = PromptText::Plain("A film by".to_owned());
    let fakes = place.serve(Kind::Vllm, &Options::default());
    let responses = responses(&place);
    let mut here = PairScorer::new(place.pair.clone(), true).unwrap();
    let here = score(&mut here, &prompt, &responses);
    let local =
        |model: &Rc<w2s::models::Lm>| Half::Here(model.clone(), place.pair.tokenizer.clone());
    let pairs = [
        (place.half(&fakes[0]).unwrap(), local(&place.pair.untuned)),
        (local(&place.pair.tuned), place.half(&fakes[1]).unwrap()),
    ];
    for (tuned, untuned) in pairs {
        let pair = Rc::new(ServedPair::new(tuned, untuned, place.template()).unwrap());
        let mut served = ServedScorer::new(pair, true).unwrap();
        assert_same(&score(&mut served, &prompt, &responses), &here, "one half");
    }
}

#[test]
fn texts_that_are_echoed_are_scored_where_they_are_read_as_they_are_here() {
    let prompt = PromptText::Plain("I saw The Paper Key".to_owned());
    for adds_bos in [false, true] {
        let place = Place::new("Review: {prompt}", adds_bos);
        let options = Options { adds_bos, ..Options::default() };
        let fakes = place.serve(Kind::LlamaCppPython, &options);
        let pair = place.served(&fakes).unwrap_or_else(|error| panic!("{adds_bos}: {error}"));
        let mut responses = responses(&place);
        // What is longer than the context may be cut inside a word, and is then other tokens.
        responses.retain(|(response, _)| response.text.len() < 100);
        let mut here = PairScorer::new(place.pair.clone(), false).unwrap();
        let mut served = ServedScorer::new(pair, false).unwrap();
        let here = score(&mut here, &prompt, &responses);
        let served = score(&mut served, &prompt, &responses);
        assert!(assert_same(&served, &here, &format!("BOS {adds_bos}")) > 20);
    }
}

#[test]
fn a_response_that_begins_inside_a_token_of_the_server_is_told() {
    let place = Place::new("{prompt}", false);
    let fakes = place.serve(Kind::LlamaCppPython, &Options::default());
    let mut served = ServedScorer::new(place.served(&fakes).unwrap(), false).unwrap();
    let root = served.open(&[&PromptText::Plain("It wa".to_owned())]).unwrap().remove(0);
    let response = Response { text: "s".to_owned(), ids: Vec::new(), finish: None };
    let request = ToScore { parent: root, response, ends: false };
    let error = served.score(&[request]).unwrap_err().to_string();
    assert!(error.contains("other tokens than the tokenizer here"), "{error}");
}

#[test]
fn servers_that_do_not_tell_are_refused_with_the_reason() {
    let place = Place::new("{prompt}", true);
    for kind in Kind::ALL {
        if matches!(kind, Kind::Vllm | Kind::Sglang | Kind::LlamaCppPython) {
            continue;
        }
        let fake = Fake::start(kind, &place.folders[0], Options::default());
        let error = place.half(&fake).err().unwrap_or_else(|| panic!("{kind:?} is taken"));
        assert!(error.contains("does not tell the log-probabilities of given texts"), "{error}");
        assert!(error.contains("hint: vLLM, SGLang and llama-cpp-python"), "{error}");
    }
}

#[test]
fn guides_that_are_served_only_score() {
    let place = Place::new("{prompt}", true);
    let fakes = place.serve(Kind::Vllm, &Options::default());
    let guide = Guide::Served(place.served(&fakes).unwrap());
    let settings = SteerSettings {
        sampling: Sampling::new(1.0, 0, 1.0),
        max_new_tokens: 8,
        stop: Vec::new(),
        semantics: Semantics::Paper,
        trace: false,
        prompts_in_flight: 1,
    };
    let eft = Method::sampled(Proposal::Tilted { weight: 1.0 });
    let base = Box::new(tiny::policy(&place.pair.tokenizer, &[]));
    let refused = Engine::join(eft, settings, base, vec![(1.0, guide)]).err().unwrap().to_string();
    assert!(refused.contains("guides that others serve only score"), "{refused}");
}

/// A recipe that steers a base here by a pair, whose tables are `guides`.
fn recipe(folder: &Path, base: &Path, guides: [String; 2], more: &str) -> PathBuf {
    let [tuned, untuned] = guides;
    let text = format!(
        "[run]\nname = \"served\"\n[data]\nsource = \"builtin:reviews\"\ntrain = 20\n\
         validation = 4\ntest = 4\n[models.base]\nid = {base:?}\nbos = true\n\
         [models.tuned]\n{tuned}\nbos = true\n[models.untuned]\n{untuned}\nbos = true\n\
         [steer]\nbases = [\"base\"]\ntuned = \"tuned\"\nuntuned = \"untuned\"\nprompts = 3\n\
         max_new_tokens = 8\nmethod = [\n\
         {{ kind = \"cbs\", beam_width = 2, successors = 2, chunk_len = 4 }},\n{more}]\n"
    );
    let file = folder.join("recipe.toml");
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn a_run_with_served_guides_finds_what_the_same_guides_find_here() {
    let place = Place::new("{prompt}", true);
    let scratch = tempfile::tempdir().unwrap();
    let base = scratch.path().join("base");
    let tokenizer = &place.pair.tokenizer;
    tiny::model(tokenizer, 24, "base").save(&base).unwrap();
    tokenizer.save(&base).unwrap();
    let here =
        place.folders.each_ref().map(|folder| format!("id = {folder:?}\ndtype = \"float32\""));
    let fakes = place.serve(Kind::Vllm, &Options::default());
    let api = |half: usize| {
        let (url, tokenizer) = (fakes[half].url(), &place.folders[half]);
        format!("api = {{ url = {url:?}, tokenizer = {tokenizer:?} }}")
    };
    let mut found = Vec::new();
    for (name, guides) in [("here", here), ("served", [api(0), api(1)])] {
        let out = scratch.path().join(name);
        let recipe = recipe(scratch.path(), &base, guides, "");
        success(w2s().arg("run").arg(recipe).arg("--out").arg(&out));
        let steer = out.join("steer");
        let is_journal = |file: &PathBuf| file.extension().is_some_and(|end| end == "jsonl");
        let journal = walk(&steer).into_iter().find(is_journal);
        found.push(lines(&journal.unwrap_or_else(|| panic!("{:?}", walk(&steer)))));
    }
    let recipe = scratch.path().join("recipe.toml");
    let requests = || fakes.each_ref().map(|fake| fake.counts().requests);
    let before = requests();
    let journal = scratch.path().join("served/steer");
    std::fs::remove_dir_all(&journal).unwrap();
    success(w2s().arg("run").arg(recipe).arg("--out").arg(scratch.path().join("served")));
    let trials = requests().iter().zip(before).map(|(now, before)| now - before).max().unwrap();
    assert!(trials < 10, "{trials} requests for scores that were paid for");
    let (here, served) = (&found[0], &found[1]);
    assert_eq!((here.len(), served.len()), (3, 3));
    for (here, served) in here.iter().zip(served) {
        assert_eq!(here["response"], served["response"]);
        let [ours, theirs] = [here, served].map(|line| line["score"].as_f64().unwrap());
        assert!((ours - theirs).abs() < 1e-3, "{ours} and {theirs}");
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(walk(&path)) } else { all.push(path) }
    }
    all
}

#[test]
fn a_recipe_says_what_served_guides_lack_before_anybody_is_asked() {
    let scratch = tempfile::tempdir().unwrap();
    let place = Place::new("{prompt}", true);
    let api = "api = { url = \"http://127.0.0.1:9/v1\" }".to_owned();
    let guides = [api.clone(), api];
    let more = "{ kind = \"eft\", weights = [1.0] },\n{ kind = \"tuned\" },\n";
    let recipe = recipe(scratch.path(), &place.folders[0], guides, more);
    let said = failure(w2s().arg("check").arg(recipe), 2);
    for expected in [
        "`models.tuned` is a guide that others serve, without `api.tokenizer`",
        "`models.untuned` is a guide that others serve, without `api.tokenizer`",
        "`steer.method.1`: `eft` needs the guides' distribution of every next token",
        "`steer.method.2`: `tuned` needs the guides' distribution",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    assert!(!said.contains("`steer.method.0`"), "{said}");
}
