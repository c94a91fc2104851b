//! Three regions of three nodes as processes of this program, with their files in one folder: how they are started,
//! stopped and killed, and how their links and clocks are changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cli::cert::{cert_init, cert_node, now};
use crate::cli::client::{Client, LinkChange};
use crate::net::{PeerName, Pem, make_node};
use crate::placement::Topology;

/// The regions, and the round-trip times between them: first and second, first and third, second and third.
pub(super) const REGIONS: [&str; 3] = ["us", "eu", "ap"];
const RTT_MS: [(usize, usize, u32); 3] = [(0, 1, 20), (0, 2, 40), (1, 2, 50)];
const NODES_EACH: usize = 3;
/// Certificates that hold.
const CERTIFICATE_DAYS: u32 = 30;
/// Between two looks at something that takes a while.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Ports are looked for from here on: below those of outgoing connections, so that they stay free while a node is down.
const PORTS: std::ops::Range<u16> = 10_000..30_000;
/// Bytes of the file system on which a disk runs full.
const SMALL_DISK: &str = "size=512m";

/// A node of the cluster.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) region: usize,
    /// host:port of its HTTP endpoint.
    pub(super) http: String,
}

/// What a direction of a link does.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Way {
    pub(super) is_cut: bool,
    pub(super) loss: f64,
    pub(super) rtt_ms: f64,
    pub(super) mbit: f64,
}

