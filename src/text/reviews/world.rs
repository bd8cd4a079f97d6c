//! The facts of one made-up film: title, year, genre, director, lead, part and place. They are
//! drawn once for each review, so that whatever is named early agrees with what comes later.

use super::draw::Draw;
use super::genres::{GENRES, Genre};

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
