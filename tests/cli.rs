//! The program as its users call it: words and exit codes.
#![cfg(test)]

#[path = "bed/errand.rs"]
mod errand;
#[path = "bed/patience.rs"]
mod patience;
#[path = "bed/process.rs"]
mod process;
#[path = "bed/topology.rs"]
mod topology;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use process::{Site, sterna, words};
use topology::topology;

/// A second keyspace.
const SIBLINGS: &str = "[[keyspace]]\nname = \"siblings\"\nmerge = \"siblings\"\nreplication = 1\n";

/// Three regions in one process, as `sterna dev` runs them.
async fn dev(cluster: &str) -> Site {
    let regions = [("us", 1), ("eu", 1), ("ap", 1)];
    let mut site = Site::new(&topology(cluster, &regions, "", SIBLINGS));
    let mut command = sterna();
    command
        .args(["dev", "--plain", "--topology"])
        .arg(site.file())
        .arg("--data")
        .arg(site.path("data"));
    site.spawn("dev", command);
    for node in ["us-1", "eu-1", "ap-1"] {
        site.ready(node, 2).await;
    }
    site
}

#[test]
fn the_topology_files_that_we_ship_are_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regions");
    let files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "toml"))
        .collect();
    assert!(files.len() >= 4);
    for file in files {
        for deed in ["check", "show"] {
            let output = sterna().args(["topology", deed]).arg(&file).output();
            let output = output.unwrap();
            assert!(output.status.success(), "{}", words(&output));
            assert!(!output.stdout.is_empty());
        }
    }
}

#[test]
fn a_broken_topology_file_is_refused_with_its_line_and_what_to_do() {
    let good = topology("broken", &[("us", 1), ("eu", 1)], "", "");
    let port = |text: &str| {
        text.lines()
            .find(|line| line.starts_with("http"))
            .map(str::to_owned)
    };
    let http = port(&good).unwrap();
    for (broken, words_wanted) in [
        (
            good.replace("partitions = 4", "partitions = 0"),
            "partitions",
        ),
        (
            good.replace("merge = \"lww\"", "merge = \"first\""),
            "first",
        ),
        (good.replace("rtt_ms = 4", "rtt_ms = -1"), "rtt_ms"),
        (good.replace("id = \"eu-1\"", "id = \"us-1\""), "us-1"),
        (good.replace("zone = ", "zones = "), "zones"),
        (
            good.replace("replication = 1", "replication = 2"),
            "replication",
        ),
        (good.replace(&http, "http = \"nowhere\""), "nowhere"),
        ("cluster = ".to_owned(), "1"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("broken.toml");
        fs::write(&file, broken).unwrap();
        let output = sterna().args(["topology", "check"]).arg(&file).output();
        let output = output.unwrap();
        let said = words(&output);
        assert_eq!(output.status.code(), Some(2), "{words_wanted}: {said}");
        assert!(said.contains("broken.toml:"), "{said}");
        assert!(said.contains(words_wanted), "{words_wanted}: {said}");
    }
    let output = sterna()
        .args(["topology", "check", "/no/such/file"])
        .output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        words(&output).contains("/no/such/file"),
        "{}",
        words(&output)
    );
}

