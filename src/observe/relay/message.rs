//! A message of a relay: the headers of a delivery beside its body. Whoever knows the channel can post one.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::stringify::stringify;

/// The headers that say what a delivery is; what else a relay passes on is nobody's business.
const HEADERS: [&str; 5] =
    ["content-type", "x-github-event", "x-github-delivery", "x-gitea-delivery", "x-hub-signature-256"];

/// A delivery as a relay passed it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// Its headers, by their names in lower case.
    pub headers: Vec<(String, String)>,
    /// What its body may have been, the likeliest first: never empty.
    pub bodies: Vec<Vec<u8>>,
}

/// Why a message is no delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It holds more than `limits.webhook_body` allows for.
    #[error("a message is larger than `limits.webhook_body` allows")]
    TooLarge,
    /// It is no JSON object with a body.
    #[error("a message is no delivery")]
    Garbage,
}

impl Relayed {
    /// Reads the data of an event; a body has `max` bytes at most.
    pub(super) fn read(data: &[u8], max: usize) -> Result<Self, Unusable> {
        let text = std::str::from_utf8(data).map_err(|_| Unusable::Garbage)?;
        let fields: BTreeMap<String, &RawValue> =
            serde_json::from_str(text).map_err(|_| Unusable::Garbage)?;
        let string = |name: &str| serde_json::from_str::<String>(fields.get(name)?.get()).ok();
        let headers = HEADERS.iter().filter_map(|name| Some(((*name).to_owned(), string(name)?))).collect();
        let mut bodies: Vec<Vec<u8>> = string("rawBody").map(String::into_bytes).into_iter().collect();
        if let Some(body) = fields.get("body").map(|body| body.get()) {
            // As it came, for a relay that changed nothing; then as JavaScript writes it.
            bodies.push(body.as_bytes().to_vec());
            bodies.extend(stringify(body).map(String::into_bytes).filter(|again| again != body.as_bytes()));
        }
        if bodies.is_empty() {
            return Err(Unusable::Garbage);
        }
        bodies.retain(|body| body.len() <= max);
        if bodies.is_empty() { Err(Unusable::TooLarge) } else { Ok(Self { headers, bodies }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Relayed, Unusable> {
        Relayed::read(text.as_bytes(), 100)
    }

    fn bodies(text: &str) -> Vec<String> {
        read(text).unwrap().bodies.into_iter().map(|body| String::from_utf8(body).unwrap()).collect()
    }

    #[test]
    fn takes_headers_that_matter_and_every_body_there_may_have_been() {
        let text = r#"{"host":"smee.io","x-github-event":"push","x-github-delivery":"d","x-forwarded-for":"1.2.3.4",
                       "content-type":"application/json","x-hub-signature-256":7,"timestamp":1,"query":{},
                       "body":{"b":1.0,"a":"\u00e9"},"rawBody":"{ \"b\": 1.0 }"}"#;
        let message = read(text).unwrap();
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            message.headers,
            [
                header("content-type", "application/json"),
                header("x-github-event", "push"),
                header("x-github-delivery", "d")
            ]
        );
        assert_eq!(
            bodies(text),
            [r#"{ "b": 1.0 }"#, r#"{"b":1.0,"a":"\u00e9"}"#, "{\"b\":1,\"a\":\"\u{e9}\"}"]
        );
        assert_eq!(bodies(r#"{"body":{"a":1}}"#), [r#"{"a":1}"#]);
        // Half a character, which no text of Rust can hold.
        assert_eq!(bodies(r#"{"body":"\ud83d"}"#), [r#""\ud83d""#]);
    }

    #[test]
    fn what_is_no_delivery_is_told_apart_from_what_is_too_large() {
        for text in ["", "{}", "[]", "null", "{\"body\"", "x", "{\"rawBody\":1}"] {
            assert_eq!(read(text), Err(Unusable::Garbage), "{text}");
        }
        assert_eq!(Relayed::read(b"{\"body\":\"\xff\"}", 100), Err(Unusable::Garbage));
        let large = format!("{{\"body\":\"{}\"}}", "x".repeat(100));
        assert_eq!(read(&large), Err(Unusable::TooLarge));
    }
}
