//! Frames: how messages stand on a stream. Pure; knows no socket.
//!
//! A frame is a length (u32, little-endian, of what follows the flags), a flags byte, and a payload: one or
//! more messages, each a version byte and postcard. With [`COMPRESSED`] set, the payload is the length of the
//! messages (u32, little-endian) and their zstd form. A frame grows while a stream is busy, so that what
//! piles up is compressed together.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use zstd::bulk::{Compressor, Decompressor};

use crate::coding::{self, CodingError};
use crate::protocol::Message;

/// The version byte of a message's sent form.
pub(super) const MESSAGE_VERSION: u8 = 1;
/// Longest payload, plain or unpacked: a value of 16 MiB with its row, and room to spare.
pub(super) const FRAME_BYTES_MAX: usize = 20 << 20;
/// A frame that holds so much is not added to: its receiver should not wait for more.
const FRAME_BYTES_FULL: usize = 32 << 10;
/// Longest message: it must fit a frame that was not full yet.
pub(super) const MESSAGE_BYTES_MAX: usize = FRAME_BYTES_MAX - FRAME_BYTES_FULL;
/// Where in a frame the last message begins at the latest. Senders begin none after [`FRAME_BYTES_FULL`].
const LAST_MESSAGE_AT_MAX: usize = 2 * FRAME_BYTES_FULL;
/// Flag: the payload is compressed.
const COMPRESSED: u8 = 1;
const HEADER_BYTES: usize = 5;
/// Shorter payloads are not worth compressing.
const COMPRESS_BYTES_MIN: usize = 256;
/// Fast enough for the path of every change.
const ZSTD_LEVEL: i32 = 1;

/// Why a frame was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// Longer than [`FRAME_BYTES_MAX`].
    #[error("a frame of {bytes} bytes is beyond the limit of {FRAME_BYTES_MAX}")]
    TooLong { bytes: usize },
    /// A flag that this program does not know.
    #[error("unknown flags {flags:#04x} in a frame")]
    Flags { flags: u8 },
    /// The payload does not unpack to the length it names.
    #[error("a compressed frame does not unpack")]
    Unpack,
    /// A frame without a message.
    #[error("an empty frame")]
    Empty,
    /// Messages go on where a sound sender would have begun another frame.
    #[error("a frame with more messages than it may have")]
    Crowded,
    /// A message could not be read.
    #[error("a message in a frame: {0}")]
    Message(#[from] CodingError),
}

/// Frames that wait to be sent: messages are coded straight into the bytes that will be written.
#[derive(Debug, Default)]
pub(super) struct FrameBuffer {
    bytes: BytesMut,
    /// Where the frame begins that may still grow.
    open: Option<usize>,
}

impl FrameBuffer {
    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a message if it fits: alone of any size up to [`MESSAGE_BYTES_MAX`], with others up to
    /// `bytes_max` in all. Says whether it did.
    pub(super) fn push(&mut self, message: &Message, bytes_max: usize) -> Result<(), Unfit> {
        let before = self.bytes.len();
        let start = match self.open {
            Some(start) if before - start < FRAME_BYTES_FULL => start,
            Some(_) | None => {
                self.bytes.put_bytes(0, HEADER_BYTES);
                before
            }
        };
        let body = self.bytes.len();
        let coded = coding::encode_into(MESSAGE_VERSION, message, &mut self.bytes);
        let fits = if coded.is_err() || self.bytes.len() - body > MESSAGE_BYTES_MAX {
            Err(Unfit::TooLong)
        } else if before > 0 && self.bytes.len() > bytes_max {
            Err(Unfit::Full)
        } else {
            Ok(())
        };
        if fits.is_ok() {
            self.open = Some(start);
            self.write_length(start);
        } else {
            self.bytes.truncate(before);
        }
        fits
    }

    /// All that waits, as it will be written.
    pub(super) fn take(&mut self) -> Bytes {
        self.open = None;
        std::mem::take(&mut self.bytes).freeze()
    }

    fn write_length(&mut self, start: usize) {
        let length = self.bytes.len() - start - HEADER_BYTES;
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        if let Some(place) = self.bytes.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
    }
}

/// Why a message was not queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unfit {
    /// The queue is full.
    Full,
    /// The message could never be sent.
    TooLong,
}

/// Packs plain frames for a link between regions.
pub(super) struct Packer {
    zstd: Compressor<'static>,
}

impl Packer {
    pub(super) fn new() -> std::io::Result<Self> {
        let zstd = Compressor::new(ZSTD_LEVEL)?;
        Ok(Self { zstd })
    }

    /// The same frames, each compressed where that makes it shorter.
    pub(super) fn pack(&mut self, mut frames: Bytes) -> Bytes {
        let mut packed = BytesMut::with_capacity(frames.len());
        while frames.len() >= HEADER_BYTES {
            let length = frames.get_u32_le();
            let flags = frames.get_u8();
            let payload = frames.split_to(frames.len().min(to_usize(length)));
            if !self.pack_one(&payload, &mut packed) {
                packed.put_u32_le(length);
                packed.put_u8(flags);
                packed.extend_from_slice(&payload);
            }
        }
        packed.freeze()
    }

