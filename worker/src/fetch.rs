//! A base by name from a model hub: listed at one commit, downloaded into `DIR.part`, each file checked against the hub's
//! hashes, the folder renamed once it is whole. Source: the hub's HTTP API, `api/models/…` and `…/resolve/…`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use polya_datasets::fetch::download::{Downloader, Wanted};
use polya_datasets::network::file::beside;
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use crate::cli::UsageError;
use crate::export::BESIDE;

/// Written last; says what the folder holds.
const RECEIPT: &str = "fetched.json";
/// The hub's answer may be so long.
const LISTING_BYTES_MAX: u64 = 16 << 20;

/// What to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `OWNER/NAME`.
    pub model: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// The hub's address, without a slash at its end.
    pub endpoint: String,
    /// Directory to make.
    pub output: PathBuf,
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubFile {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
}

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// `OWNER/NAME`.
    pub model: String,
    /// As it was asked for.
    pub revision: String,
    /// The commit that it was.
    pub commit: String,
    /// What a model's directory needs, by name.
    pub files: Vec<HubFile>,
}

/// A repository at a commit, as the hub lists it.
#[derive(Debug, Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    /// git's hash of a file that git itself holds.
    #[serde(rename = "blobId")]
    blob: Option<String>,
    lfs: Option<Lfs>,
}

/// A large file, which git holds by its hash only.
#[derive(Debug, Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

/// Fetches a model, or finds it there already. `progress` hears the name of each file that begins.
pub fn fetch(request: &Request, downloader: &Downloader, progress: &dyn Fn(&str)) -> Result<Fetched> {
    check_name(request)?;
    let listing = list(request, downloader)?;
    if let Some(there) = receipt(&request.output)? {
        if there.model == request.model && there.commit == listing.sha {
            return Ok(there);
        }
        let reason = format!(
            "--output {}: holds {} at {}; name another directory",
            request.output.display(),
            there.model,
            there.commit
        );
        return Err(UsageError(reason).into());
    }
    let folder = beside(&request.output, ".part");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let wanted: Vec<&Sibling> = listing.siblings.iter().filter(|file| is_wanted(&file.rfilename)).collect();
    if !wanted.iter().any(|file| file.rfilename == "config.json") {
        bail!("{} at {} has no config.json; it is no model that can be loaded", request.model, listing.sha);
    }
    let mut files = vec![];
    for file in wanted {
        progress(&file.rfilename);
        files.push(fetch_file(request, &listing.sha, file, &folder, downloader)?);
    }
    let fetched =
        Fetched { model: request.model.clone(), revision: request.revision.clone(), commit: listing.sha, files };
    let path = folder.join(RECEIPT);
    let text = format!("{:#}\n", serde_json::to_value(&fetched)?);
    polya_datasets::network::file::write(&path, text.as_bytes()).with_context(|| path.display().to_string())?;
    polya_datasets::network::file::rename(&folder, &request.output)
        .with_context(|| request.output.display().to_string())?;
    Ok(fetched)
}

/// `OWNER/NAME` and a revision go into an address as they are.
fn check_name(request: &Request) -> Result<()> {
    let plain = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) && !text.contains("..")
    };
    let parts: Vec<&str> = request.model.split('/').collect();
    if parts.len() > 2 || !parts.iter().all(|part| plain(part)) {
        return Err(UsageError(format!("`{}` is no model's name: write OWNER/NAME", request.model)).into());
    }
    if !request.revision.split('/').all(plain) {
        return Err(UsageError(format!("--revision `{}` is no branch, tag or commit", request.revision)).into());
    }
    Ok(())
}

/// What this program reads of a model's directory, and its licence.
fn is_wanted(name: &str) -> bool {
    let weights = name.ends_with(".safetensors") || name == "model.safetensors.index.json";
    !name.contains('/') && (weights || name == "config.json" || BESIDE.contains(&name) || name.starts_with("LICENSE"))
}

