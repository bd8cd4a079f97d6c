//! How a recipe spells methods: a `[[steer.method]]` with its `kind`, which names a search or what
//! is sampled once, and its keys. What a sweep over keys means is in `method_sweep.rs`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

use super::super::deserialize::{self, Node, Problem, unexpected};
use super::chunk_len::ChunkLens;
use super::method::{Method, Proposal};
use super::method_sweep::{COMMON, Sweep, SweptRow};
use crate::search::{Kind, Sample, Search};

/// The kind of samples of the base and its guides together: emulated fine-tuning.
pub const EFT: &str = "eft";
pub(super) const PPO: &str = "ppo";

/// A kind that names what is sampled once; all others name a search.
pub(super) struct Sampled {
    pub kind: &'static str,
    /// What it does, for the page of all keys.
    pub words: &'static str,
    /// Its own keys.
    pub keys: &'static [&'static str],
}

pub(super) const SAMPLED: [Sampled; 5] = [
    Sampled {
        kind: EFT,
        words: "Emulated fine-tuning: samples log π_base + weight · (log π* − log π_ref), token by \
                token, once for each weight (`eft-0.5`, `eft-2` where there are several). Needs \
                guides with the base's vocabulary. Weight 0 is the base. The paper writes 1/β for \
                the weight, and the released code's `beta` is the weight itself. A base that \
                others serve needs `api.tokenizer`, and a server that tells all next tokens: \
                llama.cpp, or vLLM with `--max-logprobs -1`.",
        keys: &["weights"],
    },
    Sampled { kind: "tuned", words: "Samples the tuned guide alone.", keys: &[] },
    Sampled { kind: "untuned", words: "Samples the untuned guide alone.", keys: &[] },
    Sampled { kind: "direct", words: "Samples what `[direct]` made of the base.", keys: &[] },
    Sampled {
        kind: PPO,
        words: "Samples what `[ppo]` made of `ppo.policy`, which must be among `bases`; once for \
                each chunk length (`ppo-5`, `ppo-inf` where there are several). Each seed samples \
                the model that was trained with it.",
        keys: &["chunk_len"],
    },
];

/// One `[[steer.method]]`: a method, or several that differ in what proposes or in swept keys.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodTable {
    kind: &'static str,
    name: Option<String>,
    /// The bases that it steers, where these are not all.
    pub bases: Option<Vec<String>>,
    pub(super) sweep: Option<Sweep>,
    /// One for each row of the sweep; without one there is one.
    pub rows: Vec<MethodRow>,
}

/// Methods with one search: several where a list of weights or chunk lengths says what proposes.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodRow {
    /// Its name below `steer/<base>/`, but for what tells its proposals apart.
    name: String,
    kind: &'static str,
    /// One for each weight of `eft` and each chunk length of `ppo`; else one.
    pub proposals: Vec<Proposal>,
    pub search: Search,
}

impl MethodTable {
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Its methods with the names of their folders below `steer/<base>/`: `name` or the kind, with
    /// the swept values behind it.
    pub fn methods(&self) -> Vec<(String, Method)> {
        self.rows.iter().flat_map(MethodRow::methods).collect()
    }

    pub fn names(&self) -> Vec<String> {
        self.methods().into_iter().map(|(name, _)| name).collect()
    }

    /// Whether it steers `base`, one of `steer.bases`.
    pub fn steers(&self, base: &str) -> bool {
        self.bases.as_ref().is_none_or(|bases| bases.iter().any(|known| known == base))
    }

    /// Those of `all`, which are `steer.bases`, that it steers.
    pub fn bases_of<'a>(&self, all: &'a [String]) -> Vec<&'a str> {
        all.iter().map(String::as_str).filter(|base| self.steers(base)).collect()
    }

    /// Whether one of its methods samples what `is_such` says.
    pub fn proposes(&self, is_such: impl Fn(&Proposal) -> bool) -> bool {
        self.rows.iter().any(|row| row.proposes(&is_such))
    }

    /// The weights with which guides take part in what is sampled.
    pub(super) fn weights(&self) -> Vec<f64> {
        self.rows.iter().flat_map(MethodRow::weights).collect()
    }

    /// The chunk lengths of a method that samples what `[ppo]` made.
    pub(super) fn ppo_chunk_lens(&self) -> Option<ChunkLens> {
        let length = |proposal: &Proposal| match proposal {
            Proposal::Ppo { chunk_len } => Some(*chunk_len),
            _ => None,
        };
        let all = self.rows.iter().flat_map(|row| &row.proposals);
        (self.kind == PPO).then(|| ChunkLens(all.filter_map(length).collect()))
    }
}

