//! The form of bytes, between nodes and on disk: a version byte, then postcard.
//!
//! This room knows no type of its own: whoever stores or sends something names its version. Decoding never
//! panics, never allocates by a length that the bytes themselves do not bear out, and takes no more memory than some
//! times their length ([`memory_max`]).

mod bounded;

use bytes::{BufMut, BytesMut};
use postcard::Deserializer;
use postcard::de_flavors::Slice;
use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use bounded::{Bounded, Memory};

/// Why bytes could not be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CodingError {
    /// There is not even a version byte.
    #[error("no bytes at all")]
    Empty,
    /// Another version than this program reads.
    #[error(
        "form version {found}, but this program reads version {expected}: run the same version of Sterna everywhere"
    )]
    Version {
        /// The version this program reads.
        expected: u8,
        /// The version byte found.
        found: u8,
    },
    /// The bytes do not spell a value.
    #[error("garbled bytes: {0}")]
    Garbled(postcard::Error),
    /// The value ended before the bytes did.
    #[error("{bytes} bytes too many after the value")]
    Trailing {
        /// How many bytes were left.
        bytes: usize,
    },
    /// The value would take more memory than its bytes may ask for.
    #[error(
        "the bytes ask for more memory than they may: lists of elements that are next to nothing"
    )]
    Memory,
}

/// Memory that a value of so many bytes may take, beside what a list takes while it grows. What nodes say takes some three
/// times its length; only short lists are mostly of elements that are next to nothing (there is no row under a key).
pub const fn memory_max(bytes: usize) -> usize {
    bytes.saturating_mul(4).saturating_add(16 << 20)
}

/// The sent or stored form of a value.
pub fn encode<T: Serialize + ?Sized>(version: u8, value: &T) -> Result<Vec<u8>, CodingError> {
    let mut bytes = BytesMut::with_capacity(64);
    encode_into(version, value, &mut bytes)?;
    Ok(bytes.into())
}

/// Appends the form of a value to `bytes`; on an error `bytes` is as it was.
/// An error means that the type cannot be coded (a sequence of unknown length), never that the value is too long.
pub fn encode_into<T: Serialize + ?Sized>(
    version: u8,
    value: &T,
    bytes: &mut BytesMut,
) -> Result<(), CodingError> {
    let start = bytes.len();
    bytes.put_u8(version);
    postcard::serialize_with_flavor(value, Tail(bytes)).map_err(|error| {
        bytes.truncate(start);
        CodingError::Garbled(error)
    })
}

/// Reads a value that takes up all of `bytes`.
pub fn decode<T: DeserializeOwned>(version: u8, bytes: &[u8]) -> Result<T, CodingError> {
    let (value, rest) = decode_next(version, bytes)?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(CodingError::Trailing { bytes: rest.len() })
    }
}

/// Reads the first of several values that stand one after the other, and gives back the bytes after it.
pub fn decode_next<T: DeserializeOwned>(
    version: u8,
    bytes: &[u8],
) -> Result<(T, &[u8]), CodingError> {
    decode_within(version, bytes, &mut memory_max(bytes.len()))
}

/// Reads the first of several values, as [`decode_next`] does, within `memory` bytes of memory; what it takes is taken off.
pub fn decode_within<'b, T: DeserializeOwned>(
    version: u8,
    bytes: &'b [u8],
    memory: &mut usize,
) -> Result<(T, &'b [u8]), CodingError> {
    let (found, body) = bytes.split_first().ok_or(CodingError::Empty)?;
    if *found != version {
        return Err(CodingError::Version {
            expected: version,
            found: *found,
        });
    }
    let limit = Memory::new(*memory);
    let mut decoder = Deserializer::from_flavor(Slice::new(body));
    let read = T::deserialize(Bounded {
        inner: &mut decoder,
        memory: &limit,
    });
    *memory = limit.left();
    match read {
        Ok(value) => Ok((value, decoder.finalize().map_err(CodingError::Garbled)?)),
        Err(_) if limit.is_spent() => Err(CodingError::Memory),
        Err(error) => Err(CodingError::Garbled(error)),
    }
}

/// Appends to a buffer that may hold other values already.
struct Tail<'a>(&'a mut BytesMut);

impl Flavor for Tail<'_> {
    type Output = ();

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.put_u8(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    struct Sample {
        name: Bytes,
        parts: Vec<Option<Bytes>>,
        number: u128,
    }

    fn sample() -> Sample {
        Sample {
            name: Bytes::from_static(b"name"),
            parts: vec![None, Some(Bytes::new()), Some(Bytes::from(vec![7; 300]))],
            number: u128::MAX,
        }
    }

    #[test]
    fn value_comes_back_as_it_went() {
        let bytes = encode(3, &sample()).unwrap();
        assert_eq!(bytes[0], 3);
        assert_eq!(decode::<Sample>(3, &bytes), Ok(sample()));
    }

    #[test]
    fn values_in_a_row_are_read_one_by_one() {
        let mut bytes = BytesMut::new();
        encode_into(1, &sample(), &mut bytes).unwrap();
        encode_into(1, "after", &mut bytes).unwrap();
        let (first, rest) = decode_next::<Sample>(1, &bytes).unwrap();
        assert_eq!(first, sample());
        assert_eq!(decode::<String>(1, rest), Ok("after".to_owned()));
    }

    #[test]
    fn other_version_is_refused_in_words() {
        let bytes = encode(2, &1u8).unwrap();
        let error = decode::<u8>(1, &bytes).unwrap_err();
        assert!(error.to_string().contains("version 2"), "{error}");
        assert_eq!(decode::<u8>(1, &[]), Err(CodingError::Empty));
    }

    #[test]
    fn trailing_and_missing_bytes_are_refused() {
        let mut bytes = encode(1, &sample()).unwrap();
        for end in 1..bytes.len() {
            assert!(
                decode::<Sample>(1, &bytes[..end]).is_err(),
                "cut at {end} was taken"
            );
        }
        bytes.push(0);
        let error = decode::<Sample>(1, &bytes).unwrap_err();
        assert_eq!(error, CodingError::Trailing { bytes: 1 });
    }

    #[test]
    fn lengths_that_lie_allocate_nothing() {
        let mut bytes = vec![1];
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
        assert!(decode::<Bytes>(1, &bytes).is_err());
        assert!(decode::<Vec<Vec<u128>>>(1, &bytes).is_err());
        assert!(decode::<String>(1, &bytes).is_err());
    }

    #[test]
    fn elements_of_a_byte_do_not_fill_the_memory() {
        type Lists = Vec<Option<[u128; 20]>>;
        let count = 1_000_000;
        let bomb = encode(1, &vec![None::<[u128; 20]>; count]).unwrap();
        let read = || assert_eq!(decode::<Lists>(1, &bomb), Err(CodingError::Memory));
        let spent = allocation_counter::measure(read).bytes_max;
        let most = u64::try_from(4 * memory_max(count)).unwrap();
        assert!(spent < most, "{spent} bytes");
        let few = encode(1, &vec![None::<[u128; 20]>; 10_000]).unwrap();
        assert_eq!(decode::<Lists>(1, &few).unwrap().len(), 10_000);
    }

    #[test]
    fn random_bytes_never_panic() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut chance = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let mut bytes: Vec<u8> = (0..chance.usize(0..80)).map(|_| chance.u8(..)).collect();
            if let Some(first) = bytes.first_mut() {
                *first = 1;
            }
            drop(decode::<Sample>(1, &bytes));
        }
    }
}
