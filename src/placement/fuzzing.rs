//! What the fuzzer runs of this room. It takes any bytes, and panics only if something is wrong.

use super::{Placement, Topology};

/// The text of a topology file. What is understood can be placed; what is not is blamed on a line that there is.
pub fn topologies(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match Topology::parse("topology.toml", text) {
        Ok(topology) => {
            assert_eq!(
                Topology::parse("topology.toml", text).as_ref(),
                Ok(&topology)
            );
            let shards = topology.keyspaces.len() * usize::from(topology.partitions);
            if shards <= 1000 {
                let placement = Placement::new(&topology);
                assert_eq!(placement.partition_count(), topology.partitions);
            }
        }
        Err(error) => {
            assert!(
                error.line >= 1 && error.line <= text.lines().count().max(1) + 1,
                "{error}"
            );
        }
    }
}

#[cfg(test)]
mod attacks {
    use super::*;
    use crate::hostile::Hostile;

    #[test]
    fn topology_files_are_read_or_refused() {
        let good = super::super::refusals::GOOD.as_bytes().to_vec();
        let local = include_bytes!("../../regions/local.toml").to_vec();
        Hostile {
            name: "topologies",
            is_same: true,
            target: topologies,
            seeds: vec![good, local],
            memory: (8 << 20, 2000),
        }
        .run();
    }
}
