//! Who may talk to the coordinator. Loopback needs nothing; off loopback there are certificates, or a join token that is read
//! from a file, or made and printed.

pub mod certificates;
pub mod door;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use tonic::{Request, Status};

/// The token of a run, if it needs one. A file that is not there is made, readable by its owner only.
pub fn token(listen: SocketAddr, file: Option<&Path>, has_certificates: bool) -> Result<Option<String>> {
    match file {
        Some(path) if path.exists() => {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            let token = text.trim().to_owned();
            if token.len() < 16 {
                bail!("{}: a join token has at least 16 characters", path.display());
            }
            Ok(Some(token))
        }
        Some(path) => {
            let token = made()?;
            let mut options = std::fs::OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .with_context(|| path.display().to_string())?;
            writeln!(file, "{token}").with_context(|| path.display().to_string())?;
            Ok(Some(token))
        }
        None if has_certificates || listen.ip().is_loopback() => Ok(None),
        None => {
            let token = made()?;
            println!("join token {token}");
            println!("(put it into a file on each worker's machine: worker --coordinator ADDR --join-token-file FILE)");
            Ok(Some(token))
        }
    }
}

fn made() -> Result<String> {
    let mut bytes = [0u8; 24];
    let mut file = std::fs::File::open("/dev/urandom").context("/dev/urandom")?;
    file.read_exact(&mut bytes).context("/dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Refuses calls without the token.
#[derive(Clone)]
pub struct Gate {
    token: Option<String>,
}

impl Gate {
    /// A gate; without a token everybody passes.
    pub fn new(token: Option<String>) -> Self {
        Gate { token }
    }
}

impl tonic::service::Interceptor for Gate {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let admit =
            |request: &Request<()>| request.extensions().get::<door::Pass>().into_iter().for_each(|pass| pass.admit());
        let Some(token) = &self.token else {
            admit(&request);
            return Ok(request);
        };
        let given = request.metadata().get("authorization").map(|value| value.as_bytes()).unwrap_or_default();
        let given = given.strip_prefix(b"Bearer ").unwrap_or_default();
        // Hashes are compared, so that the time taken says nothing about the token.
        if blake3::hash(given) == blake3::hash(token.as_bytes()) {
            admit(&request);
            return Ok(request);
        }
        tracing::warn!("a call without the join token was refused");
        Err(Status::unauthenticated("the join token is missing or wrong"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::service::Interceptor;

    #[test]
    fn only_the_token_opens_the_gate() {
        let mut gate = Gate::new(Some("0123456789abcdef".to_owned()));
        let with = |value: &str| {
            let mut request = Request::new(());
            request.metadata_mut().insert("authorization", value.parse().unwrap());
            request
        };
        assert!(gate.call(Request::new(())).is_err());
        assert!(gate.call(with("Bearer 0123456789abcdee")).is_err());
        assert!(gate.call(with("Bearer 0123456789abcdef")).is_ok());
        assert!(Gate::new(None).call(Request::new(())).is_ok());
    }

    #[test]
    fn a_made_token_is_readable_by_its_owner_only_and_read_again() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let listen: SocketAddr = "0.0.0.0:0".parse().unwrap();
        let made = token(listen, Some(&path), false).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(token(listen, Some(&path), false).unwrap(), made);
        assert_eq!(token("127.0.0.1:0".parse().unwrap(), None, false).unwrap(), None);
        assert_eq!(token(listen, None, true).unwrap(), None, "certificates say who is who");
    }
}
