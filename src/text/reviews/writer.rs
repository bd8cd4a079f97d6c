//! Fills the skeletons of `grammar.rs` for one film and one label, and keeps account of what has
//! been said: no aspect is judged twice, words are not repeated where another will do, people go by
//! their last name once they have been introduced.

use super::aspects::{ACTING, Aspect, COMMON, FILM};
use super::draw::Draw;
use super::grammar::{
    BAD_VERDICTS, CONTRAST, DIRECT, GOOD_VERDICTS, MY_DIRECT, MY_NEGATED, NEGATED, OPENINGS,
    PART_CAST, PART_DIRECT, PART_KNOWN, PART_NEGATED, PART_NEW, PART_TURNED, PLAIN, REPORT_RIGHT,
    REPORT_WRONG, REPORTED, TURNED, VERDICTS,
};
use super::words::{
    ADVERBS, ADVICE, CHANGE, COMPANY, EFFECT, FELT, FILM_NOUN, HEDGES, LIKE, LIKED, NOUN, OTHERS,
    Opposites, PERFORMANCE, WORTH,
};
use super::world::{Film, Person};

/// Chances in percent. Together they set how much a bag of words can know: raise `NEGATE` or `TURN`
/// to make it know less.
const REPORT: usize = 8;
const NEGATE: usize = 4;
const TURN: usize = 3;
const MINE: usize = 42;
const CONTRASTED: usize = 12;
const WORTH_OR_MARKS: usize = 22;

/// In words, so that the judgements start within the first 25.
const LONGEST_OPENING: usize = 14;

pub struct Writer {
    draw: Draw,
    film: Film,
    positive: bool,
    unsaid: Vec<&'static Aspect>,
    /// The aspect being judged: its name with the article, its adjectives, whether it is a plural.
    noun: String,
    adjectives: Opposites,
    plural: bool,
    others_plural: bool,
    others_pronoun: &'static str,
    said: Vec<&'static str>,
    lead_named: bool,
    director_named: bool,
    part_told: bool,
    whole_judged: bool,
    /// Judgements made so far with, and against, the label.
    judged: [u32; 2],
}

impl Writer {
    pub fn new(mut draw: Draw, positive: bool) -> Self {
        let film = Film::draw(&mut draw);
        let unsaid = COMMON.iter().chain([&ACTING, &film.genre.own]).collect();
        Writer {
            draw,
            film,
            positive,
            unsaid,
            noun: String::new(),
            adjectives: FILM.adjectives,
            plural: false,
            others_plural: false,
            others_pronoun: "they",
            said: Vec::new(),
            lead_named: false,
            director_named: false,
            part_told: false,
            whole_judged: false,
            judged: [0; 2],
        }
    }

    /// Gives the stream back for another attempt.
    pub fn into_draw(self) -> Draw {
        self.draw
    }

    /// How many judgements agree and disagree with the label so far.
    pub fn judged(&self) -> [u32; 2] {
        self.judged
    }

    /// The whole text: an opening, a first judgement, the lead, more judgements, the verdict.
    pub fn write(&mut self) -> String {
        let mut sentences = vec![self.opening()];
        sentences.push(self.sentence(15));
        sentences.push(self.lead());
        let wanted = 38 + self.draw.below(22);
        while sentences.iter().map(|sentence| word_count(sentence)).sum::<usize>() < wanted {
            sentences.push(self.sentence(CONTRASTED));
        }
        sentences.push(self.verdict());
        polish(&sentences.join(" "))
    }

    fn opening(&mut self) -> String {
        if !self.draw.chance(REPORT) {
            loop {
                (self.lead_named, self.director_named, self.part_told) = (false, false, false);
                let opening = self.from(OPENINGS, self.positive);
                if word_count(&opening) <= LONGEST_OPENING {
                    return opening;
                }
            }
        }
        let reported = self.draw.chance(50);
        let start = self.from(REPORTED, reported);
        let rest = self.from(
            if reported == self.positive { REPORT_RIGHT } else { REPORT_WRONG },
            self.positive,
        );
        format!("{start} {rest}")
    }

    fn sentence(&mut self, contrasted: usize) -> String {
        let skeletons = if self.draw.chance(contrasted) { CONTRAST } else { PLAIN };
        let mut skeleton = self.fresh(skeletons);
        while self.whole_judged && judges_whole(skeleton) {
            skeleton = self.fresh(skeletons);
        }
        if judges_whole(skeleton) {
            self.whole_judged = true;
            self.judged[0] += u32::from(!skeleton.contains("{+film}")); // which counts itself
        }
        self.fill(skeleton, self.positive)
    }

