//! What scenarios ask, in one line each. All panic if the answer is not OK, unless their name says otherwise.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Scene;
use crate::model::{
    Collection, Context, FieldValue, OpId, Place, Row, RowKey, Selection, Wall, Write, WriteOp,
    counter, fields, members,
};
use crate::protocol::{Operation, Outcome, Written};
use crate::sim::actions::list;
use crate::sim::check::is_same;
use crate::sim::cluster::NodeIndex;

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A write as an operation.
pub(super) fn write(key: &RowKey, op: WriteOp) -> Operation {
    Operation::Write(Box::new(Write::new(key.clone(), op)))
}

/// A write that expires.
pub(super) fn expiring(key: &RowKey, op: WriteOp, expires: Wall) -> Operation {
    let mut write = Write::new(key.clone(), op);
    write.expires = Some(expires);
    Operation::Write(Box::new(write))
}

pub(super) fn put_sibling(value: &str, seen: Option<&Context>) -> WriteOp {
    WriteOp::PutSibling {
        value: bytes(value),
        seen: seen.cloned(),
    }
}

pub(super) fn add(delta: i64, id: Option<u128>) -> WriteOp {
    WriteOp::Add {
        place: Place::Key,
        delta,
        id: id.map(OpId),
    }
}

pub(super) fn reset() -> WriteOp {
    WriteOp::Reset { place: Place::Key }
}

pub(super) fn change_members(add: &[&str], remove: &[&str]) -> WriteOp {
    WriteOp::Members {
        add: add.iter().map(|name| bytes(name)).collect(),
        remove: remove.iter().map(|name| bytes(name)).collect(),
    }
}

pub(super) fn put_fields(put: &[(&str, &str)]) -> WriteOp {
    fields_op(put, &[], &[])
}

pub(super) fn fields_op(put: &[(&str, &str)], add: &[(&str, i64)], remove: &[&str]) -> WriteOp {
    WriteOp::Fields {
        put: put
            .iter()
            .map(|(name, value)| (bytes(name), bytes(value)))
            .collect(),
        add: add
            .iter()
            .map(|(name, delta)| (bytes(name), *delta))
            .collect(),
        remove: remove.iter().map(|name| bytes(name)).collect(),
        id: None,
    }
}

pub(super) fn clear(collection: Collection) -> WriteOp {
    WriteOp::Clear {
        collection,
        seen: Context::default(),
    }
}

impl Scene {
    /// Writes.
    pub(super) fn write(&mut self, node: NodeIndex, key: &RowKey, op: WriteOp) -> Written {
        self.write_operation(node, write(key, op))
    }

    pub(super) fn write_operation(&mut self, node: NodeIndex, operation: Operation) -> Written {
        let words = format!("{operation:?} at n{node}");
        let outcome = self.ask(node, operation);
        let Outcome::Written(written) = outcome else {
            panic!("{words}: {outcome:?}\n{}", self.lines());
        };
        written
    }

    pub(super) fn put(&mut self, node: NodeIndex, key: &RowKey, value: &str) -> Written {
        self.write(node, key, WriteOp::Put(bytes(value)))
    }

    pub(super) fn delete(&mut self, node: NodeIndex, key: &RowKey) -> Written {
        self.write(node, key, WriteOp::Delete)
    }

    /// Writes until it can be done.
    pub(super) fn write_when_possible(&mut self, node: NodeIndex, key: &RowKey, op: WriteOp) {
        let outcome = self.ask_until_done(node, &write(key, op));
        assert!(matches!(outcome, Outcome::Written(_)), "{outcome:?}");
    }

    /// A plain value, as a client sees it.
    pub(super) fn get(&mut self, node: NodeIndex, key: &RowKey) -> Option<String> {
        let row = self.get_row(node, key);
        let now = self.wall();
        let row = row?;
        if let Row::Siblings(row) = &row {
            return row.winner(now)?.value.as_ref().map(text);
        }
        if let Row::Register(version) = &row {
            let live = Some(version).filter(|version| version.is_live(now));
            return live?.value.as_ref().map(text);
        }
        panic!("{row:?}");
    }

