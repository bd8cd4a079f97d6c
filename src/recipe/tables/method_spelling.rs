//! How a recipe spells methods: a `[[steer.method]]` with its `kind`, which names a search or what
//! is sampled once, and its keys.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

use super::super::deserialize::{self, Node, Problem, unexpected};
use super::chunk_len::ChunkLens;
use super::method::{Method, Proposal};
use crate::search::{Kind, Sample, Search};

/// The kind of samples of the base and its guides together: emulated fine-tuning.
pub const EFT: &str = "eft";
const PPO: &str = "ppo";

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
                the weight, and the released code's `beta` is the weight itself.",
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

/// One `[[steer.method]]`: a method, or several that differ in what proposes.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodTable {
    kind: &'static str,
    name: Option<String>,
    /// One for each weight of `eft` and each chunk length of `ppo`; else one.
    pub proposals: Vec<Proposal>,
    pub search: Search,
}

impl MethodTable {
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Its methods with the names of their folders below `steer/<base>/`: `name` or the kind, with
    /// the weight or the chunk length behind it in a sweep.
    pub fn methods(&self) -> Vec<(String, Method)> {
        let name = self.name.as_deref().unwrap_or(self.kind);
        let is_sweep = self.proposals.len() > 1;
        let named = |proposal: &Proposal| match proposal {
            Proposal::Tilted { weight } if is_sweep => format!("{name}-{weight}"),
            Proposal::Ppo { chunk_len } if is_sweep => format!("{name}-{chunk_len}"),
            _ => name.to_owned(),
        };
        self.proposals
            .iter()
            .map(|proposal| {
                (named(proposal), Method { proposal: *proposal, search: self.search.clone() })
            })
            .collect()
    }

    pub fn names(&self) -> Vec<String> {
        self.methods().into_iter().map(|(name, _)| name).collect()
    }

    /// Whether one of its methods samples what `is_such` says.
    pub fn proposes(&self, is_such: impl Fn(&Proposal) -> bool) -> bool {
        self.proposals.iter().any(is_such)
    }

    /// Whether guides take part in what is sampled.
    pub fn is_tilted(&self) -> bool {
        self.kind == EFT || self.proposes(|proposal| proposal.tilt().is_some())
    }

    pub(super) fn weights(&self) -> Vec<f64> {
        self.proposals.iter().filter_map(|proposal| proposal.tilt()).collect()
    }

    /// The chunk lengths of a method that samples what `[ppo]` made.
    pub(super) fn ppo_chunk_lens(&self) -> Option<ChunkLens> {
        let length = |proposal: &Proposal| match proposal {
            Proposal::Ppo { chunk_len } => Some(*chunk_len),
            _ => None,
        };
        (self.kind == PPO).then(|| ChunkLens(self.proposals.iter().filter_map(length).collect()))
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
        (kind.name, ["name"].into_iter().chain(own).chain(tilt).collect())
    });
    let sampled = SAMPLED.iter().map(|sampled| (sampled.kind, [&["name"], sampled.keys].concat()));
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
        let (kind, keys) = KEYS
            .get_key_value(kind.as_str())
            .ok_or_else(|| <D::Error as de::Error>::unknown_variant(&kind, &KINDS))?;
        if let Some(unknown) = given.keys().find(|key| !keys.contains(&key.as_str())) {
            return Err(de::Error::unknown_field(unknown, keys));
        }
        let name = optional(&mut given, "name")?;
        let proposals = match *kind {
            EFT => required::<Vec<f64>, _>(&mut given, "weights")?
                .into_iter()
                .map(|weight| Proposal::Tilted { weight })
                .collect(),
            PPO => {
                let ChunkLens(lengths) = optional(&mut given, "chunk_len")?.unwrap_or_default();
                lengths.into_iter().map(|chunk_len| Proposal::Ppo { chunk_len }).collect()
            }
            "tuned" => vec![Proposal::Tuned],
            "untuned" => vec![Proposal::Untuned],
            "direct" => vec![Proposal::Direct],
            _ => vec![
                optional(&mut given, "tilt")?
                    .map_or(Proposal::Base, |weight| Proposal::Tilted { weight }),
            ],
        };
        let search = match Search::read(kind, Node(&Value::Table(given))) {
            Some(search) => search.map_err(Problem::told)?,
            None => Search::Sample(Sample {}),
        };
        Ok(Self { kind, name, proposals, search })
    }
}

