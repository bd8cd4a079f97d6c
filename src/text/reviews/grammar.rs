//! The sentence skeletons. A slot in braces is filled by `writer.rs`:
//!
//! - `{+name}` has the polarity of the text around it, `{-name}` the opposite one: clauses
//!   (`clause`, `plain` without a turn, `said` by others, `film` about the whole, `part` and
//!   `part_plain` about the lead), a noun phrase (`np`), words (`adj`, `noun`, …);
//! - `{np}` is the aspect being judged, `{a:is|are}` agrees with it, `{k:says|say}` agrees with the
//!   `{kin}` just named;
//! - any other name is a fact of the film or a neutral word.
//!
//! What a `-` slot says is always denied or conceded by its skeleton, so the whole keeps the
//! polarity it was asked for.

/// Openings that say nothing about the label; short, so that the judgements start early.
pub static OPENINGS: &[&str] = &[
    "{title} is a {genre} from {year}, directed by {director}.",
    "{title} is a {year} {genre} set {place}.",
    "{title} is a {genre} about a {part} who {aim}.",
    "{title} tells the story of a {part} who {aim}.",
    "{title} follows a {part}, played by {lead}, {place}.",
    "{title} stars {lead} as a {part} who {aim}.",
    "{title}, directed by {director}, is a {genre} set {place}.",
    "{title}, a {year} {genre} by {director}, stars {lead}.",
    "{title}, a {genre} with {lead}, takes place {place}.",
    "{title} opens {place}, where a {part} {aim}.",
    "{title} was made in {year} by {director} and stars {lead}.",
    "{title} is the third {genre} that {director} has made.",
    "{title} brings {lead} and director {director} together again.",
    "{title} has a simple idea: a {part} {aim}.",
    "{title} came out in {year}, and I saw it with {company}.",
    "In {title}, a {part} {aim}.",
    "In {title}, {lead} plays a {part} who {aim}.",
    "In {title}, {director} takes us back to {year}.",
    "In this {genre} from {year}, {title}, a {part} {aim}.",
    "I saw {title} last night with {company}.",
    "I saw {title} in {year}, when it was new.",
    "I watched {title} on a long flight with {company}.",
    "I watched {title} at home on a rainy Sunday with {company}.",
    "I rented {title}, a {genre} by {director}, last weekend.",
    "I took {company} to see {title}, a {genre} from {year}.",
    "I went to see {title} because of {lead}.",
    "I picked {title} because {director} directed it.",
    "I had never heard of {title}, a {year} {genre} with {lead}.",
    "I knew little about {title}, a {genre} set {place}.",
    "I read the book before I saw {title}, the {genre} by {director}.",
    "Last week I finally watched {title}, a {genre} by {director}.",
    "Last night our film club showed {title}, a {genre} from {year}.",
    "Yesterday I saw {title}, a {genre} about a {part}.",
    "On Friday I took {company} to see {title}.",
    "After many years I watched {title} again with {company}.",
    "After a long day I sat down to watch {title} with {company}.",
    "Directed by {director}, {title} follows a {part} who {aim}.",
    "Directed by {director} in {year}, {title} stars {lead}.",
    "Set {place}, {title} tells of a {part} who {aim}.",
    "Set {place}, {title} gives {lead} the part of a {part}.",
    "Made in {year}, {title} is a {genre} about a {part}.",
    "With {title}, {director} tries to make a {genre} for everyone.",
    "With {lead} as a {part}, {title} is a {genre} set {place}.",
    "The {genre} {title} stars {lead} as a {part}.",
    "The new {genre} by {director}, {title}, stars {lead}.",
    "The idea of {title} is simple: a {part} {aim}.",
    "The hero of {title} is a {part} who {aim}.",
    "{lead} plays a {part} in {title}, a {genre} from {year}.",
    "{lead} is a {part} who {aim} in {title}.",
    "{lead} stars in {title}, a {genre} set {place}.",
    "{director} directed {title} in {year} with {lead} in the lead.",
    "{director} made {title}, a {genre} set {place}, in {year}.",
    "A {part} {aim} in {title}, a {genre} by {director}.",
    "A {genre} set {place}, {title} stars {lead} as a {part}.",
    "Here is {title}, a {genre} in which a {part} {aim}.",
    "There are many {genres} about a {part}, and {title} is one.",
    "What happens when a {part} {aim} in {title}, the {genre} by {director}?",
    "Ever since {year}, people have argued about {title}, a {genre} by {director}.",
    "When {director} made {title}, {lead} was not yet a star.",
    "Before {title}, I knew {lead} only from {genres}.",
];