/// The cluster.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) dir: PathBuf,
    pub(super) topology: Topology,
    pub(super) places: Vec<Place>,
    client: Client,
    program: PathBuf,
    children: Mutex<BTreeMap<usize, Child>>,
    /// What each region does to what it sends to another.
    ways: Mutex<BTreeMap<(usize, usize), Way>>,
    offsets: Mutex<BTreeMap<usize, i32>>,
    mounted: Mutex<Option<PathBuf>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Site {
    /// Makes folder, topology and certificates; starts nothing.
    pub(super) fn make(dir: &Path, seed: u64) -> Result<Self, String> {
        let fail = |error: io::Error| format!("{}: {error}", dir.display());
        fs::create_dir_all(dir).map_err(fail)?;
        let text = topology_text(seed);
        fs::write(dir.join("topology.toml"), &text).map_err(fail)?;
        let topology = Topology::parse("topology.toml", &text).map_err(|e| e.to_string())?;
        let certs = dir.join("certs");
        let mut said = Vec::new();
        if !certs.join("ca.pem").exists() {
            let made = cert_init(now(), &certs, &topology.cluster, &mut said);
            made.map_err(|error| error.to_string())?;
        }
        let mut places = Vec::new();
        for (region, of) in topology.regions.iter().enumerate() {
            for node in &of.nodes {
                places.push(Place {
                    name: node.name.clone(),
                    region,
                    http: node.http.clone(),
                });
            }
        }
        let first = places.first().map_or("", |place| place.http.as_str());
        let client = Client::new(first).map_err(|error| error.to_string())?;
        let site = Self {
            dir: dir.to_owned(),
            client,
            program: std::env::current_exe().map_err(|error| error.to_string())?,
            children: Mutex::default(),
            ways: Mutex::new(usual_ways()),
            offsets: Mutex::default(),
            mounted: Mutex::default(),
            topology,
            places,
        };
        for node in 0..site.places.len() {
            site.certify(node)?;
        }
        Ok(site)
    }

    /// A client of a node.
    pub(super) fn client(&self, node: usize) -> Client {
        let http = self.places.get(node).map_or("", |place| &place.http);
        self.client.at(http)
    }

    pub(super) fn name(&self, node: usize) -> &str {
        self.places.get(node).map_or("?", |place| &place.name)
    }

    /// The nodes of a region.
    pub(super) fn nodes_of(&self, region: usize) -> Vec<usize> {
        let all = self.places.iter().enumerate();
        let here = all.filter(|(_, place)| place.region == region);
        here.map(|(node, _)| node).collect()
    }

    fn peer_name(&self, node: usize) -> PeerName {
        let region = self.places.get(node).map_or(0, |place| place.region);
        PeerName {
            cluster: self.topology.cluster.clone(),
            region: REGIONS.get(region).map_or("", |name| name).to_owned(),
            node: self.name(node).to_owned(),
        }
    }

    /// Gives a node a new certificate.
    pub(super) fn certify(&self, node: usize) -> Result<(), String> {
        let (certs, name) = (self.dir.join("certs"), self.peer_name(node));
        let made = cert_node(now(), &certs, &name, CERTIFICATE_DAYS, &mut Vec::new());
        made.map_err(|error| error.to_string())
    }

    /// Gives a node a certificate that has expired.
    pub(super) fn let_expire(&self, node: usize) -> Result<(), String> {
        let certs = self.dir.join("certs");
        let read = |file: &str| fs::read_to_string(certs.join(file)).map_err(|e| e.to_string());
        let ca = Pem {
            certificate: read("ca.pem")?,
            key: read("ca.key")?,
        };
        let long_ago = now() - Duration::from_hours(24 * 20);
        let made = make_node(long_ago, &ca, &self.peer_name(node), 2);
        let pem = made.map_err(|error| error.to_string())?;
        let write = |file: String, text: &str| {
            fs::write(certs.join(file), text).map_err(|error| error.to_string())
        };
        write(format!("{}.pem", self.name(node)), &pem.certificate)?;
        write(format!("{}.key", self.name(node)), &pem.key)
    }

    /// Where a node's data is.
    pub(super) fn data(&self, node: usize) -> PathBuf {
        self.dir.join(format!("data-{}", self.name(node)))
    }

    fn log_path(&self, node: usize) -> PathBuf {
        self.dir.join(format!("{}.log", self.name(node)))
    }

    /// All that a node has said.
    pub(super) fn log(&self, node: usize) -> String {
        fs::read_to_string(self.log_path(node)).unwrap_or_default()
    }

    /// Starts a node on its own data.
    pub(super) fn start(&self, node: usize) -> Result<(), String> {
        self.start_on(node, &self.data(node))
    }

    /// Starts a node; does not wait for anything.
    pub(super) fn start_on(&self, node: usize, data: &Path) -> Result<(), String> {
        let path = self.log_path(node);
        let log = File::options().create(true).append(true).open(path);
        let log = log.map_err(|error| error.to_string())?;
        let offset = lock(&self.offsets).get(&node).copied().unwrap_or(0);
        let child = Command::new(&self.program)
            .args(["serve", "--emulate-links", "--node", self.name(node)])
            .arg(format!("--seed={node}"))
            .arg(format!("--dev-clock-offset={offset}"))
            .arg("--topology")
            .arg(self.dir.join("topology.toml"))
            .arg("--certs")
            .arg(self.dir.join("certs"))
            .arg("--data")
            .arg(data)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|error| error.to_string())?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("start {}: {error}", self.name(node)))?;
        lock(&self.children).insert(node, child);
        Ok(())
    }

    /// Whether a node's process runs; one that has ended is forgotten.
    pub(super) fn is_running(&self, node: usize) -> bool {
        let mut children = lock(&self.children);
        let is_over = match children.get_mut(&node) {
            None => return false,
            Some(child) => matches!(child.try_wait(), Ok(Some(_))),
        };
        if is_over {
            children.remove(&node);
        }
        !is_over
    }

    /// Kills nodes, all of them before any is waited for.
    pub(super) fn kill(&self, nodes: &[usize]) -> Result<(), String> {
        let mut killed = Vec::new();
        for node in nodes {
            let child = lock(&self.children).remove(node);
            let Some(mut child) = child else {
                continue;
            };
            child.kill().map_err(|error| error.to_string())?;
            killed.push(child);
        }
        for mut child in killed {
            child.wait().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Sends a signal to a node that runs.
    pub(super) fn signal(&self, node: usize, signal: &str) -> Result<(), String> {
        let id = lock(&self.children).get(&node).map(Child::id);
        let Some(id) = id else {
            return Err(format!("{} does not run", self.name(node)));
        };
        let sent = Command::new("kill")
            .args([signal.to_owned(), id.to_string()])
            .status();
        match sent {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("kill {signal} {}: {status}", self.name(node))),
            Err(error) => Err(format!("run kill: {error}")),
        }
    }

    /// Waits until a node's process has ended.
    pub(super) async fn ended(
        &self,
        node: usize,
        patience: Duration,
    ) -> Result<ExitStatus, String> {
        let until = Instant::now() + patience;
        loop {
            {
                let mut children = lock(&self.children);
                let Some(child) = children.get_mut(&node) else {
                    return Err(format!("{} does not run", self.name(node)));
                };
                if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
                    children.remove(&node);
                    return Ok(status);
                }
            }
            if until < Instant::now() {
                return Err(format!("{} did not end in {patience:?}", self.name(node)));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until a node serves, with the links as they are to be.
    pub(super) async fn ready(&self, node: usize, patience: Duration) -> Result<(), String> {
        let until = Instant::now() + patience;
        let client = self.client(node).with_timeout(Some(Duration::from_secs(1)));
        let mut is_linked = false;
        loop {
            if !is_linked {
                is_linked = self.link(node).await.is_ok();
            }
            if is_linked && client.status().await.is_ok_and(|status| status.ready) {
                return Ok(());
            }
            if !self.is_running(node) {
                let log = self.log(node);
                let last = log.lines().last().unwrap_or("nothing").to_owned();
                return Err(format!("{} ended: {last}", self.name(node)));
            }
            if until < Instant::now() {
                return Err(format!(
                    "{} is not ready after {patience:?}",
                    self.name(node)
                ));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Starts all nodes that do not run, and waits for all.
    pub(super) async fn start_all(&self, patience: Duration) -> Result<(), String> {
        for node in 0..self.places.len() {
            if !self.is_running(node) {
                self.start(node)?;
            }
        }
        for node in 0..self.places.len() {
            self.ready(node, patience).await?;
        }
        Ok(())
    }

    /// What a region does to what it sends to another.
    pub(super) fn way(&self, from: usize, to: usize) -> Option<Way> {
        lock(&self.ways).get(&(from, to)).copied()
    }

    /// Changes what a region does to what it sends to another, at all its nodes that run.
    pub(super) async fn set_way(&self, from: usize, to: usize, change: impl FnOnce(&mut Way)) {
        if let Some(way) = lock(&self.ways).get_mut(&(from, to)) {
            change(way);
        }
        let told = self.nodes_of(from).into_iter();
        let told = told.map(|node| async move {
            if let Err(error) = self.link(node).await {
                // It is told again when it is ready.
                tracing::debug!(node = self.name(node), error, "change links");
            }
        });
        futures_util::future::join_all(told).await;
    }

    /// Heals all links, but for a pair of regions that stays as it is.
    pub(super) async fn heal_links(&self, but: Option<(usize, usize)>) {
        for ((from, to), usual) in usual_ways() {
            if but != Some((from, to)) && but != Some((to, from)) {
                self.set_way(from, to, |way| *way = usual).await;
            }
        }
    }

    /// Tells a node what to do to what it sends.
    async fn link(&self, node: usize) -> Result<(), String> {
        let region = self.places.get(node).map_or(0, |place| place.region);
        let ways = lock(&self.ways).clone();
        let client = self.client(node).with_timeout(Some(Duration::from_secs(1)));
        for ((from, to), way) in ways {
            let (Some(a), Some(b)) = (REGIONS.get(from), REGIONS.get(to)) else {
                continue;
            };
            if from != region {
                continue;
            }
            let change = LinkChange {
                cut: Some(way.is_cut),
                rtt_ms: Some(way.rtt_ms),
                jitter_ms: None,
                loss: Some(way.loss),
                bandwidth_mbit: Some(way.mbit),
            };
            let told =
                tokio::time::timeout(Duration::from_secs(1), client.change_link(a, b, change));
            match told.await {
                Ok(told) => told.map_err(|error| error.to_string())?,
                Err(_) => return Err("no answer".to_owned()),
            }
        }
        Ok(())
    }

    /// Puts the clock of a node off, also in its later lives.
    pub(super) async fn set_offset(&self, node: usize, offset_ms: i32) {
        lock(&self.offsets).insert(node, offset_ms);
        let client = self.client(node);
        let told = client.set_clock_offset(offset_ms);
        let told = tokio::time::timeout(Duration::from_secs(1), told).await;
        if !matches!(told, Ok(Ok(()))) {
            tracing::debug!(
                node = self.name(node),
                "a clock was not set: the node is away"
            );
        }
    }

    /// Gives a node that does not run a small disk of its own. Needs root.
    pub(super) fn mount(&self, node: usize) -> Result<(), String> {
        let data = self.data(node);
        fs::create_dir_all(&data).map_err(|error| error.to_string())?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", SMALL_DISK, "sterna-chaos"])
            .arg(&data)
            .stderr(Stdio::null())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            *lock(&self.mounted) = Some(data);
            return Ok(());
        }
        Err("disk-full mounts a small tmpfs: run it as root, or leave it out".to_owned())
    }

    /// Stops everything.
    pub(super) fn end(&self) {
        let nodes: Vec<usize> = lock(&self.children).keys().copied().collect();
        if let Err(error) = self.kill(&nodes) {
            tracing::warn!(error, "kill nodes");
        }
        if let Some(path) = lock(&self.mounted).take() {
            let unmounted = Command::new("umount").arg(&path).status();
            if !unmounted.is_ok_and(|status| status.success()) {
                tracing::warn!(path = %path.display(), "still mounted");
            }
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.end();
    }
}

/// The links as the topology has them.
fn usual_ways() -> BTreeMap<(usize, usize), Way> {
    let mut ways = BTreeMap::new();
    for (a, b, rtt_ms) in RTT_MS {
        let way = Way {
            is_cut: false,
            loss: 0.0,
            rtt_ms: rtt_ms.into(),
            mbit: 1_000.0,
        };
        ways.insert((a, b), way);
        ways.insert((b, a), way);
    }
    ways
}

/// A port that is free for TCP and UDP, from a place on that moves with every call.
fn free_port(next: &mut u16) -> u16 {
    for _ in PORTS {
        *next = if *next + 1 < PORTS.end {
            *next + 1
        } else {
            PORTS.start
        };
        let tcp = TcpListener::bind(("127.0.0.1", *next));
        if tcp.is_ok() && UdpSocket::bind(("127.0.0.1", *next)).is_ok() {
            return *next;
        }
    }
    0
}

fn topology_text(seed: u64) -> String {
    // Runs at the same time look in different places.
    let places = u64::from(PORTS.end - PORTS.start);
    let place = (u64::from(std::process::id()) * 211 + seed * 31) % places;
    let mut next = PORTS.start + u16::try_from(place).unwrap_or(0);
    let mut text = String::from(
        "cluster = \"chaos\"\npartitions = 4\n\n[limits]\nheartbeat_every_ms = 100\n\
         silence_max_ms = 1500\nreconcile_every_ms = 500\nupkeep_every_ms = 200\n\n",
    );
    let mut add = |words: String| text.write_str(&words).is_ok();
    for region in REGIONS {
        add(format!("[[region]]\nname = \"{region}\"\n\n"));
        for number in 1..=NODES_EACH {
            let (http, peer) = (free_port(&mut next), free_port(&mut next));
            add(format!(
                "[[region.node]]\nid = \"{region}-{number}\"\nzone = \"{number}\"\n\
                 http = \"127.0.0.1:{http}\"\npeer = \"127.0.0.1:{peer}\"\n\n"
            ));
        }
    }
    for (name, merge) in [("default", "lww"), ("siblings", "siblings")] {
        add(format!(
            "[[keyspace]]\nname = \"{name}\"\nmerge = \"{merge}\"\nreplication = {NODES_EACH}\n\n"
        ));
    }
    for (a, b, rtt_ms) in RTT_MS {
        let (a, b) = (REGIONS.get(a), REGIONS.get(b));
        let (a, b) = (a.copied().unwrap_or(""), b.copied().unwrap_or(""));
        add(format!(
            "[[link]]\nbetween = [\"{a}\", \"{b}\"]\nrtt_ms = {rtt_ms}\njitter_ms = 1\nbandwidth_mbit = 1000\n\n"
        ));
    }
    text
}
