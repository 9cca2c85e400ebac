//! TLS towards registries: rustls with ring, the system's authorities and those of `hosts.toml`.

use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::hosts::TlsFiles;
use crate::error::{Error, Reason, Result};

/// The system's authorities; read once.
static SYSTEM: OnceLock<RootCertStore> = OnceLock::new();

/// The configuration for an endpoint. Blocks on the disk.
pub(super) fn config(files: &TlsFiles) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(Reason::Internal, format!("setting TLS up: {error}")))?;
    let builder = if files.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(TakesAll(provider)))
    } else {
        builder.with_root_certificates(authorities(&files.authorities)?)
    };
    match files.client.as_slice() {
        [] => Ok(builder.with_no_client_auth()),
        [(certificate, key)] => {
            let chain = certificates(certificate)?;
            let parsed = PrivateKeyDer::from_pem_file(key).map_err(|error| refused(key, error))?;
            builder.with_client_auth_cert(chain, parsed).map_err(|error| refused(certificate, error))
        }
        [_, (other, _), ..] => Err(refused(other, "one client certificate for a host is all that is supported")),
    }
}

fn authorities(files: &[impl AsRef<Path>]) -> Result<RootCertStore> {
    let mut roots = SYSTEM.get_or_init(system).clone();
    for file in files {
        let file = file.as_ref();
        for certificate in certificates(file)? {
            roots.add(certificate).map_err(|error| refused(file, error))?;
        }
    }
    Ok(roots)
}

fn system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "reading the system's certificates");
    }
    roots.add_parsable_certificates(found.certs);
    roots
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    // Read first, so that a missing file is told from one that holds something else.
    let pem = fs::read(file).map_err(|error| refused(file, error))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match read.map_err(|error| refused(file, error))? {
        none if none.is_empty() => Err(refused(file, "holds no certificate in PEM")),
        certificates => Ok(certificates),
    }
}

fn refused(file: &Path, problem: impl std::fmt::Display) -> Error {
    Error::new(Reason::RegistryConfig, format!("{}: {problem}", file.display()))
}

/// `skip_verify`: takes any certificate, but the handshake must still be signed with its key.
#[derive(Debug)]
struct TakesAll(Arc<CryptoProvider>);

impl ServerCertVerifier for TakesAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