#[tokio::test]
async fn keys_are_written_read_listed_and_deleted() {
    let site = dev("keys").await;
    let run = |node: &str, args: &[&str]| {
        let output = site.run(node, args);
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        (output.status.code(), text, words(&output))
    };
    let (code, _, said) = run("us-1", &["get", "k"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains('k'), "{said}");
    let (code, _, said) = run("us-1", &["put", "k", "v", "--consistency", "each_quorum"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, text, said) = run("ap-1", &["get", "k"]);
    assert_eq!((code, text.trim_end()), (Some(0), "v"), "{said}");
    let (code, text, said) = run("eu-1", &["ls"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(text.lines().any(|line| line.starts_with('k')), "{said}");
    let (code, _, said) = run("eu-1", &["delete", "k", "--consistency", "each_quorum"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(run("us-1", &["get", "k"]).0, Some(1));
    for command in ["status", "regions", "verify"] {
        let (code, text, said) = run("us-1", &[command]);
        assert_eq!(code, Some(0), "{command}: {said}");
        assert!(!text.is_empty(), "{command}");
    }
    let (code, _, said) = run("us-1", &["link", "cut", "us", "eu"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, _, said) = run("us-1", &["link", "heal", "us", "eu"]);
    assert_eq!(code, Some(0), "{said}");
    let nobody = sterna()
        .args(["get", "k", "--endpoint", "127.0.0.1:9"])
        .output()
        .unwrap();
    assert_eq!(nobody.status.code(), Some(2), "{}", words(&nobody));
    assert!(words(&nobody).contains("127.0.0.1:9"), "{}", words(&nobody));
}

/// The node says so while the value is still coming: its answer must not be lost with the connection.
#[tokio::test]
async fn a_value_that_is_far_too_long_is_refused_in_words() {
    let site = dev("long").await;
    let value = site.path("value");
    fs::write(&value, vec![b'v'; 24 << 20]).unwrap();
    for _ in 0..10 {
        let output = sterna()
            .args(["put", "k", "-"])
            .env(
                "STERNA_ENDPOINT",
                format!("http://{}", site.endpoint("us-1")),
            )
            .stdin(fs::File::open(&value).unwrap())
            .output()
            .unwrap();
        let said = words(&output);
        assert!(said.contains("longer than 1048576 bytes"), "{said}");
    }
}

#[tokio::test]
async fn siblings_counters_sets_maps_and_sessions_are_used_from_the_command_line() {
    let site = dev("types").await;
    let run = |node: &str, line: &str| {
        let args: Vec<&str> = line.split(' ').collect();
        let output = site.run(node, &args);
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        (output.status.code(), text, words(&output))
    };
    let good = |node: &str, line: &str| {
        let (code, text, said) = run(node, line);
        assert_eq!(code, Some(0), "{line}: {said}");
        text
    };
    let session = |json: &str| {
        let told: serde_json::Value = serde_json::from_str(json).unwrap();
        told["session"].as_str().unwrap().to_owned()
    };
    for (change, look, wanted) in [
        ("counter add n -3", "counter get n", "-3\n"),
        ("set add s b a", "set members s", "a\nb\n"),
        ("map put m f v", "map get m f", "v"),
        ("put k v --ttl 1d", "get k", "v"),
    ] {
        let token = session(&good("us-1", &format!("{change} --json")));
        let look = format!("{look} --session {token}");
        assert_eq!(good("ap-1", &look), wanted, "{look}");
        good("us-1", &format!("wait --region eu --session {token}"));
    }
    good("us-1", "put cart milk -k siblings");
    good("us-1", "put cart tea -k siblings");
    assert_eq!(run("us-1", "get cart -k siblings").0, Some(1));
    let both = good("us-1", "get cart -k siblings --json");
    let both: serde_json::Value = serde_json::from_str(&both).unwrap();
    assert_eq!(both["siblings"].as_array().unwrap().len(), 2, "{both}");
    let context = both["context"].as_str().unwrap();
    let line = format!("put cart both -k siblings --context {context}");
    good("us-1", &line);
    assert_eq!(good("us-1", "get cart -k siblings"), "both");
    assert_eq!(run("us-1", "put k w --if-none-match").0, Some(1));
    assert_eq!(run("us-1", "counter add n 1 --session x").0, Some(2));
    good("us-1", "conflicts default");
}

#[tokio::test]
async fn the_examples_see_what_they_should() {
    let site = dev("examples").await;
    let url = |node: &str| format!("http://{}", site.topology.node_named(node).unwrap().http);
    let (us, eu, ap) = (url("us-1"), url("eu-1"), url("ap-1"));
    for name in ["cart", "like-counter", "roaming-session"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        let output = std::process::Command::new("sh")
            .arg(folder.join(format!("{name}.sh")))
            .envs([("US", &us), ("EU", &eu), ("AP", &ap)])
            .env("NODES", format!("{us} {eu} {ap}"))
            .envs([
                ("US_REGION", "us"),
                ("EU_REGION", "eu"),
                ("AP_REGION", "ap"),
            ])
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}: {}", words(&output));
    }
}

#[tokio::test]
async fn what_is_imported_in_one_region_is_exported_in_another() {
    let site = dev("files").await;
    let names = ["Zürich", "a b", "c\"d", "naïve, quoted", "5"];
    let mut wanted = BTreeSet::new();
    for (format, delimiter) in [("tsv", '\t'), ("csv", ','), ("ndjson", ' ')] {
        let mut text = match format {
            "ndjson" => String::new(),
            _ => format!("id{delimiter}name\n"),
        };
        for n in 0..300 {
            let (key, name) = (format!("{format}-{n}"), names[n % names.len()]);
            text += &match format {
                "ndjson" => format!("{}\n", serde_json::json!({"id": key, "name": name})),
                "csv" => format!("{key},\"{}\"\n", name.replace('"', "\"\"")),
                _ => format!("{key}\t{name}\n"),
            };
            wanted.insert((key, name.to_owned()));
        }
        let file = format!("in.{format}");
        fs::write(site.path(&file), text).unwrap();
        let args = ["import", &file, "--key", "id", "--value", "name"];
        let output = site.run("us-1", &args);
        assert!(output.status.success(), "{format}: {}", words(&output));
    }
    let output = site.run("us-1", &["verify", "--wait", "60s"]);
    assert!(output.status.success(), "{}", words(&output));
    for node in ["eu-1", "ap-1"] {
        let file = format!("{node}.ndjson");
        let output = site.run(node, &["export", &file]);
        assert!(output.status.success(), "{}", words(&output));
        let text = fs::read_to_string(site.path(&file)).unwrap();
        let found: BTreeSet<(String, String)> = text
            .lines()
            .map(|line| {
                let item: serde_json::Value = serde_json::from_str(line).unwrap();
                let field = |name: &str| item[name].as_str().unwrap().to_owned();
                (field("key"), field("value"))
            })
            .collect();
        assert_eq!(text.lines().count(), found.len());
        assert!(found == wanted, "{node}: {} rows", found.len());
    }
}

#[test]
fn every_command_explains_itself() {
    let help = |args: &[&str]| {
        let output = sterna().args(args).arg("--help").output().unwrap();
        assert!(output.status.success(), "{args:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let top = help(&[]);
    let commands: Vec<&str> = top
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() >= 16, "{commands:?}");
    for command in commands {
        let text = help(&[command]);
        let is_explained = text.contains("Example") || text.contains("Commands:");
        assert!(is_explained, "{command} gives no example:\n{text}");
    }
}
