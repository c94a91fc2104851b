//! A cluster in memory that speaks the HTTP contract, for tests of its clients: regions with one store
//! each, a fixed delay between regions, links, digests that can be made to differ, faults on demand.
//! The keyspace `siblings` keeps siblings.

mod types;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::model::Token;

use super::client::Blob;
use super::{Command, Failure};
use types::{Asked, Types};

struct Version {
    value: Option<Bytes>,
    micros: u64,
    region: String,
    at: Instant,
}

#[derive(Default)]
pub(crate) struct World {
    rows: BTreeMap<(String, Token, Vec<u8>), Vec<Version>>,
    clock: u64,
    pub(crate) delay: Duration,
    /// The next writes and batch items answer so instead of being done.
    pub(crate) faults: VecDeque<&'static str>,
    /// Leaves of partition 0 that differ, by node.
    pub(crate) odd_leaves: BTreeMap<String, BTreeSet<u16>>,
    pub(crate) links: Vec<Value>,
    pub(crate) is_dev: bool,
    /// A page of a listing takes so many rows at most, whatever its limit; with none it leads back to itself.
    pub(crate) page_rows_max: Option<usize>,
    /// What lost, as it is listed.
    pub(crate) conflicts: Vec<Value>,
    types: Types,
    asked: Vec<HeaderMap>,
    nodes: Vec<(String, String, String)>,
}

#[derive(Clone)]
struct Node {
    world: Arc<Mutex<World>>,
    name: String,
    region: String,
}

pub(crate) struct Fake {
    world: Arc<Mutex<World>>,
    tasks: Vec<(String, AbortHandle)>,
    _set: JoinSet<()>,
}

const PARTITIONS: u32 = 2;

impl Fake {
    /// Starts a cluster: names of regions and how many nodes each has.
    pub(crate) async fn start(shape: &[(&str, usize)]) -> Self {
        let world = Arc::new(Mutex::new(World::default()));
        let mut set = JoinSet::new();
        let mut tasks = Vec::new();
        for (region, count) in shape {
            for n in 1..=*count {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap().to_string();
                let name = format!("{region}-{n}");
                lock(&world)
                    .nodes
                    .push((name.clone(), (*region).to_owned(), address));
                let node = Node {
                    world: Arc::clone(&world),
                    name: name.clone(),
                    region: (*region).to_owned(),
                };
                let router = Router::new().fallback(serve).with_state(node);
                let task = set.spawn(async move {
                    axum::serve(listener, router).await.unwrap();
                });
                tasks.push((name, task));
            }
        }
        let names: Vec<&str> = shape.iter().map(|(name, _)| *name).collect();
        for (i, a) in names.iter().enumerate() {
            for b in &names[i + 1..] {
                let link = json!({"a": a, "b": b, "rtt_ms": 20.0, "jitter_ms": 0.0, "loss": 0.0,
                    "bandwidth_mbit": null, "cut": false});
                lock(&world).links.push(link);
            }
        }
        Self {
            world,
            tasks,
            _set: set,
        }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    /// host:port of the node of this name.
    pub(crate) fn address(&self, node: &str) -> String {
        let world = self.world();
        let found = world.nodes.iter().find(|(name, _, _)| name == node);
        found.unwrap().2.clone()
    }

    /// Stops listening; connections that are open stay.
    pub(crate) fn stop(&self, node: &str) {
        for (name, task) in &self.tasks {
            if name == node {
                task.abort();
            }
        }
    }

    /// Puts a row by the back door.
    pub(crate) fn put(&self, region: &str, keyspace: &str, key: &[u8], value: Option<&[u8]>) {
        let value = value.map(Bytes::copy_from_slice);
        self.world().write(region, keyspace, key, value);
    }

    /// Forgets the last write of the first key, and everything of the last one.
    pub(crate) fn lose(&self) {
        let mut world = self.world();
        let mut rows = world.rows.values_mut();
        rows.next().unwrap().pop();
        rows.next_back().unwrap().clear();
    }

    /// The values of a header in all requests so far that had it, and not twice the same.
    pub(crate) fn asked(&self, header: &str) -> Vec<String> {
        let world = self.world();
        let values = world.asked.iter().filter_map(|asked| asked.get(header));
        let mut values: Vec<String> = values.map(|v| v.to_str().unwrap().to_owned()).collect();
        values.dedup();
        values
    }

    /// All rows of a keyspace, as a region that has everything sees them.
    pub(crate) fn rows(&self, keyspace: &str) -> BTreeMap<Vec<u8>, Bytes> {
        let world = self.world();
        let rows = world.rows.iter().filter(|((k, _, _), _)| k == keyspace);
        rows.filter_map(|((_, _, key), versions)| {
            let value = versions.last()?.value.clone()?;
            Some((key.clone(), value))
        })
        .collect()
    }
}

/// Runs a command line, words parted by spaces, against the node `eu-1`; what it wrote.
pub(crate) async fn run(fake: &Fake, words: &str) -> Result<String, Failure> {
    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }
    let endpoint = format!("--endpoint=http://{}", fake.address("eu-1"));
    let line = ["sterna"].into_iter().chain(words.split(' '));
    let line = <Line as clap::Parser>::try_parse_from(line.chain([endpoint.as_str()]))
        .map_err(|error| Failure::usage(error.to_string()))?;
    let mut out = Vec::new();
    match line.command {
        Command::Get(args) => args.run(&mut out).await?,
        Command::Put(args) => args.run(&mut out).await?,
        Command::Delete(args) => args.run(&mut out).await?,
        Command::Ls(args) => args.run(&mut out).await?,
        Command::Counter(args) => args.run(&mut out).await?,
        Command::Set(args) => args.run(&mut out).await?,
        Command::Map(args) => args.run(&mut out).await?,
        Command::Conflicts(args) => args.run(&mut out).await?,
        Command::Wait(args) => args.run(&mut out).await?,
        Command::Scrub(args) => args.run(&mut out).await?,
        Command::Dev(_)
        | Command::Serve(_)
        | Command::Status(_)
        | Command::Regions(_)
        | Command::Link(_)
        | Command::Verify(_)
        | Command::Import(_)
        | Command::Export(_)
        | Command::Bench(_)
        | Command::Sim(_)
        | Command::Chaos(_)
        | Command::Cert(_)
        | Command::Topology(_) => return Err(Failure::usage("not a command of the fake")),
    };
    Ok(String::from_utf8(out).unwrap())
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl World {
    fn write(&mut self, region: &str, keyspace: &str, key: &[u8], value: Option<Bytes>) -> u64 {
        self.clock += 1;
        let name = (keyspace.to_owned(), Token::of(key), key.to_vec());
        self.rows.entry(name).or_default().push(Version {
            value,
            micros: self.clock,
            region: region.to_owned(),
            at: Instant::now(),
        });
        self.clock
    }

    fn seen<'a>(&self, versions: &'a [Version], region: &str) -> Option<(&'a Version, Bytes)> {
        let now = Instant::now();
        let version = versions
            .iter()
            .rev()
            .find(|v| v.region == region || v.at + self.delay <= now)?;
        Some((version, version.value.clone()?))
    }