/// Openings that report another opinion or a hope; their polarity is drawn without looking at the
/// label.
pub static REPORTED: &[&str] = &[
    "{kin} {+liked} {title}, a {genre} about a {part},",
    "{kin} {+liked} {title}, the {year} {genre} by {director},",
    "{kin} told me to {+advice} {title}, a {genre} by {director},",
    "{kin} always {+liked} {title}, a {genre} set {place},",
    "I expected a {+film_noun} from {title}, a {genre} by {director},",
    "I expected {title}, the {genre} with {lead}, to be {+film_adj},",
    "The poster made {title}, a {genre} by {director}, look {+film_adj},",
    "People say that {title}, a {genre} with {lead}, is {+film_adj},",
];
/// How a reported opening goes on where it was right …
pub static REPORT_RIGHT: &[&str] = &[
    "and I can see why.",
    "and for once that is right.",
    "and I agree: {+plain}.",
    "and {+plain}.",
    "and indeed {+plain}.",
    "and it was no mistake: {+plain}.",
];
/// … and where it was wrong.
pub static REPORT_WRONG: &[&str] = &[
    "and I cannot see why.",
    "and for once that is wrong.",
    "but I disagree: {+plain}.",
    "but {+plain}.",
    "yet {+plain}.",
    "but it was a mistake: {+plain}.",
];

/// Clauses that say straight what they mean.
pub static DIRECT: &[&str] = &[
    "{np} {a:is|are} {+adj}",
    "{np} {a:is|are} {adverb} {+adj}",
    "{np} {a:is|are} {+adj} and {+adj}",
    "{np} {a:feels|feel} {+adj}",
    "{np} {a:remains|remain} {+adj} from start to finish",
    "{np} {a:is|are} {+adj} in every way",
    "{np} {a:is|are} as {+adj} as can be",
    "{np} {a:is|are} nothing if not {+adj}",
    "anybody would call {np} {+adj}",
    "there is something {+adj} about {np}",
    "{np} {a:is|are} a {+noun}",
    "{np} {a:is|are} a real {+noun}",
    "{np} {a:is|are} nothing but a {+noun}",
    "it is easy to {+like} {np}",
    "nobody can help but {+like} {np}",
];
/// The same in the first person, so not for reported speech.
pub static MY_DIRECT: &[&str] = &[
    "{np} {a:seems|seem} {+adj} to me",
    "I found {np} {+adj}",
    "I would call {np} {+adj}",
    "{np} {a:manages|manage} to {+effect}",
    "{np} never {a:fails|fail} to {+effect}",
    "{np} could not fail to {+effect}",
    "{np} really {a:does|do} {+effect}",
    "I was {+felt} by {np}",
    "I was always {+felt} by {np}",
    "{np} left me {+felt}",
    "I came to {+like} {np}",
    "I found much to {+like} in {np}",
    "I could only {+like} {np}",
];

