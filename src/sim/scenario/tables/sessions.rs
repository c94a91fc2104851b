//! Sessions, and reads that must not be too old.

use super::super::asks::{add, bytes, change_members, clear, fields_op, put_fields, reset, text};
use super::super::shape::kv;
use super::super::{Bug, Scene, Shape, guarded};
use super::{HERE, SECOND, THERE};
use crate::model::planted::Guard;
use crate::model::{Behind, Collection, Gate, Level, Row, RowKey, Session, Wall, Write, WriteOp};
use crate::protocol::{Operation, Outcome, Request};

/// Nodes of a third region.
const ELSEWHERE: usize = 4;

fn key() -> RowKey {
    kv("key")
}

fn regions(bug: Option<Bug>) -> Scene {
    let mut scene = Scene::with_bug(&Shape::of(&[2, 2, 2]), bug);
    scene.until_quiet();
    scene
}

/// A client with its token.
#[derive(Clone, Debug, Default)]
struct Client {
    session: Session,
    fresh_as_of: Option<Wall>,
    behind: Behind,
    wait_micros: u64,
}

impl Client {
    fn new() -> Self {
        Self {
            wait_micros: 2 * SECOND,
            ..Self::default()
        }
    }

    fn request(&self, operation: Operation) -> Request {
        Request {
            operation,
            level: Some(Level::LocalQuorum),
            gate: Gate {
                session: self.session.clone(),
                fresh_as_of: self.fresh_as_of,
                behind: self.behind,
                wait_micros: self.wait_micros,
            },
        }
    }

    fn write(&mut self, scene: &mut Scene, node: usize, key: &RowKey, op: WriteOp) {
        let mut write = Write::new(key.clone(), op);
        if !self.session.is_empty() {
            write.after = Some(Box::new(self.session.clone()));
        }
        let asked = scene.begin(node, self.request(Operation::Write(Box::new(write))));
        let outcome = scene.wait(asked);
        let Outcome::Written(written) = outcome else {
            panic!("{outcome:?}");
        };
        let region = scene
            .world
            .cluster
            .placement
            .region_of(written.node)
            .unwrap();
        self.session
            .observe(region, written.node, written.timestamp);
    }

    fn put(&mut self, scene: &mut Scene, node: usize, key: &RowKey, value: &str) {
        self.write(scene, node, key, WriteOp::Put(bytes(value)));
    }

    /// A value or nothing; an error is "not yet".
    fn get(&mut self, scene: &mut Scene, node: usize, key: &RowKey) -> Result<Option<String>, ()> {
        let operation = Operation::Get { key: key.clone() };
        let asked = scene.begin(node, self.request(operation));
        let outcome = scene.wait(asked);
        let Outcome::Read(row) = outcome else {
            assert_eq!(outcome, Outcome::NotYet, "{}", scene.lines());
            return Err(());
        };
        let Some(row) = row else {
            return Ok(None);
        };
        let Row::Register(version) = row else {
            panic!("{row:?}");
        };
        let node = version.dot.actor.node;
        let region = scene.world.cluster.placement.region_of(node).unwrap();
        self.session.observe(region, node, version.timestamp);
        if let Some(after) = &version.after {
            self.session.join(after);
        }
        Ok(version.value.as_ref().map(text))
    }
}

fn some(value: &str) -> Result<Option<String>, ()> {
    Ok(Some(value.to_owned()))
}

fn read_own_write(bug: Option<Bug>) -> Result<Option<String>, ()> {
    let mut scene = regions(bug);
    let mut client = Client::new();
    scene.hold(&[0, 1], &[2, 3, 4, 5]);
    client.put(&mut scene, HERE, &key(), "A");
    client.behind = Behind::Refuse;
    client.wait_micros = 100_000;
    scene.run_for(200_000);
    client.get(&mut scene, THERE, &key())
}

#[test]
fn session_read_your_writes() {
    let mut scene = regions(None);
    let mut client = Client::new();
    client.put(&mut scene, HERE, &key(), "A");
    assert_eq!(client.get(&mut scene, THERE, &key()), some("A"));
}

#[test]
fn session_without_token() {
    let mut scene = regions(None);
    Client::new().put(&mut scene, HERE, &key(), "A");
    let read = Client::new().get(&mut scene, THERE, &key());
    assert!(read == Ok(None) || read == some("A"));
}

#[test]
fn session_monotonic_reads() {
    let mut scene = regions(None);
    scene.put(HERE, &key(), "A");
    scene.until_quiet();
    scene.hold(&[0, 1], &[2, 3]);
    scene.put(HERE, &key(), "B");
    let mut client = Client::new();
    assert_eq!(client.get(&mut scene, HERE, &key()), some("B"));
    scene.heal();
    assert_eq!(client.get(&mut scene, THERE, &key()), some("B"));
}

/// With a clock there that is slow, and nothing heard from here.
fn slow_there() -> Scene {
    let mut scene = regions(None);
    for node in [2, 3] {
        scene.skew(node, -400_000);
    }
    scene
}

#[test]
fn session_monotonic_writes() {
    let mut scene = slow_there();
    let mut client = Client::new();
    client.put(&mut scene, HERE, &key(), "A");
    client.put(&mut scene, THERE, &key(), "B");
    scene.until_quiet();
    let shown = scene.everywhere(|scene, node| scene.get(node, &key()));
    assert_eq!(shown.as_deref(), Some("B"));
}

#[test]
fn session_writes_follow_reads() {
    let mut scene = slow_there();
    scene.put(HERE, &key(), "A");
    let mut client = Client::new();
    assert_eq!(client.get(&mut scene, HERE, &key()), some("A"));
    client.put(&mut scene, THERE, &key(), "B");
    scene.until_quiet();
    let shown = scene.everywhere(|scene, node| scene.get(node, &key()));
    assert_eq!(shown.as_deref(), Some("B"));
}

