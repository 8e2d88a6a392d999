//! Messages to CBOR and back: the only file that names the CBOR crate.

use crate::packet::{Envelope, MsgId, Opened, Packet};
use crate::words::shown;

/// Bytes that are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a message: {0}")]
pub struct DecodeError(String);

/// Appends the CBOR of a message to a buffer.
pub fn encode(id: MsgId, packet: &Packet, out: &mut Vec<u8>) {
    ciborium::into_writer(&Envelope(id, packet), out)
        .expect("writing to memory succeeds, and every packet is serialisable");
}

/// Decodes the CBOR of one message.
///
/// # Errors
/// When the bytes are not exactly one message that this version knows.
pub fn decode(mut bytes: &[u8]) -> Result<(MsgId, Packet), DecodeError> {
    let Opened(id, packet) =
        ciborium::from_reader(&mut bytes).map_err(|error| DecodeError(words(error)))?;
    if !bytes.is_empty() {
        return Err(DecodeError(format!(
            "{} bytes follow the message",
            bytes.len()
        )));
    }
    Ok((id, packet))
}

fn words<E>(error: ciborium::de::Error<E>) -> String {
    use ciborium::de::Error;
    match error {
        // The only error of a slice.
        Error::Io(_) => "it ends too early".to_owned(),
        Error::Syntax(at) => format!("no CBOR at byte {at}"),
        // It may repeat what the peer sent.
        Error::Semantic(_, what) => shown(&what),
        Error::RecursionLimitExceeded => "it is nested too deeply".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use neo_api::{Oid, Reign, Tid, TxnId};

    use super::*;
    use crate::packet::Oids;

    #[test]
    fn a_message_is_an_array_of_code_id_and_fields() {
        let txn = TxnId {
            reign: Reign(1),
            ttid: Tid(2),
        };
        let packet = Packet::AskVoteTransaction { txn, objects: 3 };
        let mut bytes = Vec::new();
        encode(MsgId(5), &packet, &mut bytes);
        assert_eq!(bytes, [0x84, 0x18, 0x37, 0x05, 0x82, 0x01, 0x02, 0x03]);
        assert_eq!(decode(&bytes), Ok((MsgId(5), packet)));
    }

    #[test]
    fn fields_of_a_newer_version_are_ignored() {
        let bytes = [0x85, 0x18, 0x37, 0x05, 0x82, 0x01, 0x02, 0x03, 0x81, 0x00];
        assert!(decode(&bytes).is_ok());
    }

    #[test]
    fn oids_take_eight_bytes() {
        let packet = Packet::InvalidateObjects {
            tid: Tid(1),
            oids: Oids(vec![Oid(7); 1000]),
        };
        let mut bytes = Vec::new();
        encode(MsgId(0), &packet, &mut bytes);
        assert!(bytes.len() < 8020, "{}", bytes.len());
        assert_eq!(decode(&bytes), Ok((MsgId(0), packet)));
    }

    #[test]
    fn what_is_not_a_message_is_an_error() {
        for bytes in [
            &b""[..],
            b"\x80",
            b"\x81\x01",
            b"GET / HTTP/1.1",
            b"\x9f",
            &[0x83, 0x19, 0x7f, 0xff, 0, 0],
        ] {
            assert!(decode(bytes).is_err(), "{bytes:?}");
        }
        // A trailing byte.
        assert!(decode(&[0x82, 0x03, 0x00, 0x00]).is_err());
    }
}
