//! What may go wrong: scenarios by name, each with its number in the list of faults that the store must survive, and
//! the matrices of those that are run together.

use std::fmt;
use std::str::FromStr;

/// One thing that goes wrong, again and again, until the run heals.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Scenario {
    /// Nothing.
    Calm,
    /// P1.
    Kill,
    /// P6.
    KillAll,
    /// P4.
    Pause,
    /// P8.
    Restart,
    /// N6.
    Cut,
    /// N7.
    OneWay,
    /// N6, the whole run.
    Relay,
    /// N1.
    Loss,
    /// N2, N9.
    Slow,
    /// C1, C2.
    Clock,
    /// D9.
    DiskFull,
    /// D12.
    Swap,
    /// D13.
    Wipe,
    /// D14.
    OldCopy,
    /// O12.
    Certificates,
}

impl Scenario {
    /// All of them.
    pub(super) const ALL: [Self; 16] = [
        Self::Calm,
        Self::Kill,
        Self::KillAll,
        Self::Pause,
        Self::Restart,
        Self::Cut,
        Self::OneWay,
        Self::Relay,
        Self::Loss,
        Self::Slow,
        Self::Clock,
        Self::DiskFull,
        Self::Swap,
        Self::Wipe,
        Self::OldCopy,
        Self::Certificates,
    ];

    /// Name, number, and what it does.
    pub(super) fn told(self) -> [&'static str; 3] {
        match self {
            Self::Calm => ["calm", "-", "nothing goes wrong"],
            Self::Kill => ["kill", "P1", "kill -9 of a node, and its start"],
            Self::KillAll => ["kill-all", "P6", "kill -9 of all nodes at once"],
            Self::Pause => [
                "pause",
                "P4",
                "SIGSTOP of a node for longer than every timeout",
            ],
            Self::Restart => ["restart", "P8", "clean restarts, one node after the other"],
            Self::Cut => [
                "cut",
                "N6",
                "a region, or a pair of regions, cut off both ways",
            ],
            Self::OneWay => ["one-way", "N7", "one region does not reach another"],
            Self::Relay => [
                "relay",
                "N6",
                "first and last region cut off for the whole run",
            ],
            Self::Loss => ["loss", "N1", "a link loses up to a third of all datagrams"],
            Self::Slow => ["slow", "N9", "a link is slow, and thin as a thread"],
            Self::Clock => ["clock", "C2", "wall clocks jump, within max_offset"],
            Self::DiskFull => [
                "disk-full",
                "D9",
                "a node's disk is full (a tmpfs: needs root)",
            ],
            Self::Swap => [
                "swap",
                "D12",
                "two nodes are started on each other's data: refused",
            ],
            Self::Wipe => ["wipe", "D13", "a node's data folder is emptied"],
            Self::OldCopy => [
                "old-copy",
                "D14",
                "an old copy of a node's data is put back",
            ],
            Self::Certificates => [
                "certificates",
                "O12",
                "a certificate expires, and is replaced",
            ],
        }
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        let [name, ..] = self.told();
        name
    }

    /// Its number.
    pub(super) fn id(self) -> &'static str {
        let [_, id, _] = self.told();
        id
    }
}

/// Scenarios that are run at the same time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mix(pub(super) Vec<Scenario>);

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|scenario| scenario.name()).collect();
        f.write_str(&names.join("+"))
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |name: &str| {
            let found = Scenario::ALL.into_iter().find(|known| known.name() == name);
            found.ok_or_else(|| format!("no scenario `{name}`: see --list"))
        };
        Ok(Self(text.split('+').map(named).collect::<Result<_, _>>()?))
    }
}

/// What is run one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Matrix {
    /// What matters most.
    Short,
    /// Every scenario alone, and in the pairs and triples that have found bugs in other stores.
    Long,
}

const SHORT: [&str; 4] = [
    "kill+cut+pause",
    "kill-all",
    "wipe+one-way",
    "clock+restart",
];

const LONG: [&str; 28] = [
    "calm",
    "kill",
    "kill-all",
    "pause",
    "restart",
    "cut",
    "one-way",
    "relay",
    "loss",
    "slow",
    "clock",
    "disk-full",
    "swap",
    "wipe",
    "old-copy",
    "certificates",
    "kill+cut",
    "pause+cut",
    "clock+cut",
    "clock+kill",
    "kill-all+cut",
    "wipe+cut",
    "old-copy+kill",
    "relay+kill",
    "clock+cut+kill",
    "pause+cut+kill",
    "wipe+cut+kill",
    "loss+slow+restart",
];

impl Matrix {
    /// What is run.
    pub(super) fn mixes(self) -> Vec<Mix> {
        let names = match self {
            Self::Short => &SHORT[..],
            Self::Long => &LONG[..],
        };
        names.iter().filter_map(|name| name.parse().ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_name_what_there_is_and_the_long_one_all_of_it() {
        assert_eq!(Matrix::Short.mixes().len(), SHORT.len());
        let long = Matrix::Long.mixes();
        assert_eq!(long.len(), LONG.len());
        for scenario in Scenario::ALL {
            assert!(long.contains(&Mix(vec![scenario])), "{scenario:?}");
        }
        let mix: Mix = "kill+cut".parse().unwrap();
        assert_eq!(mix.to_string(), "kill+cut");
        assert!("kill+tea".parse::<Mix>().unwrap_err().contains("`tea`"));
    }
}
