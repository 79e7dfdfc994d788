//! Where the service is, and which token may be sent there (DESIGN 11).
//!
//! A kindling.yaml that lies in somebody's working copy may name any address: no token that it did not bring itself
//! goes off this machine because of it.

use std::fmt;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use reqwest::Url;

use crate::app::{ADDRESS_FILE, TOKEN_FILE};
use crate::config::ConfigError;
use crate::config::locate::{Env, FoundBy, LocateError};
use crate::config::secret::Secret;

use self::configuration::{Configuration, Known, Token};
use super::error::CliError;
use super::values::shell_word;

mod configuration;

/// The variable that names the service.
pub const SERVER: &str = "KINDLING_SERVER";

/// The variable that holds the token.
pub const TOKEN: &str = "KINDLING_TOKEN";

/// What tells more of a configuration that cannot be read.
pub const TELLS_ALL: &str = "`kindling check` tells all that is wrong with it";

/// Longest token or address, in bytes.
const MAX_BYTES: u64 = 4096;

/// What the search goes by.
pub struct Clues<'a> {
    /// `--server`.
    pub server: Option<&'a str>,
    /// `--config`.
    pub config: Option<&'a Path>,
    /// `--insecure-http`.
    pub insecure_http: bool,
    /// The environment.
    pub env: Env<'a>,
    /// The working directory.
    pub here: &'a Path,
}

/// Where an address comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whence {
    /// `--server`.
    Flag,
    /// `KINDLING_SERVER`.
    Variable,
    /// The file that the service wrote when it was started.
    Written(PathBuf),
    /// The configuration file, or its default.
    Configured(PathBuf),
}

impl fmt::Display for Whence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("the address is from --server"),
            Self::Variable => write!(f, "the address is from {SERVER}"),
            Self::Written(file) => {
                write!(f, "the address is from {}, which a service wrote that may have ended", file.display())
            }
            Self::Configured(file) => write!(f, "the address is `server.listen` of {}", file.display()),
        }
    }
}

/// The service as far as it is known before it is asked.
#[derive(Debug)]
pub struct Found {
    /// Its address.
    pub url: Url,
    /// Where the address comes from.
    pub whence: Whence,
    /// The token to send.
    pub token: Option<Secret>,
    /// Where the token comes from, or where one was looked for.
    pub looked: String,
    /// Why a token that is known is not sent.
    pub withheld: Option<String>,
    /// The command that starts the service.
    pub start: String,
    /// What is wrong with the configuration file.
    pub faults: Vec<ConfigError>,
    /// Whether what is wrong hides which token the configuration names.
    pub is_token_hidden: bool,
}

impl Found {
    /// The address as people write it.
    #[must_use]
    pub fn address(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }
}

/// Finds the service.
///
/// # Errors
/// No address is known, it is not an address, or plain HTTP would carry the token over a network.
pub fn find(clues: &Clues<'_>) -> Result<Found, CliError> {
    let variable = text_of(clues.env, SERVER);
    let named = clues.server.map(|server| (server.to_owned(), Whence::Flag));
    let named = named.or(variable.map(|server| (server, Whence::Variable)));
    let configuration = Configuration::look(clues);
    // A file that somebody named is meant, whatever else would do without it.
    if let Configuration::Missing(error @ LocateError::NotThere { .. }) = &configuration {
        return Err(CliError::no_configuration(error));
    }
    let (address, whence) = match named {
        Some(named) => named,
        None => configured(&configuration)?,
    };
    // The service itself speaks plain HTTP; what stands before one elsewhere had better not.
    let own = matches!(whence, Whence::Written(_) | Whence::Configured(_));
    let url = read_address(&address, own).map_err(|why| {
        CliError::usage(format!("`{address}` is not the address of a service: {why}; {whence}"))
            .hint("an address is HOST:PORT or a URL such as http://127.0.0.1:7070")
    })?;
    if url.scheme() == "http" && !is_loopback(&url) && !clues.insecure_http {
        let message = format!("plain HTTP would carry the token to {url} for everybody to read; {whence}");
        return Err(CliError::usage(message).hint("use https, or allow it with --insecure-http"));
    }
    let (token, withheld) = token_for(&url, &whence, &configuration, clues.env);
    let looked = looked(token.is_some(), &configuration, clues.env);
    if token.as_ref().is_some_and(|token| !token.reveal().bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(unsendable(&configuration, clues.env));
    }
    let start = configuration.start();
    let is_own = text_of(clues.env, TOKEN).is_some();
    let is_token_hidden = !is_own && withheld.is_none() && configuration.hides_token();
    let faults = configuration.into_faults();
    Ok(Found { url, whence, token, looked, withheld, start, faults, is_token_hidden })
}