    pub(super) fn get_row(&mut self, node: NodeIndex, key: &RowKey) -> Option<Row> {
        let outcome = self.ask(node, Operation::Get { key: key.clone() });
        let Outcome::Read(row) = outcome else {
            panic!("get at n{node}: {outcome:?}\n{}", self.lines());
        };
        row
    }

    /// The siblings of a key, in order, and the context.
    pub(super) fn siblings(&mut self, node: NodeIndex, key: &RowKey) -> (Vec<String>, Context) {
        let now = self.wall();
        match self.get_row(node, key) {
            None => (Vec::new(), Context::default()),
            Some(Row::Siblings(row)) => {
                let live = row.versions().iter().filter(|version| version.is_live(now));
                let values = live.filter_map(|version| version.value.as_ref().map(text));
                let mut values: Vec<String> = values.collect();
                values.sort();
                (values, row.context())
            }
            Some(row) => panic!("{row:?}"),
        }
    }

    pub(super) fn select(&mut self, node: NodeIndex, selection: Selection) -> Vec<(RowKey, Row)> {
        let outcome = self.ask(node, Operation::Select { selection });
        let Outcome::Selected { rows, next: None } = outcome else {
            panic!("select at n{node}: {outcome:?}\n{}", self.lines());
        };
        rows
    }

    /// The value of the key's counter.
    pub(super) fn counter(&mut self, node: NodeIndex, key: &RowKey) -> Option<i128> {
        let (key, place) = (key.clone(), Place::Key);
        let rows = self.select(node, Selection::Counter { key, place });
        counter(&rows, &Place::Key)
    }

    /// The members of the key's set.
    pub(super) fn members(&mut self, node: NodeIndex, key: &RowKey) -> Vec<String> {
        let rows = self.list(node, key, Collection::Set);
        members(&rows, self.wall()).iter().map(text).collect()
    }

    /// The registers of the key's map.
    pub(super) fn registers(&mut self, node: NodeIndex, key: &RowKey) -> Vec<(String, String)> {
        let rows = self.list(node, key, Collection::Map);
        let fields = fields(&rows, self.wall()).into_iter();
        let registers = fields.filter_map(|(name, value)| match value {
            FieldValue::Register(value) => Some((text(&name), text(&value))),
            FieldValue::Counter(_) => None,
        });
        registers.collect()
    }

    /// The counters of the key's map.
    pub(super) fn field_counters(&mut self, node: NodeIndex, key: &RowKey) -> Vec<(String, i128)> {
        let rows = self.list(node, key, Collection::Map);
        let fields = fields(&rows, self.wall()).into_iter();
        let counters = fields.filter_map(|(name, value)| match value {
            FieldValue::Counter(value) => Some((text(&name), value)),
            FieldValue::Register(_) => None,
        });
        counters.collect()
    }

    fn list(
        &mut self,
        node: NodeIndex,
        key: &RowKey,
        collection: Collection,
    ) -> Vec<(RowKey, Row)> {
        let Operation::Select { selection } = list(key.clone(), collection) else {
            panic!("a selection");
        };
        self.select(node, selection)
    }

    /// All replicas hold the same of a key.
    pub(super) fn assert_same_everywhere(&self, key: &RowKey) -> BTreeMap<RowKey, Row> {
        let first = self.rows(0, key);
        for node in 1..self.world.nodes.len() {
            let rows = self.rows(node, key);
            let mut names = first.keys().chain(rows.keys());
            let is_same = names.all(|name| is_same(first.get(name), rows.get(name)));
            assert!(
                is_same,
                "n{node}: {rows:?}, not {first:?}\n{}",
                self.lines()
            );
        }
        first
    }

    /// Kills a node, empties its disk and starts it.
    pub(super) fn lose_disk(&mut self, node: NodeIndex) {
        self.kill(node);
        self.wipe(node);
        self.start(node);
    }

    /// Waits until a node serves again.
    pub(super) fn until_ready(&mut self, node: NodeIndex) {
        self.until("ready", |scene| scene.is_ready(node));
    }
}
