//! Sets and maps.

use super::super::Scene;
use super::super::asks::{add, change_members, clear, fields_op, put_fields};
use super::super::shape::kv;
use super::{HERE, SECOND, THERE, at_once, two_regions};
use crate::model::{Collection, OpId, Place, RowKey, WriteOp};

fn key() -> RowKey {
    kv("key")
}

fn plus(names: &[&str]) -> WriteOp {
    change_members(names, &[])
}

fn minus(names: &[&str]) -> WriteOp {
    change_members(&[], names)
}

fn clear_set() -> WriteOp {
    clear(Collection::Set)
}

fn clear_map() -> WriteOp {
    clear(Collection::Map)
}

fn put(name: &str, value: &str) -> WriteOp {
    put_fields(&[(name, value)])
}

fn count(name: &str, delta: i64) -> WriteOp {
    fields_op(&[], &[(name, delta)], &[])
}

fn drop_field(name: &str) -> WriteOp {
    fields_op(&[], &[], &[name])
}

fn members(scene: &mut Scene) -> String {
    scene.everywhere(|scene, node| scene.members(node, &key()).join(" "))
}

/// Fields as `name=value`, counters as `name:sum`.
fn map(scene: &mut Scene) -> String {
    scene.everywhere(|scene, node| {
        let registers = scene.registers(node, &key()).into_iter();
        let mut all: Vec<String> = registers.map(|(f, value)| format!("{f}={value}")).collect();
        let counters = scene.field_counters(node, &key()).into_iter();
        all.extend(counters.map(|(name, sum)| format!("{name}:{sum}")));
        all.join(" ")
    })
}

fn set_sees(before: &[WriteOp], here: &[WriteOp], there: &[WriteOp]) -> String {
    members(&mut at_once(&key(), before, here, there))
}

fn map_sees(before: &[WriteOp], here: &[WriteOp], there: &[WriteOp]) -> String {
    map(&mut at_once(&key(), before, here, there))
}

#[test]
fn set_add_add() {
    assert_eq!(set_sees(&[], &[plus(&["x"])], &[plus(&["x"])]), "x");
}

#[test]
fn set_add_other() {
    assert_eq!(set_sees(&[], &[plus(&["x"])], &[plus(&["y"])]), "x y");
}

#[test]
fn set_add_wins() {
    assert_eq!(
        set_sees(&[plus(&["x"])], &[plus(&["x"])], &[minus(&["x"])]),
        "x"
    );
}

#[test]
fn set_remove_remove() {
    assert_eq!(
        set_sees(&[plus(&["x"])], &[minus(&["x"])], &[minus(&["x"])]),
        ""
    );
}

#[test]
fn set_remove_unseen() {
    assert_eq!(set_sees(&[], &[plus(&["x"])], &[minus(&["x"])]), "x");
}

#[test]
fn set_remove_seen() {
    let mut scene = two_regions();
    scene.then(HERE, &key(), plus(&["x"]));
    scene.run_for(SECOND);
    scene.then(THERE, &key(), minus(&["x"]));
    scene.until_quiet();
    assert_eq!(members(&mut scene), "");
}

#[test]
fn set_add_and_remove_in_one() {
    assert_eq!(set_sees(&[], &[change_members(&["x"], &["x"])], &[]), "x");
}

#[test]
fn set_clear_add() {
    let before = [plus(&["x", "y"])];
    assert_eq!(set_sees(&before, &[clear_set()], &[plus(&["z"])]), "z");
}

#[test]
fn set_clear_readd() {
    assert_eq!(
        set_sees(&[plus(&["x"])], &[clear_set()], &[plus(&["x"])]),
        "x"
    );
}

#[test]
fn set_clear_clear() {
    assert_eq!(
        set_sees(&[plus(&["x"])], &[clear_set()], &[clear_set()]),
        ""
    );
}

#[test]
fn set_clear_remove() {
    assert_eq!(
        set_sees(&[plus(&["x"])], &[clear_set()], &[minus(&["x"])]),
        ""
    );
}

#[test]
fn set_add_after_clear() {
    let here = [clear_set(), plus(&["x"])];
    assert_eq!(set_sees(&[plus(&["x", "y"])], &here, &[]), "x");
}

#[test]
fn set_clear_late() {
    let mut scene = two_regions();
    scene.then(HERE, &key(), plus(&["x", "y"]));
    scene.until_quiet();
    scene.apart();
    scene.then(HERE, &key(), clear_set());
    scene.run_for(20 * SECOND);
    scene.then(THERE, &key(), plus(&["z"]));
    scene.together();
    assert_eq!(members(&mut scene), "z");
}

#[test]
fn set_add_ttl_and_add() {
    let mut scene = two_regions();
    scene.apart();
    scene.then_for(HERE, &key(), plus(&["x"]), 2);
    scene.then(THERE, &key(), plus(&["x"]));
    scene.together();
    scene.run_for(5 * SECOND);
    assert_eq!(members(&mut scene), "x");
}