fn configured(configuration: &Configuration) -> Result<(String, Whence), CliError> {
    match configuration {
        Configuration::Known(known) => {
            let file = known.data_dir.as_ref().map(|dir| dir.join(ADDRESS_FILE));
            let written = file.and_then(|file| Some((small_file(&file)?, Whence::Written(file))));
            let listen = || Some((known.listen?.to_string(), Whence::Configured(known.file.clone())));
            written.or_else(listen).ok_or_else(|| CliError::configuration(&known.faults))
        }
        Configuration::Missing(error) => Err(CliError::no_configuration(error).hint(
            "run this where kindling.yaml is, or name the service with --server; `kindling init` makes one",
        )),
    }
}

/// The token that may be sent to `url`, and otherwise why one that is known is not.
fn token_for(
    url: &Url,
    whence: &Whence,
    configuration: &Configuration,
    env: Env<'_>,
) -> (Option<Secret>, Option<String>) {
    let loopback = is_loopback(url);
    let mut withheld = None;
    if let Some(token) = text_of(env, TOKEN) {
        if loopback || matches!(whence, Whence::Flag | Whence::Variable) {
            return (Some(Secret::new(token)), None);
        }
        withheld = Some(format!(
            "{TOKEN} is sent to loopback and to the address of --server or {SERVER} only, not to {url}; {whence}"
        ));
    }
    let Configuration::Known(known) = configuration else { return (None, withheld) };
    if let Token::Given(token) = &known.token {
        // A file that was come upon here or above says whatever it likes; one that somebody placed may name a server.
        let trusted = !matches!(known.by, FoundBy::Here | FoundBy::Above);
        let own = matches!(whence, Whence::Written(_) | Whence::Configured(_));
        if loopback || (trusted && own) {
            return (Some(token.clone()), None);
        }
        let file = known.file.display();
        withheld.get_or_insert(format!("the token that {file} names is not sent to {url}"));
    }
    let (token, kept) = kept_token(url, known);
    (token, withheld.or(kept))
}

/// The same for the token that the service wrote into the data directory.
fn kept_token(url: &Url, known: &Known) -> (Option<Secret>, Option<String>) {
    let Some(dir) = &known.data_dir else { return (None, None) };
    let file = dir.join(TOKEN_FILE);
    let Some(token) = small_file(&file) else { return (None, None) };
    let written = small_file(&dir.join(ADDRESS_FILE)).and_then(|text| read_address(&text, true).ok());
    if is_loopback(url) || written.is_some_and(|written| written.origin() == url.origin()) {
        return (Some(Secret::new(token)), None);
    }
    let shown = file.display();
    (
        None,
        Some(format!("the token in {shown} is sent to loopback and to its own service only, not to {url}")),
    )
}

/// Where the token that is sent comes from, or where none was found: half a sentence.
fn looked(found: bool, configuration: &Configuration, env: Env<'_>) -> String {
    let variable = text_of(env, TOKEN).is_some();
    let Configuration::Known(known) = configuration else {
        return if found {
            format!("what was sent is the value of {TOKEN}")
        } else {
            format!("there is no {TOKEN}, and no configuration that leads to a token")
        };
    };
    let kept =
        known.data_dir.as_ref().map(|dir| dir.join(TOKEN_FILE).display().to_string()).unwrap_or_default();
    let shown = known.file.display();
    match (found, &known.token) {
        (true, _) if variable => format!("what was sent is the value of {TOKEN}"),
        (true, Token::Given(_)) => format!("what was sent is the one that {shown} names"),
        (true, _) => format!("what was sent is from {kept}"),
        (false, Token::Elsewhere) => {
            format!("there is no {TOKEN}, and the token that {shown} names cannot be had here")
        }
        (false, _) => format!("there is no {TOKEN}, none in the configuration and no {kept}"),
    }
}

