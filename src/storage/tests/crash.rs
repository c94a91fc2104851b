//! A process that is killed in the middle of its work: what it was told is durable is there afterwards.
//!
//! The test runs its own binary again as the child, which does nothing unless it is given a folder.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{COUNT, WALL, key, options, put};
use crate::model::Ticket;
use crate::model::{Actor, Answer, Query, Row, Time, Wall};
use crate::storage::{Clock, Door, Fjall, Store, StoreEvent, StoreOptions};

const FOLDER: &str = "STERNA_TEST_CRASH_FOLDER";

#[derive(Default)]
struct Steps(AtomicU64);

impl Clock for Steps {
    fn wall(&self) -> Wall {
        Wall(WALL.0 + self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn time(&self) -> Time {
        Time(0)
    }
}

/// Writes until it is killed, and says the number of each write that is durable.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let options = StoreOptions::new(options(1), Arc::new(Steps::default()));
    let (store, _, mut events) = Store::open(Path::new(&folder), options).unwrap();
    for first in (0..).step_by(20) {
        let next: u64 = first + 20;
        let changes = (first..next).map(|i| (Ticket(i), put(&format!("k{i}"), "v")));
        store.submit(changes.collect()).unwrap();
        while let Some(event) = events.blocking_recv() {
            let StoreEvent::Durable(tickets) = event else {
                continue;
            };
            let mut out = std::io::stdout().lock();
            for Ticket(i) in &tickets {
                writeln!(out, "durable {i}").unwrap();
            }
            out.flush().unwrap();
            if tickets.contains(&Ticket(next - 1)) {
                break;
            }
        }
    }
}

/// Runs the child until it has said so many numbers, and kills it; the last one it said.
pub(super) fn kill_after(folder: &Path, count: usize) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "storage::tests::crash::child", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let numbers = lines.filter_map(|line| {
        let line = line.ok()?;
        line.strip_prefix("durable ")?.parse::<u64>().ok()
    });
    let last = numbers.take(count).last().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    last
}

#[test]
fn what_was_durable_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut actors: Vec<Actor> = Vec::new();
    for count in [1, 30, 500] {
        let last = kill_after(folder.path(), count);
        let (door, opened) = Door::open(Fjall::open(folder.path()).unwrap(), options(1)).unwrap();
        assert!(!opened.was_clean);
        assert!(actors.iter().all(|actor| *actor < opened.actor));
        actors.push(opened.actor);
        assert_eq!(door.reader().verify_digests().unwrap(), Vec::new());
        let keys = (0..=last).map(|i| key(&format!("k{i}"))).collect();
        let Answer::Rows(rows) = door.reader().answer(&Query::Rows(keys)) else {
            panic!("unreadable");
        };
        assert!(
            rows.iter()
                .all(|row| row.as_ref().is_some_and(|row| !Row::is_tombstone(row)))
        );
        for known in opened.partitions {
            assert!(known.partition.index < COUNT);
            for reach in known.position.reaches.values() {
                assert_eq!(reach.applied, reach.complete);
            }
        }
    }
}
