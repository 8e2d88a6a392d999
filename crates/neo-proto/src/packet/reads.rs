//! What answers to reads are made of.

use bytes::Bytes;
use neo_api::Tid;
use serde::{Deserialize, Serialize};

use super::ObjectAnswer;

/// What it takes to undo what a transaction did to an object.
///
/// Revisions that repeat each other, by their `data_serial`, are equivalent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoRevision {
    /// The newest revision: from which the change starts.
    pub current: Tid,
    /// Whether it is equivalent to what the transaction wrote: then nothing else has changed the
    /// object since.
    pub is_current: bool,
    /// The newest revision that is equivalent to the one before the transaction; `None` when there
    /// was no value.
    pub previous: Option<Tid>,
}

/// A payload split into the values of several objects.
///
/// # Errors
/// When the lengths do not add up to the payload.
pub fn split_answers(
    answers: Vec<(ObjectAnswer, u32)>,
    payload: &Bytes,
) -> Result<Vec<(ObjectAnswer, Bytes)>, &'static str> {
    let mut rest = payload.clone();
    let mut split = Vec::with_capacity(answers.len());
    for (answer, bytes) in answers {
        let bytes = bytes as usize;
        if bytes > rest.len() {
            return Err("the payload is shorter than its values");
        }
        split.push((answer, rest.split_to(bytes)));
    }
    if rest.is_empty() {
        Ok(split)
    } else {
        Err("the payload is longer than its values")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_that_does_not_fit_its_answers_is_refused() {
        let payload = Bytes::from_static(b"abcde");
        let answers = |sizes: &[u32]| {
            let answers = sizes.iter().map(|n| (ObjectAnswer::NotYet, *n));
            let split = split_answers(answers.collect(), &payload)?;
            let values = split.iter().map(|(_, value)| value.to_vec());
            Ok::<_, &str>(values.collect::<Vec<_>>().join(&b"|"[..]))
        };
        assert_eq!(answers(&[2, 0, 3]).unwrap(), b"ab||cde");
        assert!(answers(&[2, 2]).is_err());
        assert!(answers(&[2, 4]).is_err());
        assert!(answers(&[u32::MAX, 5]).is_err());
        assert!(answers(&[]).is_err());
    }
}
