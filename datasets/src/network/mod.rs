//! What `teach` and `fetch` share to talk to servers: the HTTP client, waiting between attempts, being stopped.
//!
//! Behind the cargo feature `network`; nothing else in this crate opens a socket.

pub mod backoff;
pub mod file;
pub mod stop;

use std::sync::Arc;
use std::time::Duration;

use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// How long the parts of an exchange may take.
#[derive(Debug, Clone, Copy)]
pub struct TimeLimits {
    /// The whole exchange; none for downloads, whose length nobody knows.
    pub whole: Option<Duration>,
    /// Until the server's next byte.
    pub silence: Duration,
}

/// A client that follows at most so many redirects, gives every status back as a response, trusts the certificates of
/// this system (or those in `SSL_CERT_FILE`), and takes proxies from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
pub fn client(limits: TimeLimits, redirects: u32) -> ureq::Agent {
    let trusted = rustls_native_certs::load_native_certs().certs;
    let trusted: Vec<Certificate<'static>> =
        trusted.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&trusted))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    ureq::Agent::config_builder()
        .tls_config(tls)
        .timeout_global(limits.whole)
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_per_read(Some(limits.silence))
        .http_status_as_error(false)
        .max_redirects(redirects)
        .max_redirects_will_error(false)
        .user_agent(concat!("polya-datasets/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

/// An address without a slash at its end.
///
/// # Errors
/// A sentence for people: neither `http://` nor `https://`, or no host.
pub fn address(text: &str) -> Result<String, String> {
    let address = text.trim().trim_end_matches('/');
    let uri: Result<ureq::http::Uri, _> = address.parse();
    match uri {
        Ok(uri) if matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() => Ok(address.to_owned()),
        _ => Err(format!("`{text}` is no address: it begins with http:// or https:// and names a host")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_anything_is_sent() {
        assert_eq!(address(" http://127.0.0.1:8000/v1/ ").unwrap(), "http://127.0.0.1:8000/v1");
        for wrong in ["", "localhost:8000", "ftp://host/x", "http://", "https:// host"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
