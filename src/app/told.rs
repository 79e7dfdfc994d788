//! Who is told of commits, and by which name the world knows the service: both follow the configuration file.

use crate::config::Settings;
use crate::config::forge::PublicUrl;
use crate::forge::GitHub;
use crate::plan::hosted::GITHUB_API;
use crate::reconcile::core::Live;
use crate::reconcile::statuses::{Hosting, Speaker};

use super::Service;

/// What the parts read anew whenever they use it. Clones are one.
#[derive(Clone)]
pub(super) struct ToldBy {
    /// The URL that others reach the service by.
    pub public: Live<Option<PublicUrl>>,
    forge: Live<Option<GitHub>>,
}

impl Default for ToldBy {
    /// Nobody, and none.
    fn default() -> Self {
        Self { public: Live::from(None), forge: Live::from(None) }
    }
}

impl ToldBy {
    /// What says to commits how they fare.
    pub(super) fn speaker(&self, service: &Service) -> Speaker<GitHub> {
        let core = service.core();
        let parts = (core.store.clone(), core.board.clone(), core.metrics().clone(), core.clock.clone());
        Speaker::new(parts, core.statuses.clone(), self.forge.clone())
    }

    /// Takes what the settings say from now on; gives back whether commits are told elsewhere than before, or by another
    /// token.
    pub(super) fn follow(&self, settings: &Settings, service: &Service) -> bool {
        let (github, statuses) = (&settings.github, &service.core().statuses);
        self.public.set(settings.public_url.clone());
        let token = github.token.as_ref().filter(|_| github.statuses);
        let api = github.api_url.clone().unwrap_or_else(|| GITHUB_API.to_owned());
        let link = settings.public_url.as_ref().map(|public| public.url.clone());
        let hosting = token.map(|_| Hosting { api: api.clone(), link });
        let is_known = match (self.forge.get().as_ref(), token) {
            (Some(forge), Some(token)) => forge.is_of(&api, token),
            (None, None) => true,
            _ => false,
        };
        if is_known && *statuses.hosting() == hosting {
            return false;
        }
        let client = token.map(|token| GitHub::new(&api, token, service.core().clock.clone())).transpose();
        let (client, hosting) = match client {
            Ok(client) => (client, hosting),
            Err(error) => {
                tracing::error!("commits are not told how they fare: {error}");
                (None, None)
            }
        };
        self.forge.set(client);
        statuses.set_hosting(hosting);
        true
    }
}
