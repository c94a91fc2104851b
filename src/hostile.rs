//! Hostile bytes for decoders, in tests: arbitrary bytes, every prefix of what is valid, and what is valid changed here
//! and there. What is run is the same function that the fuzzer of `tests/fuzz` runs, and what it starts from is kept in
//! `tests/fuzz/corpus`. It knows no form itself.

use std::fs;
use std::path::PathBuf;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

/// How many inputs a test tries unless `STERNA_HOSTILE_CASES` says otherwise.
const CASES: u32 = 1_000;
/// Of longer seeds not every prefix is tried, but so many.
const PREFIXES_MAX: usize = 600;
/// Numbers that are often one too many: as varints, and as they are.
const EDGES: [&[u8]; 9] = [
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0x03],
    &[0x80, 0x00],
    &[0x00],
    b"\"",
];

/// A decoder under attack.
pub(crate) struct Hostile {
    /// The fuzz target's name.
    pub(crate) name: &'static str,
    /// Panics if something is wrong.
    pub(crate) target: fn(&[u8]),
    /// Valid inputs.
    pub(crate) seeds: Vec<Vec<u8>>,
    /// Whether they are the same every time, and so can be kept.
    pub(crate) is_same: bool,
    /// Most bytes that may be allocated at one time: for any input, and for each byte of it.
    pub(crate) memory: (u64, u64),
}

/// One change of a valid input.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Cut(Index),
    /// From there on, as another seed goes on.
    Splice(Index, Index, Index),
}

fn changes() -> impl Strategy<Value = Change> {
    let edge = proptest::sample::select(EDGES.map(<[u8]>::to_vec).to_vec());
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        2 => (any::<Index>(), edge).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (any::<Index>(), vec(any::<u8>(), 1..12)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        2 => (any::<Index>(), 1..12usize).prop_map(|(at, count)| Change::Remove(at, count)),
        1 => any::<Index>().prop_map(Change::Cut),
        1 => any::<(Index, Index, Index)>().prop_map(|(at, seed, from)| Change::Splice(at, seed, from)),
    ]
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let place = |at: &Index| at.index(bytes.len() + 1);
        match self {
            Self::Set(at, byte) => {
                let at = place(at);
                if let Some(found) = bytes.get_mut(at) {
                    *found = *byte;
                }
            }
            Self::Insert(at, more) => {
                let at = place(at);
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Remove(at, count) => {
                let at = place(at);
                let end = bytes.len().min(at + count);
                bytes.drain(at..end);
            }
            Self::Cut(at) => {
                let at = place(at);
                bytes.truncate(at);
            }
            Self::Splice(at, seed, from) => {
                let at = place(at);
                let other = seed.get(seeds);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from.index(other.len() + 1)..]);
            }
        }
    }
}

impl Hostile {
    /// Tries everything. Prints the seed of what is by chance; `STERNA_SEED` replays one.
    pub(crate) fn run(&self) {
        let seeds = self.corpus();
        for seed in &seeds {
            let step = seed.len() / PREFIXES_MAX + 1;
            for end in (0..seed.len()).step_by(step).chain([seed.len()]) {
                self.check(&seed[..end]);
            }
        }
        let number = std::env::var("STERNA_SEED").ok();
        let number = number.map_or_else(|| fastrand::u64(..), |text| text.parse().unwrap());
        println!("{}: seed {number}", self.name);
        let cases = std::env::var("STERNA_HOSTILE_CASES").ok();
        let config = Config {
            cases: cases.map_or(CASES, |text| text.parse().unwrap()),
            failure_persistence: None,
            ..Config::default()
        };
        let mut bytes = [0; 32];
        fastrand::Rng::with_seed(number).fill(&mut bytes);
        let chance = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(config, chance);
        let changed = (any::<Index>(), vec(changes(), 1..6)).prop_map({
            let seeds = seeds.clone();
            move |(seed, changes)| {
                let mut bytes = seed.get(&seeds).clone();
                for change in changes {
                    change.apply(&mut bytes, &seeds);
                }
                bytes
            }
        });
        let inputs = prop_oneof![1 => vec(any::<u8>(), 0..200), 4 => changed];
        let result = runner.run(&inputs, |bytes| {
            self.check(&bytes);
            Ok(())
        });
        match result {
            Ok(()) => {}
            Err(TestError::Fail(why, bytes)) => {
                let text = String::from_utf8_lossy(&bytes);
                panic!("{}: {why}\n{bytes:02x?}\n{text}", self.name)
            }
            Err(error) => panic!("{}: {error}", self.name),
        }
    }

    /// Runs the target on one input and holds it to its memory.
    pub(crate) fn check(&self, bytes: &[u8]) {
        let spent = allocation_counter::measure(|| (self.target)(bytes)).bytes_max;
        let (any, each) = self.memory;
        let most = any + each * u64::try_from(bytes.len()).unwrap();
        let length = bytes.len();
        assert!(
            spent <= most,
            "{length} bytes of input took {spent} bytes of memory, more than {most}"
        );
    }

    /// What is kept, and the seeds; `UPDATE=1` keeps the seeds.
    fn corpus(&self) -> Vec<Vec<u8>> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let folder = folder.join("tests/fuzz/corpus").join(self.name);
        if self.is_same && std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(&folder).unwrap();
            for seed in &self.seeds {
                let name = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(seed));
                fs::write(folder.join(name), seed).unwrap();
            }
        }
        let mut all = self.seeds.clone();
        let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort_unstable();
        all.extend(paths.iter().map(|path| fs::read(path).unwrap()));
        assert!(!all.is_empty(), "{} has no seeds", self.name);
        all
    }
}
