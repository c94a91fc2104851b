//! What the simulator wants to know of messages: their names, the log in them, and whether they survive
//! their own sent form.

use fastrand::Rng;

use crate::coding;
use crate::protocol::Message;

/// Any version serves here: what is read was just written.
const VERSION: u8 = 1;

/// The name of a message's kind.
pub(crate) fn name_of(message: &Message) -> &'static str {
    match message {
        Message::Heartbeat(_) => "Heartbeat",
        Message::Wants(_) => "Wants",
        Message::Append(_) => "Append",
        Message::Acks(_) => "Acks",
        Message::Trimmed { .. } => "Trimmed",
        Message::Forward { .. } => "Forward",
        Message::Forwarded { .. } => "Forwarded",
        Message::Read { .. } => "Read",
        Message::Summaries { .. } => "Summaries",
        Message::Rows { .. } => "Rows",
        Message::CannotRead { .. } => "CannotRead",
        Message::Repair { .. } => "Repair",
        Message::Repaired { .. } => "Repaired",
        Message::DigestAsk { .. } => "DigestAsk",
        Message::DigestTell { .. } => "DigestTell",
        Message::LeafAsk { .. } => "LeafAsk",
        Message::LeafTell { .. } => "LeafTell",
        Message::SumsAsk { .. } => "SumsAsk",
        Message::SumsTell { .. } => "SumsTell",
        Message::Select { .. } => "Select",
        Message::Selected { .. } => "Selected",
        Message::GravesAsk { .. } => "GravesAsk",
        Message::GravesTell { .. } => "GravesTell",
        Message::Await { .. } => "Await",
        Message::Awaited { .. } => "Awaited",
    }
}

/// Bytes of log in a message.
pub(crate) fn log_bytes_of(message: &Message) -> usize {
    if let Message::Append(append) = message {
        append.items.iter().map(crate::model::LogItem::size).sum()
    } else {
        0
    }
}

/// Bytes of a message in its sent form.
pub(crate) fn size_of(message: &Message) -> usize {
    coding::encode(VERSION, message).map_or(0, |bytes| bytes.len())
}

/// Whether the sent form of a message cannot be read any more after a bit of it has flipped. A flip that leaves
/// another message that can be read is not what is tried here: on its way the bytes are sealed by TLS, and nothing
/// beyond that guards what a sender's own memory has spoilt.
pub(crate) fn breaks(message: &Message, rng: &mut Rng) -> bool {
    let Ok(bytes) = coding::encode(VERSION, message) else {
        return false;
    };
    let mut bytes = bytes.to_vec();
    let at = rng.usize(0..bytes.len().max(1));
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << rng.u8(0..8);
    }
    coding::decode::<Message>(VERSION, &bytes).is_err()
}

/// The message after a way through its sent form; nothing if it does not come back equal.
pub(crate) fn through_bytes(message: &Message) -> Option<Message> {
    let bytes = coding::encode(VERSION, message).ok()?;
    let read: Message = coding::decode(VERSION, &bytes).ok()?;
    (read == *message).then_some(read)
}
