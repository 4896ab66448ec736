//! Mutual TLS of a fleet: one folder of certificates, and who shows which to whom.
//!
//! A role's certificate carries the role's name; whoever is called is expected to have the name of its role, at whatever
//! address it is. Without certificates the wire is plain.

use std::path::Path;
use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

/// The authority's certificate in the folder.
pub const AUTHORITY: &str = "authority.pem";
/// A handshake that takes longer is given up.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Whose certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The coordinator's.
    Coordinator,
    /// Every worker's.
    Worker,
}

impl Role {
    /// The name in the certificate.
    pub fn name(self) -> &'static str {
        match self {
            Role::Coordinator => "coordinator.polya",
            Role::Worker => "worker.polya",
        }
    }

    fn stem(self) -> &'static str {
        match self {
            Role::Coordinator => "coordinator",
            Role::Worker => "worker",
        }
    }
}

/// The file of a role's certificate in the folder.
pub fn certificate_file(role: Role) -> String {
    format!("{}.pem", role.stem())
}

/// The file of a role's private key in the folder.
pub fn key_file(role: Role) -> String {
    format!("{}.key", role.stem())
}

/// What one member of the fleet shows and trusts. Never printed.
#[derive(Clone)]
pub struct Credentials {
    authority: Certificate,
    identity: Identity,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    /// Reads a role's files of a folder. The error names the file.
    pub fn read(folder: &Path, role: Role) -> Result<Self, String> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let authority = Certificate::from_pem(read(AUTHORITY)?);
        let identity = Identity::from_pem(read(&certificate_file(role))?, read(&key_file(role))?);
        Ok(Credentials { authority, identity })
    }

    /// For a server: only who shows a certificate of the same authority is let in.
    pub fn server(&self) -> ServerTlsConfig {
        let config = ServerTlsConfig::new().identity(self.identity.clone()).client_ca_root(self.authority.clone());
        config.timeout(HANDSHAKE_LIMIT)
    }

    /// For a call to somebody of this role.
    pub fn client(&self, called: Role) -> ClientTlsConfig {
        let config = ClientTlsConfig::new().identity(self.identity.clone()).ca_certificate(self.authority.clone());
        config.domain_name(called.name())
    }
}
