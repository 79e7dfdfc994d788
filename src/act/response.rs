//! The HTTP answer that a script set by `output.response`. Written by a stranger: nothing of it is taken unchecked.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Headers of the connection, which the server writes itself.
const OF_CONNECTION: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Headers that begin so are kindling's own.
const OWN_PREFIX: &str = "kindling-";
/// Most lines of headers.
const MOST_HEADERS: usize = 100;
/// Most bytes of all headers.
const MOST_HEADER_BYTES: usize = 32 << 10;

/// An HTTP answer, checked.
#[derive(Debug)]
pub struct Response {
    /// 200 to 599.
    pub status: u16,
    /// Lines of headers: names that are tokens, values that are printable ASCII.
    pub headers: Vec<(String, String)>,
    /// The body: JSON text.
    pub body: Box<RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Doc {
    status: u16,
    headers: Map<String, Value>,
    body: Box<RawValue>,
}

impl Response {
    /// Reads what a shim sent, and what is kept with a run.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence without its full stop.
    pub fn read(text: &str) -> Result<Self, String> {
        let doc: Doc = serde_json::from_str(text).map_err(|error| format!("the response: {error}"))?;
        if !(200..=599).contains(&doc.status) {
            return Err(format!("the response has the status {}, not one from 200 to 599", doc.status));
        }
        let mut headers = Vec::new();
        for (name, value) in doc.headers {
            let values = match value {
                Value::String(value) => vec![value],
                Value::Array(values) => {
                    let texts = values.iter().map(|value| value.as_str().map(str::to_owned));
                    texts.collect::<Option<_>>().ok_or_else(|| no_text(&name))?
                }
                _ => return Err(no_text(&name)),
            };
            check_name(&name)?;
            for value in values {
                if !value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
                    return Err(format!("the header {name} has a character that no header may have"));
                }
                headers.push((name.clone(), value));
            }
        }
        let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if headers.len() > MOST_HEADERS || bytes > MOST_HEADER_BYTES {
            return Err(format!(
                "the response has more than {MOST_HEADERS} headers, or more than {MOST_HEADER_BYTES} bytes of them"
            ));
        }
        Ok(Self { status: doc.status, headers, body: doc.body })
    }
}

fn no_text(name: &str) -> String {
    format!("the header `{}` is neither text nor a list of texts", name.escape_debug())
}

fn check_name(name: &str) -> Result<(), String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("`{}` is not the name of a header", name.escape_debug()));
    }
    let lower = name.to_ascii_lowercase();
    if OF_CONNECTION.contains(&lower.as_str()) || lower.starts_with(OWN_PREFIX) {
        return Err(format!("the header {name} is not for scripts to set"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &str) -> Result<Vec<(String, String)>, String> {
        let text = format!("{{\"status\":200,\"headers\":{headers},\"body\":1}}");
        Response::read(&text).map(|response| response.headers)
    }

    #[test]
    fn takes_what_http_can_carry() {
        let response =
            Response::read(r#"{"status":599,"headers":{},"body":123456789012345678901234567890}"#).unwrap();
        assert_eq!((response.status, response.body.get()), (599, "123456789012345678901234567890"));
        let lines = read(r#"{"X-One":"a b","set-cookie":["a=1","b=2"],"x-none":[]}"#).unwrap();
        let lines: Vec<_> = lines.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(lines, ["X-One: a b", "set-cookie: a=1", "set-cookie: b=2"]);
    }

    #[test]
    fn refuses_what_would_be_something_else_on_the_wire() {
        for headers in [
            r#"{"":"a"}"#,
            r#"{"a":1}"#,
            r#"{"a":["b",null]}"#,
            r#"{"a b":"c"}"#,
            r#"{"a\r\nb":"c"}"#,
            r#"{"a:":"c"}"#,
            r#"{"a":"b\r\nSet-Cookie: c"}"#,
            r#"{"a":"ä"}"#,
            r#"{"a":["b","\u0000"]}"#,
            r#"{"Transfer-Encoding":"chunked"}"#,
            r#"{"CONTENT-LENGTH":"1"}"#,
            r#"{"connection":"close"}"#,
            r#"{"Kindling-Run":"x"}"#,
        ] {
            assert!(read(headers).is_err(), "{headers}");
        }
        for status in ["100", "199", "600", "-1", "\"200\"", "200.5", "null"] {
            let text = format!("{{\"status\":{status},\"headers\":{{}},\"body\":null}}");
            assert!(Response::read(&text).is_err(), "{status}");
        }
        let many = format!("{{\"a\":[{}]}}", vec!["\"b\""; 101].join(","));
        assert!(read(&many).is_err());
        assert!(Response::read("[]").is_err() && Response::read(r#"{"status":200}"#).is_err());
    }
}
