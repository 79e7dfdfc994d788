//! Hosts that commits are told at: what each said of calls to come.

use sqlx::query;

use crate::model::time::Timestamp;

use super::error::StoreError;
use super::store::Store;

/// What is recorded of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostState {
    /// A number that is another one with another token.
    pub token: u64,
    /// Nothing is said before that time, because of this.
    pub shut: Option<(Timestamp, String)>,
}

impl Store {
    /// What is recorded of the host with the API `api`.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn host(&self, api: &str) -> Result<Option<HostState>, StoreError> {
        let at = self.at("read what a host said");
        let mut conn = self.read(at).await?;
        let row = query!("SELECT token, shut_until, why FROM hosts WHERE api = ?", api);
        let row = row.fetch_optional(&mut *conn).await.map_err(|e| at.sql(e))?;
        Ok(row.map(|row| HostState {
            token: row.token.cast_unsigned(),
            shut: row.shut_until.map(|until| (Timestamp(until), row.why)),
        }))
    }

    /// Records what a host said, in place of what it said before.
    ///
    /// # Errors
    /// It could not be written.
    pub async fn put_host(&self, api: &str, state: &HostState) -> Result<(), StoreError> {
        let at = self.at("record what a host said");
        let token = state.token.cast_signed();
        let (until, why) = match &state.shut {
            Some((until, why)) => (Some(until.0), why.as_str()),
            None => (None, ""),
        };
        let mut conn = self.write(at).await?;
        let done = query!(
            "INSERT INTO hosts (api, token, shut_until, why) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (api) DO UPDATE SET token = excluded.token, shut_until = excluded.shut_until,
                 why = excluded.why",
            api,
            token,
            until,
            why
        );
        done.execute(&mut *conn).await.map(drop).map_err(|e| at.sql(e))
    }
}
