//! What a load does: which operation, which key, which value. The same seed gives the same load.
//!
//! Pure: no clock, no network, no chance but the seed. The bench sends it over HTTP, the simulator
//! steps it in virtual time.

use std::fmt;
use std::str::FromStr;

use bytes::{BufMut as _, BytesMut};

/// Bytes at the beginning of every value that name the operation which wrote it.
pub const OP_ID_BYTES: usize = 16;

/// The exponent of the zipf distribution, as in YCSB.
const ZIPF_EXPONENT: f64 = 0.99;

/// What a load consists of.
#[derive(Clone, PartialEq, Debug)]
pub struct Spec {
    /// Reads, writes, or both.
    pub mix: Mix,
    /// How many keys there are.
    pub keys: u64,
    /// How they are chosen.
    pub distribution: Distribution,
    /// Bytes of a value, at least [`OP_ID_BYTES`].
    pub value_bytes: usize,
}

/// Reads, writes, or both.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Mix {
    /// Only writes.
    Write,
    /// Only reads.
    Read,
    /// This share of writes, 0 to 1; the rest are reads.
    Mixed(f64),
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let help = || {
            format!("`{text}` is not a workload: use write, read, or mixed:0.2 (a fifth of writes)")
        };
        match text {
            "write" => Ok(Self::Write),
            "read" => Ok(Self::Read),
            _ => text
                .strip_prefix("mixed:")
                .and_then(|share| share.parse().ok())
                .filter(|share| (0.0..=1.0).contains(share))
                .map(Self::Mixed)
                .ok_or_else(help),
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write => f.write_str("write"),
            Self::Read => f.write_str("read"),
            Self::Mixed(share) => write!(f, "mixed:{share}"),
        }
    }
}

/// How keys are chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Distribution {
    /// Each key as often as any other.
    Uniform,
    /// Few keys often: key n in proportion to 1 / (n + 1)^0.99.
    Zipf,
}

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "uniform" => Ok(Self::Uniform),
            "zipf" => Ok(Self::Zipf),
            _ => Err(format!(
                "`{text}` is not a distribution: use uniform or zipf"
            )),
        }
    }
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Read a key.
    Read,
    /// Write a key.
    Write,
}

/// One operation of a load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// What to do.
    pub kind: Kind,
    /// With which key, from 0 to the number of keys less one.
    pub key: u64,
}

/// Which write made a value: the n-th of a stream. It stands in the value's first bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OpId {
    /// Which stream of operations.
    pub stream: u64,
    /// Its number there.
    pub n: u64,
}

/// An endless stream of operations.
#[derive(Clone, Debug)]
pub struct Stream {
    chance: fastrand::Rng,
    mix: Mix,
    keys: u64,
    zipf: Option<Zipf>,
}

impl Stream {
    /// The stream of this seed; different seeds give independent streams.
    pub fn new(spec: &Spec, seed: u64) -> Self {
        Self {
            chance: fastrand::Rng::with_seed(seed),
            mix: spec.mix,
            keys: spec.keys.max(1),
            zipf: match spec.distribution {
                Distribution::Uniform => None,
                Distribution::Zipf => Some(Zipf::new(spec.keys.max(1))),
            },
        }
    }

    /// The next operation.
    pub fn step(&mut self) -> Step {
        let kind = match self.mix {
            Mix::Write => Kind::Write,
            Mix::Read => Kind::Read,
            Mix::Mixed(share) if self.chance.f64() < share => Kind::Write,
            Mix::Mixed(_) => Kind::Read,
        };
        let key = match &self.zipf {
            None => self.chance.u64(0..self.keys),
            Some(zipf) => zipf.rank(&mut self.chance).min(self.keys) - 1,
        };
        Step { kind, key }
    }
}

/// Fills a buffer with the value of an operation: its id, then bytes that do not compress and follow
/// from it.
pub fn write_value(op: OpId, value_bytes: usize, value: &mut BytesMut) {
    value.clear();
    value.reserve(value_bytes.max(OP_ID_BYTES));
    value.put_u64(op.stream);
    value.put_u64(op.n);
    let mut filler = fastrand::Rng::with_seed(op.stream.rotate_left(32) ^ op.n);
    let mut left = value_bytes.saturating_sub(OP_ID_BYTES);
    while left > 0 {
        let word = filler.u64(..).to_be_bytes();
        let part = left.min(word.len());
        value.extend(word.iter().take(part));
        left -= part;
    }
}

