//! The URL of a relay: whoever knows it reads every delivery of its channel, and can post what he likes into it.

use std::fmt;

use super::remote::{Reach, check_url, reach};

/// Characters of the channel that are shown: enough to tell two apart, too few to guess the rest from.
const SHOWN: usize = 4;

const WANTED: &str = "must be a URL with https, such as `https://smee.io/CHANNEL`";

/// The URL of a channel of a relay. It prints without what opens the channel.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayUrl(String);

impl RelayUrl {
    /// Takes `https://HOST/CHANNEL`, or `http` on this machine.
    ///
    /// # Errors
    /// The rule that it breaks, as the end of a sentence that begins with its name.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let is_web = |scheme: &str| matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https");
        let is_other = text.split_once("://").is_some_and(|(scheme, _)| !is_web(scheme));
        match text.split_once("://").map(|_| reach(text)) {
            _ if is_other => return Err(WANTED),
            Some(Ok(Reach::Web { is_private: true })) => {}
            Some(Ok(Reach::Web { is_private: false })) => {
                return Err("would cross the network in plain HTTP; use https");
            }
            _ => {
                check_url(text).and(Err(WANTED))?;
            }
        }
        let url = Self(text.trim_end_matches('/').to_owned());
        if url.parts().1.is_empty() {
            return Err("must name a channel, such as `https://smee.io/CHANNEL`");
        }
        Ok(url)
    }

    /// The whole URL, for the one place that connects.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The host with its port, and the path without its first slash.
    fn parts(&self) -> (&str, &str) {
        let rest = self.0.split_once("://").map_or(self.0.as_str(), |(_, rest)| rest);
        rest.split_once('/').unwrap_or((rest, ""))
    }
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, channel) = self.parts();
        // Of a short channel a few characters would be too much of it.
        let shown = if channel.chars().count() > 3 * SHOWN { SHOWN } else { 1 };
        write!(f, "{host}/{}...", channel.chars().take(shown).collect::<String>())
    }
}

impl fmt::Debug for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_https_and_http_to_this_machine() {
        for url in ["https://smee.io/AbCdEf0123456789", "http://127.0.0.1:3000/x", "http://localhost/a/b/"] {
            assert!(RelayUrl::parse(url).is_ok(), "{url}");
        }
        for (url, part) in [
            ("http://smee.io/AbCdEf0123456789", "plain HTTP"),
            ("https://smee.io", "channel"),
            ("https://smee.io/", "channel"),
            ("https://me:pass@smee.io/x", "credentials"),
            ("https://smee.io/x?y=z", "`?`"),
            ("smee.io/AbCd", "https"),
            ("git@smee.io:x", "https"),
            ("ssh://smee.io/x", "must be a URL with https, such as"),
            ("ftp://smee.io/x", "must be a URL with https, such as"),
            ("file:///srv/x", "must be a URL with https, such as"),
            ("/srv/x", "https"),
            ("", "empty"),
        ] {
            let refusal = RelayUrl::parse(url).unwrap_err();
            assert!(refusal.contains(part), "{url}: {refusal}");
        }
    }

    #[test]
    fn does_not_print_its_channel() {
        let shown = |url: &str| {
            let url = RelayUrl::parse(url).unwrap();
            format!("{url} {url:?}")
        };
        assert_eq!(shown("https://smee.io/AbCdEf0123456789"), "smee.io/AbCd... smee.io/AbCd...");
        assert_eq!(shown("http://127.0.0.1:3000/short"), "127.0.0.1:3000/s... 127.0.0.1:3000/s...");
    }
}
