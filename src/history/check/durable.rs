//! Every acknowledged write survives, or what won over it does (P1, P4).

use crate::history::{Ending, Record, version_words};

use super::{Graves, Shown};

/// No key may end with something older than an acknowledged write; and with nothing only if a later delete was
/// stamped, acknowledged or not.
pub(super) fn check(records: &[Record], shown: &Shown, graves: &Graves<'_>) -> Result<(), String> {
    for record in records {
        let Ending::Written(written) = &record.ending else {
            continue;
        };
        match shown.get(&record.key) {
            Some(Some(seen)) if written.is_newer_than(&seen.summary) => {
                let left = version_words(&seen.summary);
                return Err(format!("{left} is older than {record}"));
            }
            Some(None) if !graves.explain(&record.key, written, u64::MAX) => {
                return Err(format!("nothing is left of {record}"));
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Tombstones;
    use super::super::samples::{delete, key, put, seen, summary};
    use super::*;

    #[test]
    fn a_lost_write_is_found() {
        let records = [put("a", 1, (1, 2)), put("a", 2, (3, 4))];
        let none = Tombstones::new();
        let with = |left: Option<u64>| {
            let shown = [(key("a"), left.map(|n| seen(n, Some(n))))].into();
            check(&records, &shown, &Graves::Told(&none)).is_ok()
        };
        assert!(with(Some(2)) && with(Some(3)));
        assert!(!with(Some(1)) && !with(None));
    }

    #[test]
    fn a_delete_explains_an_absent_row() {
        let records = [put("a", 1, (1, 2)), delete("a", 2, (3, 4))];
        let with = |records: &[Record], n| {
            let stamped = [(key("a"), summary(n, true))].into();
            check(records, &[(key("a"), None)].into(), &Graves::Told(&stamped)).is_ok()
        };
        assert!(with(&records, 2));
        let records = [delete("a", 1, (1, 2)), put("a", 2, (3, 4))];
        assert!(!with(&records, 1));
    }
}
