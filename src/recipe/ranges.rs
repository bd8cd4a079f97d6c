//! The ranges that single keys must keep, checked by the schema of their fields.

use serde::Serialize;
use serde_json::Value;
use toml::Value as Toml;

use super::keys::Node;
use super::rules::Rules;

/// Tells every number of the recipe that is out of its key's range.
pub(super) fn rules(rules: &mut Rules) {
    // What a recipe holds came from TOML or goes into it.
    let Ok(values) = Toml::try_from(rules.recipe) else { return };
    walk(Node::root(), &values, &mut Vec::new(), rules);
}

/// The same of one table, as it would be with other values.
pub(super) fn rules_of(key: &str, table: &impl Serialize, rules: &mut Rules) {
    let Ok(values) = Toml::try_from(table) else { return };
    let Some(node) = Node::root().child(key, None) else { return };
    rules.once(|rules| walk(node, &values, &mut vec![key.to_owned()], rules));
}

fn walk(node: Node, value: &Toml, path: &mut Vec<String>, rules: &mut Rules) {
    let mut below = |key: String, value: &Toml, of: &Toml| {
        let Some(node) = node.child(&key, Some(of)) else { return };
        path.push(key);
        walk(node, value, path, rules);
        path.pop();
    };
    match value {
        Toml::Table(table) => {
            table.iter().for_each(|(key, inner)| below(key.clone(), inner, value));
        }
        Toml::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(index, item)| below(index.to_string(), item, value));
        }
        Toml::Integer(number) => tell(node, *number as f64, path, rules),
        Toml::Float(number) => tell(node, *number, path, rules),
        _ => {}
    }
}

fn tell(node: Node, number: f64, path: &[String], rules: &mut Rules) {
    let range = Range::of(node);
    if range.holds(number) {
        return;
    }
    // A number of a list is told by the list.
    let (key, is) = match path.split_last() {
        Some((last, list)) if last.parse::<usize>().is_ok() => (list.join("."), "holds"),
        _ => (path.join("."), "is"),
    };
    let what = format!("`{key}` {is} {number}, expected {}", range.words());
    match node.keyword("x-hint").and_then(Value::as_str) {
        Some(hint) => rules.problem_hint(what, hint),
        None => rules.problem(what),
    }
}

/// The numbers that a key may be, in words; `None` where any will do.
pub(super) fn range_words(node: Node) -> Option<String> {
    let range = Range::of(node);
    let bounds = [range.least, range.above, range.most, range.below];
    // A count that cannot be below 0 is said by its type.
    let says_more = bounds != [Some(0.0), None, None, None] || node.type_words() == "number";
    (says_more && bounds.iter().any(Option::is_some)).then(|| range.words())
}

/// The numbers that a key may be.
struct Range {
    least: Option<f64>,
    above: Option<f64>,
    most: Option<f64>,
    below: Option<f64>,
}

impl Range {
    fn of(node: Node) -> Self {
        let number = |name| node.keyword(name).and_then(Value::as_f64);
        Self {
            least: number("minimum"),
            above: number("exclusiveMinimum"),
            most: number("maximum"),
            below: number("exclusiveMaximum"),
        }
    }

    fn holds(&self, number: f64) -> bool {
        number.is_finite()
            && self.least.is_none_or(|least| number >= least)
            && self.above.is_none_or(|above| number > above)
            && self.most.is_none_or(|most| number <= most)
            && self.below.is_none_or(|below| number < below)
    }

    fn words(&self) -> String {
        if let (Some(least), Some(most)) = (self.least, self.most) {
            return format!("{least} to {most}");
        }
        let from = match (self.least, self.above) {
            (Some(least), _) => format!("{least} or more"),
            (None, Some(above)) => format!("a number above {above}"),
            (None, None) => "a number".to_owned(),
        };
        let to = match (self.most, self.below) {
            (Some(most), _) => format!(" and up to {most}"),
            (None, Some(below)) => format!(" and below {below}"),
            (None, None) => String::new(),
        };
        from + &to
    }
}
