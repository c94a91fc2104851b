//! Tests of topology files: what is read, and every mistake with its line and the words that answer it.

use std::collections::BTreeMap;

use proptest::prelude::{Just, Strategy, any, prop_assert, prop_oneof, proptest};

use crate::model::{Duration, Level, Limits, NodeId, RegionId};

use super::{MergePolicy, Topology, TopologyError};

/// Correct; every mistake below is one edit of it.
pub(super) const GOOD: &str = r#"cluster = "test"
partitions = 16
[limits]
max_offset_ms = 250
key_bytes_max = 1024
[[region]]
name = "us"
[[region.node]]
id = "us-1"
zone = "a"
http = "127.0.0.1:7101"
peer = "127.0.0.1:7151"
[[region.node]]
id = "us-2"
zone = "b"
http = "127.0.0.1:7102"
peer = "127.0.0.1:7152"
weight = 2
[[region]]
name = "eu"
[[region.node]]
id = "eu-1"
zone = "a"
http = "eu-1.example:7201"
peer = "[::1]:7251"
[[keyspace]]
name = "default"
merge = "lww"
[[keyspace]]
name = "home"
merge = "lww"
regions = ["us"]
replication = 2
consistency = "all"
[[link]]
between = ["us", "eu"]
rtt_ms = 70.5
jitter_ms = 1
loss = 0.0001
bandwidth_mbit = 1000
"#;

/// A mistake: what is replaced (once) by what, the line that is blamed, and words of the answer.
type Mistake = (&'static str, &'static str, usize, &'static [&'static str]);

