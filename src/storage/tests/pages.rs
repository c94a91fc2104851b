//! Pages of collections, and lists of tombstones.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{COUNT, WALL, apply, bytes, change, delete, feed, fresh, key, page, put, select};
use crate::model::{
    Answer, Collection, Context, OpId, Part, Place, Query, Row, RowKey, Selection, WriteOp,
};
use crate::storage::{Door, Memory};

fn pages(door: &Door<Memory>, collection: Collection, rows_max: u32) -> Vec<Vec<(RowKey, Row)>> {
    let mut after = None;
    let mut pages = Vec::new();
    loop {
        let selection = Selection::Page {
            key: key("m"),
            collection,
            after,
            upto: None,
            rows_max,
            bytes_max: u32::MAX,
        };
        let (rows, next) = select(door, selection);
        pages.push(rows);
        if next.is_none() {
            return pages;
        }
        after = next;
    }
}

fn two_with_a_map() -> (Door<Memory>, Door<Memory>) {
    let (mut a, mut b) = (fresh(1), fresh(2));
    let fields = |id| WriteOp::Fields {
        put: (0..5)
            .map(|i| (bytes(&format!("r{i}")), bytes("v")))
            .collect(),
        add: (0..5).map(|i| (bytes(&format!("c{i}")), 2)).collect(),
        remove: Vec::new(),
        id: Some(OpId(id)),
    };
    change(&mut a, "m", fields(1));
    change(&mut b, "m", fields(1));
    change(&mut b, "m", fields(2));
    feed(&a, &mut b);
    feed(&b, &mut a);
    (a, b)
}

#[test]
fn a_counter_is_never_parted_by_a_pages_end() {
    let (a, _) = two_with_a_map();
    let whole = page(&a, "m", Collection::Map);
    let fields = crate::model::fields(&whole, WALL);
    assert_eq!(fields.len(), 10);
    assert!(
        fields[..5]
            .iter()
            .all(|(_, value)| *value == crate::model::FieldValue::Counter(4))
    );
    for rows_max in 1..8 {
        let mut found = Vec::new();
        for rows in pages(&a, Collection::Map, rows_max) {
            found.extend(crate::model::fields(&rows, WALL));
        }
        assert_eq!(found, fields, "{rows_max}");
    }
}

#[test]
fn a_range_takes_in_shares_that_the_asker_does_not_know() {
    let (mut a, b) = two_with_a_map();
    let before = pages(&a, Collection::Map, 1);
    let last = before[0]
        .iter()
        .rev()
        .find(|(key, _)| matches!(key.part(), Some(Part::Share(..))));
    let upto = last.unwrap().0.subkey.clone();
    let mut c = fresh(9);
    let add = WriteOp::Add {
        place: Place::Field(bytes("c0")),
        delta: 1,
        id: None,
    };
    change(&mut c, "m", add);
    feed(&c, &mut a);
    let range = |after, upto| Selection::Page {
        key: key("m"),
        collection: Collection::Map,
        after,
        upto,
        rows_max: 100,
        bytes_max: u32::MAX,
    };
    let (rows, next) = select(&a, range(None, Some(upto.clone())));
    assert_eq!(next, None);
    let fields = crate::model::fields(&rows, WALL);
    assert_eq!(
        fields,
        [(bytes("c0"), crate::model::FieldValue::Counter(5))]
    );
    let (rows, _) = select(&a, range(Some(upto.clone()), None));
    let (others, _) = select(&b, range(Some(upto), None));
    assert_eq!(rows, others);
    assert_eq!(crate::model::fields(&rows, WALL).len(), 9);
}

#[test]
fn tombstones_are_in_a_page_and_do_not_count() {
    let mut door = fresh(1);
    let names: Vec<_> = (0..10).map(|i| bytes(&format!("m{i}"))).collect();
    let add = WriteOp::Members {
        add: names.clone(),
        remove: Vec::new(),
    };
    change(&mut door, "m", add.clone());
    let remove = WriteOp::Members {
        add: Vec::new(),
        remove: names[..8].to_vec(),
    };
    change(&mut door, "m", remove);
    let found = pages(&door, Collection::Set, 2);
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [10]);
    let found = pages(&door, Collection::Set, 1);
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [9, 1]);
    let clear = WriteOp::Clear {
        collection: Collection::Set,
        seen: Context::default(),
    };
    change(&mut door, "m", clear);
    change(&mut door, "m", add);
    let found = pages(&door, Collection::Set, 4);
    assert!(found.iter().all(|page| matches!(page[0].1, Row::Clear(_))));
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [5, 5, 3]);
    let query = |rows| Query::Select {
        selection: Selection::Rows(rows),
        beyond: None,
    };
    assert!(matches!(
        door.reader().answer(&query(Vec::new())),
        Answer::Unreadable { .. }
    ));
}

#[test]
fn graves_are_listed_page_by_page() {
    let mut door = fresh(1);
    for i in 0..50 {
        apply(&mut door, put(&format!("k{i}"), "v"));
        if i % 2 == 0 {
            apply(&mut door, delete(&format!("k{i}")));
        }
    }
    let mut names = BTreeSet::new();
    for partition in super::options(1).partitions {
        let mut after = None;
        loop {
            let query = Query::Graves {
                partition,
                after,
                rows_max: 3,
            };
            let Answer::Graves { rows, next } = door.reader().answer(&query) else {
                panic!("unreadable");
            };
            assert!(rows.len() <= 3);
            for (key, summary) in rows {
                assert!(summary.is_tombstone && key.partition(COUNT) == partition);
                assert!(names.insert(key.key));
            }
            if next.is_none() {
                break;
            }
            after = next;
        }
    }
    assert_eq!(names.len(), 25);
}

proptest! {
    #[test]
    fn pages_together_are_the_whole(
        writes in proptest::collection::vec((0u8..12, 0u8..5), 1..60),
        rows_max in 1u32..9,
    ) {
        let mut door = fresh(1);
        for (name, kind) in writes {
            let name = bytes(&name.to_string());
            let op = match kind {
                0 | 1 => WriteOp::Fields {
                    put: vec![(name, bytes("v"))],
                    add: Vec::new(),
                    remove: Vec::new(),
                    id: None,
                },
                2 | 3 => WriteOp::Add { place: Place::Field(name), delta: 1, id: None },
                _ => WriteOp::Fields {
                    put: Vec::new(),
                    add: Vec::new(),
                    remove: vec![name],
                    id: None,
                },
            };
            change(&mut door, "m", op);
        }
        let whole = page(&door, "m", Collection::Map);
        let found: Vec<_> = pages(&door, Collection::Map, rows_max).into_iter().flatten().collect();
        prop_assert_eq!(found, whole.clone());
        let query = Query::Count { key: key("m"), collection: Collection::Map, now: WALL };
        let fields = crate::model::fields(&whole, WALL).len();
        prop_assert_eq!(door.reader().answer(&query), Answer::Count(fields as u64));
    }
}
