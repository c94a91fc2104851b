//! What a link does to one datagram: pure, but for the chance it is given.

use tokio::time::Instant;

use crate::model::{Duration, RegionId};
use crate::placement::LinkShape;

use super::{Fate, LinkView};

/// A capped link has a buffer of so much of its bandwidth; beyond it datagrams are dropped.
const BUFFER: Duration = Duration::from_millis(200);
/// IP and UDP headers, which a link carries too.
const HEADER_BYTES: usize = 28;

/// A link between two regions.
#[derive(Debug)]
pub(super) struct Link {
    shape: LinkShape,
    pub(super) is_cut: bool,
    up: Way,
    down: Way,
    datagrams: u64,
    lost: u64,
    bytes: u64,
}

/// One direction of a link.
#[derive(Debug, Default)]
struct Way {
    /// When the last datagram has left the buffer.
    free_at: Option<Instant>,
    /// When the last datagram arrives that was not held back.
    last_due: Option<Instant>,
}

impl Link {
    pub(super) fn new(shape: LinkShape) -> Self {
        Self {
            shape,
            is_cut: false,
            up: Way::default(),
            down: Way::default(),
            datagrams: 0,
            lost: 0,
            bytes: 0,
        }
    }

    pub(super) fn reshape(&mut self, shape: LinkShape) {
        self.shape = shape;
        self.up = Way::default();
        self.down = Way::default();
    }

    pub(super) fn view(&self, between: (RegionId, RegionId)) -> LinkView {
        LinkView {
            between,
            shape: self.shape,
            is_cut: self.is_cut,
            datagrams: self.datagrams,
            lost: self.lost,
            bytes: self.bytes,
        }
    }

    pub(super) fn count_lost(&mut self) {
        self.lost += 1;
    }

    /// Decides what becomes of a datagram that is sent now.
    pub(super) fn pass(
        &mut self,
        now: Instant,
        is_up: bool,
        bytes: usize,
        chance: &mut fastrand::Rng,
    ) -> Fate {
        self.datagrams += 1;
        let way = if is_up { &mut self.up } else { &mut self.down };
        let is_lost = self.is_cut || hits(self.shape.loss, chance);
        let due = if is_lost {
            None
        } else {
            way.pass(now, &self.shape, bytes + HEADER_BYTES, chance)
        };
        match due {
            Some(due) => {
                self.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
                Fate::Due(due)
            }
            None => {
                self.lost += 1;
                Fate::Lost
            }
        }
    }
}

impl Way {
    /// When the datagram arrives; nothing if the buffer is full.
    fn pass(
        &mut self,
        now: Instant,
        shape: &LinkShape,
        bytes: usize,
        chance: &mut fastrand::Rng,
    ) -> Option<Instant> {
        let left = match shape.bandwidth_bits {
            Some(bits) => self.queue(now, bits, bytes)?,
            None => now,
        };
        let one_way = shape.rtt / 2;
        let due = left + one_way + shape.jitter.mul_f64(chance.f64());
        if hits(shape.reorder, chance) {
            return Some(due + shape.jitter + one_way / 4 + Duration::from_millis(1));
        }
        let due = self.last_due.map_or(due, |last| last.max(due));
        self.last_due = Some(due);
        Some(due)
    }

    /// When the datagram has left the buffer of a link with a bandwidth; nothing if there is no room.
    fn queue(&mut self, now: Instant, bits: u64, bytes: usize) -> Option<Instant> {
        let free_at = self.free_at.map_or(now, |at| at.max(now));
        if free_at - now > BUFFER {
            return None;
        }
        let nanos = u128::try_from(bytes).unwrap_or(u128::MAX) * 8 * 1_000_000_000;
        let nanos = nanos / u128::from(bits.max(1));
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.free_at = Some(free_at.checked_add(takes)?);
        self.free_at
    }
}

fn hits(probability: f64, chance: &mut fastrand::Rng) -> bool {
    probability > 0.0 && chance.f64() < probability
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    fn shape() -> LinkShape {
        LinkShape {
            rtt: RTT,
            jitter: Duration::ZERO,
            loss: 0.0,
            reorder: 0.0,
            bandwidth_bits: None,
        }
    }

    fn dues(shape: LinkShape, count: usize, bytes: usize) -> Vec<Option<Duration>> {
        let mut link = Link::new(shape);
        let mut chance = fastrand::Rng::with_seed(7);
        let now = Instant::now();
        let due = |_| match link.pass(now, true, bytes, &mut chance) {
            Fate::Due(due) => Some(due - now),
            Fate::Lost => None,
            Fate::Direct => panic!("a link never sends directly"),
        };
        (0..count).map(due).collect()
    }

    #[test]
    fn datagram_takes_half_the_round_trip() {
        assert_eq!(dues(shape(), 2, 1000), vec![Some(RTT / 2); 2]);
    }

    #[test]
    fn jitter_keeps_the_order_and_reordering_does_not() {
        let jitter = Duration::from_millis(20);
        let jittered = LinkShape { jitter, ..shape() };
        let arrived = dues(jittered, 200, 1000);
        assert!(arrived.is_sorted(), "{arrived:?}");
        assert!(arrived.iter().flatten().all(|due| *due <= RTT / 2 + jitter));
        let reorder = 0.1;
        let arrived = dues(LinkShape { reorder, ..shape() }, 200, 1000);
        assert!(!arrived.is_sorted());
    }

    #[test]
    fn loss_and_cuts_lose() {
        let loss = 0.1;
        let arrived = dues(LinkShape { loss, ..shape() }, 10_000, 1000);
        let lost = arrived.iter().filter(|due| due.is_none()).count();
        assert!((800..1200).contains(&lost), "{lost} of 10000");
        let mut link = Link::new(shape());
        link.is_cut = true;
        let mut chance = fastrand::Rng::with_seed(7);
        let fate = link.pass(Instant::now(), false, 1000, &mut chance);
        assert_eq!(fate, Fate::Lost);
        assert_eq!(link.view((RegionId(1), RegionId(2))).lost, 1);
    }

    #[test]
    fn bandwidth_spaces_datagrams_and_its_buffer_is_bounded() {
        // 1000 bytes with headers at 8 Mbit/s take a millisecond each.
        let capped = LinkShape {
            bandwidth_bits: Some(8_000_000),
            ..shape()
        };
        let arrived = dues(capped, 1000, 1000 - HEADER_BYTES);
        let first = Duration::from_millis(1) + RTT / 2;
        assert_eq!(arrived[0], Some(first));
        assert_eq!(arrived[9], Some(first + Duration::from_millis(9)));
        assert_eq!(arrived.iter().flatten().count(), 201);
    }
}