    fn hash(&self, node: &str, partition: u32, level: u32, index: u32) -> String {
        let width = 16u32.pow(3 - level);
        let odd: Vec<u16> = (self.odd_leaves.get(node).into_iter().flatten().copied())
            .filter(|leaf| partition == 0 && u32::from(*leaf) / width == index)
            .collect();
        let text = format!("{partition} {level} {index} {odd:?}");
        format!("{:032x}", xxhash_rust::xxh3::xxh3_128(text.as_bytes()))
    }

    fn status(&self, node: &Node) -> Value {
        let nodes: Vec<Value> = self.nodes.iter().map(|(name, region, http)| {
            json!({"node": name, "region": region, "zone": "a", "http": http, "peer": "127.0.0.1:1"})
        }).collect();
        let peers: Vec<Value> = (self.nodes.iter().filter(|(name, _, _)| *name != node.name))
            .map(|(name, region, _)| json!({"node": name, "region": region, "up": true, "backlog": 3}))
            .collect();
        let mut regions: Vec<&String> = self.nodes.iter().map(|(_, region, _)| region).collect();
        regions.dedup();
        json!({"cluster": "fake", "region": node.region, "node": node.name, "actor": "x",
            "ready": true, "partitions": PARTITIONS, "serving": PARTITIONS, "available": PARTITIONS, "requests": 0,
            "peers": peers, "nodes": nodes,
            "keyspaces": [{"name": "default", "merge": "lww", "regions": regions,
                "replication": 3, "consistency": "local_quorum"}],
            "counters": {}, "queues": {}, "sent_bytes": {}, "received_bytes": {}})
    }