/// What is to be sent is no token that any service takes.
fn unsendable(configuration: &Configuration, env: Env<'_>) -> CliError {
    let kept = match configuration {
        Configuration::Known(known) => known.data_dir.as_ref().map(|dir| dir.join(TOKEN_FILE)),
        Configuration::Missing(_) => None,
    };
    let (place, hint) = match kept.filter(|_| text_of(env, TOKEN).is_none()) {
        Some(file) => {
            let file = file.display().to_string();
            let hint = format!("rm {}, then start the service again: it makes a new one", shell_word(&file));
            (format!("the token in {file}"), hint)
        }
        None => (TOKEN.to_owned(), "it is the text of a single token, without quotes around it".to_owned()),
    };
    let message = "has a space, a line break or a character that is not ASCII in it: no service takes that";
    CliError::usage(format!("{place} {message}")).hint(hint)
}

fn text_of(env: Env<'_>, name: &str) -> Option<String> {
    env(name).map(|value| value.to_string_lossy().trim().to_owned()).filter(|value| !value.is_empty())
}

/// The text of a file of one line; `None` if it cannot be read, is empty or too large.
fn small_file(file: &Path) -> Option<String> {
    let mut text = String::new();
    let read = crate::support::file::open(file).ok()?.take(MAX_BYTES + 1).read_to_string(&mut text).ok()?;
    let text = text.trim();
    (read as u64 <= MAX_BYTES && !text.is_empty()).then(|| text.to_owned())
}

/// Reads `HOST:PORT` or a URL. Without a scheme, loopback is plain HTTP, and everything else HTTPS unless `plain`. An
/// address that stands for all of a machine's is this machine.
///
/// # Errors
/// Why it is no address, as the end of a sentence.
pub fn read_address(text: &str, plain: bool) -> Result<Url, &'static str> {
    let url = if text.contains("://") {
        Url::parse(text).map_err(|_| "it is no URL")?
    } else if text.contains('/') {
        return Err("it is neither HOST:PORT nor a URL");
    } else {
        let url = Url::parse(&format!("http://{text}")).map_err(|_| "it is no HOST:PORT")?;
        if plain || is_loopback(&url) || is_unspecified(&url) {
            url
        } else {
            Url::parse(&format!("https://{text}")).map_err(|_| "it is no HOST:PORT")?
        }
    };
    if !matches!(url.scheme(), "http" | "https") {
        return Err("it must begin with http:// or https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it must not carry credentials");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it must not have a `?` or `#` part");
    }
    local_for_unspecified(url)
}

fn local_for_unspecified(mut url: Url) -> Result<Url, &'static str> {
    let local: IpAddr = match address_of(&url) {
        Some(IpAddr::V4(address)) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        Some(IpAddr::V6(address)) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        _ => return Ok(url),
    };
    url.set_ip_host(local).map_err(|()| "it has no host")?;
    Ok(url)
}