    fn lead(&mut self) -> String {
        self.unsaid.retain(|aspect| !std::ptr::eq(*aspect, &ACTING));
        let skeletons = match (self.part_told, self.lead_named) {
            (false, _) => PART_NEW,
            (true, false) => PART_CAST,
            (true, true) => PART_KNOWN,
        };
        self.from(skeletons, self.positive)
    }

    fn verdict(&mut self) -> String {
        let skeletons = match (self.draw.chance(WORTH_OR_MARKS), self.positive) {
            (false, _) => VERDICTS,
            (true, true) => GOOD_VERDICTS,
            (true, false) => BAD_VERDICTS,
        };
        self.judged[0] += 1;
        self.from(skeletons, self.positive)
    }

    fn from(&mut self, skeletons: &[&'static str], positive: bool) -> String {
        let skeleton = self.fresh(skeletons);
        self.fill(skeleton, positive)
    }

    fn fill(&mut self, skeleton: &str, positive: bool) -> String {
        let mut text = String::new();
        let mut rest = skeleton;
        while let Some((before, after)) = rest.split_once('{') {
            let (slot, tail) = after.split_once('}').unwrap_or((after, ""));
            text.push_str(before);
            let filled = self.slot(slot, positive);
            text.push_str(&filled);
            rest = tail;
        }
        text + rest
    }

    fn slot(&mut self, slot: &str, positive: bool) -> String {
        if let Some(name) = slot.strip_prefix('+') {
            return self.judgement(name, positive);
        }
        if let Some(name) = slot.strip_prefix('-') {
            return self.judgement(name, !positive);
        }
        if let Some(forms) = slot.strip_prefix("a:") {
            return choose(forms, self.plural);
        }
        if let Some(forms) = slot.strip_prefix("k:") {
            return choose(forms, self.others_plural);
        }
        self.fact(slot)
    }

    /// A slot with a polarity: a clause, a noun phrase or a word.
    fn judgement(&mut self, name: &str, positive: bool) -> String {
        if matches!(name, "clause" | "plain" | "said" | "film" | "part" | "part_plain" | "np") {
            self.judged[usize::from(positive != self.positive)] += 1;
        }
        let words = match name {
            "clause" | "plain" | "said" | "film" => {
                if name == "film" {
                    self.take(&FILM);
                    if self.draw.chance(40) {
                        self.noun.clone_from(&self.film.title);
                    }
                } else {
                    self.next_aspect();
                }
                let mine = name != "said" && self.draw.chance(MINE);
                let kinds =
                    if mine { [MY_DIRECT, MY_NEGATED, TURNED] } else { [DIRECT, NEGATED, TURNED] };
                return self.clause(kinds, name == "clause", positive);
            }
            "part" | "part_plain" => {
                return self.clause(
                    [PART_DIRECT, PART_NEGATED, PART_TURNED],
                    name == "part",
                    positive,
                );
            }
            "np" => {
                self.next_aspect();
                let adjective = self.fresh(self.adjectives.side(positive));
                return format!("the {adjective} {}", self.noun.trim_start_matches("the "));
            }
            "adj" => self.adjectives,
            "film_adj" => FILM.adjectives,
            "noun" if self.is_film() => FILM_NOUN,
            "noun" => NOUN,
            "film_noun" => FILM_NOUN,
            "performance" => PERFORMANCE,
            "effect" => EFFECT,
            "felt" => FELT,
            "like" => LIKE,
            "liked" => LIKED,
            "change" => CHANGE,
            "advice" => ADVICE,
            _ => return format!("{{{name}}}"), // shows up in the test that no brace is left
        };
        self.fresh(words.side(positive)).to_owned()
    }

    fn clause(
        &mut self,
        [direct, negated, turned]: [&[&'static str]; 3],
        may_turn: bool,
        positive: bool,
    ) -> String {
        let skeletons = match self.draw.below(100) {
            n if n < NEGATE => negated,
            n if may_turn && n < NEGATE + TURN => turned,
            _ => direct,
        };
        self.from(skeletons, positive)
    }

    /// A fact of the film, or a neutral word.
    fn fact(&mut self, name: &str) -> String {
        let genre = self.film.genre;
        match name {
            "title" => self.film.title.clone(),
            "year" => self.film.year.to_string(),
            "genre" => genre.name.to_owned(),
            "genres" => genre.plural.to_owned(),
            "director" => introduce(&self.film.director, &mut self.director_named),
            "lead" => introduce(&self.film.lead, &mut self.lead_named),
            "he" => (if self.film.lead.female { "she" } else { "he" }).to_owned(),
            "him" => (if self.film.lead.female { "her" } else { "him" }).to_owned(),
            "his" => (if self.film.lead.female { "her" } else { "his" }).to_owned(),
            "part" => {
                self.part_told = true;
                self.film.part.0.to_owned()
            }
            "head" => self.film.part.1.to_owned(),
            "aim" => self.film.aim.to_owned(),
            "place" => self.film.place.to_owned(),
            "np" => self.noun.clone(),
            "np?" => {
                self.next_aspect();
                self.judged[0] += 1;
                format!("{} {}", if self.plural { "are" } else { "is" }, self.noun)
            }
            "kin" => {
                let others = self.draw.pick_ref(OTHERS);
                (self.others_pronoun, self.others_plural) = (others.1, others.2);
                others.0.to_owned()
            }
            "they are" => {
                format!("{} {}", self.others_pronoun, if self.others_plural { "are" } else { "is" })
            }
            "company" => self.draw.pick(COMPANY).to_owned(),
            "hedge" => self.fresh(HEDGES).to_owned(),
            "adverb" => self.fresh(ADVERBS).to_owned(),
            "worth" => self.draw.pick(WORTH).to_owned(),
            "high" => (7 + self.draw.below(4)).to_string(),
            "low" => (1 + self.draw.below(4)).to_string(),
            _ => format!("{{{name}}}"),
        }
    }

    fn next_aspect(&mut self) {
        if self.unsaid.is_empty() {
            self.unsaid = COMMON.iter().collect(); // never reached by texts of the wanted length
        }
        let at = self.draw.below(self.unsaid.len());
        let aspect = self.unsaid.swap_remove(at);
        self.take(aspect);
    }

    fn take(&mut self, aspect: &'static Aspect) {
        let (noun, plural) = *self.draw.pick_ref(aspect.names);
        self.noun = format!("the {noun}");
        self.plural = plural;
        self.adjectives = aspect.adjectives;
    }

    fn is_film(&self) -> bool {
        std::ptr::eq(self.adjectives.good, FILM.adjectives.good)
    }

    /// One of `from`, if possible one that this review has not used.
    fn fresh(&mut self, from: &[&'static str]) -> &'static str {
        let mut choice = self.draw.pick(from);
        for _ in 0..6 {
            if !self.said.contains(&choice) {
                break;
            }
            choice = self.draw.pick(from);
        }
        self.said.push(choice);
        choice
    }
}

/// Whether a skeleton judges the film as a whole, which the body of a review does once.
fn judges_whole(skeleton: &str) -> bool {
    skeleton.contains("{+film") || skeleton.contains("{-film")
}

/// The full name the first time, the last name after that.
fn introduce(person: &Person, named: &mut bool) -> String {
    if std::mem::replace(named, true) { person.last.to_owned() } else { person.full() }
}

fn choose(forms: &str, plural: bool) -> String {
    let (singular, several) = forms.split_once('|').unwrap_or((forms, forms));
    (if plural { several } else { singular }).to_owned()
}

pub fn word_count(text: &str) -> usize {
    text.split_whitespace().count()
}

/// Capitals at the start of sentences, and "an" where the next word sounds like a vowel.
fn polish(text: &str) -> String {
    let mut result = String::with_capacity(text.len() + 8);
    let mut start = true;
    let mut rest = text.split(' ').peekable();
    while let Some(word) = rest.next() {
        let mut word = word.to_owned();
        if (word == "a" || word == "A") && rest.peek().is_some_and(|next| vowel_sound(next)) {
            word.push('n');
        }
        if start {
            word[..1].make_ascii_uppercase();
        }
        start = word.ends_with(['.', '?', '!']);
        if !result.is_empty() {
            result.push(' ');
        }
        result.push_str(&word);
    }
    result
}

fn vowel_sound(word: &str) -> bool {
    word.starts_with(['a', 'e', 'i', 'o', 'u', 'A', 'E', 'I', 'O', 'U', '8'])
        || word.starts_with("honest")
}
