//! Word lists with a polarity: what can be said about each aspect of a film, and how a viewer
//! reacts to it.
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

/// One thing to judge about a film: its names (with `true` for a plural) and the adjectives that
/// fit it.
pub struct Aspect {
    pub names: &'static [(&'static str, bool)],
    pub adjectives: Opposites,
}

const fn aspect(
    names: &'static [(&'static str, bool)],
    good: &'static [&'static str],
    bad: &'static [&'static str],
) -> Aspect {
    Aspect { names, adjectives: Opposites { good, bad } }
}

/// The cast as a whole; left out once the lead has been judged.
pub static ACTING: Aspect = aspect(
    &[("acting", false), ("performances", true), ("ensemble", false)],
    &[
        "superb",
        "convincing",
        "natural",
        "touching",
        "brilliant",
        "subtle",
        "warm",
        "strong",
        "honest",
        "lively",
        "memorable",
        "excellent",
    ],
    &[
        "wooden", "stiff", "flat", "weak", "lifeless", "clumsy", "awkward", "terrible", "forced",
        "dull", "hollow", "poor",
    ],
);

/// The film as a whole.
pub static FILM: Aspect = aspect(
    &[("film", false), ("movie", false), ("picture", false), ("whole thing", false)],
    &[
        "good",
        "great",
        "wonderful",
        "gripping",
        "moving",
        "charming",
        "clever",
        "fresh",
        "delightful",
        "rewarding",
        "entertaining",
        "thoughtful",
    ],
    &[
        "bad",
        "boring",
        "dull",
        "awful",
        "tedious",
        "silly",
        "hollow",
        "empty",
        "tiresome",
        "clumsy",
        "forgettable",
        "pointless",
    ],
);

/// Aspects that any film has.
pub static COMMON: &[Aspect] = &[
    aspect(
        &[("plot", false), ("story", false), ("script", false)],
        &[
            "gripping",
            "clever",
            "original",
            "fresh",
            "engaging",
            "moving",
            "sharp",
            "smart",
            "rich",
            "intriguing",
            "exciting",
        ],
        &[
            "predictable",
            "thin",
            "muddled",
            "silly",
            "tired",
            "shallow",
            "messy",
            "confusing",
            "empty",
            "clumsy",
            "boring",
        ],
    ),
    aspect(
        &[("pacing", false), ("rhythm", false), ("middle act", false)],
        &[
            "brisk",
            "tight",
            "lively",
            "confident",
            "smooth",
            "perfect",
            "exciting",
            "engaging",
            "skillful",
        ],
        &[
            "slow", "uneven", "sluggish", "tedious", "clumsy", "dreadful", "tiresome", "awkward",
            "dull",
        ],
    ),
    aspect(
        &[("score", false), ("music", false), ("soundtrack", false)],
        &[
            "haunting",
            "beautiful",
            "lovely",
            "elegant",
            "memorable",
            "gorgeous",
            "stirring",
            "moving",
            "inspired",
            "wonderful",
        ],
        &[
            "bland",
            "grating",
            "intrusive",
            "generic",
            "dreary",
            "annoying",
            "cheap",
            "tedious",
            "forgettable",
            "awful",
        ],
    ),
    aspect(
        &[("dialogue", false), ("conversations", true), ("writing", false)],
        &[
            "witty",
            "sharp",
            "natural",
            "funny",
            "clever",
            "honest",
            "crisp",
            "elegant",
            "believable",
            "smart",
        ],
        &[
            "stilted", "clumsy", "wooden", "painful", "banal", "forced", "silly", "lifeless",
            "dull", "stale",
        ],
    ),
    aspect(
        &[("photography", false), ("visuals", true), ("camera work", false), ("images", true)],
        &[
            "gorgeous",
            "stunning",
            "beautiful",
            "striking",
            "rich",
            "inventive",
            "elegant",
            "inspired",
            "lovely",
            "vivid",
        ],
        &[
            "ugly",
            "murky",
            "drab",
            "cheap",
            "bland",
            "dull",
            "flat",
            "lazy",
            "amateurish",
            "lifeless",
        ],
    ),
    aspect(
        &[("ending", false), ("finale", false), ("last act", false), ("final scene", false)],
        &[
            "satisfying",
            "moving",
            "powerful",
            "clever",
            "perfect",
            "touching",
            "graceful",
            "stirring",
            "brilliant",
            "memorable",
        ],
        &[
            "rushed",
            "weak",
            "silly",
            "predictable",
            "empty",
            "disappointing",
            "lame",
            "absurd",
            "flat",
            "muddled",
        ],
    ),
    aspect(
        &[("supporting cast", false), ("side characters", true), ("villain", false)],
        &[
            "memorable",
            "vivid",
            "charming",
            "funny",
            "believable",
            "superb",
            "magnetic",
            "delightful",
            "strong",
            "lively",
        ],
        &[
            "forgettable",
            "bland",
            "irritating",
            "lame",
            "generic",
            "terrible",
            "dreary",
            "tiresome",
            "weak",
            "lifeless",
        ],
    ),
    aspect(
        &[("direction", false), ("staging", false)],
        &[
            "confident",
            "inventive",
            "skillful",
            "elegant",
            "inspired",
            "subtle",
            "assured",
            "graceful",
            "sharp",
        ],
        &[
            "lazy",
            "clumsy",
            "heavy",
            "amateurish",
            "timid",
            "bland",
            "careless",
            "stale",
            "muddled",
        ],
    ),
    aspect(
        &[("characters", true), ("central friendship", false), ("central couple", false)],
        &[
            "believable",
            "rich",
            "charming",
            "complex",
            "warm",
            "touching",
            "engaging",
            "vivid",
            "honest",
        ],
        &[
            "shallow",
            "thin",
            "irritating",
            "flat",
            "generic",
            "unlikable",
            "hollow",
            "bland",
            "annoying",
        ],
    ),
    aspect(
        &[("editing", false), ("sound design", false)],
        &["crisp", "smooth", "tight", "skillful", "precise", "elegant", "inventive", "sharp"],
        &["choppy", "messy", "sloppy", "careless", "confusing", "amateurish", "annoying", "clumsy"],
    ),
    aspect(
        &[("first act", false), ("opening scene", false), ("first hour", false)],
        &[
            "gripping",
            "intriguing",
            "exciting",
            "brisk",
            "funny",
            "striking",
            "brilliant",
            "engaging",
        ],
        &["slow", "confusing", "tedious", "dull", "sluggish", "clumsy", "messy", "boring"],
    ),
    aspect(
        &[("costumes", true), ("sets", true), ("production design", false)],
        &[
            "gorgeous",
            "inventive",
            "striking",
            "elegant",
            "lovely",
            "vivid",
            "splendid",
            "convincing",
        ],
        &["cheap", "ugly", "drab", "lazy", "bland", "sloppy", "shabby", "generic"],
    ),
    aspect(
        &[("message", false), ("central idea", false), ("themes", true)],
        &["thoughtful", "moving", "subtle", "honest", "original", "powerful", "smart", "fresh"],
        &["shallow", "muddled", "stale", "banal", "heavy", "confusing", "hollow", "silly"],
    ),
    aspect(
        &[("tone", false), ("mood", false), ("atmosphere", false)],
        &["haunting", "warm", "confident", "vivid", "rich", "assured", "gripping", "charming"],
        &["dreary", "uneven", "flat", "muddled", "forced", "grim", "stale", "lifeless"],
    ),
];

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