    /// Appends the compressed frame, if it is shorter; otherwise leaves `packed` as it was.
    fn pack_one(&mut self, payload: &[u8], packed: &mut BytesMut) -> bool {
        if payload.len() < COMPRESS_BYTES_MIN {
            return false;
        }
        let start = packed.len();
        let body = start + HEADER_BYTES + 4;
        // No room for what would not be shorter: then zstd gives up early.
        packed.resize(body + payload.len() - 4, 0);
        let written = packed
            .get_mut(body..)
            .and_then(|place| self.zstd.compress_to_buffer(payload, place).ok());
        let Some(written) = written else {
            packed.truncate(start);
            return false;
        };
        packed.truncate(body + written);
        let mut header = BytesMut::with_capacity(HEADER_BYTES + 4);
        header.put_u32_le(u32::try_from(written + 4).unwrap_or(u32::MAX));
        header.put_u8(COMPRESSED);
        header.put_u32_le(u32::try_from(payload.len()).unwrap_or(u32::MAX));
        if let Some(place) = packed.get_mut(start..body) {
            place.copy_from_slice(&header);
        }
        true
    }
}

/// Reads frames out of the bytes of a stream. Holds at most one frame and what came with its last bytes.
pub(super) struct FrameReader {
    bytes: BytesMut,
    zstd: Decompressor<'static>,
}

impl FrameReader {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            bytes: BytesMut::new(),
            zstd: Decompressor::new()?,
        })
    }

    /// Takes in the next bytes of the stream.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends the messages of the next frame and gives the bytes of memory that they take, or of the frame if that is more;
    /// nothing if the frame is not all here.
    /// After an error the stream makes no sense any more.
    pub(super) fn next(
        &mut self,
        messages: &mut Vec<Message>,
    ) -> Result<Option<usize>, FrameError> {
        let Some((mut header, rest)) = self.bytes.split_at_checked(HEADER_BYTES) else {
            return Ok(None);
        };
        let length = to_usize(header.get_u32_le());
        let flags = header.get_u8();
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong { bytes: length });
        }
        if flags & !COMPRESSED != 0 {
            return Err(FrameError::Flags { flags });
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let read = if flags & COMPRESSED == 0 {
            read_messages(payload, messages)?
        } else {
            read_messages(&unpack(&mut self.zstd, payload)?, messages)?
        };
        self.bytes.advance(HEADER_BYTES + length);
        Ok(Some(read))
    }
}

fn unpack(zstd: &mut Decompressor<'static>, payload: &[u8]) -> Result<Vec<u8>, FrameError> {
    let (mut length, packed) = payload.split_at_checked(4).ok_or(FrameError::Unpack)?;
    let bytes = to_usize(length.get_u32_le());
    if bytes > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong { bytes });
    }
    let mut unpacked = Vec::with_capacity(bytes);
    let written = zstd.decompress_to_buffer(packed, &mut unpacked);
    if written.is_ok_and(|written| written == bytes) {
        Ok(unpacked)
    } else {
        Err(FrameError::Unpack)
    }
}

/// Reads all messages of a frame, and gives the memory that they take, or the frame's length if that is more.
fn read_messages(payload: &[u8], messages: &mut Vec<Message>) -> Result<usize, FrameError> {
    if payload.is_empty() {
        return Err(FrameError::Empty);
    }
    let limit = coding::memory_max(payload.len());
    let mut memory = limit;
    let mut rest = payload;
    while !rest.is_empty() {
        if payload.len() - rest.len() > LAST_MESSAGE_AT_MAX {
            return Err(FrameError::Crowded);
        }
        let message;
        (message, rest) = coding::decode_within(MESSAGE_VERSION, rest, &mut memory)?;
        messages.push(message);
        memory = memory.saturating_sub(size_of::<Message>());
    }
    Ok(payload.len().max(limit - memory))
}

