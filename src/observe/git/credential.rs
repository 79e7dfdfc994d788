//! Secrets for remotes: read anew for each attempt, held no longer than it, shown nowhere.

use std::io::Read;
use std::path::Path;

use reqwest::{RequestBuilder, Url};

use super::error::Trouble;
use super::remote::{Remote, authority};
use crate::config::secret::Secret;
use crate::model::source::GitAuth;
use crate::support::file;

/// The user that a token is the password of, as GitHub takes it; other servers take any.
const TOKEN_USER: &str = "x-access-token";

/// Longest file that holds a token, in bytes.
const MAX_TOKEN_BYTES: u64 = 4096;

/// A token that is bound to the server that it was configured for.
#[derive(Clone, Debug)]
pub(super) struct Login {
    scheme: String,
    authority: String,
    token: Secret,
}

impl Login {
    /// The token for `remote`; `None` where none is configured or another kind of credential is.
    pub(super) fn read(auth: Option<&GitAuth>, remote: &Remote) -> Result<Option<Self>, Trouble> {
        let Remote::Http(url) = remote else { return Ok(None) };
        let token = match auth {
            None | Some(GitAuth::SshKeyFile(_)) => return Ok(None),
            Some(GitAuth::TokenEnv(name)) => from_variable(name)?,
            Some(GitAuth::TokenFile(path)) => from_file(path)?,
        };
        Ok(Some(Self { scheme: url.scheme().to_owned(), authority: authority(url), token }))
    }

    /// Adds the token to a request to `url`, if that is the server it is for.
    pub(super) fn add_to(&self, request: RequestBuilder, url: &Url) -> RequestBuilder {
        if url.scheme() == self.scheme && authority(url) == self.authority {
            return request.basic_auth(TOKEN_USER, Some(self.token.reveal()));
        }
        request
    }
}

fn from_variable(name: &str) -> Result<Secret, Trouble> {
    let what = format!("the variable {name}");
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    let value = value.ok_or_else(|| Trouble::CredentialMissing(format!("{what} is not set")))?;
    checked(&value.to_string_lossy(), &what)
}

fn from_file(path: &Path) -> Result<Secret, Trouble> {
    let what = format!("the file {}", path.display());
    let missing = |error| Trouble::CredentialMissing(format!("{what} cannot be read: {error}"));
    let mut text = String::new();
    let file = file::open(path).map_err(missing)?;
    file.take(MAX_TOKEN_BYTES + 1).read_to_string(&mut text).map_err(missing)?;
    checked(text.trim_end_matches(['\n', '\r']), &what)
}

/// A token is one word: what else a file holds was not meant to be one.
fn checked(text: &str, what: &str) -> Result<Secret, Trouble> {
    if text.is_empty() {
        return Err(Trouble::CredentialMissing(format!("{what} is empty")));
    }
    if text.len() as u64 > MAX_TOKEN_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Trouble::CredentialMissing(format!("{what} holds no token")));
    }
    Ok(Secret::new(text.to_owned()))
}

/// The private key for ssh, if one is configured and can be read.
pub(super) fn key_file(auth: Option<&GitAuth>) -> Result<Option<&Path>, Trouble> {
    let Some(GitAuth::SshKeyFile(path)) = auth else { return Ok(None) };
    match file::open(path) {
        Ok(_) => Ok(Some(path)),
        Err(error) => {
            Err(Trouble::CredentialMissing(format!("the file {} cannot be read: {error}", path.display())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote() -> Remote {
        Remote::parse("https://example.org/team/jobs").unwrap()
    }

    fn header(login: &Login, url: &str) -> Option<String> {
        crate::observe::git::install_tls();
        let url = Url::parse(url).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
        let request = login.add_to(client.get(url.clone()), &url).build().unwrap();
        request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_token_goes_to_its_server_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "t0p-s3cret\n").unwrap();
        let login = Login::read(Some(&GitAuth::TokenFile(file)), &remote()).unwrap().unwrap();
        // `x-access-token:t0p-s3cret` in Base64.
        let expected = Some("Basic eC1hY2Nlc3MtdG9rZW46dDBwLXMzY3JldA==".to_owned());
        assert_eq!(header(&login, "https://example.org/team/jobs/info/refs"), expected);
        assert_eq!(header(&login, "https://EXAMPLE.org:443/other"), expected);
        for other in ["http://example.org/x", "https://example.org:8443/x", "https://a.example.org/x"] {
            assert_eq!(header(&login, other), None, "{other}");
        }
        assert!(!format!("{login:?}").contains("s3cret"));
    }

    #[test]
    fn what_is_missing_is_named_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let why = |auth: &GitAuth| match Login::read(Some(auth), &remote()) {
            Err(Trouble::CredentialMissing(why)) => why,
            other => panic!("{other:?}"),
        };
        let auth = GitAuth::TokenFile(file.clone());
        assert!(why(&auth).contains(&file.display().to_string()));
        for content in ["", "\n", "two words s3cret", "line\ns3cret\n"] {
            std::fs::write(&file, content).unwrap();
            let why = why(&auth);
            assert!(why.contains("token") && !why.contains("s3cret"), "{why}");
        }
        let unset = GitAuth::TokenEnv("KINDLING_NO_SUCH_VARIABLE".into());
        assert_eq!(why(&unset), "the variable KINDLING_NO_SUCH_VARIABLE is not set");
        let key = GitAuth::SshKeyFile(dir.path().join("id"));
        assert!(matches!(key_file(Some(&key)), Err(Trouble::CredentialMissing(_))));
    }
}