impl MethodRow {
    /// Its methods with their names.
    pub fn methods(&self) -> Vec<(String, Method)> {
        let Self { name, .. } = self;
        let is_list = self.proposals.len() > 1;
        let named = |proposal: &Proposal| match proposal {
            Proposal::Tilted { weight } if is_list => format!("{name}-{weight}"),
            Proposal::Ppo { chunk_len } if is_list => format!("{name}-{chunk_len}"),
            _ => name.clone(),
        };
        let method = |proposal| Method { proposal, search: self.search.clone() };
        self.proposals.iter().map(|proposal| (named(proposal), method(*proposal))).collect()
    }

    /// Whether one of its methods samples what `is_such` says.
    pub fn proposes(&self, is_such: impl Fn(&Proposal) -> bool) -> bool {
        self.proposals.iter().any(is_such)
    }

    /// Whether guides take part in what is sampled.
    pub fn is_tilted(&self) -> bool {
        self.kind == EFT || self.proposes(|proposal| proposal.tilt().is_some())
    }

    /// Whether one of its methods cannot do with guides of another vocabulary than the base's.
    pub fn needs_one_vocabulary(&self) -> bool {
        self.search.kind().one_vocabulary || self.is_tilted()
    }

    /// Whether one of its methods samples a guide alone.
    pub(super) fn samples_guides(&self) -> bool {
        let is_guide = |one: &Proposal| matches!(one, Proposal::Tuned | Proposal::Untuned);
        self.proposals.iter().any(is_guide)
    }

    /// Whether the methods of both are the same but for their names.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (&self.proposals, &self.search) == (&other.proposals, &other.search)
    }

    fn weights(&self) -> Vec<f64> {
        self.proposals.iter().filter_map(|proposal| proposal.tilt()).collect()
    }

    /// As `w2s check` says it.
    pub(super) fn words(&self) -> String {
        let weights = self.weights().iter().map(f64::to_string).collect::<Vec<_>>().join(", ");
        if self.kind == EFT {
            return format!("emulated fine-tuning with weight {weights}");
        }
        let proposal = self.proposals.first().copied().unwrap_or(Proposal::Base);
        let words = self.search.settings().words(proposal.words());
        match self.is_tilted() {
            true => format!("{words}, proposals tilted by the guides with weight {weights}"),
            false => words,
        }
    }
}

/// Whether methods of this kind may have a `tilt`; the tilted sample is `eft`.
pub fn takes_tilt(kind: &Kind) -> bool {
    kind.draws && kind.name != Sample::KIND.name
}

/// The kinds that need nothing but a base and guides: what draws, the sample that guides tilt, and
/// the other searches.
pub fn base_kinds() -> impl Iterator<Item = &'static str> {
    let named = |draws: bool| {
        Search::KINDS.iter().filter(move |kind| kind.draws == draws).map(|kind| kind.name)
    };
    named(true).chain([EFT]).chain(named(false))
}

/// All kinds, and the keys of each.
static KINDS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let sampled = SAMPLED.iter().map(|sampled| sampled.kind).filter(|kind| *kind != EFT);
    base_kinds().chain(sampled).collect()
});
static KEYS: LazyLock<BTreeMap<&'static str, Vec<&'static str>>> = LazyLock::new(|| {
    let searches = Search::KINDS.iter().map(|kind| {
        let own = Search::keys().iter().filter(|(of, _)| *of == kind.name);
        let own = own.map(|(_, key)| key.name.as_str());
        let tilt = takes_tilt(kind).then_some("tilt");
        (kind.name, COMMON.into_iter().chain(own).chain(tilt).collect())
    });
    let sampled = SAMPLED.iter().map(|sampled| (sampled.kind, [&COMMON, sampled.keys].concat()));
    searches.chain(sampled).collect()
});

