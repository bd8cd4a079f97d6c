//! The facts of one made-up film: title, year, genre, director, lead, part and place. They are
//! drawn once for each review, so that whatever is named early agrees with what comes later.

use super::draw::Draw;
use super::words::Aspect;

/// A genre: its name and plural, the parts, aims and places that go with it, and the aspects that
/// only it has.
pub struct Genre {
    pub name: &'static str,
    pub plural: &'static str,
    pub parts: &'static [(&'static str, &'static str)], // with an epithet, and the bare noun
    pub aims: &'static [&'static str],
    pub places: &'static [&'static str],
    pub own: Aspect,
}

/// Somebody with a first and a last name and the pronouns that go with them.
pub struct Person {
    pub first: &'static str,
    pub last: &'static str,
    pub female: bool,
}

/// One made-up film.
pub struct Film {
    pub title: String,
    pub year: u32,
    pub genre: &'static Genre,
    pub director: Person,
    pub lead: Person,
    pub part: (&'static str, &'static str),
    pub aim: &'static str,
    pub place: &'static str,
}

pub static FEMALE: &[&str] = &[
    "Anna", "Clara", "Diane", "Elena", "Grace", "Helen", "Julia", "Laura", "Maria", "Nora", "Ruth",
    "Sofia", "Alice", "Emma", "Rosa", "Vera",
];
pub static MALE: &[&str] = &[
    "Adam", "Carl", "David", "Edgar", "Frank", "George", "Henry", "Ivan", "Jack", "Leo", "Martin",
    "Oscar", "Paul", "Simon", "Thomas", "Victor",
];
pub static LAST: &[&str] = &[
    "Archer", "Bishop", "Carver", "Dalton", "Ellison", "Fisher", "Garland", "Harper", "Irving",
    "Keller", "Lambert", "Mercer", "Novak", "Osborn", "Palmer", "Quinn", "Ramsey", "Sawyer",
    "Turner", "Vaughn", "Walker", "Young", "Bennett", "Conway", "Doyle", "Foster", "Griffin",
    "Holt", "Kramer", "Lowell", "Marlow", "Nolan", "Porter", "Reed", "Sutton", "Thorne", "Weaver",
    "Abbott", "Brandt", "Cole",
];
pub static TITLE_EPITHETS: &[&str] = &[
    "Silent", "Broken", "Golden", "Hidden", "Last", "Crimson", "Distant", "Frozen", "Lonely",
    "Painted", "Second", "Stolen", "Wild", "Hollow", "Northern", "Secret", "Burning", "Patient",
    "Restless", "Glass", "Paper", "Iron", "Quiet", "Scarlet",
];
pub static TITLE_NOUNS: &[&str] = &[
    "Harbor", "River", "Garden", "Mirror", "Winter", "Summer", "Orchard", "Lantern", "Bridge",
    "Letter", "Promise", "Shadow", "Station", "Island", "Crown", "Feather", "Journey", "Kingdom",
    "Mountain", "Ocean", "Painter", "Soldier", "Stranger", "Tower", "Train", "Valley", "Window",
    "Wolf", "Candle", "Captain", "Clock", "Desert", "Forest", "Horizon", "Hunter", "Key",
];
pub static TITLE_PLACES: &[&str] = &[
    "Verona", "Lisbon", "Dublin", "Havana", "Boston", "Cairo", "Oslo", "Prague", "Vienna",
    "Memphis", "Geneva", "Tokyo",
];
pub static TITLE_STARTS: &[&str] =
    &["Beyond", "Beneath", "Under", "Behind", "Before", "After", "Across", "Against"];

const fn own(
    names: &'static [(&'static str, bool)],
    good: &'static [&'static str],
    bad: &'static [&'static str],
) -> Aspect {
    Aspect { names, adjectives: super::words::Opposites { good, bad } }
}