/// Clauses that deny the opposite.
pub static NEGATED: &[&str] = &[
    "{np} {a:is|are} not {-adj}",
    "{np} {a:is|are} never {-adj}",
    "{np} {a:is|are} hardly {-adj}",
    "{np} {a:is|are} hardly ever {-adj}",
    "{np} {a:is|are} far from {-adj}",
    "{np} {a:is|are} anything but {-adj}",
    "{np} {a:is|are} by no means {-adj}",
    "{np} {a:is|are} in no way {-adj}",
    "{np} {a:is|are} neither {-adj} nor {-adj}",
    "{np} {a:is|are} not {-adj} at all",
    "{np} {a:is|are} not in the least {-adj}",
    "{np} never {a:feels|feel} {-adj}",
    "{np} {a:does|do} not feel {-adj}",
    "nobody would call {np} {-adj}",
    "there is nothing {-adj} about {np}",
    "{np} {a:is|are} no {-noun}",
    "{np} {a:is|are} hardly a {-noun}",
    "{np} {a:is|are} anything but a {-noun}",
    "it is hard to {-like} {np}",
];
/// The same in the first person, so not for reported speech.
pub static MY_NEGATED: &[&str] = &[
    "I did not find {np} {-adj}",
    "I would not call {np} {-adj}",
    "{np} never {a:manages|manage} to {-effect}",
    "{np} {a:does|do} not {-effect}",
    "{np} could not {-effect}",
    "I was never {-felt} by {np}",
    "I was not {-felt} by {np}",
    "{np} did not leave me {-felt}",
    "I could not {-like} {np}",
    "I found little to {-like} in {np}",
    "I never came to {-like} {np}",
];

/// Clauses that weigh one word against its opposite; the second thought, or what is said to be more
/// true, counts.
pub static TURNED: &[&str] = &[
    "{np} {a:is|are} {-adj} on paper but {+adj} on screen",
    "{np} {a:is|are} {-adj} now and then but {+adj} on the whole",
    "{np} {a:is|are} {-adj} for a minute and {+adj} after that",
    "{np} {a:is|are} not {-adj} but {+adj}",
    "{np} {a:is|are} more {+adj} than {-adj}",
    "{np} {a:is|are} less {-adj} than {+adj}",
    "{np} {a:is|are} too {+adj} to be {-adj}",
    "{np} {a:is|are} {+adj} rather than {-adj}",
    "{np} {a:seems|seem} {-adj} but {a:is|are} {+adj}",
    "{np} may seem {-adj}, but {a:it is|they are} {+adj}",
    "{np} could have been {-adj}; {a:it is|they are} {+adj} instead",
    "I expected {np} to be {-adj}, but {a:it is|they are} {+adj}",
    "I had heard that {np} {a:was|were} {-adj}, but {a:it is|they are} {+adj}",
    "{np}, which others call {-adj}, left me {+felt}",
];

/// The same three kinds for the lead, who has just been named.
pub static PART_DIRECT: &[&str] = &[
    "{he} is {+performance}",
    "{he} is {adverb} {+performance}",
    "{he} is {+performance} and {+performance}",
    "{he} gives a {+performance} performance",
    "{his} work is {+performance}",
    "I found {him} {+performance}",
    "I was {+felt} by {him}",
    "{he} manages to {+effect}",
    "{he} never fails to {+effect}",
    "{his} face alone could {+effect}",
    "I came to {+like} {his} way of playing it",
    "{he} is a {+noun}",
];
pub static PART_NEGATED: &[&str] = &[
    "{he} is never {-performance}",
    "{he} is not {-performance}",
    "{he} is far from {-performance}",
    "{he} is anything but {-performance}",
    "{he} is neither {-performance} nor {-performance}",
    "{his} work is hardly {-performance}",
    "{his} work is by no means {-performance}",
    "nobody would call {him} {-performance}",
    "I was never {-felt} by {him}",
    "{he} does not {-effect}",
    "{he} never manages to {-effect}",
    "{he} is no {-noun}",
];
pub static PART_TURNED: &[&str] = &[
    "{he} is {-performance} at first but soon {+performance}",
    "{he} is more {+performance} than {-performance}",
    "{he} is not {-performance} but {+performance}",
    "{he} looks {-performance} but is {+performance}",
    "{he} could have been {-performance}, but {he} is {+performance}",
    "{he} may seem {-performance}, but {he} left me {+felt}",
];

