//! What the fuzzer runs of this room. Each function takes any bytes, and panics only if something is wrong.

use rustls::pki_types::CertificateDer;

use crate::protocol::Message;

use super::frame::{FrameBuffer, FrameReader, Packer};
use super::identity::{Identity, PeerName};

/// A stream of frames: the first byte says in pieces of how many bytes it comes.
pub fn frames(bytes: &[u8]) {
    let Some((step, stream)) = bytes.split_first() else {
        return;
    };
    let step = match step {
        0 => usize::MAX,
        step => usize::from(*step),
    };
    let messages = read(stream, step);
    let mut buffer = FrameBuffer::default();
    for message in &messages {
        assert!(buffer.push(message, usize::MAX).is_ok());
    }
    // What was understood can be said again, plain and packed.
    let plain = buffer.take();
    assert!(read(&plain, usize::MAX) == messages);
    let packed = Packer::new().map(|mut packer| packer.pack(plain.clone()));
    assert!(packed.is_ok_and(|packed| read(&packed, step) == messages));
}

/// The messages up to the first frame that is none.
fn read(stream: &[u8], step: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    let Ok(mut reader) = FrameReader::new() else {
        return messages;
    };
    for piece in stream.chunks(step) {
        reader.extend(piece);
        loop {
            let before = messages.len();
            match reader.next(&mut messages) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => {
                    // Of a frame that is refused nothing counts.
                    messages.truncate(before);
                    return messages;
                }
            }
        }
    }
    messages
}

/// A peer's certificate in DER, and the same bytes as the PEM of a CA, a chain and a key.
pub fn certificates(bytes: &[u8]) {
    if let Some(name) = PeerName::of(&CertificateDer::from(bytes)) {
        assert!(name.to_string().starts_with("sterna://"));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(Identity::from_pem(text, text, text));
    }
}

#[cfg(test)]
mod attacks {
    use super::*;
    use crate::hostile::Hostile;
    use crate::net::tests::harness::{Cluster, large, small, today};
    use crate::net::{make_ca, make_node};
    use rustls::pki_types::pem::PemObject as _;

    #[test]
    fn frames_are_read_or_refused() {
        let mut buffer = FrameBuffer::default();
        for id in 0..5u8 {
            buffer.push(&small(u64::from(id)), usize::MAX).unwrap();
            let value = vec![id; usize::from(id) * 100];
            buffer
                .push(&large(u64::from(id), value), usize::MAX)
                .unwrap();
        }
        let plain = buffer.take();
        let packed = Packer::new().unwrap().pack(plain.clone());
        let mut seeds = vec![[&[0], &plain[..]].concat(), [&[7], &packed[..]].concat()];
        let golden = include_str!("../../tests/fixtures/messages-v1.txt");
        let hex = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        for line in golden.lines() {
            let (_, text) = line.split_once(": ").unwrap();
            let message: Vec<u8> = text.as_bytes().chunks(2).map(hex).collect();
            let length = u32::try_from(message.len()).unwrap().to_le_bytes();
            seeds.push([&[0], &length[..], &[0], &message].concat());
        }
        Hostile {
            name: "frames",
            is_same: true,
            target: frames,
            seeds,
            // Each level of a list whose length lies may take a megabyte before it is found out; zstd takes the rest.
            memory: (48 << 20, 300),
        }
        .run();
    }

    #[test]
    fn certificates_are_read_or_refused() {
        let cluster = Cluster::new(&[("a", "eu")]);
        let ca = make_ca(today(), "test").unwrap();
        let name = PeerName {
            cluster: cluster.name.clone(),
            region: "eu".to_owned(),
            node: "a".to_owned(),
        };
        let node = make_node(today(), &ca, &name, 1).unwrap();
        let der = CertificateDer::from_pem_slice(node.certificate.as_bytes()).unwrap();
        assert_eq!(PeerName::of(&der), Some(name));
        let both = format!("{}{}", node.certificate, node.key);
        Hostile {
            name: "certificates",
            is_same: false,
            target: certificates,
            seeds: vec![der.to_vec(), both.into_bytes()],
            memory: (64 << 10, 200),
        }
        .run();
    }
}