impl<'de> Deserialize<'de> for MethodTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A plan's JSON has `null` for what is not said.
        let given = BTreeMap::<String, Option<Value>>::deserialize(deserializer)?;
        let mut given: Table =
            given.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        let kind = match given.remove("kind").ok_or_else(|| de::Error::missing_field("kind"))? {
            Value::String(kind) => kind,
            other => return Err(de::Error::invalid_type(unexpected(&other), &"a kind of method")),
        };
        let (&kind, keys) = KEYS
            .get_key_value(kind.as_str())
            .ok_or_else(|| <D::Error as de::Error>::unknown_variant(&kind, &KINDS))?;
        if let Some(unknown) = given.keys().find(|key| !keys.contains(&key.as_str())) {
            return Err(de::Error::unknown_field(unknown, keys));
        }
        let name: Option<String> = optional(&mut given, "name")?;
        let bases = optional(&mut given, "bases")?;
        let own = name.as_deref().unwrap_or(kind);
        let Some(sweep) = given.remove("sweep") else {
            let rows = vec![read_row(own.to_owned(), kind, given).map_err(Problem::told)?];
            return Ok(Self { kind, name, bases, sweep: None, rows });
        };
        let sweep = Sweep::read(sweep, kind, &keys[COMMON.len()..], &given);
        let sweep = sweep.map_err(de::Error::custom)?;
        let rows = sweep.rows.iter().map(|SweptRow { suffix, keys }| {
            let keys = keys.clone().into_iter().map(|(key, value)| match key == "weights" {
                true => (key, Value::Array(vec![value])),
                false => (key, value),
            });
            let all = given.clone().into_iter().chain(keys).collect();
            read_row(format!("{own}{suffix}"), kind, all).map_err(|problem| sweep.told(problem))
        });
        let rows: Vec<MethodRow> = rows.collect::<Result<_, D::Error>>()?;
        let is_again = |index: &usize| rows[..*index].iter().any(|row| row.is_same(&rows[*index]));
        if let Some(index) = (0..rows.len()).find(is_again) {
            let values = sweep.rows[index].suffix.trim_start_matches('-');
            return Err(de::Error::custom(format!("`sweep` holds `{values}` twice")));
        }
        Ok(Self { kind, name, bases, sweep: Some(sweep), rows })
    }
}

/// The methods of a table without [`COMMON`] keys.
fn read_row(name: String, kind: &'static str, mut given: Table) -> Result<MethodRow, Problem> {
    let proposals = match kind {
        EFT => required::<Vec<f64>>(&mut given, "weights")?
            .into_iter()
            .map(|weight| Proposal::Tilted { weight })
            .collect(),
        PPO => {
            let ChunkLens(lengths) = own(&mut given, "chunk_len")?.unwrap_or_default();
            lengths.into_iter().map(|chunk_len| Proposal::Ppo { chunk_len }).collect()
        }
        "tuned" => vec![Proposal::Tuned],
        "untuned" => vec![Proposal::Untuned],
        "direct" => vec![Proposal::Direct],
        _ => vec![
            own(&mut given, "tilt")?.map_or(Proposal::Base, |weight| Proposal::Tilted { weight }),
        ],
    };
    let search = match Search::read(kind, Node(&Value::Table(given))) {
        Some(search) => search?,
        None => Search::Sample(Sample {}),
    };
    Ok(MethodRow { name, kind, proposals, search })
}

fn optional<T: DeserializeOwned, E: de::Error>(
    given: &mut Table,
    key: &str,
) -> Result<Option<T>, E> {
    own(given, key).map_err(Problem::told)
}

/// The value of a key, with where a problem of its stands.
fn own<T: DeserializeOwned>(given: &mut Table, key: &str) -> Result<Option<T>, Problem> {
    let value = given.remove(key).map(|value| deserialize::read(&value));
    value.transpose().map_err(|problem| problem.below(key))
}

fn required<T: DeserializeOwned>(given: &mut Table, key: &'static str) -> Result<T, Problem> {
    own(given, key)?.ok_or_else(|| de::Error::missing_field(key))
}

/// As it was read.
#[derive(Serialize)]
struct Spelled<'a> {
    kind: &'a str,
    name: &'a Option<String>,
    bases: &'a Option<Vec<String>>,
    #[serde(flatten)]
    keys: Table,
    sweep: Option<&'a Value>,
}

/// The keys of one row.
#[derive(Serialize)]
struct Keys<'a> {
    #[serde(flatten)]
    search: &'a Search,
    #[serde(skip_serializing_if = "Option::is_none")]
    tilt: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_len: Option<ChunkLens>,
}

impl MethodTable {
    /// The keys that all rows have in common.
    fn common_keys(&self) -> Result<Table, toml::ser::Error> {
        let Some(row) = self.rows.first() else { return Ok(Table::new()) };
        let (weights, is_eft) = (row.weights(), self.kind == EFT);
        let keys = Keys {
            search: &row.search,
            tilt: weights.first().copied().filter(|_| !is_eft),
            weights: is_eft.then_some(weights),
            chunk_len: self.ppo_chunk_lens(),
        };
        let mut keys = Table::try_from(&keys)?;
        let is_swept = |key: &str| self.sweep.as_ref().is_some_and(|sweep| sweep.sweeps(key));
        keys.retain(|key, _| !is_swept(key));
        Ok(keys)
    }
}

impl Serialize for MethodTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { kind, name, bases, sweep, rows: _ } = self;
        let keys = self.common_keys().map_err(serde::ser::Error::custom)?;
        let sweep = sweep.as_ref().map(|sweep| &sweep.given);
        Spelled { kind, name, bases, keys, sweep }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests;