/// Sentences about the lead, by what the reader knows by then: neither part nor lead (or the lead
/// alone), …
pub static PART_NEW: &[&str] = &[
    "{lead} plays a {part} who {aim}, and {+part}.",
    "{lead} is a {part} who {aim}, and {+part}.",
    "{lead} plays the lead, a {part} who {aim}, and {+part}.",
    "It is about a {part} who {aim}; {lead} plays the part, and {+part}.",
    "A {part} {aim}, {lead} takes the lead, and {+part}.",
    "{lead} plays a {part}. {-part_plain}, but {+plain}.",
    "{lead} plays a {part} who {aim}. {+part_plain}, and {+plain}.",
];
/// … the part but not who plays it, …
pub static PART_CAST: &[&str] = &[
    "The {head} is played by {lead}, and {+part}.",
    "{lead} plays the {head}, and {+part}.",
    "{lead} has the part of the {head}, and {+part}.",
    "The {head} is {lead}, and {+part}.",
    "{lead} plays the {head}. {-part_plain}, but {+plain}.",
    "{lead} plays the {head}. {+part_plain}, and {+plain}.",
];
/// … or both.
pub static PART_KNOWN: &[&str] = &[
    "{lead} is in almost every scene, and {+part}.",
    "{lead} has a hard task as the {head}, and {+part}.",
    "We see a lot of {lead} as the {head}, and {+part}.",
    "The {head} suits {lead}, some say; I say that {+part}.",
    "As for {lead}, {+part}.",
    "As for {lead} as the {head}, {+part}.",
    "As for {lead}, {-part_plain}, but {+plain}.",
    "As for {lead}, {+part_plain}, and {+plain}.",
];

/// Sentences that lean one way.
pub static PLAIN: &[&str] = &[
    "{+clause}.",
    "{+clause}.",
    "{hedge} {+clause}.",
    "{hedge} {+plain}, and {+plain}.",
    "{+plain}, and {+plain}.",
    "{+plain}, and what is more, {+plain}.",
    "{+plain}, {+plain}, and {+plain}.",
    "{+plain}; {+plain}.",
    "Not only that: {+clause}.",
    "{kin} {k:says|say} that {+said}, and I agree.",
    "{kin} {k:thinks|think} that {+said}, and {they are} right.",
    "The critics wrote that {+said}, and they were right.",
    "I was told that {+said}, and it is true.",
    "{np?} {+adj}? Very much so.",
    "{np?} {-adj}? Not for a moment.",
    "{np?} {-adj}? Not at all; {+plain}.",
    "{np?} {+adj}? It could not be more so, and {+plain}.",
    "As a {genre}, it is {+film_adj}.",
    "As a {genre}, it is far from {-film_adj}.",
    "As {genres} go, it is hardly {-film_adj}.",
    "Unlike most {genres}, it is never {-film_adj}.",
    "Like most {genres}, it is {adverb} {+film_adj}.",
    "The film is as {+film_adj} as any {genre} I know.",
    "The film is less {-film_adj} than most {genres}.",
    "Like the last film by {director}, it is {+film_adj}.",
    "{+film}, and {+plain}.",
    "{+np} could {+change} any film.",
    "{+np} {a:helps|help} to {+change} the film.",
    "{director} directs, and {+plain}.",
    "{director} is behind the camera, and {+clause}.",
];

