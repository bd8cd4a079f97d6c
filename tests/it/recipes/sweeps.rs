//! A `sweep` of a method, and the bases that a method steers: what they stand for, how they are
//! written again, and what wrong ones are told.

use serde_json::{Value, json};
use w2s::recipe::{Plan, load};

use super::{Written, fixture, only, plan, problems, sets};

fn methods(plan: &Plan) -> Vec<(String, Value)> {
    let all = plan.recipe.steer.as_ref().unwrap().method.iter();
    let named = all.flat_map(|table| table.methods());
    named.map(|(name, method)| (name, method.settings())).collect()
}

fn names(overrides: &[&str]) -> Vec<String> {
    methods(&plan(overrides)).into_iter().map(|(name, _)| name).collect()
}

/// The fixture's only method is this one.
fn alone(method: &str) -> String {
    format!("steer.method=[{method}]")
}

#[test]
fn a_table_of_lists_is_their_product_in_the_order_of_its_keys() {
    let grid = alone("{kind='cbs',chunk_len=5,sweep={successors=[1,2],beam_width=[4,8]}}");
    let of = |beam_width: u32, successors: u32| {
        let name = format!("cbs-{successors}-{beam_width}");
        let settings =
            json!({ "beam_width": beam_width, "successors": successors, "chunk_len": 5 });
        (name, settings)
    };
    assert_eq!(methods(&plan(&[&grid])), [of(4, 1), of(8, 1), of(4, 2), of(8, 2)]);
    let other = alone("{kind='cbs',chunk_len=5,sweep={beam_width=[4,8],successors=[1,2]}}");
    assert_eq!(names(&[&other]), ["cbs-4-1", "cbs-4-2", "cbs-8-1", "cbs-8-2"]);
    // In a file, as behind --set.
    let file = Written::edited(&[(
        "[[steer.method]]",
        "[[steer.method]]\nkind = \"best_of_n\"\nname = \"of\"\n[steer.method.sweep]\n\
         tilt = [0.5, 2.0]\nn = [2, 3]\n\n[[steer.method]]",
    )]);
    let found = methods(&file.plan(&["steer.bases=['base']"]));
    let named: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(named[..4], ["of-0.5-2", "of-0.5-3", "of-2-2", "of-2-3"]);
    assert_eq!(found[1].1, json!({ "n": 3, "tilt": 0.5 }));
}

#[test]
fn a_list_of_tables_is_its_rows() {
    let rows = "[{beam_width=1,successors=16},{successors=2,beam_width=8}]";
    let cbs = alone(&format!("{{kind='cbs',chunk_len=5,name='w',sweep={rows}}}"));
    assert_eq!(names(&[&cbs]), ["w-1-16", "w-8-2"]);
    let eft = alone("{kind='eft',sweep={weights=[0.25,2]}}");
    let listed = alone("{kind='eft',weights=[0.25,2]}");
    let base = "steer.bases=['base']";
    assert_eq!(methods(&plan(&[base, &eft])), methods(&plan(&[base, &listed])));
}

#[test]
fn a_sweep_is_written_as_it_was_read() {
    for method in [
        "{kind='cbs',chunk_len=5,sweep={successors=[1,2],beam_width=[4,8]}}",
        "{kind='cbs',bases=['base'],sweep=[{successors=1,beam_width=4,chunk_len=2}]}",
        "{kind='beam',early_stopping=true,sweep={length_penalty=[0,1.5],beam_width=[2]}}",
        "{kind='eft',bases=['base'],sweep={weights=[1,0.5]}}",
        "{kind='ppo',sweep={chunk_len=[1,'inf']},bases=['base']}",
    ] {
        let more = ["ppo.chunk_len=[1,'inf']"];
        let plan = plan(&[&[alone(method).as_str()], &more[..]].concat());
        let text = serde_json::to_string(&plan).unwrap();
        let again: Plan = serde_json::from_str(&text).unwrap();
        assert_eq!(methods(&again), methods(&plan), "{text}");
        assert_eq!(serde_json::to_string(&again).unwrap(), text);
        let toml = toml::to_string(&plan.recipe).unwrap();
        assert_eq!(toml::from_str::<w2s::recipe::Recipe>(&toml).unwrap(), plan.recipe, "{toml}");
    }
}

#[test]
fn set_sweeps_over_a_key_that_the_file_gives_and_back() {
    assert_eq!(
        names(&["steer.method.2.sweep.chunk_len=[1,2]"])[2..4],
        ["cbs-1".to_owned(), "cbs-2".to_owned()]
    );
    let rows = "steer.method.2.sweep=[{chunk_len=1,successors=3},{chunk_len=2,successors=1}]";
    assert_eq!(names(&[rows])[2..4], ["cbs-1-3".to_owned(), "cbs-2-1".to_owned()]);
    let file = Written::edited(&[("chunk_len = 5", "sweep.chunk_len = [1, 2]")]);
    let named = |sets: &[&str]| methods(&file.plan(sets)).into_iter().map(|(name, _)| name);
    assert!(named(&[]).any(|name| name == "cbs-2"));
    assert!(named(&["steer.method.2.chunk_len=7"]).any(|name| name == "cbs"));
}