    fn pairs(&self, node: &Node) -> Value {
        let mut others: Vec<&String> = (self.nodes.iter().map(|(_, region, _)| region))
            .filter(|region| **region != node.region)
            .collect();
        others.dedup();
        let pairs: Vec<Value> = (others.iter())
            .flat_map(|other| {
                [
                    json!({"from": other, "to": node.region, "lag_ms": 12, "backlog": 0, "divergence": 1}),
                    json!({"from": node.region, "to": other, "lag_ms": null, "backlog": 7, "divergence": 0}),
                ]
            })
            .collect();
        json!({"region": node.region, "pairs": pairs})
    }

    fn page(&self, node: &Node, keyspace: &str, query: &BTreeMap<String, String>) -> Value {
        let limit = query.get("limit").map_or(100, |text| text.parse().unwrap());
        let limit = self.page_rows_max.map_or(limit, |max| max.min(limit));
        let after: usize = query.get("cursor").map_or(0, |text| text.parse().unwrap());
        let with_values = query.get("values").is_some_and(|text| text == "true");
        let all: Vec<Value> = (self.rows.iter().filter(|((k, _, _), _)| k == keyspace))
            .filter_map(|((_, _, key), versions)| {
                let (version, value) = self.seen(versions, &node.region)?;
                let mut item = json!({"key": Blob(Bytes::copy_from_slice(key)),
                    "timestamp": format!("{}.0", version.micros), "region": version.region});
                if with_values {
                    item["value"] = json!(Blob(value));
                }
                Some(item)
            })
            .collect();
        let items: Vec<Value> = all.iter().skip(after).take(limit).cloned().collect();
        let next = (after + limit < all.len()).then(|| (after + limit).to_string());
        json!({"items": items, "next": next})
    }
}

fn problem(code: &str) -> Response<Body> {
    let status = match code {
        "absent" | "no_route" | "no_link" | "no_keyspace" => 404,
        "condition_failed" => 412,
        "not_yet" => 425,
        "overloaded" => 429,
        "unavailable" | "unknown_outcome" => 503,
        _ => 400,
    };
    let body = json!({"error": {"code": code, "message": format!("fake {code}")}});
    respond(status, body.to_string().into())
}

fn respond(status: u16, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn ok(body: &Value) -> Response<Body> {
    respond(200, body.to_string().into())
}

fn stamped(mut response: Response<Body>, micros: u64, region: &str) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert("sterna-timestamp", format!("{micros}.0").parse().unwrap());
    headers.insert("sterna-region", region.parse().unwrap());
    headers.insert("etag", format!("\"{micros:x}\"").parse().unwrap());
    response
}

async fn serve(State(node): State<Node>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let path: Vec<Vec<u8>> = (head.uri.path().split('/').skip(1))
        .map(|part| percent_decode_str(part).collect())
        .collect();
    let text: Vec<&str> = path
        .iter()
        .map(|part| str::from_utf8(part).unwrap_or("?"))
        .collect();
    let query: BTreeMap<String, String> = (head.uri.query().unwrap_or_default().split('&'))
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut world = lock(&node.world);
    world.asked.push(head.headers.clone());
    let asked = Asked {
        method: &head.method,
        headers: &head.headers,
        query: &query,
        body: body.clone(),
    };
    let mut response = match (&head.method, &text[..]) {
        (&Method::GET, ["v1", "status"]) => ok(&world.status(&node)),
        (&Method::GET, ["v1", "regions"]) => ok(&world.pairs(&node)),
        (&Method::POST, ["v1", "scrub"]) => {
            ok(&json!({"running": false, "passes": 2, "partitions_done": 4, "damaged": 0}))
        }
        (&Method::GET, ["v1", "digests"]) => {
            let roots: Vec<Value> = (0..PARTITIONS)
                .map(|p| json!({"keyspace": "default", "partition": p, "root": world.hash(&node.name, p, 0, 0)}))
                .collect();
            ok(&json!({"node": node.name, "partitions": roots}))
        }
        (&Method::GET, ["v1", "digests", _, partition, level, index]) => {
            let level: u32 = level.parse().unwrap();
            let index: u32 = index.parse().unwrap();
            let hashes: Vec<String> = (0..16)
                .map(|child| {
                    world.hash(
                        &node.name,
                        partition.parse().unwrap(),
                        level + 1,
                        index * 16 + child,
                    )
                })
                .collect();
            ok(&json!({"children": hashes}))
        }
        (_, ["v1", "dev", "links", ..]) if !world.is_dev => problem("no_route"),
        (&Method::GET, ["v1", "dev", "links"]) => ok(&json!({"links": world.links})),
        (&Method::POST, ["v1", "dev", "links", a, b]) => change_links(&mut world, a, b, &body),
        (&Method::GET, ["v1", "kv", keyspace]) => ok(&world.page(&node, keyspace, &query)),
        (&Method::POST, ["v1", "batch", keyspace, "put"]) => {
            put_batch(&mut world, &node, keyspace, &body)
        }
        (&Method::POST, ["v1", "batch", keyspace, "get"]) => {
            get_batch(&world, &node, keyspace, &body)
        }
        (&Method::GET, ["v1", "conflicts", _]) => world.lost(&asked),
        (&Method::GET, ["v1", "wait"]) => match world.faults.pop_front() {
            Some(code) => problem(code),
            None => ok(&json!({"reached": true})),
        },
        (_, ["v1", kind @ ("counter" | "set" | "map"), keyspace, _]) => {
            let key = ((*keyspace).to_owned(), path[3].clone());
            world.typed(kind, key, &asked)
        }
        (_, ["v1", "kv", "siblings", _]) => {
            let key = ("siblings".to_owned(), path[3].clone());
            world.typed("kv", key, &asked)
        }
        (method, ["v1", "kv", keyspace, _]) => {
            let key = &path[3];
            one_key(&mut world, &node, method, keyspace, key, body)
        }
        _ => problem("no_route"),
    };
    let session = format!("seen-{}", world.clock).parse().unwrap();
    response.headers_mut().insert("sterna-session", session);
    response
}

