//! The table of floors in ARCHITECTURE.md: which room may import which.

use super::source::read;

/// All floors.
pub(crate) struct Floors(Vec<Entry>);

/// A room's place.
pub(crate) struct Entry {
    room: String,
    /// The floor, and the step on it (`<` in the table); nothing beside the floors.
    rank: Option<(u8, usize)>,
    /// The place in the table.
    place: usize,
    is_pure: bool,
}

impl Entry {
    /// Whether the room does no I/O and knows no time and no chance.
    pub(crate) fn is_pure(&self) -> bool {
        self.is_pure
    }
}

/// Rooms beside the floors may import whatever lies below this one, and only rooms of it may import them.
const DOORS: u8 = 5;

impl Floors {
    /// Reads the table between the marks.
    pub(crate) fn read() -> Self {
        let text = read("ARCHITECTURE.md");
        let (_, rest) = text
            .split_once("<!-- floors begin -->")
            .expect("begin mark of the floors");
        let (table, _) = rest
            .split_once("<!-- floors end -->")
            .expect("end mark of the floors");
        let mut entries = Vec::new();
        for line in table.lines().filter(|line| line.starts_with('|')) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [floor, rooms, kind] = cells.as_slice() else {
                panic!("three cells: {line}");
            };
            let floor: Option<u8> = floor.parse().ok();
            if floor.is_none() && !floor_is_beside(cells[0]) {
                continue;
            }
            for (step, group) in rooms.split('<').enumerate() {
                for room in group.split(',') {
                    entries.push(Entry {
                        room: room.trim().trim_matches('`').to_owned(),
                        rank: floor.map(|floor| (floor, step)),
                        place: entries.len(),
                        is_pure: *kind == "pure",
                    });
                }
            }
        }
        Self(entries)
    }

    /// A room's entry.
    pub(crate) fn entry(&self, room: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.room == room)
    }

    /// All rooms.
    pub(crate) fn rooms(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|entry| entry.room.as_str())
    }

    /// Whether one room may name another.
    pub(crate) fn may_import(&self, room: &str, target: &str) -> bool {
        let (Some(from), Some(to)) = (self.entry(room), self.entry(target)) else {
            return false;
        };
        if from.place == to.place {
            return true;
        }
        match (from.rank, to.rank) {
            (Some(from), Some(to)) => to < from,
            (None, Some((floor, _))) => floor < DOORS,
            (None, None) => to.place < from.place,
            // Of the doors, the last: the command line, which starts everything.
            (Some(from), None) => {
                from.0 == DOORS
                    && self
                        .0
                        .iter()
                        .filter_map(|e| e.rank)
                        .all(|rank| rank <= from)
            }
        }
    }
}

fn floor_is_beside(cell: &str) -> bool {
    cell == "beside"
}