#[test]
fn check_tells_every_method_of_a_sweep() {
    let text =
        plan(&["steer.method.2.sweep.chunk_len=[1,2]", "steer.method.2.bases=['base']"]).describe();
    for told in ["     cbs-1: chunk-level beam", "chunks of 1 tokens; bases 1 × ", "     cbs-2: "]
    {
        assert!(text.contains(told), "{text}");
    }
    let keys = plan(&["steer.method.2.sweep.chunk_len=[1,2]"]).explain();
    assert!(keys.contains("method.2.sweep.chunk_len = [1, 2]"), "{keys}");
}

#[test]
fn what_cannot_be_swept_is_told() {
    let told = |method: &str, starts: &str| {
        let method = method.replace("=cbs", "='cbs',beam_width=2,successors=2");
        let told = problems(&[&alone(&method)]);
        let at = format!("--set {}: `steer.method.0`: {starts}", alone(&method));
        assert!(told.len() == 1 && told[0].starts_with(&at), "{starts}: {told:#?}");
    };
    for (sweep, starts) in [
        ("{name=['a','b']}", "`name` cannot be swept\n\nhint: a method `cbs` can sweep over"),
        ("{kind=['cbs']}", "`kind` cannot be swept"),
        ("{bases=[['a'],['b']]}", "`bases` cannot be swept"),
        ("[{sweep=1}]", "`sweep` cannot be swept"),
        ("{length=[1]}", "`sweep` has `length`, which is no key of a method `cbs`\n\nhint: "),
        ("{chunk_len=[]}", "`sweep.chunk_len` is empty, expected one value or more"),
        ("{chunk_len=3}", "`sweep.chunk_len` is `3`, expected a list"),
        ("{chunk_len=['a']}", "`sweep.chunk_len` holds the text `a`, expected "),
        ("{chunk_len=[[1]]}", "`sweep.chunk_len` holds a list, expected single values"),
        ("{chunk_len=[1,2,1]}", "`sweep` holds `1` twice"),
        ("[{chunk_len=1,tilt=1},{chunk_len=1,tilt=1.0}]", "`sweep` holds `1-1` twice"),
        ("[{chunk_len=1},{tilt=1}]", "row 2 of `sweep` has other keys than the first, which has"),
        ("[1]", "`sweep` holds `1`, expected tables of keys and values"),
        ("{}", "`sweep` is empty"),
        ("[]", "`sweep` is empty"),
        ("5", "`sweep` is `5`, expected a table of lists or a list of tables"),
    ] {
        told(&format!("{{kind=cbs,sweep={sweep}}}"), starts);
    }
    told("{kind=cbs,chunk_len=5,sweep={chunk_len=[1]}}", "`chunk_len` is given beside the `sweep`");
    told("{kind='base',sweep={n=[1]}}", "`sweep` has `n`, which is no key of a method `base`");
    only(&["steer.method.2.sweep.chunk_len=[0,1]"], "`steer.method.2.sweep.chunk_len` holds 0");
    only(
        &["steer.method.2.sweep.chunk_len=[1]", "steer.method.3.name='cbs-1'"],
        "`steer.method.3`: a method before it has the name `cbs-1` too",
    );
    // What else is wrong is told in the same breath.
    let two = problems(&["steer.method.2.sweep.colour=[1]", "dpo.beta=-1"]);
    assert_eq!(two.len(), 2, "{two:#?}");
}

#[test]
fn a_method_steers_the_bases_that_it_names() {
    let key = "steer.method.2.bases";
    only(&[&format!("{key}=[]")], "`steer.method.2.bases` is empty, expected one base or more");
    only(&[&format!("{key}=['base','base']")], "`steer.method.2.bases` holds `base` twice");
    only(
        &[&format!("{key}=['guide']")],
        "`steer.method.2.bases` holds `guide`, which is not among `steer.bases`\n\nhint: \
         `steer.bases` has `base`, `other`",
    );
    only(
        &["steer.method.3={kind='tuned',bases=['base']}"],
        "`steer.method.3.bases`: `tuned` samples a guide alone",
    );
    let recipe = load(&fixture(), &sets(&[&format!("{key}=['other']")])).unwrap();
    let table = &recipe.steer.as_ref().unwrap().method[2];
    assert!(table.steers("other") && !table.steers("base"));
    // EFT of the base that has the guides' vocabulary is no problem of the other.
    plan(&["steer.method.3={kind='eft',weights=[1],bases=['base']}"]);
}