fn address_of(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn is_unspecified(url: &Url) -> bool {
    address_of(url).is_some_and(|address| address.is_unspecified())
}

/// Whether nothing that is sent there leaves this machine. `localhost` is loopback by definition (RFC 6761), and the
/// client holds it to that.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    url.host_str() == Some("localhost") || address_of(url).is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::ffi::OsString;
    use std::fs;

    use super::*;

    const ENV_TOKEN: &str = "environment-token-1";
    const FILE_TOKEN: &str = "token-of-the-data-dir";

    struct Place {
        root: tempfile::TempDir,
        env: HashMap<&'static str, String>,
        server: Option<&'static str>,
        config: Option<PathBuf>,
        insecure_http: bool,
    }

    impl Place {
        /// A kindling.yaml here, whose service wrote `address` and a token.
        fn new(settings: &str, address: Option<&str>) -> Self {
            let root = tempfile::tempdir().unwrap();
            fs::write(root.path().join("kindling.yaml"), settings).unwrap();
            fs::create_dir(root.path().join(".kindling")).unwrap();
            fs::write(root.path().join(".kindling/token"), format!("{FILE_TOKEN}\n")).unwrap();
            if let Some(address) = address {
                fs::write(root.path().join(".kindling/address"), format!("{address}\n")).unwrap();
            }
            Self { root, env: HashMap::new(), server: None, config: None, insecure_http: false }
        }

        fn set(mut self, name: &'static str, value: &str) -> Self {
            self.env.insert(name, value.into());
            self
        }

        fn find(&self) -> Result<Found, CliError> {
            let env = |name: &str| self.env.get(name).map(OsString::from);
            find(&Clues {
                server: self.server,
                config: self.config.as_deref(),
                insecure_http: self.insecure_http,
                env: &env,
                here: self.root.path(),
            })
        }

        /// The address and the token that would be sent.
        fn sends(&self) -> (String, Option<String>) {
            let found = self.find().unwrap_or_else(|error| panic!("{}", error.sentence()));
            (found.url.to_string(), found.token.map(|token| token.reveal().to_owned()))
        }
    }

    fn sent(address: &str, token: Option<&str>) -> (String, Option<String>) {
        (address.into(), token.map(str::to_owned))
    }

    #[test]
    fn the_nearest_word_on_the_address_wins() {
        let mut place = Place::new("server: {listen: '127.0.0.1:1'}\n", None);
        assert_eq!(place.sends(), sent("http://127.0.0.1:1/", Some(FILE_TOKEN)));
        assert!(matches!(place.find().unwrap().whence, Whence::Configured(_)));
        fs::write(place.root.path().join(".kindling/address"), "127.0.0.1:2\n").unwrap();
        assert_eq!(place.sends(), sent("http://127.0.0.1:2/", Some(FILE_TOKEN)));
        assert!(matches!(place.find().unwrap().whence, Whence::Written(_)));
        place = place.set(SERVER, "http://localhost:3");
        assert_eq!(place.sends(), sent("http://localhost:3/", Some(FILE_TOKEN)));
        assert_eq!(place.find().unwrap().whence, Whence::Variable);
        place.server = Some("[::1]:4");
        assert_eq!(place.sends(), sent("http://[::1]:4/", Some(FILE_TOKEN)));
        assert_eq!(place.find().unwrap().whence, Whence::Flag);
        place = place.set(TOKEN, ENV_TOKEN);
        assert_eq!(place.sends(), sent("http://[::1]:4/", Some(ENV_TOKEN)));
    }

    #[test]
    fn the_token_of_the_environment_goes_only_where_its_owner_pointed() {
        let settings = "server: {listen: '10.0.0.1:7070', insecure_http: true}\n";
        let mut place = Place::new(settings, None).set(TOKEN, ENV_TOKEN);
        place.insecure_http = true;
        // Named by a kindling.yaml here: nothing is sent, and it is said why.
        let found = place.find().unwrap();
        assert!(found.token.is_none() && found.withheld.unwrap().contains("KINDLING_TOKEN"));
        // The same where a file in the data directory names it, but for that service's own token.
        fs::write(place.root.path().join(".kindling/address"), "10.0.0.1:7070").unwrap();
        assert_eq!(place.sends(), sent("http://10.0.0.1:7070/", Some(FILE_TOKEN)));
        place = place.set(SERVER, "https://kindling.example");
        assert_eq!(place.sends(), sent("https://kindling.example/", Some(ENV_TOKEN)));
        place.server = Some("kindling.example:8443");
        assert_eq!(place.sends(), sent("https://kindling.example:8443/", Some(ENV_TOKEN)));
    }

    #[test]
    fn the_token_of_the_data_directory_stays_with_its_service() {
        let mut place = Place::new("{}\n", Some("https://10.0.0.1:7070"));
        assert_eq!(place.sends(), sent("https://10.0.0.1:7070/", Some(FILE_TOKEN)));
        for other in ["https://10.0.0.1:7071", "https://10.0.0.2:7070", "https://127.0.0.1.example:7070"] {
            place = place.set(SERVER, other);
            let found = place.find().unwrap();
            assert!(found.token.is_none() && found.withheld.is_some(), "{other}");
        }
    }

    #[test]
    fn a_configured_token_leaves_the_machine_only_for_a_file_that_was_placed() {
        let settings = "server: {listen: '10.0.0.1:7070', insecure_http: true, token_env: SECRET_OF_MINE}\n";
        let mut place = Place::new(settings, None).set("SECRET_OF_MINE", "0123456789abcdef0");
        place.insecure_http = true;
        assert_eq!(place.sends(), sent("http://10.0.0.1:7070/", None));
        place.config = Some(place.root.path().join("kindling.yaml"));
        assert_eq!(place.sends(), sent("http://10.0.0.1:7070/", Some("0123456789abcdef0")));
        place.server = Some("https://10.0.0.9");
        assert_eq!(place.sends(), sent("https://10.0.0.9/", None));
    }

    #[test]
    fn plain_http_off_loopback_must_be_allowed() {
        let mut place = Place::new("{}\n", None);
        place.server = Some("http://10.0.0.1:7070");
        let error = place.find().unwrap_err();
        assert_eq!(error.exit(), 2);
        assert!(error.advice().unwrap().contains("--insecure-http"));
        place.insecure_http = true;
        assert!(place.find().is_ok());
    }

    #[test]
    fn a_service_is_found_while_its_configuration_is_gone_or_names_another_data_directory() {
        let mut place =
            Place::new("data_dir: elsewhere\nserver: {listen: '127.0.0.1:1'}\n", Some("127.0.0.1:2"));
        assert_eq!(place.sends(), sent("http://127.0.0.1:2/", Some(FILE_TOKEN)));
        let file = place.root.path().join("kindling.yaml");
        fs::create_dir(place.root.path().join("elsewhere")).unwrap();
        fs::write(place.root.path().join("elsewhere/address"), "127.0.0.1:3").unwrap();
        assert_eq!(place.sends(), sent("http://127.0.0.1:3/", None));
        fs::remove_file(&file).unwrap();
        assert_eq!(place.sends(), sent("http://127.0.0.1:2/", Some(FILE_TOKEN)));
        place.config = Some(file.clone());
        assert_eq!(place.sends(), sent("http://127.0.0.1:2/", Some(FILE_TOKEN)));
        place.config = None;
        place = place.set("KINDLING_CONFIG", &file.display().to_string());
        assert_eq!(place.sends(), sent("http://127.0.0.1:2/", Some(FILE_TOKEN)));
        fs::remove_file(place.root.path().join(".kindling/address")).unwrap();
        assert_eq!(place.find().unwrap_err().exit(), 2);
    }

    #[test]
    fn without_a_configuration_the_service_must_be_named() {
        let place = Place::new("{}\n", None);
        fs::remove_file(place.root.path().join("kindling.yaml")).unwrap();
        // A kindling.yaml above the temporary directory, or in /etc, would be found.
        if let Err(error) = place.find() {
            assert_eq!(error.exit(), 2);
            assert!(error.advice().unwrap().contains("--server"));
        }
        let named = place.set(SERVER, "127.0.0.1:5").set(TOKEN, ENV_TOKEN);
        assert_eq!(named.sends(), sent("http://127.0.0.1:5/", Some(ENV_TOKEN)));
    }

    #[test]
    fn reads_addresses() {
        let good = [
            ("127.0.0.1:7070", "http://127.0.0.1:7070/"),
            ("0.0.0.0:7070", "http://127.0.0.1:7070/"),
            ("http://[::]:7070", "http://[::1]:7070/"),
            ("localhost:1", "http://localhost:1/"),
            ("localhost.example:1", "https://localhost.example:1/"),
            ("https://kindling.example/under", "https://kindling.example/under"),
        ];
        for (text, url) in good {
            assert_eq!(read_address(text, false).map(String::from), Ok(url.to_owned()), "{text}");
        }
        for bad in
            ["", "ftp://x", "http://u:p@127.0.0.1", "http://127.0.0.1/?x", "127.0.0.1:99999", "unix:/x"]
        {
            assert!(read_address(bad, false).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        let loopback = |text: &str| is_loopback(&Url::parse(text).unwrap());
        assert!(loopback("http://127.8.9.1:1") && loopback("http://[::1]") && loopback("http://LOCALHOST"));
        assert!(!loopback("http://localhost.example") && !loopback("http://127.0.0.1.example"));
        assert!(!loopback("http://10.0.0.1") && !loopback("http://[::ffff:10.0.0.1]"));
    }
}