pub static GENRES: &[Genre] = &[
    Genre {
        name: "thriller",
        plural: "thrillers",
        parts: &[
            ("retired spy", "spy"),
            ("young lawyer", "lawyer"),
            ("nervous witness", "witness"),
            ("blind musician", "musician"),
        ],
        aims: &[
            "uncovers a plot against the president",
            "must hide from a hired killer",
            "finds a dead man at the door",
            "cannot trust the police",
        ],
        places: &["in the streets of Berlin", "on a night train", "in an empty hotel"],
        own: own(
            &[("suspense", false), ("twists", true), ("tension", false)],
            &[
                "gripping",
                "clever",
                "exciting",
                "skillful",
                "intriguing",
                "inspired",
                "powerful",
                "sharp",
            ],
            &["forced", "weak", "predictable", "silly", "absurd", "lame", "clumsy", "cheap"],
        ),
    },
    Genre {
        name: "comedy",
        plural: "comedies",
        parts: &[
            ("lazy waiter", "waiter"),
            ("shy teacher", "teacher"),
            ("unlucky groom", "groom"),
            ("retired clown", "clown"),
        ],
        aims: &[
            "pretends to be a doctor",
            "ruins a royal wedding",
            "inherits a failing circus",
            "swaps places with a twin",
        ],
        places: &["at a seaside resort", "in a crowded office", "during a family reunion"],
        own: own(
            &[("jokes", true), ("humor", false), ("comic timing", false)],
            &["funny", "witty", "sharp", "fresh", "clever", "brilliant", "perfect", "warm"],
            &["stale", "lame", "painful", "forced", "tired", "lazy", "flat", "banal"],
        ),
    },
    Genre {
        name: "drama",
        plural: "dramas",
        parts: &[
            ("tired nurse", "nurse"),
            ("proud farmer", "farmer"),
            ("lonely widow", "widow"),
            ("famous pianist", "pianist"),
        ],
        aims: &[
            "comes home after many years",
            "must care for a dying parent",
            "loses everything in a fire",
            "learns the truth about the family",
        ],
        places: &["on a farm in Ohio", "in a small fishing village", "in a poor part of Chicago"],
        own: own(
            &[("family scenes", true), ("central conflict", false), ("quiet moments", true)],
            &[
                "moving",
                "honest",
                "powerful",
                "touching",
                "believable",
                "subtle",
                "stirring",
                "haunting",
            ],
            &["forced", "tedious", "shallow", "predictable", "dreary", "hollow", "clumsy", "stale"],
        ),
    },
    Genre {
        name: "western",
        plural: "westerns",
        parts: &[
            ("wounded sheriff", "sheriff"),
            ("wandering outlaw", "outlaw"),
            ("stubborn rancher", "rancher"),
            ("young gunslinger", "gunslinger"),
        ],
        aims: &[
            "defends a town from bandits",
            "rides south to find a brother",
            "guards a shipment of gold",
            "wants revenge on a cattle baron",
        ],
        places: &["in the hills of Montana", "near the Mexican border", "in a dusty mining town"],
        own: own(
            &[("gunfights", true), ("desert scenes", true), ("final duel", false)],
            &[
                "exciting",
                "stunning",
                "tight",
                "striking",
                "gripping",
                "vivid",
                "memorable",
                "splendid",
            ],
            &["clumsy", "tedious", "dull", "lazy", "silly", "choppy", "bland", "absurd"],
        ),
    },
    Genre {
        name: "horror film",
        plural: "horror films",
        parts: &[
            ("skeptical priest", "priest"),
            ("curious student", "student"),
            ("night watchman", "watchman"),
            ("young babysitter", "babysitter"),
        ],
        aims: &[
            "hears voices behind the wall",
            "wakes an ancient curse",
            "meets a ghost in the cellar",
            "cannot leave the house",
        ],
        places: &["in an old mansion", "at a deserted hospital", "deep in the woods"],
        own: own(
            &[("scares", true), ("monster", false), ("ghost scenes", true)],
            &[
                "inventive",
                "memorable",
                "striking",
                "haunting",
                "clever",
                "vivid",
                "original",
                "stunning",
            ],
            &["cheap", "silly", "predictable", "lame", "stale", "absurd", "generic", "lazy"],
        ),
    },
    Genre {
        name: "romance",
        plural: "romances",
        parts: &[
            ("busy florist", "florist"),
            ("divorced architect", "architect"),
            ("traveling poet", "poet"),
            ("young baker", "baker"),
        ],
        aims: &[
            "falls for a married stranger",
            "writes letters to an old flame",
            "must choose between love and work",
            "meets the right person too late",
        ],
        places: &["in Paris in the spring", "on the coast of Italy", "in a sleepy bookshop"],
        own: own(
            &[("chemistry", false), ("love scenes", true), ("courtship", false)],
            &[
                "warm",
                "charming",
                "touching",
                "believable",
                "natural",
                "lovely",
                "honest",
                "delightful",
            ],
            &["forced", "awkward", "wooden", "lifeless", "banal", "hollow", "stilted", "tedious"],
        ),
    },
    Genre {
        name: "space adventure",
        plural: "space adventures",
        parts: &[
            ("reckless pilot", "pilot"),
            ("loyal engineer", "engineer"),
            ("stranded astronaut", "astronaut"),
            ("rogue scientist", "scientist"),
        ],
        aims: &[
            "answers a signal from a dead moon",
            "must repair a drifting ship",
            "leads a colony to safety",
            "discovers life beneath the ice",
        ],
        places: &["at the edge of the galaxy", "on a station near Mars", "in the year 2300"],
        own: own(
            &[("special effects", true), ("space battles", true), ("alien world", false)],
            &[
                "stunning",
                "inventive",
                "gorgeous",
                "striking",
                "exciting",
                "vivid",
                "original",
                "splendid",
            ],
            &["cheap", "generic", "drab", "murky", "silly", "sloppy", "ugly", "shabby"],
        ),
    },
    Genre {
        name: "war film",
        plural: "war films",
        parts: &[
            ("young medic", "medic"),
            ("weary sergeant", "sergeant"),
            ("captured officer", "officer"),
            ("brave radio operator", "operator"),
        ],
        aims: &[
            "must carry a message behind enemy lines",
            "leads a lost platoon home",
            "refuses an order to fire",
            "protects a bombed village",
        ],
        places: &["in France in 1944", "during a bitter siege", "on a frozen front"],
        own: own(
            &[("battle scenes", true), ("combat", false), ("trench scenes", true)],
            &[
                "powerful",
                "gripping",
                "stunning",
                "convincing",
                "haunting",
                "vivid",
                "stirring",
                "honest",
            ],
            &["confusing", "choppy", "cheap", "murky", "lifeless", "tedious", "clumsy", "generic"],
        ),
    },
    Genre {
        name: "musical",
        plural: "musicals",
        parts: &[
            ("hopeful dancer", "dancer"),
            ("fading singer", "singer"),
            ("street violinist", "violinist"),
            ("young composer", "composer"),
        ],
        aims: &[
            "dreams of a stage on Broadway",
            "gets one chance to replace the star",
            "forms a band with two rivals",
            "must finish a show by Christmas",
        ],
        places: &["in old New Orleans", "backstage at a grand theater", "in a jazz club"],
        own: own(
            &[("songs", true), ("dance numbers", true), ("singing", false)],
            &[
                "lively",
                "stirring",
                "lovely",
                "splendid",
                "memorable",
                "fresh",
                "wonderful",
                "exciting",
            ],
            &[
                "grating",
                "forgettable",
                "awful",
                "bland",
                "painful",
                "sluggish",
                "awkward",
                "generic",
            ],
        ),
    },
    Genre {
        name: "heist movie",
        plural: "heist movies",
        parts: &[
            ("charming thief", "thief"),
            ("careful forger", "forger"),
            ("former banker", "banker"),
            ("getaway driver", "driver"),
        ],
        aims: &[
            "plans to rob a casino",
            "steals the wrong painting",
            "breaks into a guarded vault",
            "is betrayed by an old partner",
        ],
        places: &["in Las Vegas", "at a museum in London", "over one hot weekend"],
        own: own(
            &[("robbery scenes", true), ("big plan", false), ("car chases", true)],
            &[
                "clever",
                "exciting",
                "tight",
                "smart",
                "inventive",
                "brisk",
                "intriguing",
                "brilliant",
            ],
            &["absurd", "muddled", "confusing", "predictable", "dull", "sloppy", "lame", "tedious"],
        ),
    },
    Genre {
        name: "fantasy",
        plural: "fantasies",
        parts: &[
            ("stubborn orphan", "orphan"),
            ("exiled princess", "princess"),
            ("clumsy wizard", "wizard"),
            ("humble blacksmith", "blacksmith"),
        ],
        aims: &[
            "must return a stolen sword",
            "befriends the last dragon",
            "crosses a cursed land",
            "opens a door to another world",
        ],
        places: &["in a land of giants", "in a floating castle", "at the end of an age"],
        own: own(
            &[("creatures", true), ("magic", false), ("invented world", false)],
            &[
                "inventive",
                "original",
                "charming",
                "gorgeous",
                "vivid",
                "splendid",
                "striking",
                "delightful",
            ],
            &["generic", "cheap", "silly", "bland", "ugly", "confusing", "stale", "lazy"],
        ),
    },
    Genre {
        name: "crime story",
        plural: "crime stories",
        parts: &[
            ("stubborn detective", "detective"),
            ("crooked judge", "judge"),
            ("rookie reporter", "reporter"),
            ("aging gangster", "gangster"),
        ],
        aims: &[
            "hunts a killer through the city",
            "reopens an old murder case",
            "takes a bribe and regrets it",
            "searches for a missing girl",
        ],
        places: &["in Detroit after dark", "in a corrupt border town", "on the docks of Marseille"],
        own: own(
            &[("mystery", false), ("courtroom scenes", true), ("investigation", false)],
            &[
                "intriguing",
                "gripping",
                "smart",
                "tight",
                "clever",
                "complex",
                "believable",
                "sharp",
            ],
            &["confusing", "thin", "predictable", "sluggish", "absurd", "messy", "tedious", "lame"],
        ),
    },
];

