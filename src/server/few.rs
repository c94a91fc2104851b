//! Lists in bodies that end up in memory only as far as any limit could allow: what is beyond is counted and let go, so
//! that a body of many tiny items does not take many times its length. It does not say what is too many.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};

/// A list of which at most `MAX` items are kept.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(any(test, fuzzing), derive(serde::Serialize), serde(into = "Vec<T>"))]
#[cfg_attr(
    any(test, fuzzing),
    serde(bound(serialize = "T: serde::Serialize + Clone"))
)]
pub(super) struct Few<T, const MAX: usize> {
    /// Those that are kept.
    pub(super) items: Vec<T>,
    /// How many there were.
    pub(super) count: usize,
}

impl<T, const MAX: usize> Few<T, MAX> {
    /// Whether something was let go.
    pub(super) fn is_cut(&self) -> bool {
        self.count > self.items.len()
    }
}

impl<T, const MAX: usize> Default for Few<T, MAX> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            count: 0,
        }
    }
}

#[cfg(any(test, fuzzing))]
impl<T, const MAX: usize> From<Few<T, MAX>> for Vec<T> {
    fn from(few: Few<T, MAX>) -> Self {
        few.items
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Few<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(FewVisitor(PhantomData))
    }
}

struct FewVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for FewVisitor<T, MAX> {
    type Value = Few<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Few<T, MAX>, A::Error> {
        let mut items = Vec::new();
        while items.len() < MAX
            && let Some(item) = seq.next_element()?
        {
            items.push(item);
        }
        let mut count = items.len();
        while count >= MAX && seq.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Few { items, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_many_is_counted_and_not_kept() {
        let read = |text: &str| serde_json::from_str::<Few<u8, 3>>(text).unwrap();
        for (text, items, count) in [("[]", 0, 0), ("[1,2,3]", 3, 3), ("[1,2,3,[4],{}]", 3, 5)] {
            let few = read(text);
            assert_eq!((few.items.len(), few.count), (items, count), "{text}");
            assert_eq!(few.is_cut(), count > items);
        }
        assert!(serde_json::from_str::<Few<u8, 3>>("[1,2,3,").is_err());
        assert!(serde_json::from_str::<Few<u8, 3>>("[1,[]]").is_err());
    }

    #[test]
    fn a_body_of_tiny_items_takes_no_more_than_it_is_long() {
        let text = format!("[{}\"\"]", "\"\",".repeat(1_000_000));
        let read = || serde_json::from_str::<Few<super::super::blob::Blob, 1000>>(&text).unwrap();
        let spent = allocation_counter::measure(|| assert_eq!(read().count, 1_000_001));
        assert!(spent.bytes_max < 100_000, "{} bytes", spent.bytes_max);
    }
}