/// The operation that wrote a value; nothing if the value is not of a load.
pub fn op_of(value: &[u8]) -> Option<OpId> {
    let (stream, rest) = value.split_first_chunk()?;
    let (n, _) = rest.split_first_chunk()?;
    Some(OpId {
        stream: u64::from_be_bytes(*stream),
        n: u64::from_be_bytes(*n),
    })
}

/// Ranks from 1, by rejection under a bounding curve (after Hörmann and Derflinger, 1996): no table,
/// so any number of keys costs the same.
#[derive(Clone, Copy, Debug)]
struct Zipf {
    /// Area below the bounding curve.
    area: f64,
}

impl Zipf {
    fn new(keys: u64) -> Self {
        let s = ZIPF_EXPONENT;
        let keys = keys as f64;
        Self {
            area: (keys.powf(1.0 - s) - s) / (1.0 - s),
        }
    }

    fn rank(self, chance: &mut fastrand::Rng) -> u64 {
        let s = ZIPF_EXPONENT;
        loop {
            let place = chance.f64() * self.area;
            let x = if place <= 1.0 {
                place
            } else {
                (place * (1.0 - s) + s).powf(1.0 / (1.0 - s))
            };
            let rank = (x + 1.0).floor();
            let mut ratio = rank.powf(-s);
            if rank > 1.0 {
                ratio *= x.powf(s);
            }
            if chance.f64() < ratio {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "at least 1 and about the number of keys; a float cast saturates"
                )]
                return (rank as u64).max(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(distribution: Distribution) -> Spec {
        Spec {
            mix: Mix::Mixed(0.2),
            keys: 1_000,
            distribution,
            value_bytes: 100,
        }
    }

    fn counts(distribution: Distribution) -> (Vec<u32>, u32) {
        let mut stream = Stream::new(&spec(distribution), 7);
        let mut counts = vec![0; 1_000];
        let mut writes = 0;
        for _ in 0..200_000 {
            let step = stream.step();
            counts[usize::try_from(step.key).unwrap()] += 1;
            writes += u32::from(step.kind == Kind::Write);
        }
        (counts, writes)
    }

    #[test]
    fn uniform_keys_are_even_and_a_fifth_are_writes() {
        let (counts, writes) = counts(Distribution::Uniform);
        assert!(counts.iter().all(|n| (100..320).contains(n)), "{counts:?}");
        assert!((38_500..41_500).contains(&writes), "{writes}");
    }

    #[test]
    fn zipf_keys_follow_their_law() {
        let (counts, _) = counts(Distribution::Zipf);
        let harmonic: f64 = (1..=1_000).map(|n| f64::from(n).powf(-ZIPF_EXPONENT)).sum();
        for rank in [1u32, 2, 3, 10, 50] {
            let wanted = 200_000.0 * f64::from(rank).powf(-ZIPF_EXPONENT) / harmonic;
            let found = f64::from(counts[rank as usize - 1]);
            assert!(
                (found / wanted - 1.0).abs() < 0.15,
                "rank {rank}: {found} of {wanted}"
            );
        }
    }

    #[test]
    fn one_seed_gives_one_load() {
        let mut a = Stream::new(&spec(Distribution::Zipf), 3);
        let mut b = Stream::new(&spec(Distribution::Zipf), 3);
        assert!((0..100).all(|_| a.step() == b.step()));
    }

    #[test]
    fn a_value_names_its_operation_and_has_its_length() {
        let mut value = BytesMut::new();
        for bytes in [16, 17, 100, 1024] {
            let op = OpId {
                stream: 9,
                n: bytes as u64,
            };
            write_value(op, bytes, &mut value);
            assert_eq!((value.len(), op_of(&value)), (bytes, Some(op)));
        }
        assert_eq!(op_of(b"short"), None);
    }

    #[test]
    fn mixes_are_read() {
        assert_eq!("mixed:0.2".parse(), Ok(Mix::Mixed(0.2)));
        assert_eq!("write".parse(), Ok(Mix::Write));
        for bad in ["mixed:2", "mixed", "all"] {
            assert!(bad.parse::<Mix>().is_err());
        }
    }
}
