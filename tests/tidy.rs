//! What must hold of the source as a whole: floors, purity, doors, names, and documents that tell the truth.
//! It reads files as text (`tidy/source.rs` leaves comments and strings out) and knows nothing of Rust's grammar.
#![cfg(test)]

#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/source.rs"]
mod source;

use std::fmt::Write as _;
use std::path::Path;

use floors::{Entry, Floors};
use source::{Source, files, names_paths, read, root, sources};
use xxhash_rust::xxh3::xxh3_64;

/// Rooms marked `pure` contain none of these: no I/O, no async, no time, no chance, no hash order.
const IMPURE: [&str; 11] = [
    "tokio",
    "async fn",
    ".await",
    "std::fs",
    "std::net",
    "std::thread",
    "Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "random::",
];

/// Names of modules that say nothing.
const VAGUE: [&str; 4] = ["util", "helpers", "common", "misc"];

/// The files that say how bytes look between nodes and on disk; of a folder, all files in it.
const FORMATS: [&str; 17] = [
    "src/coding.rs",
    "src/coding/",
    "src/model/context.rs",
    "src/model/counter.rs",
    "src/model/ids.rs",
    "src/model/level.rs",
    "src/model/marks.rs",
    "src/model/part.rs",
    "src/model/position.rs",
    "src/model/row.rs",
    "src/model/session.rs",
    "src/model/siblings.rs",
    "src/model/store.rs",
    "src/model/time.rs",
    "src/model/version.rs",
    "src/model/write.rs",
    "src/protocol/message.rs",
];