#[rustfmt::skip] // one mistake a line
const MISTAKES: &[Mistake] = &[
    // Shape.
    ("partitions = 16", "partitions = ", 2, &[]),
    ("partitions = 16", "partitions = 16\nshards = 3", 3, &["unknown field `shards`", "expected one of"]),
    ("zone = \"a\"", "zone = \"a\"\nrack = 3", 11, &["unknown field `rack`", "`weight`"]),
    ("rtt_ms = 70.5", "rtt_ms = 70.5\nrtt_us = 1", 38, &["unknown field `rtt_us`"]),
    ("key_bytes_max", "key_bytes", 5, &["unknown field `key_bytes`"]),
    ("[limits]", "[limit]", 3, &["unknown field `limit`"]),
    ("cluster = \"test\"", "", 1, &["missing field `cluster`", "add it"]),
    ("partitions = 16", "", 1, &["missing field `partitions`"]),
    ("name = \"us\"", "", 6, &["missing field `name`"]),
    ("zone = \"b\"", "", 13, &["missing field `zone`"]),
    ("http = \"127.0.0.1:7102\"", "", 13, &["missing field `http`"]),
    ("name = \"home\"\nmerge = \"lww\"", "name = \"home\"", 29, &["missing field `merge`"]),
    ("rtt_ms = 70.5", "", 35, &["missing field `rtt_ms`"]),
    ("partitions = 16", "partitions = \"16\"", 2, &["expected a whole number"]),
    ("partitions = 16", "partitions = 1.5", 2, &["expected a whole number"]),
    ("cluster = \"test\"", "cluster = 7", 1, &["expected a string"]),
    ("loss = 0.0001", "loss = \"low\"", 39, &["expected a number"]),
    ("regions = [\"us\"]", "regions = \"us\"", 32, &["expected a list"]),
    ("regions = [\"us\"]", "regions = [\n\"us\",\n3]", 34, &["expected a string"]),
    ("[limits]\nmax_offset_ms = 250\nkey_bytes_max = 1024", "limits = 3", 3, &["expected a table"]),
    ("partitions = 16", "partitions = 16\npartitions = 17", 3, &["duplicate key"]),
    // Numbers.
    ("partitions = 16", "partitions = 0", 2, &["`partitions` is 0", "1 to 4096"]),
    ("partitions = 16", "partitions = -1", 2, &["`partitions` is -1"]),
    ("partitions = 16", "partitions = 4097", 2, &["1 to 4096"]),
    ("weight = 2", "weight = 0", 18, &["`weight` is 0", "1 to 1000"]),
    ("weight = 2", "weight = 1001", 18, &["1 to 1000"]),
    ("loss = 0.0001", "loss = 1.1", 39, &["`loss` is 1.1", "0 to 1"]),
    ("loss = 0.0001", "loss = -0.1", 39, &["`loss`"]),
    ("loss = 0.0001", "loss = nan", 39, &["`loss` is NaN"]),
    ("loss = 0.0001", "reorder = 2", 39, &["`reorder` is 2"]),
    ("rtt_ms = 70.5", "rtt_ms = -1", 37, &["`rtt_ms` is -1"]),
    ("rtt_ms = 70.5", "rtt_ms = 60001", 37, &["0 to 60000"]),
    ("rtt_ms = 70.5", "rtt_ms = inf", 37, &["`rtt_ms` is inf"]),
    ("jitter_ms = 1", "jitter_ms = -1", 38, &["`jitter_ms`"]),
    ("bandwidth_mbit = 1000", "bandwidth_mbit = 0", 40, &["`bandwidth_mbit` is 0", "leave it out"]),
    ("key_bytes_max = 1024", "key_bytes_max = 8193", 5, &["1 to 8192"]),
    ("key_bytes_max = 1024", "value_bytes_max = 16777217", 5, &["1 to 16777216"]),
    ("key_bytes_max = 1024", "requests_max = 0", 5, &["`requests_max` is 0"]),
    ("key_bytes_max = 1024", "batch_bytes_max = 0", 5, &["`batch_bytes_max`"]),
    ("key_bytes_max = 1024", "window_bytes_max = -4", 5, &["`window_bytes_max`"]),
    ("key_bytes_max = 1024", "recent_bytes_max = 0", 5, &["`recent_bytes_max`"]),
    ("key_bytes_max = 1024", "log_bytes_max = 0", 5, &["`log_bytes_max`"]),
    ("key_bytes_max = 1024", "reconcile_bytes_per_second = 0", 5, &["`reconcile_bytes_per_second`"]),
    ("key_bytes_max = 1024", "heartbeat_every_ms = 0", 5, &["`heartbeat_every_ms`"]),
    ("key_bytes_max = 1024", "silence_max_ms = 300", 5, &["at least twice"]),
    ("key_bytes_max = 1024", "heartbeat_every_ms = 1000", 5, &["at least twice"]),
    ("key_bytes_max = 1024", "reconcile_every_ms = 0", 5, &["`reconcile_every_ms`"]),
    ("key_bytes_max = 1024", "upkeep_every_ms = 0", 5, &["`upkeep_every_ms`"]),
    ("max_offset_ms = 250", "max_offset_ms = 0", 4, &["`max_offset_ms` is 0", "1 to 60000"]),
    ("replication = 2", "replication = 0", 33, &["`replication` is 0"]),
    ("replication = 2", "replication = 3", 33, &["region `us` has 2 node(s)", "at most 2"]),
    ("regions = [\"us\"]", "", 33, &["region `eu` has 1 node(s)"]),
    // Names.
    ("cluster = \"test\"", "cluster = \"\"", 1, &["not a name for a cluster"]),
    ("name = \"us\"", "name = \"US\"", 7, &["`US` is not a name for a region", "a-z"]),
    ("id = \"us-1\"", "id = \"us.1\"", 9, &["not a name for a node"]),
    ("zone = \"b\"", "zone = \"\\n\"", 15, &["`\\n` is not a name for a zone"]),
    ("name = \"home\"", "name = \"ho me\"", 30, &["not a name for a keyspace"]),
    ("name = \"eu\"", "name = \"us\"", 20, &["region `us` is already named on line 7"]),
    ("id = \"eu-1\"", "id = \"us-2\"", 22, &["node `us-2` is already named on line 14"]),
    ("name = \"home\"", "name = \"default\"", 30, &["keyspace `default` is already named on line 27"]),
    ("regions = [\"us\"]", "regions = [\"asia\"]", 32, &["no region `asia`", "us, eu"]),
    ("regions = [\"us\"]", "regions = [\"us\", \"us\"]", 32, &["already named"]),
    ("regions = [\"us\"]", "regions = []", 32, &["leave `regions` out"]),
    ("[\"us\", \"eu\"]", "[\"us\", \"asia\"]", 36, &["no region `asia`"]),
    ("[\"us\", \"eu\"]", "[\"us\", \"us\"]", 36, &["leads back to itself"]),
    ("[\"us\", \"eu\"]", "[\"us\"]", 36, &["names two regions"]),
    ("[[link]]", "[[link]]\nbetween = [\"eu\", \"us\"]\nrtt_ms = 1\n[[link]]", 39, &["already on line 36", "both ways"]),
    ("merge = \"lww\"", "merge = \"newest\"", 28, &["no merge policy `newest`", "lww", "siblings"]),
    ("merge = \"lww\"", "merge = \"lww\"\nttl_s = 0", 29, &["`ttl_s`"]),
    ("consistency = \"all\"", "consistency = \"quorum\"", 34, &["no level `quorum`", "local_quorum"]),
    ("consistency = \"all\"", "consistency = \"unsafe-one\"", 34, &["may not be a keyspace's default"]),
    // Addresses.
    ("http = \"127.0.0.1:7102\"", "http = \"127.0.0.1:7101\"", 16, &["already used on line 11"]),
    ("peer = \"127.0.0.1:7152\"", "peer = \"127.0.0.1:7101\"", 17, &["already used on line 11"]),
    ("peer = \"[::1]:7251\"", "peer = \"EU-1.EXAMPLE:7201\"", 25, &["already used on line 24"]),
    ("http = \"127.0.0.1:7101\"", "http = \"127.0.0.1\"", 11, &["`http` is `127.0.0.1`", "host:port"]),
    ("http = \"127.0.0.1:7101\"", "http = \":7101\"", 11, &["host:port"]),
    ("http = \"127.0.0.1:7101\"", "http = \"127.0.0.1:0\"", 11, &["host:port"]),
    ("http = \"127.0.0.1:7101\"", "http = \"127.0.0.1:+80\"", 11, &["host:port"]),
    ("http = \"127.0.0.1:7101\"", "http = \"127.0.0.1:65536\"", 11, &["host:port"]),
    ("http = \"127.0.0.1:7101\"", "http = \"127.0.0.256:80\"", 11, &["host:port"]),
    ("http = \"127.0.0.1:7101\"", "http = \"http://x:80\"", 11, &["host:port"]),
    ("http = \"127.0.0.1:7101\"", "http = \"a..b:80\"", 11, &["host:port"]),
    ("peer = \"[::1]:7251\"", "peer = \"::1:7251\"", 25, &["`peer`"]),
    ("peer = \"[::1]:7251\"", "peer = \"[::1:7251\"", 25, &["`peer`"]),
    // What is not there.
    (
        "[[region.node]]\nid = \"eu-1\"\nzone = \"a\"\nhttp = \"eu-1.example:7201\"\npeer = \"[::1]:7251\"\n",
        "",
        19,
        &["region `eu` has no nodes", "[[region.node]]"],
    ),
];

