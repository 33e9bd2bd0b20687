//! Providers by name, with their addresses and peculiarities: the data of `presets.toml`, typed.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;

use super::{
    UpstreamTls,
    key::{Kind, Raw, Value, Wrong},
    keys::GrantWord,
    nearest::suggest,
    value,
};

/// A provider: values that an upstream need not repeat, and how the provider's servers behave.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// The name that `preset` gives.
    #[serde(skip)]
    pub name: String,
    /// `host`
    pub host: String,
    /// Other host names of the same server.
    #[serde(default)]
    pub(super) aliases: Vec<String>,
    /// Other names that people use for the provider.
    #[serde(default)]
    called: Vec<String>,
    /// The domains of mail addresses that the provider serves.
    #[serde(default)]
    domains: Vec<String>,
    #[serde(default = "implicit_port")]
    pub(super) port: u16,
    #[serde(default)]
    pub(super) tls: PresetTls,
    pub(super) connections_per_user: Option<usize>,
    pub(super) on_delete: Option<String>,
    /// Whether the server offers QRESYNC, but must not be asked for it.
    #[serde(default)]
    pub no_qresync: bool,
    /// Which password to use, in words for people; `None` if only OAuth2 works.
    pub passwords: Option<String>,
    pub(super) oauth2: Option<PresetOAuth2>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PresetTls {
    #[default]
    Implicit,
    StartTls,
}

impl From<PresetTls> for UpstreamTls {
    fn from(tls: PresetTls) -> Self {
        match tls {
            PresetTls::Implicit => Self::Implicit,
            PresetTls::StartTls => Self::StartTls,
        }
    }
}

/// Endpoints and scopes; `{tenant}` is a placeholder.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PresetOAuth2 {
    /// The usual grant.
    pub(super) grant: GrantWord,
    /// All grants that the provider has for mail.
    pub(super) grants: Vec<GrantWord>,
    pub(super) tenant: Option<String>,
    pub(super) device_url: Option<String>,
    /// Whether the request for a device code's token has `grant_type=device_code` and `code`.
    #[serde(default)]
    pub(super) short_device_grant: bool,
    pub(super) authorize_url: Option<String>,
    pub(super) token_url: String,
    pub(super) revoke_url: Option<String>,
    /// The scopes if a person consents.
    pub(super) scopes: Vec<String>,
    /// The scopes if the application itself is trusted.
    #[serde(default)]
    pub(super) own_scopes: Vec<String>,
}

impl<'de> Deserialize<'de> for GrantWord {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Self::read(&Raw::Text(&word)).map_err(|wrong| serde::de::Error::custom(wrong.what))
    }
}

fn implicit_port() -> u16 {
    993
}

static PRESETS: LazyLock<BTreeMap<String, Preset>> = LazyLock::new(|| {
    let mut presets: BTreeMap<String, Preset> =
        toml::from_str(include_str!("presets.toml")).expect("presets.toml is part of the program, and tested");
    for (name, preset) in &mut presets {
        preset.name.clone_from(name);
    }
    presets
});

impl Preset {
    /// All presets, ordered by name.
    pub fn all() -> impl Iterator<Item = &'static Self> + Clone {
        PRESETS.values()
    }

    /// Whether the provider has OAuth2.
    pub fn takes_tokens(&self) -> bool {
        self.oauth2.is_some()
    }

    /// The usual tenant, if the provider has tenants.
    pub fn tenant(&self) -> Option<&str> {
        self.oauth2.as_ref()?.tenant.as_deref()
    }

    /// The preset that has `word` as its name or as another name.
    pub fn called(word: &str) -> Option<&'static Self> {
        let mut all = Self::all();
        let is_called = |name: &String| name.eq_ignore_ascii_case(word);
        all.find(|preset| is_called(&preset.name) || preset.called.iter().any(is_called))
    }

    /// A suggestion for a word that is not the name of a preset.
    pub fn suggest(word: &str) -> String {
        suggest(word, Self::all().map(|preset| preset.name.as_str()))
    }

    /// The provider that serves mail addresses at `domain`, if it is known.
    pub fn of_domain(domain: &str) -> Option<&'static Self> {
        let is_it = |other: &String| other.eq_ignore_ascii_case(domain);
        Self::all().find(|preset| preset.domains.iter().any(is_it))
    }

    /// The preset whose server is `host`, for an upstream that names no preset.
    pub fn at(host: &str) -> Option<&'static Self> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let is_same = |name: &String| name.eq_ignore_ascii_case(host);
        Self::all()
            // A preset with an IP address is left out, because any server may listen there.
            .filter(|preset| preset.host.parse::<std::net::IpAddr>().is_err())
            .find(|preset| is_same(&preset.host) || preset.aliases.iter().any(is_same))
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct PresetName(pub(super) &'static Preset);

impl Value for PresetName {
    const KIND: Kind = Kind::Text;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        let name = value::text(raw)?;
        match PRESETS.get(name) {
            Some(preset) => Ok(Self(preset)),
            None => {
                let wrong = Wrong::new(format!("there is no preset {name:?}"));
                Err(match Preset::called(name) {
                    Some(preset) => wrong.help(format!("did you mean `{}`?", preset.name)),
                    None => wrong.help(Preset::suggest(name)),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_can_be_used() {
        assert!(Preset::all().count() >= 20);
        for preset in Preset::all() {
            let name = &preset.name;
            assert!(preset.passwords.is_some() || preset.oauth2.is_some(), "{name}");
            let Some(oauth2) = &preset.oauth2 else { continue };
            let urls = [&oauth2.device_url, &oauth2.authorize_url].into_iter().flatten();
            for url in urls.chain([&oauth2.token_url]) {
                assert!(url.starts_with("https://"), "{name}: {url}");
                assert!(!url.contains("{tenant}") || oauth2.tenant.is_some(), "{name}: {url}");
            }
            assert!(oauth2.grants.contains(&oauth2.grant), "{name}");
            match oauth2.grant {
                GrantWord::Device => assert!(oauth2.device_url.is_some(), "{name}"),
                GrantWord::Code => assert!(oauth2.authorize_url.is_some(), "{name}"),
                other => panic!("{name}: {other}"),
            }
        }
    }

    #[test]
    fn known_by_host() {
        let name = |host| Preset::at(host).map(|preset| preset.name.as_str());
        assert_eq!(name("IMAP.GoogleMail.com."), Some("gmail"));
        assert_eq!(name("outlook.office365.com"), Some("microsoft365"));
        assert_eq!(name("imap.example.org"), None);
        assert_eq!(name("127.0.0.1"), None);
    }
}
