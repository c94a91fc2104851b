//! Source files as text: without comments and the insides of strings, and what they import.
#![expect(
    clippy::string_slice,
    reason = "every offset was found in the same text; and a panic here is a failed test"
)]

use std::path::{Path, PathBuf};

/// A source file.
pub(crate) struct Source {
    /// Its path from the top of the repository, with `/`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
    /// The text without comments and the insides of strings, line for line.
    pub(crate) code: String,
}

/// The top of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path))
        .unwrap_or_else(|error| panic!("read {path}: {error}"))
}

/// Paths of all files below a folder with this extension, in order; none if there is no such folder.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for path in entries.map(|entry| entry.expect("list a folder").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(from_root(path));
            }
        }
    }
    found.sort();
    found
}

fn from_root(path: PathBuf) -> String {
    let short = path
        .strip_prefix(root())
        .map(Path::to_path_buf)
        .unwrap_or(path);
    let parts: Vec<String> = short
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    parts.join("/")
}

/// All Rust files below a folder.
pub(crate) fn sources(folder: &str) -> Vec<Source> {
    let read = |path: String| {
        let text = read(&path);
        let code = code_of(&text);
        Source { path, text, code }
    };
    files(folder, "rs").into_iter().map(read).collect()
}

impl Source {
    /// The room that the file belongs to: `src/net/lane.rs` and `src/net.rs` to `net`. The roots of the library
    /// and of the program belong to none.
    pub(crate) fn room(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("src/")?;
        let first = rest.split('/').next()?;
        let room = first.strip_suffix(".rs").unwrap_or(first);
        (room != "lib" && room != "main").then_some(room)
    }

    /// The lines, from 1, whose code has `word`, not as a part of a longer name.
    pub(crate) fn lines_with(&self, word: &str) -> Vec<usize> {
        let lines = self.code.lines().zip(1..);
        lines
            .filter(|(line, _)| has_word(line, word))
            .map(|(_, number)| number)
            .collect()
    }

    /// Rooms that the code names, and on which lines: after `crate::`, alone or in braces, and by `super`
    /// beyond the file's own room.
    pub(crate) fn imports(&self, is_room: &dyn Fn(&str) -> bool) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (start, _) in self.code.match_indices("crate::") {
            if self.code[..start].ends_with(is_name) {
                continue;
            }
            let line = self.code[..start].lines().count().max(1);
            let line = line + usize::from(self.code[..start].ends_with('\n'));
            let heads = heads(&self.code[start + "crate::".len()..]);
            found.extend(heads.into_iter().map(|room| (line, room)));
        }
        for (line, number) in self.code.lines().zip(1..) {
            found.extend(self.escape(line, is_room).map(|room| (number, room)));
        }
        found
    }

    /// A room reached by so many `super::` that they lead out of the file's own room.
    fn escape(&self, line: &str, is_room: &dyn Fn(&str) -> bool) -> Option<String> {
        let start = line.find("super::")?;
        let rest = &line[start..];
        let tail = rest.trim_start_matches("super::");
        let supers = (rest.len() - tail.len()) / "super::".len();
        let depth = self.path.split('/').count() - 1 - usize::from(self.path.ends_with("/mod.rs"));
        let name: String = tail.chars().take_while(|c| is_name(*c)).collect();
        (supers >= depth && is_room(&name)).then_some(name)
    }
}

/// The first names of a path: `a` of `a::b`, `a` and `c` of `{a::b, c}`.
fn heads(path: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| is_name(*c)).collect::<String>();
    let Some(group) = path.strip_prefix('{') else {
        return vec![name(path)];
    };
    let mut heads = Vec::new();
    let mut depth = 0_usize;
    let mut is_start = true;
    for (at, c) in group.char_indices() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => is_start = true,
            c if is_start && is_name(c) => {
                heads.push(name(&group[at..]));
                is_start = false;
            }
            _ => {}
        }
    }
    heads
}

