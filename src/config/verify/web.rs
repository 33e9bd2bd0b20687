//! Verifies `[web]`.

use super::{
    Verifier,
    value::{Checked, Noted},
};
use crate::config::{Web, keys};

impl Verifier<'_> {
    /// Verifies `[web]`; `None` if none of its keys is given.
    pub(super) fn web(&mut self, web: keys::Web) -> Checked<Option<Web>> {
        let password = self.secret("web.admin_password", web.admin_password, web.admin_password_file);
        if web.address.is_none() && web.public_url.is_none() && matches!(password, Ok(None)) {
            return if self.sources.is_wrong("web.address") {
                Err(Noted)
            } else {
                Ok(None)
            };
        }
        let address = self.required("web.address", web.address);
        let admin_password = self.required("web.admin_password", password?);
        Ok(Some(Web {
            address: address?,
            public_url: web.public_url.map(|url| url.0),
            admin_password: admin_password?,
        }))
    }
}
