//! What the fuzzer runs of this room. It takes any bytes, and panics only if something is wrong.

use crate::coding;

use super::Message;

/// The version of a message's sent form.
const VERSION: u8 = 1;

/// One message. What is understood can be said again: then it is the same, in one form only.
pub fn messages(bytes: &[u8]) {
    let Ok((message, _rest)) = coding::decode_next::<Message>(VERSION, bytes) else {
        return;
    };
    let said = coding::encode(VERSION, &message).unwrap_or_default();
    let again = coding::decode::<Message>(VERSION, &said);
    assert!(again.as_ref() == Ok(&message), "{message:?}\n{again:?}");
    let twice = again.and_then(|message| coding::encode(VERSION, &message));
    assert_eq!(twice, Ok(said));
}

#[cfg(test)]
mod attacks {
    use super::*;
    use crate::hostile::Hostile;

    #[test]
    fn messages_are_read_or_refused() {
        let golden = include_str!("../../tests/fixtures/messages-v1.txt");
        let hex = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        let message = |line: &str| {
            let (_, text) = line.split_once(": ").unwrap();
            text.as_bytes().chunks(2).map(hex).collect()
        };
        Hostile {
            name: "messages",
            is_same: true,
            target: messages,
            seeds: golden.lines().map(message).collect(),
            // Each level of a list whose length lies may take a megabyte before it is found out.
            memory: (40 << 20, 300),
        }
        .run();
    }
}