fn refuse(text: &str) -> TopologyError {
    Topology::parse("x.toml", text).expect_err(text)
}

#[test]
fn every_mistake_is_refused_with_its_line() {
    let mut wrongly = Vec::new();
    for (wrong, right, line, words) in MISTAKES {
        assert!(GOOD.contains(wrong), "nothing to replace: {wrong}");
        let error = refuse(&GOOD.replacen(wrong, right, 1));
        let is_answered = words.iter().all(|part| error.message.contains(part));
        let is_one_line = !error.message.is_empty() && !error.message.contains('\n');
        if error.line != *line || !is_answered || !is_one_line {
            wrongly.push(format!(
                "{wrong} -> {right} (line {line}, {words:?}): {error}"
            ));
        }
    }
    assert!(wrongly.is_empty(), "{}", wrongly.join("\n"));
}

#[test]
fn a_file_without_regions_or_keyspaces_is_refused() {
    let head = "cluster = \"test\"\npartitions = 1\n";
    assert!(refuse(head).message.contains("add a `[[region]]`"));
    let (regions, _) = GOOD.split_once("[[keyspace]]").unwrap();
    assert!(refuse(regions).message.contains("add a `[[keyspace]]`"));
    assert_eq!(refuse("").line, 1);
}

/// Two names with the same 32-bit id, found by trying.
fn twins(id: impl Fn(&str) -> u32) -> (String, String) {
    let mut seen = BTreeMap::new();
    (0_u32..)
        .find_map(|n| {
            let name = format!("n{n}");
            seen.insert(id(&name), name.clone())
                .map(|before| (before, name))
        })
        .unwrap()
}

#[test]
fn names_whose_ids_collide_are_refused() {
    let (a, b) = twins(|name| NodeId::of(name).0);
    let text = GOOD.replacen("us-1", &a, 1).replacen("eu-1", &b, 1);
    let error = refuse(&text);
    assert_eq!(error.line, 22);
    assert!(error.message.contains(&format!(
        "node `{b}` has the same 32-bit id as `{a}` on line 9"
    )));

    let (a, b) = twins(|name| RegionId::of(name).0);
    let text = GOOD.replacen("name = \"us\"", &format!("name = \"{a}\""), 1);
    let error = refuse(&text.replacen("name = \"eu\"", &format!("name = \"{b}\""), 1));
    assert!(
        error
            .message
            .contains(&format!("region `{b}` has the same 32-bit id as `{a}`"))
    );
}

#[test]
fn an_error_reads_as_file_line_message() {
    let error = refuse(&GOOD.replacen("partitions = 16", "partitions = 0", 1));
    assert_eq!(
        error.to_string(),
        "x.toml:2: `partitions` is 0: use 1 to 4096"
    );
}

