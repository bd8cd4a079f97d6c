//! What the lines mean that a program writes: numbers for the responses that it was asked about, in
//! their order, or by their ids. Knows texts and numbers only.

use std::collections::{HashMap, VecDeque};

use serde_json::Value;

/// The answers to one group of responses.
pub struct Answers<'a> {
    ids: &'a [&'a str],
    rewards: Vec<Option<f64>>,
    /// Places without an answer, in the order in which the program was asked about them.
    due: VecDeque<usize>,
    places: HashMap<&'a str, usize>,
    /// How many were handed on.
    told: usize,
}

impl<'a> Answers<'a> {
    pub fn new(ids: &'a [&'a str]) -> Self {
        let places = ids.iter().enumerate().map(|(place, id)| (*id, place)).collect();
        Self { ids, rewards: vec![None; ids.len()], due: (0..ids.len()).collect(), places, told: 0 }
    }

    pub fn are_all_there(&self) -> bool {
        self.due.is_empty()
    }

    /// The places of those without an answer.
    pub fn due(&self) -> Vec<usize> {
        self.due.iter().copied().collect()
    }

    /// The same in words.
    pub fn due_words(&self) -> String {
        let first = self.due.front().map_or("", |&place| self.ids[place]);
        match self.due.len() {
            1 => format!("`{first}`"),
            due => format!("`{first}` and {} more", due.saturating_sub(1)),
        }
    }

    /// Takes a line, and gives the rewards that it makes known in order: none where one before them
    /// is not there yet.
    ///
    /// # Errors
    /// What is wrong with the line, and which response it is about.
    pub fn take(&mut self, line: &str) -> Result<Vec<f64>, String> {
        let parsed: Option<Value> = serde_json::from_str(line).ok();
        let (place, reward) = match parsed {
            Some(Value::Object(object)) => self.of_object(line, &object)?,
            Some(Value::Number(number)) => (self.next(line)?, number.as_f64()),
            // JSON has no word for NaN, and Python has.
            None => (self.next(line)?, line.trim().parse().ok()),
            Some(_) => (self.next(line)?, None),
        };
        let reward = reward.filter(|reward| reward.is_finite()).ok_or_else(|| {
            format!(
                "wrote {line:?} for `{}`, which is no finite number\n\nhint: its output is for one \
                 number a line alone; print all else to stderr",
                self.ids[place]
            )
        })?;
        self.rewards[place] = Some(reward);
        self.due.retain(|&due| due != place);
        let known = self.rewards[self.told..].iter().map_while(|reward| *reward);
        let known: Vec<f64> = known.collect();
        self.told += known.len();
        Ok(known)
    }

    /// The response that a bare number is about.
    fn next(&self, line: &str) -> Result<usize, String> {
        let next = self.due.front().copied();
        next.ok_or_else(|| format!("wrote the line {line:?} when all was judged"))
    }

    fn of_object(
        &self,
        line: &str,
        object: &serde_json::Map<String, Value>,
    ) -> Result<(usize, Option<f64>), String> {
        let id = object.get("id").and_then(Value::as_str);
        let id = id.ok_or_else(|| format!("wrote {line:?}, which has no `id`"))?;
        let place = self.places.get(id).copied();
        let place =
            place.ok_or_else(|| format!("wrote {line:?}, but it was not asked about `{id}`"))?;
        if self.rewards[place].is_some() {
            return Err(format!("wrote {line:?}, but had judged `{id}` before"));
        }
        Ok((place, object.get("reward").and_then(Value::as_f64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_by_order_and_objects_by_id() {
        let ids = ["a", "b", "c", "d"];
        let mut answers = Answers::new(&ids);
        assert_eq!(answers.take("1.5"), Ok(vec![1.5]));
        assert_eq!(answers.take(r#"{"id": "c", "reward": -3}"#), Ok(vec![]));
        assert_eq!((answers.due(), answers.due_words()), (vec![1, 3], "`b` and 1 more".to_owned()));
        assert_eq!(answers.take(" 2e1 "), Ok(vec![20.0, -3.0]), "what waited comes with it");
        assert!(!answers.are_all_there());
        assert_eq!(answers.take("0"), Ok(vec![0.0]));
        assert!(answers.are_all_there());
        assert!(answers.take("0").unwrap_err().contains("when all was judged"));
    }

    #[test]
    fn what_is_no_reward_is_named_with_its_line_and_id() {
        let ids = ["a", "b"];
        for (line, told) in [
            ("nan", r#"wrote "nan" for `a`, which is no finite number"#),
            ("-inf", "no finite number"),
            ("", "no finite number"),
            ("loading weights", r#"wrote "loading weights" for `a`"#),
            ("true", "no finite number"),
            ("[1]", "no finite number"),
            (r#"{"id": "b", "reward": NaN}"#, "no finite number"),
            (r#"{"id": "b", "reward": "1"}"#, "for `b`, which is no finite number"),
            (r#"{"id": "b"}"#, "for `b`, which is no finite number"),
            (r#"{"reward": 1}"#, "has no `id`"),
            (r#"{"id": "x", "reward": 1}"#, "was not asked about `x`"),
        ] {
            let wrong = Answers::new(&ids).take(line).unwrap_err();
            assert!(wrong.contains(told), "{line}: {wrong}");
        }
        let mut answers = Answers::new(&ids);
        answers.take(r#"{"id": "b", "reward": 1}"#).unwrap();
        let twice = answers.take(r#"{"id": "b", "reward": 1}"#).unwrap_err();
        assert!(twice.contains("had judged `b` before"), "{twice}");
    }
}