fn to_usize(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use crate::model::{
        Actor, Dot, Incarnation, KeyspaceId, NodeId, Row, RowKey, Timestamp, Version,
    };

    use super::*;

    fn repair(id: u64, value: Vec<u8>) -> Message {
        let key = RowKey::plain(KeyspaceId(7), Bytes::from(format!("key {id}")));
        let actor = Actor {
            node: NodeId(1),
            incarnation: Incarnation(2),
        };
        let row = Row::Register(Version {
            timestamp: Timestamp::ZERO,
            dot: Dot { actor, n: id },
            replaced: Timestamp::ZERO,
            expires: None,
            after: None,
            value: Some(Bytes::from(value)),
        });
        Message::Repair {
            id,
            rows: vec![(key, row)],
        }
    }

    fn read_all(bytes: &[u8], step: usize) -> Result<Vec<Message>, FrameError> {
        let mut reader = FrameReader::new().unwrap();
        let mut messages = Vec::new();
        for piece in bytes.chunks(step) {
            reader.extend(piece);
            while reader.next(&mut messages)?.is_some() {}
        }
        Ok(messages)
    }

    #[test]
    fn messages_come_back_plain_and_packed() {
        let sent: Vec<Message> = (0..200u8)
            .map(|id| repair(u64::from(id), vec![id; usize::from(id) * 20]))
            .collect();
        let mut buffer = FrameBuffer::default();
        for message in &sent {
            buffer.push(message, usize::MAX).unwrap();
        }
        let plain = buffer.take();
        let packed = Packer::new().unwrap().pack(plain.clone());
        assert!(packed.len() * 5 < plain.len(), "{}", packed.len());
        for step in [1, 7, 1400, usize::MAX] {
            assert_eq!(read_all(&plain, step).unwrap(), sent);
            assert_eq!(read_all(&packed, step).unwrap(), sent);
        }
    }

    #[test]
    fn chance_is_not_made_longer_by_packing() {
        let mut chance = fastrand::Rng::with_seed(1);
        let value = (0..5000).map(|_| chance.u8(..)).collect();
        let mut buffer = FrameBuffer::default();
        buffer.push(&repair(1, value), usize::MAX).unwrap();
        let plain = buffer.take();
        assert_eq!(Packer::new().unwrap().pack(plain.clone()), plain);
    }

    #[test]
    fn queue_refuses_beyond_its_limit_but_takes_one_of_any_size() {
        let mut buffer = FrameBuffer::default();
        buffer.push(&repair(1, vec![1; 5000]), 1000).unwrap();
        let before = buffer.len();
        assert_eq!(buffer.push(&repair(2, vec![1]), 1000), Err(Unfit::Full));
        assert_eq!(buffer.len(), before);
        let mut buffer = FrameBuffer::default();
        let giant = repair(1, vec![1; FRAME_BYTES_MAX]);
        assert_eq!(buffer.push(&giant, usize::MAX), Err(Unfit::TooLong));
        assert_eq!(buffer.len(), 0);
        let large = repair(1, vec![1; 16 << 20]);
        buffer.push(&large, 1000).unwrap();
        assert_eq!(read_all(&buffer.take(), 1 << 20).unwrap(), vec![large]);
    }

    #[test]
    fn frame_beyond_the_limit_is_refused_by_its_header() {
        let mut frame = BytesMut::new();
        frame.put_u32_le(u32::try_from(FRAME_BYTES_MAX).unwrap() + 1);
        frame.put_u8(0);
        let error = read_all(&frame, 5).unwrap_err();
        assert!(matches!(error, FrameError::TooLong { .. }), "{error}");
    }

    #[test]
    fn bomb_is_refused() {
        let bomb = zstd::bulk::compress(&vec![0; FRAME_BYTES_MAX * 2], 1).unwrap();
        for claimed in [100u32, u32::MAX] {
            let mut frame = BytesMut::new();
            frame.put_u32_le(u32::try_from(bomb.len() + 4).unwrap());
            frame.put_u8(COMPRESSED);
            frame.put_u32_le(claimed);
            frame.extend_from_slice(&bomb);
            assert!(read_all(&frame, usize::MAX).is_err());
        }
    }

    /// The memory that it takes to find out that a frame is bad.
    fn refused(payload: &[u8]) -> (FrameError, u64) {
        let packed = zstd::bulk::compress(payload, 1).unwrap();
        let mut frame = BytesMut::new();
        frame.put_u32_le(u32::try_from(packed.len() + 4).unwrap());
        frame.put_u8(COMPRESSED);
        frame.put_u32_le(u32::try_from(payload.len()).unwrap());
        frame.extend_from_slice(&packed);
        assert!(frame.len() < 10_000, "{} bytes", frame.len());
        let mut error = None;
        let read = || error = read_all(&frame, usize::MAX).err();
        let spent = allocation_counter::measure(read).bytes_max;
        (error.unwrap(), spent)
    }

    #[test]
    fn many_tiny_messages_are_no_bomb() {
        let one = coding::encode(MESSAGE_VERSION, &Message::CannotRead { id: 1 }).unwrap();
        let payload = one.repeat(FRAME_BYTES_MAX / one.len());
        let (error, spent) = refused(&payload);
        assert!(matches!(error, FrameError::Crowded), "{error}");
        assert!(spent < 64 << 20, "{spent} bytes");
    }

    #[test]
    fn rows_that_are_none_are_no_bomb() {
        let rows = vec![None; FRAME_BYTES_MAX / 2];
        let payload = coding::encode(MESSAGE_VERSION, &Message::Rows { id: 1, rows }).unwrap();
        let (error, spent) = refused(&payload);
        assert!(
            matches!(error, FrameError::Message(CodingError::Memory)),
            "{error}"
        );
        // A list takes up to three times its length while it grows.
        let most = 4 * coding::memory_max(payload.len());
        assert!(spent < u64::try_from(most).unwrap(), "{spent} bytes");
    }

    #[test]
    fn random_frames_never_panic() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut chance = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let length = chance.usize(0..60);
            let mut frame = BytesMut::new();
            frame.put_u32_le(u32::try_from(length).unwrap());
            frame.put_u8(chance.u8(0..3));
            frame.put_u8(MESSAGE_VERSION);
            frame.extend((0..length).map(|_| chance.u8(..)));
            drop(read_all(&frame, usize::MAX));
        }
    }
}