#[test]
fn a_good_file_is_read_whole() {
    let topology = Topology::parse("x.toml", GOOD).unwrap();
    assert_eq!(
        (topology.cluster.as_str(), topology.partitions),
        ("test", 16)
    );
    assert_eq!(topology.limits.max_offset, Duration::from_millis(250));
    assert_eq!(topology.limits.key_bytes_max, 1024);
    assert_eq!(
        topology.limits.value_bytes_max,
        Limits::default().value_bytes_max
    );

    let names: Vec<&str> = topology.nodes().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["us-1", "us-2", "eu-1"]);
    let second = topology.node_named("us-2").unwrap();
    assert_eq!((second.weight, second.zone.as_str()), (2, "b"));
    assert_eq!(topology.node(second.id), Some(second));
    let [us, eu] = topology.regions.as_slice() else {
        panic!("two regions");
    };
    assert_eq!(topology.region_of(second.id), Some(us));
    assert_eq!(topology.region(eu.id), Some(eu));

    let default = topology.keyspace_named("default").unwrap();
    assert_eq!(default.regions, [us.id, eu.id]);
    assert_eq!((default.replication, default.merge), (1, MergePolicy::Lww));
    assert_eq!(default.consistency, Level::LocalQuorum);
    let home = topology.keyspace_named("home").unwrap();
    assert_eq!(
        (home.regions.as_slice(), home.replication),
        (&[us.id][..], 2)
    );
    assert_eq!(home.consistency, Level::All);

    let link = topology.link(eu.id, us.id).unwrap();
    assert_eq!(topology.link(us.id, eu.id), Some(link));
    assert_eq!(
        (link.rtt, link.jitter),
        (Duration::from_micros(70_500), Duration::from_millis(1))
    );
    assert_eq!(link.bandwidth_bits, Some(1_000_000_000));
    assert_eq!(topology.link(us.id, us.id), None);
}

#[test]
fn every_limit_of_the_file_reaches_its_place() {
    let text = "key_bytes_max = 1\nvalue_bytes_max = 2\nrequests_max = 3\nbatch_bytes_max = 4\n\
        window_bytes_max = 5\nrecent_bytes_max = 6\nlog_bytes_max = 7\nreconcile_bytes_per_second = 8\n\
        max_offset_ms = 9\nheartbeat_every_ms = 10\nsilence_max_ms = 20\nreconcile_every_ms = 12\n\
        upkeep_every_ms = 13\nsiblings_max = 14\nparts_max = 15\noperation_window_ms = 16\n\
        scrub_bytes_per_second = 17\nscrub_every_ms = 18\ndisk_low_bytes = 19\ndisk_full_bytes = 20";
    let text = GOOD.replacen("max_offset_ms = 250\nkey_bytes_max = 1024", text, 1);
    let wanted = Limits {
        key_bytes_max: 1,
        value_bytes_max: 2,
        requests_max: 3,
        batch_bytes_max: 4,
        window_bytes_max: 5,
        recent_bytes_max: 6,
        log_bytes_max: 7,
        reconcile_bytes_per_second: 8,
        max_offset: Duration::from_millis(9),
        heartbeat_every: Duration::from_millis(10),
        silence_max: Duration::from_millis(20),
        reconcile_every: Duration::from_millis(12),
        upkeep_every: Duration::from_millis(13),
        siblings_max: 14,
        parts_max: 15,
        operation_window: Duration::from_millis(16),
        scrub_bytes_per_second: 17,
        scrub_every: Duration::from_millis(18),
        disk_low_bytes: 19,
        disk_full_bytes: 20,
    };
    assert_eq!(Topology::parse("x.toml", &text).unwrap().limits, wanted);
}

/// The good file with some stretches of its bytes replaced.
fn mutated() -> impl Strategy<Value = String> {
    let scrap = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..4),
        Just(b"\n[[link]]\n".to_vec()),
        Just(b"[[region.node]]".to_vec()),
        Just(b"-1".to_vec()),
        Just(b"9223372036854775807".to_vec()),
        Just(b"\"\"".to_vec()),
        Just(b"nan".to_vec()),
    ];
    let edit = (0..GOOD.len(), 0_usize..24, scrap);
    proptest::collection::vec(edit, 1..4).prop_map(|edits| {
        let mut bytes = GOOD.as_bytes().to_vec();
        for (at, length, scrap) in edits {
            let start = at.min(bytes.len());
            let end = (start + length).min(bytes.len());
            bytes.splice(start..end, scrap);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

proptest! {
    #[test]
    fn mutated_files_never_panic(text in mutated()) {
        if let Err(error) = Topology::parse("x.toml", &text) {
            prop_assert!((1..=text.lines().count() + 1).contains(&error.line), "{error}");
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        prop_assert!(Topology::parse("x.toml", &text).is_err());
    }
}