/// Number of distinct titles of the commonest pattern, for the bound in the tests.
#[cfg(test)]
pub fn plain_titles() -> u64 {
    (TITLE_EPITHETS.len() * TITLE_NOUNS.len()) as u64
}

impl Person {
    fn draw(draw: &mut Draw) -> Self {
        let female = draw.chance(50);
        Person {
            first: draw.pick(if female { FEMALE } else { MALE }),
            last: draw.pick(LAST),
            female,
        }
    }

    pub fn full(&self) -> String {
        format!("{} {}", self.first, self.last)
    }
}

fn title(draw: &mut Draw) -> String {
    let noun = draw.pick(TITLE_NOUNS);
    match draw.below(10) {
        0..=4 => format!("The {} {noun}", draw.pick(TITLE_EPITHETS)),
        5 => format!("{noun} of {}", draw.pick(TITLE_PLACES)),
        6 => format!("A {} in {}", noun, draw.pick(TITLE_PLACES)),
        7 => format!("{} the {noun}", draw.pick(TITLE_STARTS)),
        8 => {
            let name = if draw.chance(50) { draw.pick(FEMALE) } else { draw.pick(MALE) };
            format!("{name} and the {noun}")
        }
        _ => format!("The {noun} of {}", draw.pick(TITLE_PLACES)),
    }
}

impl Film {
    pub fn draw(draw: &mut Draw) -> Self {
        let genre = &GENRES[draw.below(GENRES.len())];
        let lead = Person::draw(draw);
        let mut director = Person::draw(draw);
        while director.last == lead.last {
            director = Person::draw(draw);
        }
        let mut part = *draw.pick_ref(genre.parts);
        // "widow" and "princess" are the two parts that only a woman plays, "groom" the one that
        // only a man does.
        while (!lead.female && matches!(part.1, "widow" | "princess"))
            || (lead.female && matches!(part.1, "groom" | "watchman"))
        {
            part = *draw.pick_ref(genre.parts);
        }
        let (aim, place) = (draw.pick(genre.aims), draw.pick(genre.places));
        Film {
            title: title(draw),
            year: 1950 + draw.below(70) as u32,
            genre,
            director,
            lead,
            part,
            aim,
            place,
        }
    }
}