/// Asks the hub for the files of a revision, with their hashes.
fn list(request: &Request, downloader: &Downloader) -> Result<Listing> {
    let revision = request.revision.replace('/', "%2F");
    let url = format!("{}/api/models/{}/revision/{revision}?blobs=true", request.endpoint, request.model);
    let offline = || {
        format!(
            "{url}: no answer; without a network copy the model's directory here and give it as base.path, or name a \
             mirror with --endpoint"
        )
    };
    let mut response = downloader.client.get(&url).call().with_context(offline)?;
    match response.status().as_u16() {
        200 => {}
        status @ (401 | 403) => bail!("{url}: HTTP {status}: this model is not open to everybody, or there is none"),
        404 => bail!("{url}: HTTP 404: there is no such model or revision"),
        status => bail!("{url}: HTTP {status}"),
    }
    let bytes = response.body_mut().with_config().limit(LISTING_BYTES_MAX).read_to_vec().with_context(offline)?;
    serde_json::from_slice(&bytes).with_context(|| format!("{url}: the answer is no listing of a model"))
}

fn receipt(folder: &Path) -> Result<Option<Fetched>> {
    if std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none()) {
        return Ok(None);
    }
    let path = folder.join(RECEIPT);
    let found = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let not_ours =
        || UsageError(format!("--output {}: the directory is not empty; name another one", folder.display()));
    Ok(Some(found.ok_or_else(not_ours)?))
}

fn fetch_file(
    request: &Request,
    commit: &str,
    file: &Sibling,
    folder: &Path,
    downloader: &Downloader,
) -> Result<HubFile> {
    let name = &file.rfilename;
    let path = folder.join(name);
    let bytes = file.lfs.as_ref().map(|lfs| lfs.size).or(file.size);
    let right = |sha256: String, bytes: u64| HubFile { name: name.clone(), bytes, sha256 };
    if let Some(bytes) = bytes.filter(|bytes| std::fs::metadata(&path).is_ok_and(|there| there.len() == *bytes)) {
        // Named by an earlier attempt, so it was right then; that it still is, is measured.
        let (sha256, blob) = hashes(&path)?;
        if file.is_right(&sha256, &blob) {
            return Ok(right(sha256, bytes));
        }
    }
    let url = format!("{}/{}/resolve/{commit}/{name}", request.endpoint, request.model);
    let sha256 = file.lfs.as_ref().map(|lfs| lfs.sha256.as_str());
    let done = downloader.download(Wanted { url: &url, path: &path, bytes, sha256 })?;
    let (sha256, blob) = hashes(&path)?;
    if !file.is_right(&sha256, &blob) {
        std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
        return Err(anyhow!("{url}: its hash is not the one that the hub lists; what came was removed"));
    }
    Ok(right(sha256, done.bytes))
}

impl Sibling {
    fn is_right(&self, sha256: &str, blob: &str) -> bool {
        match (&self.lfs, &self.blob) {
            (Some(lfs), _) => lfs.sha256 == sha256,
            (None, Some(expected)) => expected == blob,
            (None, None) => true,
        }
    }
}

/// A file's SHA-256, and git's hash of it as a blob.
fn hashes(path: &Path) -> Result<(String, String)> {
    let hash = || -> std::io::Result<(String, String)> {
        let mut file = std::fs::File::open(path)?;
        let mut hashers = (sha2::Sha256::new(), Sha1::new());
        hashers.1.update(format!("blob {}\0", file.metadata()?.len()));
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = std::io::Read::read(&mut file, &mut buffer)?;
            if read == 0 {
                break;
            }
            hashers.0.update(&buffer[..read]);
            hashers.1.update(&buffer[..read]);
        }
        Ok((hexadecimal(&hashers.0.finalize()), hexadecimal(&hashers.1.finalize())))
    };
    hash().with_context(|| path.display().to_string())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
