//! `[web]`

use std::net::SocketAddr;

use oauth2::url::Url;

use super::Verifier;
use crate::config::{Web, error::Error, file};

impl Verifier<'_> {
    /// `None` where there is no page.
    pub(super) fn web(&mut self, web: file::Web) -> Result<Option<Web>, Error> {
        let password = self.secret("web.admin_password", web.admin_password, web.admin_password_file)?;
        let Some(address) = web.address else {
            if password.is_some() || web.public_url.is_some() {
                let help = "where the sign-in page listens, such as \"127.0.0.1:8080\"";
                return Err(self.error("web.address", "is missing", help));
            }
            return Ok(None);
        };
        let Ok(address) = address.parse::<SocketAddr>() else {
            let help = "write it like \"127.0.0.1:8080\", or \"[::1]:8080\"";
            return Err(self.error("web.address", format!("{address:?} is no address with a port"), help));
        };
        let Some(admin_password) = password else {
            let help = "what people enter the page with: `admin_password_file` or `admin_password`";
            return Err(self.error("web.admin_password", "is missing", help));
        };
        let public_url = match web.public_url {
            Some(url) => Some(self.public_url(&url)?),
            None => None,
        };
        Ok(Some(Web {
            address,
            public_url,
            admin_password,
        }))
    }

    fn public_url(&self, url: &str) -> Result<String, Error> {
        let parsed = Url::parse(url).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.query().is_none()
                && url.fragment().is_none()
        });
        match parsed {
            Some(parsed) => Ok(parsed.as_str().trim_end_matches('/').to_owned()),
            None => {
                let help = "what browsers call the page, such as \"https://mail.example.org/popgate\"";
                Err(self.error("web.public_url", format!("{url:?} is no address of a page"), help))
            }
        }
    }
}