/// Paths in backticks that a document names: (line, path).
pub(crate) fn names_paths(text: &str) -> Vec<(usize, String)> {
    const TOPS: [&str; 6] = ["src/", "regions/", "deploy/", "tests/", "benches/", "docs/"];
    let mut found = Vec::new();
    let mut is_fenced = false;
    for (line, number) in text.lines().zip(1..) {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        } else if !is_fenced {
            let quoted = line.split('`').skip(1).step_by(2);
            let paths = quoted.filter(|word| TOPS.iter().any(|top| word.starts_with(top)));
            let plain = paths.filter(|word| !word.contains(['*', '<', '{', ' ', '…']));
            found.extend(plain.map(|word| (number, word.to_owned())));
        }
    }
    found
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let is_cut_before = word.starts_with(is_name) && line[..start].ends_with(is_name);
        let is_cut_after =
            word.ends_with(is_name) && line[start + word.len()..].starts_with(is_name);
        !is_cut_before && !is_cut_after
    })
}

/// Leaves out comments and the insides of strings and characters; keeps line breaks.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = comment(rest).or_else(|| literal(rest));
        match skipped {
            Some(length) => {
                let (gone, left) = rest.split_at(length);
                code.extend(gone.chars().filter(|c| *c == '\n'));
                rest = left;
            }
            None => {
                code.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    code
}

/// The length of the comment that begins here.
fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    Some(at)
}

/// The length of the string or character that begins here; lifetimes are not characters.
fn literal(rest: &str) -> Option<usize> {
    if let Some(inner) = rest.strip_prefix('"') {
        return Some(1 + quoted(inner, '"'));
    }
    if let Some(inner) = rest.strip_prefix('\'') {
        let mut chars = inner.chars();
        let first = chars.next()?;
        let is_char = first == '\\' || chars.next() == Some('\'');
        return is_char.then(|| 1 + quoted(inner, '\''));
    }
    let raw = rest.strip_prefix('r')?;
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    let inner = raw[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inner.find(&end).map_or(inner.len(), |at| at + end.len());
    Some(1 + hashes + 1 + length)
}

/// The length up to and with the closing quote.
fn quoted(inner: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in inner.char_indices() {
        if !is_escaped && c == quote {
            return at + c.len_utf8();
        }
        is_escaped = !is_escaped && c == '\\';
    }
    inner.len()
}

#[test]
fn code_has_no_comments_and_no_insides_of_strings() {
    let text = "a // b\nc /* d /* e */ f\n */ g \"h \\\" // i\" j r#\"k \" l\"# m 'n' '\\'' &'o str 'p': x br\"q\" '\"' r";
    assert_eq!(code_of(text), "a \nc \n g  j  m   &'o str : x b  r");
}

#[test]
fn imports_are_found_alone_in_braces_and_by_super() {
    let source = |path: &str, code: &str| Source {
        path: path.to_owned(),
        text: String::new(),
        code: code.to_owned(),
    };
    let rooms = |name: &str| name != "own";
    let found = source(
        "src/net/lane.rs",
        "use crate::model::{A, B};\nuse crate::{\n  coding::{x, y},\n  protocol,\n};\nuse super::super::digest::z;\nuse super::own::q;",
    );
    let wanted = [(1, "model"), (2, "coding"), (2, "protocol"), (6, "digest")];
    assert_eq!(
        found.imports(&rooms),
        wanted.map(|(line, room)| (line, room.to_owned()))
    );
    assert_eq!(
        source("src/hlc.rs", "use super::model::Time;")
            .imports(&rooms)
            .len(),
        1
    );
    assert_eq!(source("src/net/mod.rs", "").room(), Some("net"));
    assert_eq!(source("src/hlc.rs", "").room(), Some("hlc"));
    assert_eq!(source("src/main.rs", "").room(), None);
}

#[test]
fn words_are_whole() {
    assert!(has_word("let x: Instant = y;", "Instant"));
    assert!(!has_word("let x: Instantly = y;", "Instant"));
    assert!(has_word("a.await?", ".await"));
    assert!(!has_word("tokio_like", "tokio"));
}