#[test]
fn set_ttl_replaced() {
    let mut scene = two_regions();
    scene.then(HERE, &key(), plus(&["x"]));
    scene.run_for(SECOND);
    scene.then_for(THERE, &key(), plus(&["x"]), 3);
    scene.run_for(SECOND);
    assert_eq!(members(&mut scene), "x");
    scene.run_for(3 * SECOND);
    assert_eq!(members(&mut scene), "");
}

#[test]
fn set_expiry_readd() {
    let mut scene = two_regions();
    scene.then_for(HERE, &key(), plus(&["x"]), 3);
    scene.run_for(SECOND);
    scene.apart();
    scene.then(THERE, &key(), plus(&["x"]));
    scene.run_for(6 * SECOND);
    scene.together();
    assert_eq!(members(&mut scene), "x");
}

#[test]
fn set_retry_add() {
    let here = [plus(&["x"]), plus(&["x"])];
    assert_eq!(set_sees(&[], &here, &[]), "x");
}

#[test]
fn set_retry_remove() {
    let here = [minus(&["x"]), plus(&["x"]), minus(&["x"])];
    assert_eq!(set_sees(&[plus(&["x"])], &here, &[]), "");
}

#[test]
fn map_put_put() {
    assert_eq!(map_sees(&[], &[put("f", "A")], &[put("f", "B")]), "f=B");
}

#[test]
fn map_put_other() {
    assert_eq!(map_sees(&[], &[put("f", "A")], &[put("g", "B")]), "f=A g=B");
}

#[test]
fn map_put_wins() {
    let before = [put("f", "A")];
    assert_eq!(
        map_sees(&before, &[put("f", "B")], &[drop_field("f")]),
        "f=B"
    );
}

#[test]
fn map_remove_remove() {
    let before = [put("f", "A")];
    assert_eq!(
        map_sees(&before, &[drop_field("f")], &[drop_field("f")]),
        ""
    );
}

#[test]
fn map_remove_unseen() {
    assert_eq!(map_sees(&[], &[put("f", "A")], &[drop_field("f")]), "f=A");
}

#[test]
fn map_add_add() {
    assert_eq!(map_sees(&[], &[count("f", 2)], &[count("f", 3)]), "f:5");
}

#[test]
fn map_add_remove() {
    let before = [count("f", 10)];
    assert_eq!(
        map_sees(&before, &[count("f", 3)], &[drop_field("f")]),
        "f:3"
    );
}

#[test]
fn map_add_retry() {
    let op = WriteOp::Add {
        place: Place::Field(super::super::asks::bytes("f")),
        delta: 4,
        id: Some(OpId(9)),
    };
    let both = map_sees(&[], std::slice::from_ref(&op), std::slice::from_ref(&op));
    assert_eq!(both, "f:4");
}

#[test]
fn map_register_and_counter() {
    assert_eq!(map_sees(&[], &[put("f", "A")], &[count("f", 3)]), "f=A f:3");
}

#[test]
fn map_clear_put() {
    let before = [put("f", "A"), put("g", "A")];
    assert_eq!(map_sees(&before, &[clear_map()], &[put("f", "B")]), "f=B");
}

#[test]
fn map_clear_add() {
    let before = [count("f", 10)];
    assert_eq!(map_sees(&before, &[clear_map()], &[count("f", 3)]), "f:3");
}

#[test]
fn map_clear_late() {
    let mut scene = two_regions();
    scene.then(HERE, &key(), fields_op(&[("f", "A")], &[("n", 3)], &[]));
    scene.until_quiet();
    scene.apart();
    scene.then(HERE, &key(), clear_map());
    scene.run_for(20 * SECOND);
    scene.then(THERE, &key(), put("g", "B"));
    scene.together();
    assert_eq!(map(&mut scene), "g=B");
}

fn map_ttl([here, there]: [bool; 2]) -> (String, String) {
    let mut scene = two_regions();
    scene.apart();
    for (node, value, expires) in [(HERE, "A", here), (THERE, "B", there)] {
        if expires {
            scene.then_for(node, &key(), put("f", value), 3);
        } else {
            scene.then(node, &key(), put("f", value));
        }
    }
    scene.heal();
    scene.run_for(SECOND);
    let before = map(&mut scene);
    scene.run_for(5 * SECOND);
    scene.until_quiet();
    (before, map(&mut scene))
}

#[test]
fn map_put_ttl_and_put() {
    assert_eq!(map_ttl([true, false]), ("f=B".to_owned(), "f=B".to_owned()));
}

#[test]
fn map_put_and_put_ttl() {
    assert_eq!(map_ttl([false, true]), ("f=B".to_owned(), "f=A".to_owned()));
}

#[test]
fn map_expiry_put() {
    let mut scene = two_regions();
    scene.then_for(HERE, &key(), put("f", "A"), 3);
    scene.run_for(SECOND);
    scene.apart();
    scene.then(THERE, &key(), put("f", "new"));
    scene.run_for(6 * SECOND);
    scene.together();
    assert_eq!(map(&mut scene), "f=new");
}

#[test]
fn map_retry_put() {
    let here = [put("f", "mine"), put("f", "other"), put("f", "mine")];
    assert_eq!(map_sees(&[], &here, &[add(1, None)]), "f=mine");
}
