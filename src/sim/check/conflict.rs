//! A version that lost is kept by the node that wrote it and by nobody else, so that it is counted once.

use crate::model::{LogItem, Part, Row};

/// Checks what a node wrote when it merged.
pub(super) fn check(written: &[LogItem]) -> Result<(), String> {
    for item in written {
        let (Some(Part::Conflict(loser)), Row::Conflict(conflict)) = (item.key.part(), &item.row)
        else {
            continue;
        };
        let (writer, keeper) = (loser.actor, conflict.stamp.dot.actor);
        if writer != keeper {
            return Err(format!("{keeper} keeps {loser:?}, which {writer} wrote"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::samples::{actor, key, summary};
    use super::*;
    use crate::model::{Conflict, Dot, Wall};

    #[test]
    fn a_conflict_that_another_keeps_is_found() {
        let kept_of = |loser: Dot| {
            let stamp = summary(1, false).stamp();
            let row = Row::Conflict(Conflict {
                stamp,
                winner: stamp,
                loser: None,
                expires: Wall(9),
            });
            let key = key("a").with(&Part::Conflict(loser));
            check(&[LogItem { n: 1, key, row }]).is_ok()
        };
        let own = summary(1, false).stamp().dot;
        assert!(kept_of(own));
        let actor = actor(own.actor.node.0 + 1);
        assert!(!kept_of(Dot { actor, n: 1 }));
    }
}
