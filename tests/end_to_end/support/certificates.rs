//! A certificate authority for one test, and a certificate that it has issued for this machine's loopback.

use std::{
    net::Ipv4Addr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use tempfile::TempDir;
use tokio_rustls::rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, ServerConfig,
    client::WantsClientCert,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
};

/// PEM files, and the TLS configurations made of them. Clients have to trust `ca.pem`.
pub struct Certificates {
    directory: TempDir,
    authority: CertificateDer<'static>,
    leaf: CertificateDer<'static>,
    key: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    /// A certificate for 127.0.0.1 and localhost.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same; the certificate expires in this number of days and half a day.
    pub fn ending_in(days: u64) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let end = date_time_ymd(1970, 1, 1) + now + Duration::from_secs(12 * 3600 + days * 24 * 3600);
        Self::with(|params| params.not_after = end)
    }

    /// The same; the certificate has expired years ago.
    pub fn expired() -> Self {
        Self::with(|params| {
            params.not_before = date_time_ymd(2010, 1, 1);
            params.not_after = date_time_ymd(2015, 1, 1);
        })
    }

    /// The same, for this host only.
    pub fn of_host(name: &str) -> Self {
        Self::with(|params| params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())])
    }

    fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "popgate test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = params.self_signed(&authority_key).unwrap();
        let issuer = Issuer::new(params, authority_key);

        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params
            .subject_alt_names
            .push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
        params.distinguished_name.push(DnType::CommonName, "localhost");
        change(&mut params);
        let leaf = params.signed_by(&key, &issuer).unwrap();

        Self::of(directory, &authority, &leaf, &key, issuer)
    }

    /// A certificate like the one that Proton's bridge makes for itself: the server is its own authority.
    pub fn bridge() -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "127.0.0.1");
        params
            .subject_alt_names
            .push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyCertSign,
        ];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.self_signed(&key).unwrap();
        let issuer = KeyPair::try_from(key.serialize_der()).unwrap();
        let issuer = Issuer::new(params, issuer);
        Self::of(tempfile::tempdir().unwrap(), &leaf, &leaf, &key, issuer)
    }

    fn of(
        directory: TempDir,
        authority: &Certificate,
        leaf: &Certificate,
        key: &KeyPair,
        issuer: Issuer<'static, KeyPair>,
    ) -> Self {
        for (file, text) in [
            ("ca.pem", authority.pem()),
            ("leaf.pem", leaf.pem()),
            ("key.pem", key.serialize_pem()),
        ] {
            std::fs::write(directory.path().join(file), text).unwrap();
        }
        Self {
            directory,
            authority: authority.der().clone(),
            leaf: leaf.der().clone(),
            key: key.serialize_der(),
            issuer,
        }
    }

    /// The file of the authority, which clients have to trust.
    pub fn authority_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// The fingerprint, as `openssl x509 -fingerprint -sha256` prints it.
    pub fn fingerprint(&self) -> String {
        let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, &self.leaf);
        let digits: Vec<_> = digest.as_ref().iter().map(|octet| format!("{octet:02X}")).collect();
        format!("sha256:{}", digits.join(":"))
    }

    /// The file of the certificate that the server shows.
    pub fn leaf_file(&self) -> PathBuf {
        self.directory.path().join("leaf.pem")
    }

    /// The file of the server's private key.
    pub fn key_file(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }

    /// The configuration of a client that trusts this authority only.
    pub fn client(&self) -> Arc<ClientConfig> {
        Arc::new(self.trusting_client().with_no_client_auth())
    }

    /// The same for a client that shows a certificate for `name`, issued by `authority`.
    pub fn client_of(&self, authority: &Self, name: &str) -> Arc<ClientConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &authority.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let client = self.trusting_client();
        Arc::new(
            client
                .with_client_auth_cert(vec![certificate.der().clone()], key)
                .unwrap(),
        )
    }

    fn trusting_client(&self) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
    }

    /// The configuration of a server that shows the certificate.
    pub fn server(&self) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::try_from(self.key.clone()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.leaf.clone()], key)
            .unwrap();
        Arc::new(config)
    }
}
