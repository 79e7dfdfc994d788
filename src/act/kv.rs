//! Requests for kept values as a shim writes them, and the answers to them.
//!
//! A request is a letter, the length of the key in four bytes (big endian), the key, and the value. An answer is one
//! frame: `V` and JSON, or `E` and why not. One request is under way at a time.

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::json;
use crate::model::kv::{self, KvAnswer, KvKey, KvRequest};

/// What a script asks of what its task keeps, and where the answer goes. Without an answer it is told that there is
/// none to be had.
#[derive(Debug)]
pub struct KvCall {
    /// What it asks.
    pub request: KvRequest,
    /// The answer, or why there is none: one sentence.
    pub answer: oneshot::Sender<Result<KvAnswer, String>>,
}

/// Requests of one run that wait: whoever writes more than that without an answer is stalled.
pub(crate) const WAITING_CALLS: usize = 4;

/// Brings a request to whoever keeps values; gives back the frame that answers it.
pub(crate) async fn ask(payload: &[u8], keeper: &mpsc::Sender<KvCall>) -> Vec<u8> {
    let answered = match read(payload) {
        Ok(request) => {
            let (answer, answered) = oneshot::channel();
            // Nobody takes it, or nobody answers: kindling ends.
            let _ = keeper.send(KvCall { request, answer }).await;
            answered.await.unwrap_or_else(|_| Err("kv: kindling ends".into()))
        }
        Err(why) => Err(why),
    };
    match answered {
        Ok(answer) => frame(b'V', text(answer).as_bytes()),
        Err(why) => frame(b'E', why.as_bytes()),
    }
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[kind], length.as_slice(), payload].concat()
}

fn text(answer: KvAnswer) -> String {
    match answer {
        KvAnswer::Value(value) => value.unwrap_or_else(|| "null".into()),
        KvAnswer::Kept => "null".into(),
        KvAnswer::Deleted(was_there) => was_there.to_string(),
        KvAnswer::Keys(keys) => Value::from(keys).to_string(),
    }
}

fn read(payload: &[u8]) -> Result<KvRequest, String> {
    let broken = || "kv: this is no request of a shim".to_owned();
    let (operation, length) = (*payload.first().ok_or_else(broken)?, payload.get(1..5).ok_or_else(broken)?);
    let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let name = payload.get(5..).and_then(|rest| rest.get(..length)).ok_or_else(broken)?;
    let name = std::str::from_utf8(name).map_err(|_| "kv: the key is not UTF-8")?;
    let refused = |why: &str| format!("kv: the key `{}` {why}", shown(name));
    let key = || KvKey::new(name).map_err(refused);
    match operation {
        b'g' => Ok(KvRequest::Get(key()?)),
        b's' => {
            let key = key()?;
            let value = String::from_utf8(payload[5 + length..].to_vec())
                .map_err(|_| refused("was given a value that is not UTF-8"))?;
            json::check(&value).map_err(|why| refused(&format!("was given a value that {why}")))?;
            Ok(KvRequest::Set(key, value))
        }
        b'd' => Ok(KvRequest::Delete(key()?)),
        b'l' => {
            kv::check(name).map_err(refused)?;
            Ok(KvRequest::List(name.to_owned()))
        }
        _ => Err(broken()),
    }
}

/// A key as it may be shown: it comes from a stranger and may be of any length.
fn shown(key: &str) -> String {
    const CHARS: usize = 60;
    let start: String = key.chars().take(CHARS).collect();
    let rest = if start.len() < key.len() { "..." } else { "" };
    format!("{}{rest}", start.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(operation: u8, key: &[u8], value: &[u8]) -> Vec<u8> {
        let length = u32::try_from(key.len()).unwrap().to_be_bytes();
        [&[operation], length.as_slice(), key, value].concat()
    }

    #[test]
    fn requests_are_read_as_they_were_written() {
        let key = || KvKey::new("a b").unwrap();
        assert_eq!(read(&request(b'g', b"a b", b"")), Ok(KvRequest::Get(key())));
        let big = "[123456789012345678901234567890]";
        assert_eq!(read(&request(b's', b"a b", big.as_bytes())), Ok(KvRequest::Set(key(), big.into())));
        assert_eq!(read(&request(b'd', b"a b", b"")), Ok(KvRequest::Delete(key())));
        assert_eq!(read(&request(b'l', b"", b"")), Ok(KvRequest::List(String::new())));
    }

    #[test]
    fn bad_requests_are_refused_with_the_key() {
        for (payload, why) in [
            (Vec::new(), "kv: this is no request of a shim"),
            (b"g\0\0".to_vec(), "kv: this is no request of a shim"),
            (request(b'g', b"abc", b"")[..7].to_vec(), "kv: this is no request of a shim"),
            (b"g\xff\xff\xff\xff".to_vec(), "kv: this is no request of a shim"),
            (request(b'x', b"a", b""), "kv: this is no request of a shim"),
            (request(b'g', b"", b""), "kv: the key `` is empty"),
            (request(b'g', b"a\0b", b""), "kv: the key `a\\0b` has a control character in it"),
            (request(b'l', b"a\nb", b""), "kv: the key `a\\nb` has a control character in it"),
            (request(b'd', b"\xff", b""), "kv: the key is not UTF-8"),
            (request(b's', b"a", b"\xff"), "kv: the key `a` was given a value that is not UTF-8"),
        ] {
            assert_eq!(read(&payload), Err(why.to_owned()));
        }
        let why = read(&request(b'g', "x".repeat(600).as_bytes(), b"")).unwrap_err();
        assert_eq!(why, format!("kv: the key `{}...` has more than 512 bytes", "x".repeat(60)));
        for value in ["", "{", "1 2", "nul", "'a'"] {
            let why = read(&request(b's', b"a", value.as_bytes())).unwrap_err();
            assert!(why.starts_with("kv: the key `a` was given a value that is not JSON"), "{why}");
        }
    }

    #[tokio::test]
    async fn whoever_is_not_answered_is_told_so() {
        let (keeper, calls) = mpsc::channel(1);
        drop(calls);
        assert_eq!(ask(&request(b'g', b"a", b""), &keeper).await, b"E\0\0\0\x11kv: kindling ends");
    }
}