fn optional<T: DeserializeOwned, E: de::Error>(
    given: &mut Table,
    key: &str,
) -> Result<Option<T>, E> {
    given.remove(key).map(|value| deserialize::read(&value).map_err(Problem::told)).transpose()
}

fn required<T: DeserializeOwned, E: de::Error>(
    given: &mut Table,
    key: &'static str,
) -> Result<T, E> {
    optional(given, key)?.ok_or_else(|| E::missing_field(key))
}

/// As it was read.
#[derive(Serialize)]
struct Spelled<'a> {
    kind: &'a str,
    name: &'a Option<String>,
    #[serde(flatten)]
    search: &'a Search,
    #[serde(skip_serializing_if = "Option::is_none")]
    tilt: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_len: Option<ChunkLens>,
}

impl Serialize for MethodTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { kind, name, proposals: _, search } = self;
        let (weights, is_eft) = (self.weights(), *kind == EFT);
        let tilt = weights.first().copied().filter(|_| !is_eft);
        Spelled {
            kind,
            name,
            search,
            tilt,
            weights: is_eft.then_some(weights),
            chunk_len: self.ppo_chunk_lens(),
        }
        .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Steer {
        method: Vec<MethodTable>,
    }

    fn read(table: &str) -> MethodTable {
        toml::from_str::<Steer>(&format!("method = [{table}]"))
            .unwrap_or_else(|error| panic!("{table}: {error}"))
            .method
            .remove(0)
    }

    #[test]
    fn methods_are_written_as_they_were_read() {
        for table in [
            "{kind='base'}",
            "{kind='best_of_n',n=3,name='three'}",
            "{kind='best_of_n',n=3,tilt=-0.5}",
            "{kind='cbs',beam_width=4,successors=3,chunk_len=5}",
            "{kind='cbs',beam_width=4,successors=3,chunk_len=5,tilt=0}",
            "{kind='beam',beam_width=4,early_stopping=true}",
            "{kind='eft',weights=[0.5,2]}",
            "{kind='eft',weights=[]}",
            "{kind='tuned'}",
            "{kind='untuned'}",
            "{kind='direct'}",
            "{kind='ppo'}",
            "{kind='ppo',chunk_len=[1,'inf']}",
        ] {
            let steer = Steer { method: vec![read(table)] };
            assert_eq!(toml::from_str::<Steer>(&toml::to_string(&steer).unwrap()).unwrap(), steer);
            assert_eq!(
                serde_json::from_str::<Steer>(&serde_json::to_string(&steer).unwrap()).unwrap(),
                steer
            );
        }
    }

    #[test]
    fn kinds_are_told_in_the_order_of_what_they_sample() {
        let place = |kind| KINDS.iter().position(|known| *known == kind).unwrap();
        let told = ["base", "best_of_n", "cbs", "eft", "beam", "tuned", "untuned", "direct", "ppo"]
            .map(place);
        assert!(told.is_sorted(), "{:?}", *KINDS);
        assert_eq!(KINDS.len(), KEYS.len());
    }

    #[test]
    fn a_sweep_names_what_differs() {
        assert_eq!(read("{kind='eft',weights=[0.5,2]}").names(), ["eft-0.5", "eft-2"]);
        assert_eq!(read("{kind='eft',weights=[0.5],name='a'}").names(), ["a"]);
        assert_eq!(read("{kind='ppo',chunk_len=[1,'inf'],name='p'}").names(), ["p-1", "p-inf"]);
        assert_eq!(
            read("{kind='cbs',beam_width=1,successors=1,chunk_len=5,tilt=2}").names(),
            ["cbs"]
        );
    }

    #[test]
    fn only_searches_that_draw_take_a_tilt() {
        for table in [
            "{kind='beam',beam_width=2,tilt=1}",
            "{kind='base',tilt=1}",
            "{kind='eft',weights=[1],tilt=1}",
        ] {
            let error =
                toml::from_str::<Steer>(&format!("method = [{table}]")).unwrap_err().to_string();
            assert!(error.contains("unknown field `tilt`"), "{error}");
        }
        assert!(
            read("{kind='best_of_n',n=2,tilt=1}").is_tilted()
                && !read("{kind='best_of_n',n=2}").is_tilted()
        );
    }
}
