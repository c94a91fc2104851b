//! What a node draws for a partition in rendezvous hashing. It knows no zones and no replicas.
//!
//! A draw u, even in (0, 1], is compared as −log2(u) / weight: an exponential clock that runs `weight` times as
//! fast, so that a node comes first in proportion to its weight. The logarithm is taken in whole numbers, so
//! that every machine and every build computes the same replicas.

use std::cmp::Ordering;

use xxhash_rust::xxh3::xxh3_64;

use super::topology::Node;

/// What a node drew for a partition; the least is the best.
#[derive(Clone, Copy)]
pub(super) struct Draw {
    cost: u64,
    weight: u32,
}

impl Draw {
    /// The draw of a node for the partitions of this index.
    pub(super) fn of(node: &Node, index: u16) -> Self {
        let [a, b, c, d] = node.id.0.to_be_bytes();
        let [e, f] = index.to_be_bytes();
        Self {
            cost: minus_log2(xxh3_64(&[a, b, c, d, e, f])),
            weight: node.weight,
        }
    }

    /// Compares cost / weight exactly, by multiplying across.
    pub(super) fn compare(self, other: Self) -> Ordering {
        let mine = u128::from(self.cost) * u128::from(other.weight);
        let theirs = u128::from(other.cost) * u128::from(self.weight);
        mine.cmp(&theirs)
    }
}

/// Bits after the point of [`minus_log2`].
const FRACTION_BITS: u32 = 40;

/// −log2((draw + 1) / 2^64), rounded up to [`FRACTION_BITS`] bits after the point. Each squaring of a number in
/// [1, 2) gives one more bit of its logarithm.
fn minus_log2(draw: u64) -> u64 {
    let Some(u) = draw.checked_add(1) else {
        return 0;
    };
    let whole = u.ilog2();
    let mut mantissa = u128::from(u) << (63 - whole);
    let mut log2 = u64::from(whole);
    for _ in 0..FRACTION_BITS {
        mantissa = (mantissa * mantissa) >> 63;
        let carry = mantissa >> 64;
        mantissa >>= carry;
        log2 = (log2 << 1) | u64::from(carry == 1);
    }
    (64 << FRACTION_BITS) - log2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_one() {
        for draw in [
            0,
            1,
            2,
            1000,
            u64::MAX / 3,
            u64::MAX / 2,
            u64::MAX - 1,
            u64::MAX,
        ] {
            #[expect(clippy::cast_precision_loss, reason = "a test's tolerance covers it")]
            let (found, wanted) = (
                minus_log2(draw) as f64 / (1_u64 << FRACTION_BITS) as f64,
                64.0 - (draw as f64 + 1.0).log2(),
            );
            assert!((found - wanted).abs() < 1e-9, "{draw}: {found} {wanted}");
        }
        assert_eq!(minus_log2(u64::MAX >> 1), 1 << FRACTION_BITS);
    }
}
