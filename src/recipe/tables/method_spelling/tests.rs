//! Methods as recipes spell them, written again and named.

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
        "{kind='base',bases=['a','b']}",
        "{kind='best_of_n',sweep={n=[1,2]}}",
        "{kind='best_of_n',sweep=[{tilt=1,n=3}],name='a'}",
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
    let told =
        ["base", "best_of_n", "cbs", "eft", "beam", "tuned", "untuned", "direct", "ppo"].map(place);
    assert!(told.is_sorted(), "{:?}", *KINDS);
    assert_eq!(KINDS.len(), KEYS.len());
}

#[test]
fn a_sweep_names_what_differs() {
    assert_eq!(read("{kind='eft',weights=[0.5,2]}").names(), ["eft-0.5", "eft-2"]);
    assert_eq!(read("{kind='eft',weights=[0.5],name='a'}").names(), ["a"]);
    assert_eq!(read("{kind='ppo',chunk_len=[1,'inf'],name='p'}").names(), ["p-1", "p-inf"]);
    assert_eq!(read("{kind='cbs',beam_width=1,successors=1,chunk_len=5,tilt=2}").names(), ["cbs"]);
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
    let is_tilted = |table: &str| read(table).rows[0].is_tilted();
    assert!(is_tilted("{kind='best_of_n',n=2,tilt=1}") && !is_tilted("{kind='best_of_n',n=2}"));
}
