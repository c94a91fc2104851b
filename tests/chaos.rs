//! A short run of `sterna chaos`: real processes are killed, stopped and cut off under load, and the history that
//! clients wrote is judged good; spoilt, it is not.
#![cfg(test)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// How long things go wrong: at least one of each.
const SECONDS: &str = "8";
/// Clients: few, so that there is room for nine nodes on a small machine.
const CLIENTS: &str = "8";

fn chaos() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sterna"));
    command
        .arg("chaos")
        .env_remove("STERNA_ENDPOINT")
        .env_remove("STERNA_LOG");
    command
}

fn words(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}", text(&output.stdout), text(&output.stderr))
}

/// The one history in a folder of runs.
fn history_in(dir: &Path) -> PathBuf {
    let mut runs = std::fs::read_dir(dir).unwrap();
    runs.next().unwrap().unwrap().path().join("history.jsonl")
}

/// Whether a history is judged good.
fn is_good(dir: &Path, lines: &[Value]) -> (bool, String) {
    let file = dir.join("judged.jsonl");
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    std::fs::write(&file, text.join("\n")).unwrap();
    let output = chaos().arg("--check").arg(&file).output().unwrap();
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 1)), "{}", words(&output));
    (code == Some(0), words(&output))
}

/// Without one operation.
fn without(lines: &[Value], op: &Value) -> Vec<Value> {
    let kept = lines.iter().filter(|line| line["op"] != *op);
    kept.cloned().collect()
}

/// The last line of which this is so.
fn last(lines: &[Value], is_it: impl Fn(&Value) -> bool) -> usize {
    let found = lines.iter().rposition(is_it);
    found.expect("such a line in the history")
}

#[test]
fn promises_hold_under_kills_cuts_and_pauses_and_a_spoilt_history_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let output = chaos()
        .args(["--scenario", "kill+cut+pause", "--keep"])
        .args(["--seconds", SECONDS, "--clients", CLIENTS, "--data"])
        .arg(dir.path().join("runs"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", words(&output));
    for fault in [" P1", " N6", " P4"] {
        assert!(words(&output).contains(fault), "{}", words(&output));
    }

    let text = std::fs::read_to_string(history_in(&dir.path().join("runs"))).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (good, said) = is_good(dir.path(), &lines);
    assert!(good, "{said}");

    // A value that was read was written by nobody.
    let read = last(&lines, |line| {
        line["result"]["f"] == "read" && !line["result"]["value"].is_null()
    });
    let (good, said) = is_good(
        dir.path(),
        &without(&lines, &lines[read]["result"]["value"]),
    );
    assert!(!good, "{said}");

    // The value that is left in the end is gone in one region.
    let mut lost = lines.clone();
    lost[read]["result"] = serde_json::json!({"f": "nothing"});
    let (good, said) = is_good(dir.path(), &lost);
    assert!(!good, "{said}");

    // A counter shows one more than was added.
    let mut more = lines.clone();
    let count = last(&lines, |line| line["result"]["f"] == "counted");
    let shown: i64 = lines[count]["result"]["count"]
        .as_str()
        .and_then(|count| count.parse().ok())
        .unwrap();
    more[count]["result"]["count"] = (shown + 1).to_string().into();
    let (good, said) = is_good(dir.path(), &more);
    assert!(!good, "{said}");
}

#[test]
fn what_is_no_history_or_scenario_is_refused_with_words() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tea.jsonl");
    std::fs::write(&file, "tea\n").unwrap();
    let output = chaos().arg("--check").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&output).contains("line 1"), "{}", words(&output));
    let output = chaos().args(["--scenario", "tea"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&output).contains("--list"), "{}", words(&output));
    let output = chaos().arg("--list").output().unwrap();
    assert!(words(&output).contains("kill-all"), "{}", words(&output));
}
