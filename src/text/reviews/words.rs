//! Word lists with a polarity beside those of a film's aspects (`aspects.rs`): how the lead plays, what
//! a film is called, and how a viewer reacts to it.
//!
//! Every pair of lists is used in both classes: straight when the clause has the word's own
//! polarity, under negation or in the conceded half of a contrast when it has the other.

/// Words of both polarities that fit the same place in a sentence.
#[derive(Clone, Copy)]
pub struct Opposites {
    pub good: &'static [&'static str],
    pub bad: &'static [&'static str],
}

impl Opposites {
    pub fn side(&self, positive: bool) -> &'static [&'static str] {
        if positive { self.good } else { self.bad }
    }
}

/// How the lead plays the part.
pub static PERFORMANCE: Opposites = Opposites {
    good: &[
        "brilliant",
        "superb",
        "convincing",
        "charming",
        "natural",
        "wonderful",
        "subtle",
        "magnetic",
        "believable",
        "excellent",
        "warm",
    ],
    bad: &[
        "wooden", "stiff", "lifeless", "miscast", "awkward", "dull", "weak", "hollow", "bland",
        "terrible", "lazy",
    ],
};

/// Nouns for an aspect: "the score is a …".
pub static NOUN: Opposites = Opposites {
    good: &["delight", "joy", "triumph", "treat", "pleasure", "success", "highlight", "strength"],
    bad: &["mess", "chore", "failure", "disaster", "bore", "letdown", "weakness", "nuisance"],
};

/// Nouns for a whole film.
pub static FILM_NOUN: Opposites = Opposites {
    good: &[
        "gem",
        "delight",
        "triumph",
        "treat",
        "joy",
        "masterpiece",
        "winner",
        "success",
        "classic",
    ],
    bad: &["mess", "chore", "dud", "failure", "disaster", "letdown", "bore", "nuisance", "mistake"],
};

/// What a film does to the viewer, in the base form.
pub static EFFECT: Opposites = Opposites {
    good: &[
        "hold my attention",
        "move me",
        "make me smile",
        "win me over",
        "keep me hooked",
        "touch my heart",
        "surprise me",
        "lift my spirits",
        "draw me in",
        "delight me",
    ],
    bad: &[
        "bore me",
        "test my patience",
        "put me to sleep",
        "leave me cold",
        "waste my time",
        "wear me out",
        "annoy me",
        "get on my nerves",
        "make me yawn",
        "irritate me",
    ],
};

/// How the viewer feels.
pub static FELT: Opposites = Opposites {
    good: &[
        "moved",
        "charmed",
        "impressed",
        "amused",
        "touched",
        "delighted",
        "thrilled",
        "fascinated",
    ],
    bad: &[
        "bored",
        "annoyed",
        "irritated",
        "disappointed",
        "exhausted",
        "baffled",
        "unmoved",
        "frustrated",
    ],
};

/// Verbs of liking, in the base form.
pub static LIKE: Opposites = Opposites {
    good: &["love", "enjoy", "admire", "like", "adore", "praise", "treasure"],
    bad: &["hate", "dislike", "resent", "mock", "loathe", "scorn", "despise"],
};

/// Verbs of liking in the past, for reported opinions.
pub static LIKED: Opposites = Opposites {
    good: &["loved", "enjoyed", "adored", "praised"],
    bad: &["hated", "disliked", "loathed", "mocked"],
};

/// What one aspect does to the whole film.
pub static CHANGE: Opposites = Opposites {
    good: &["save", "rescue", "lift", "redeem"],
    bad: &["spoil", "ruin", "sink", "wreck"],
};

/// Advice, in the base form; the film follows.
pub static ADVICE: Opposites = Opposites {
    good: &["see", "watch", "try", "catch"],
    bad: &["skip", "avoid", "forget", "ignore"],
};

/// What a film may be worth.
pub static WORTH: &[&str] =
    &["a ticket", "your time", "an evening", "the price", "two hours", "the wait"];

pub static ADVERBS: &[&str] =
    &["truly", "really", "always", "simply", "quite", "thoroughly", "often", "mostly"];

/// Lead-ins before a clause that state no polarity; none ends a sentence.
pub static HEDGES: &[&str] = &[
    "I must admit that",
    "I have to say that",
    "in my view,",
    "for me,",
    "honestly,",
    "to my eyes,",
    "above all,",
    "more than that,",
    "what is more,",
    "as far as I can tell,",
    "at the same time,",
    "I think that",
    "I would argue that",
    "in my opinion,",
    "on reflection,",
    "I can only say that",
];

/// Who else has an opinion, with the pronoun and whether it takes a plural verb.
pub static OTHERS: &[(&str, &str, bool)] = &[
    ("my sister", "she", false),
    ("my brother", "he", false),
    ("my wife", "she", false),
    ("my husband", "he", false),
    ("my father", "he", false),
    ("my mother", "she", false),
    ("my neighbor", "he", false),
    ("my friends", "they", true),
    ("my parents", "they", true),
    ("the critics", "they", true),
    ("my colleagues", "they", true),
    ("my students", "they", true),
];

/// Who shared the evening.
pub static COMPANY: &[&str] = &[
    "my sister",
    "my brother",
    "my wife",
    "my husband",
    "two friends",
    "my father",
    "my mother",
    "my neighbors",
    "my cousin",
    "my students",
];