/// Fails with everything that is wrong, not with the first.
fn check(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Every line of the sources under a folder whose code has the word; see [`Source::lines_with`].
fn lines_with(sources: &[Source], word: &str, is_allowed: impl Fn(&str) -> bool) -> Vec<String> {
    let places = sources
        .iter()
        .filter(|source| !is_allowed(&source.path))
        .flat_map(|source| {
            let lines = source.lines_with(word);
            lines
                .into_iter()
                .map(|line| format!("{}:{line}: has `{word}`", source.path))
        });
    places.collect()
}

#[test]
fn rooms_import_only_from_floors_below() {
    let floors = Floors::read();
    let mut wrong = Vec::new();
    for source in sources("src") {
        let Some(room) = source.room() else {
            continue;
        };
        if floors.entry(room).is_none() {
            wrong.push(format!(
                "{}: room `{room}` has no floor: add it to ARCHITECTURE.md",
                source.path
            ));
            continue;
        }
        for (line, target) in source.imports(&|name| floors.entry(name).is_some()) {
            if !floors.may_import(room, &target) {
                wrong.push(format!(
                    "{}:{line}: `{room}` may not import `{target}` (floors in ARCHITECTURE.md)",
                    source.path
                ));
            }
        }
    }
    check(&wrong);
}

#[test]
fn every_room_of_the_table_may_exist_once() {
    let floors = Floors::read();
    let mut names: Vec<&str> = floors.rooms().collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(
        names.len(),
        count,
        "a room stands twice in the table of floors"
    );
    assert!(floors.may_import("protocol", "model") && !floors.may_import("model", "protocol"));
    assert!(!floors.may_import("storage", "net") && !floors.may_import("net", "storage"));
}

#[test]
fn pure_rooms_are_pure() {
    let floors = Floors::read();
    let mut pure = sources("src");
    pure.retain(|source| {
        source
            .room()
            .and_then(|room| floors.entry(room))
            .is_some_and(Entry::is_pure)
    });
    let wrong: Vec<String> = IMPURE
        .iter()
        .flat_map(|word| lines_with(&pure, word, |_| false))
        .collect();
    check(&wrong);
}

#[test]
fn batches_are_committed_in_storage_only() {
    check(&lines_with(&sources("src"), ".durability(", |path| {
        path.starts_with("src/storage/")
    }));
}

#[test]
fn tasks_are_spawned_in_one_place() {
    let sources = sources("src");
    let mut wrong = lines_with(&sources, "tokio::spawn", |path| {
        path == "src/node/tasks.rs" || path.contains("/tests/")
    });
    wrong.extend(lines_with(&sources, "task::spawn", |path| {
        path == "src/node/tasks.rs"
    }));
    check(&wrong);
}

#[test]
fn every_file_says_what_it_is_for() {
    let all = ["src", "tests", "benches"].into_iter().flat_map(sources);
    let wrong: Vec<String> = all
        .filter(|source| !source.text.starts_with("//!"))
        .map(|source| format!("{}:1: begins without `//!`", source.path))
        .collect();
    check(&wrong);
}

#[test]
fn no_module_has_a_vague_name() {
    let mut wrong = Vec::new();
    for source in ["src", "tests", "benches"].into_iter().flat_map(sources) {
        for name in VAGUE {
            let lines = source.lines_with(&format!("mod {name}"));
            wrong.extend(
                lines
                    .into_iter()
                    .map(|line| format!("{}:{line}: `mod {name}`", source.path)),
            );
        }
    }
    check(&wrong);
}

/// Tests may take everything of the module that they test, and proptest's prelude.
#[test]
fn imports_name_what_they_import() {
    let mut wrong = Vec::new();
    for source in ["src", "tests", "benches"].into_iter().flat_map(sources) {
        let lines: Vec<&str> = source.code.lines().collect();
        let tests = lines.iter().position(|line| line.trim() == "#[cfg(test)]");
        for (index, line) in lines
            .iter()
            .enumerate()
            .filter(|(_, line)| line.contains("::*"))
        {
            let is_test = tests.is_some_and(|start| start < index)
                || source.path.contains("/tests/")
                || !source.path.starts_with("src/");
            let is_usual = matches!(line.trim(), "use super::*;" | "use proptest::prelude::*;");
            if !(is_test && is_usual) {
                wrong.push(format!("{}:{}: glob import", source.path, index + 1));
            }
        }
    }
    check(&wrong);
}

#[test]
fn no_test_is_ignored() {
    let all: Vec<Source> = ["src", "tests", "benches"]
        .into_iter()
        .flat_map(sources)
        .collect();
    check(&lines_with(&all, "#[ignore", |_| false));
}

#[test]
fn documents_name_paths_that_exist() {
    let mut documents = files("docs", "md");
    documents.extend(["ARCHITECTURE.md", "README.md"].map(str::to_owned));
    let mut wrong = Vec::new();
    for document in documents.iter().filter(|path| root().join(path).exists()) {
        for (line, path) in names_paths(&read(document)) {
            if !root().join(&path).exists() {
                wrong.push(format!("{document}:{line}: `{path}` does not exist"));
            }
        }
    }
    check(&wrong);
}

const FORMAT_DOCUMENT: &str = "docs/format.md";
const FORMAT_MARKS: [&str; 2] = ["<!-- hashes begin -->\n", "<!-- hashes end -->"];

#[test]
fn the_format_document_knows_the_format_files() {
    let text = read(FORMAT_DOCUMENT);
    let (head, rest) = text
        .split_once(FORMAT_MARKS[0])
        .expect("begin mark in docs/format.md");
    let (found, tail) = rest
        .split_once(FORMAT_MARKS[1])
        .expect("end mark in docs/format.md");
    let wanted = format_hashes();
    if found == wanted {
        return;
    }
    if std::env::var_os("UPDATE").is_some() {
        let text = format!("{head}{}{wanted}{}{tail}", FORMAT_MARKS[0], FORMAT_MARKS[1]);
        std::fs::write(root().join(FORMAT_DOCUMENT), text).expect("write docs/format.md");
        return;
    }
    panic!(
        "files that define stored or sent bytes are not those that {FORMAT_DOCUMENT} describes.\nIf bytes change: raise \
         the version, add golden files, describe it there.\nThen, and if no byte changes: UPDATE=1 cargo test --test \
         tidy\nfound:\n{found}wanted:\n{wanted}"
    );
}

fn format_hashes() -> String {
    let mut table = String::from("| file | xxh3 |\n|---|---|\n");
    for entry in FORMATS {
        let paths = match entry.strip_suffix('/') {
            Some(folder) => files(folder, "rs"),
            None => vec![entry.to_owned()],
        };
        for path in paths
            .iter()
            .filter(|path| Path::new(&root().join(path)).exists())
        {
            let hash = xxh3_64(read(path).as_bytes());
            writeln!(table, "| `{path}` | {hash:016x} |").expect("strings grow");
        }
    }
    table
}
