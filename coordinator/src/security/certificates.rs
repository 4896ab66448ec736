//! `coordinator certificates DIR`: an authority of one fleet, and what it certifies.
//!
//! Coordinator and workers show each other certificates of this authority, whatever the addresses they have: a name stands
//! for a role. The authority's private key is thrown away at once, so nobody can certify anything else; to replace a
//! certificate, make a new folder.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use polya_proto::tls::{AUTHORITY, Role, certificate_file, key_file};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use crate::exit::ExitError;
use crate::time;

/// How long the certificates are valid.
const YEARS: i32 = 10;

/// Runs the command; gives the exit code.
pub fn run(folder: &Path) -> Result<u8, ExitError> {
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(ExitError::usage(anyhow!("{}: not empty; certificates go into a new folder", folder.display())));
    }
    std::fs::create_dir_all(folder).map_err(|e| ExitError::usage(anyhow!("{}: {e}", folder.display())))?;
    make(folder)?;
    let dir = folder.display();
    println!("{dir}: {AUTHORITY}, and a certificate with its key for the coordinator and for the workers");
    println!("coordinator --tls {dir}; on each worker's machine a copy of {AUTHORITY} and worker.*: worker --tls DIR");
    Ok(0)
}

/// Writes the authority's certificate, and a certificate and key a role.
pub(crate) fn make(folder: &Path) -> Result<()> {
    let mut authority = params("polya fleet authority", vec![])?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().context("a key")?;
    let certificate = authority.self_signed(&key).context("the authority's certificate")?;
    let issuer = Issuer::new(authority, key);
    write(&folder.join(AUTHORITY), &certificate.pem(), 0o644)?;
    for role in [Role::Coordinator, Role::Worker] {
        let mut of_role = params(role.name(), vec![role.name().to_owned()])?;
        of_role.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Workers serve state to each other, and the coordinator's own commands call it.
        of_role.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        of_role.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().context("a key")?;
        let certificate = of_role.signed_by(&key, &issuer).context("a certificate")?;
        write(&folder.join(certificate_file(role)), &certificate.pem(), 0o644)?;
        write(&folder.join(key_file(role)), &key.serialize_pem(), 0o600)?;
    }
    Ok(())
}

fn params(name: &str, names: Vec<String>) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names).context("a certificate")?;
    let year: i32 = time::utc(crate::driver::unix_ms())[..4].parse().context("the clock of this machine")?;
    params.distinguished_name.push(DnType::CommonName, name);
    // Clocks of a fleet may differ by days: the first year is the last one.
    (params.not_before, params.not_after) = (date_time_ymd(year - 1, 1, 1), date_time_ymd(year + YEARS, 1, 1));
    Ok(params)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_are_readable_by_their_owner_only_and_the_authority_s_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path()).unwrap();
        let mut names: Vec<String> = vec![];
        for entry in std::fs::read_dir(folder.path()).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let is_key = text.contains("PRIVATE KEY");
            assert_eq!(is_key, name.ends_with(".key"), "{name}");
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, if is_key { 0o600 } else { 0o644 }, "{name}");
            names.push(name);
        }
        names.sort();
        assert_eq!(names, ["authority.pem", "coordinator.key", "coordinator.pem", "worker.key", "worker.pem"]);
    }

    #[test]
    fn a_folder_that_holds_something_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("something"), "x").unwrap();
        assert_eq!(run(folder.path()).unwrap_err().code, 2);
    }
}