#[test]
fn session_follows_others() {
    let mut scene = regions(None);
    let (mut one, mut two) = (Client::new(), Client::new());
    one.put(&mut scene, HERE, &kv("a"), "A");
    one.put(&mut scene, HERE, &kv("b"), "B");
    scene.run_for(SECOND);
    assert_eq!(two.get(&mut scene, THERE, &kv("b")), some("B"));
    assert_eq!(two.get(&mut scene, THERE, &kv("a")), some("A"));
}

#[test]
fn session_delete() {
    let mut scene = regions(None);
    scene.put(HERE, &key(), "A");
    scene.until_quiet();
    let mut client = Client::new();
    client.write(&mut scene, HERE, &key(), WriteOp::Delete);
    assert_eq!(client.get(&mut scene, THERE, &key()), Ok(None));
}

#[test]
fn session_remove() {
    guarded(Bug::Without(Guard::WriteGate), |bug| {
        for (add, remove) in [
            (change_members(&["m"], &[]), change_members(&[], &["m"])),
            (change_members(&["m"], &[]), clear(Collection::Set)),
            (put_fields(&[("m", "v")]), fields_op(&[], &[], &["m"])),
        ] {
            let mut scene = regions(bug);
            let mut client = Client::new();
            client.write(&mut scene, HERE, &key(), add);
            client.write(&mut scene, THERE, &key(), remove);
            scene.until_quiet();
            assert_eq!(scene.members(HERE, &key()), Vec::<String>::new());
            assert_eq!(scene.registers(HERE, &key()), Vec::new());
        }
        let mut scene = regions(bug);
        let mut client = Client::new();
        client.write(&mut scene, HERE, &key(), add(5, None));
        client.write(&mut scene, THERE, &key(), reset());
        scene.until_quiet();
        assert_eq!(scene.counter(HERE, &key()).unwrap_or(0), 0);
    });
}

#[test]
fn session_cut_forward() {
    let mut scene = regions(None);
    scene.cut(&[0, 1], &[2, 3]);
    scene.run_for(3 * SECOND);
    let mut client = Client::new();
    client.wait_micros = 0;
    client.put(&mut scene, HERE, &key(), "A");
    scene.run_for(SECOND);
    assert_eq!(client.get(&mut scene, THERE, &key()), some("A"));
}

#[test]
fn session_cut_refuse() {
    assert_eq!(read_own_write(None), Err(()));
    // A mark that runs ahead of what was sent would let the read through.
    assert_eq!(read_marks_ahead(), Ok(None));
}

/// Watermarks that lie arrive, but what they vouch for does not.
fn read_marks_ahead() -> Result<Option<String>, ()> {
    let mut scene = regions(Some(Bug::MarkAhead));
    scene.run_for(SECOND);
    let mut client = Client::new();
    scene.hold(&[0, 1], &[2, 3, 4, 5]);
    client.put(&mut scene, HERE, &key(), "A");
    client.behind = Behind::Refuse;
    client.wait_micros = 100_000;
    client.get(&mut scene, THERE, &key())
}

#[test]
fn session_cut_off() {
    let mut scene = regions(None);
    scene.cut(&[2, 3], &[0, 1, 4, 5]);
    scene.run_for(3 * SECOND);
    let mut client = Client::new();
    client.wait_micros = 200_000;
    client.put(&mut scene, HERE, &key(), "A");
    assert_eq!(client.get(&mut scene, THERE, &key()), Err(()));
}

#[test]
fn session_ahead() {
    let mut scene = regions(None);
    let mut client = Client::new();
    client.put(&mut scene, HERE, &key(), "A");
    for seen in client.session.regions.values_mut() {
        seen.micros += 10 * SECOND;
    }
    let mut write = Write::new(key(), WriteOp::Put(bytes("B")));
    write.above.micros = client.session.latest();
    write.after = Some(Box::new(client.session.clone()));
    let asked = scene.begin(THERE, client.request(Operation::Write(Box::new(write))));
    let outcome = scene.wait(asked);
    assert!(matches!(outcome, Outcome::Denied(_)), "{outcome:?}");
}

#[test]
fn staleness_bounded() {
    let mut scene = regions(None);
    scene.put(HERE, &key(), "A");
    scene.run_for(2 * SECOND);
    scene.put(HERE, &key(), "B");
    let mut client = Client::new();
    client.fresh_as_of = Some(scene.wall());
    assert_eq!(client.get(&mut scene, THERE, &key()), some("B"));
}

#[test]
fn staleness_cut() {
    let mut scene = regions(None);
    scene.cut(&[2, 3], &[0, 1, 4, 5]);
    scene.run_for(4 * SECOND);
    let mut client = Client::new();
    client.wait_micros = 200_000;
    client.fresh_as_of = Some(Wall(scene.wall().0 - SECOND));
    assert_eq!(client.get(&mut scene, THERE, &key()), Err(()));
}

#[test]
fn session_wait() {
    let mut scene = regions(None);
    let mut client = Client::new();
    client.put(&mut scene, HERE, &key(), "A");
    let regions = Vec::new();
    let asked = scene.begin(ELSEWHERE, client.request(Operation::Wait { regions }));
    let outcome = scene.wait(asked);
    assert!(matches!(outcome, Outcome::Reached), "{outcome:?}");
    for node in [THERE, ELSEWHERE] {
        assert_eq!(scene.get(node, &key()).as_deref(), Some("A"));
    }
}