/// Sentences that give the other side its due before, or after, they decide.
pub static CONTRAST: &[&str] = &[
    "{-plain}, but {+plain}.",
    "{-plain}, but {+plain}.",
    "{-plain}, yet {+plain}.",
    "{-plain}; however, {+plain}.",
    "{-plain}. Still, {+plain}.",
    "{-plain}. Even so, {+plain}, and {+plain}.",
    "Granted, {-plain}, but {+plain}.",
    "To be fair, {-plain}, but {+plain}.",
    "I admit that {-plain}, yet {+plain}.",
    "It is true that {-said}, but {+plain}.",
    "Of course {-plain}, but {+plain}.",
    "Although {-plain}, {+plain}.",
    "Even though {-plain}, {+plain}.",
    "While {-plain}, {+plain}.",
    "Despite {-np}, {+plain}.",
    "In spite of {-np}, {+plain}.",
    "For all of {-np}, {+plain}.",
    "Never mind {-np}: {+plain}, and {+plain}.",
    "Not even {-np} can {-change} the film, because {+plain}.",
    "{+plain}, even if {-plain}.",
    "{+plain}, despite {-np}.",
    "{+plain}, although {-plain}.",
    "{kin} {k:says|say} that {-said}, but I think that {+plain}.",
    "{kin} {k:was|were} {-felt}; I was {+felt}, because {+plain}.",
    "The critics wrote that {-said}, but I think that {+plain}.",
    "Some will say that {-said}, but {+plain}.",
    "I was told that {-said}; in truth, {+plain}.",
    "I expected to be {-felt}, but {+plain}.",
    "I thought I would {-like} it, but {+plain}.",
];

/// Closing sentences; the film is named again. Each has the polarity of the review.
pub static VERDICTS: &[&str] = &[
    "All in all, {+film}.",
    "In the end, {+film}.",
    "On the whole, {+film}.",
    "To sum up, {+film}.",
    "When the lights came on, I was {+felt}: {+film}.",
    "In the end, {title} is a {+film_noun}.",
    "In the end, {title} is no {-film_noun}.",
    "All in all, {title} is anything but a {-film_noun}.",
    "Call {title} what you like, but it is a {+film_noun}.",
    "Call {title} what you like, but not a {-film_noun}.",
    "My verdict on {title}: {+film_adj} and never {-film_adj}.",
    "My verdict on {title}: more {+film_noun} than {-film_noun}.",
    "You should {+advice} {title}.",
    "You should not {-advice} {title}.",
    "I would {+advice} {title}, because {+plain}.",
    "I would not {-advice} {title}, because {+plain}.",
    "There is every reason to {+advice} {title}.",
    "There is no reason to {-advice} {title}.",
    "If you like {genres}, {+advice} {title}.",
    "If you like {genres}, do not {-advice} {title}.",
    "I can only tell you to {+advice} {title}.",
    "I cannot tell anyone to {-advice} {title}.",
    "So is {title} {-film_adj}? No, {+film}.",
    "So is {title} {+film_adj}? Yes, and {+plain}.",
    "So is {title} a {-film_noun}? Not at all.",
    "So is {title} a {+film_noun}? It certainly is.",
    "Will you {-like} {title}? I doubt it.",
    "Will you {+like} {title}? I am sure of it.",
    "{title} may not be a {-film_noun}, and {+film}.",
    "I left {title} {+felt}, not {-felt}.",
    "I did not leave {title} {-felt}, and I would {+advice} it.",
    "Nobody will be {-felt} by {title}, and I would not {-advice} it.",
    "Others may {-like} {title}; I {+liked} it.",
    "{lead} and {director} have made a {+film_noun}, and {title} is never {-film_adj}.",
];

/// Closings where what a film is worth, or the marks it gets, depends on the label itself.
pub static GOOD_VERDICTS: &[&str] = &[
    "So is {title} worth {worth}? Yes, because {+plain}.",
    "{title} is worth {worth}, and {+film}.",
    "Is {title} a waste of time? No, {+film}.",
    "I give {title} {high} out of 10, because {+plain}.",
    "{high}/10 for {title}: {+film_adj}, never {-film_adj}.",
    "My rating for {title} is a {high}/10.",
];
pub static BAD_VERDICTS: &[&str] = &[
    "So is {title} worth {worth}? No, because {+plain}.",
    "{title} is not worth {worth}, and {+film}.",
    "Is {title} a waste of time? Yes, and {+film}.",
    "I give {title} {low} out of 10, because {+plain}.",
    "{low}/10 for {title}: {+film_adj}, never {-film_adj}.",
    "My rating for {title} is a {low}/10.",
];