fn one_key(
    world: &mut World,
    node: &Node,
    method: &Method,
    keyspace: &str,
    key: &[u8],
    body: Bytes,
) -> Response<Body> {
    if *method == Method::GET || *method == Method::HEAD {
        let name = (keyspace.to_owned(), Token::of(key), key.to_vec());
        let seen = world
            .rows
            .get(&name)
            .and_then(|versions| world.seen(versions, &node.region));
        return match seen {
            Some((version, value)) => stamped(respond(200, value), version.micros, &version.region),
            None => problem("absent"),
        };
    }
    if let Some(code) = world.faults.pop_front() {
        return problem(code);
    }
    let value = (*method == Method::PUT).then_some(body);
    let micros = world.write(&node.region, keyspace, key, value);
    stamped(respond(204, Bytes::new()), micros, &node.region)
}

fn put_batch(world: &mut World, node: &Node, keyspace: &str, body: &[u8]) -> Response<Body> {
    let body: Value = serde_json::from_slice(body).unwrap();
    let mut results = Vec::new();
    for item in body["items"].as_array().unwrap() {
        let key: Blob = serde_json::from_value(item["key"].clone()).unwrap();
        let value: Blob = serde_json::from_value(item["value"].clone()).unwrap();
        results.push(if let Some(code) = world.faults.pop_front() {
            json!({"key": key, "status": 503, "error": {"code": code, "message": "fake"}})
        } else {
            let micros = world.write(&node.region, keyspace, &key.0, Some(value.0));
            json!({"key": key, "status": 204, "timestamp": format!("{micros}.0"), "etag": "\"x\""})
        });
    }
    ok(&json!({"results": results}))
}

fn get_batch(world: &World, node: &Node, keyspace: &str, body: &[u8]) -> Response<Body> {
    let body: Value = serde_json::from_slice(body).unwrap();
    let mut results = Vec::new();
    for key in body["keys"].as_array().unwrap() {
        let key: Blob = serde_json::from_value(key.clone()).unwrap();
        let name = (keyspace.to_owned(), Token::of(&key.0), key.0.to_vec());
        let seen = world
            .rows
            .get(&name)
            .and_then(|versions| world.seen(versions, &node.region));
        results.push(match seen {
            Some((version, value)) => {
                json!({"key": key, "status": 200, "value": Blob(value), "timestamp": format!("{}.0", version.micros)})
            }
            None => json!({"key": key, "status": 404}),
        });
    }
    ok(&json!({"results": results}))
}

fn change_links(world: &mut World, a: &str, b: &str, body: &[u8]) -> Response<Body> {
    let change: Value = serde_json::from_slice(body).unwrap();
    let mut found = None;
    for link in &mut world.links {
        let ends = [link["a"].as_str().unwrap(), link["b"].as_str().unwrap()];
        if ends.contains(&a) && (b == "*" || ends.contains(&b)) {
            for (name, value) in change.as_object().unwrap() {
                link[name] = value.clone();
            }
            found = Some(link.clone());
        }
    }
    found.map_or_else(|| problem("no_link"), |link| ok(&link))
}
