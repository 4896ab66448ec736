//! Inputs as people name them: files, folders, globs.

use std::path::{Path, PathBuf};

/// Endings of files that a folder is searched for; `.gz` and `.zst` may follow.
pub const ENDINGS: [&str; 4] = [".jsonl", ".json", ".ndjson", ".parquet"];

/// A file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Where it is.
    pub path: PathBuf,
    /// Its path below the folder that was named, without endings, if a folder was named.
    pub below: Option<String>,
}

impl Input {
    /// The source's split: `train`, `validation` or `test` if a folder of the path below is called so, else the file's
    /// name without endings.
    pub fn split(&self) -> String {
        let of_folder = ["train", "validation", "test"]
            .into_iter()
            .find(|split| self.path.parent().is_some_and(|folder| folder.iter().any(|part| part == *split)));
        match (of_folder, &self.below) {
            (Some(split), Some(_)) => split.to_owned(),
            _ => stem(&self.path),
        }
    }

    /// The path below the named folder without the split, where each file is one record: `algebra/1057`.
    pub fn name(&self) -> Option<String> {
        let below = self.below.as_deref()?;
        let split = self.split();
        let name = below.strip_prefix(&split).map_or(below, |rest| rest.trim_start_matches('/'));
        Some(if name.is_empty() { below } else { name }.to_owned())
    }
}

/// The file's name without its known endings.
pub fn stem(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    without_endings(&name).to_owned()
}

fn without_endings(name: &str) -> &str {
    let unpacked = [".gz", ".zst"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
    ENDINGS.iter().find_map(|ending| unpacked.strip_suffix(ending)).unwrap_or(unpacked)
}

fn is_data(name: &str) -> bool {
    let unpacked = [".gz", ".zst"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
    !name.starts_with('.') && ENDINGS.iter().any(|ending| unpacked.ends_with(ending))
}

/// All files that the arguments name, in their order; those of a folder or a pattern in the order of their names, with
/// numbers by value (`2.json` before `10.json`).
///
/// # Errors
/// A sentence for people: a path that is not there, a pattern or folder without files.
pub fn find(arguments: &[PathBuf]) -> Result<Vec<Input>, String> {
    let mut found = Vec::new();
    for argument in arguments {
        let name = argument.display();
        let before = found.len();
        if argument.is_dir() {
            let mut paths = Vec::new();
            walk(argument, &mut paths).map_err(|error| format!("{name}: {error}"))?;
            found.extend(sorted(paths).into_iter().map(|path| {
                let below = path.strip_prefix(argument).unwrap_or(&path).to_string_lossy().into_owned();
                Input { below: Some(without_endings(&below).to_owned()), path }
            }));
            if found.len() == before {
                return Err(format!("{name}: the folder holds no {} file", ENDINGS.join(", ")));
            }
        } else if argument.is_file() || !argument.to_string_lossy().contains(['*', '?', '[']) {
            std::fs::File::open(argument)
                .map_err(|error| format!("{name}: {error}; give the path of a readable file"))?;
            found.push(Input { path: argument.clone(), below: None });
        } else {
            let paths = glob::glob(&argument.to_string_lossy()).map_err(|error| format!("{name}: {error}"))?;
            let paths: Vec<PathBuf> = paths.filter_map(Result::ok).filter(|path| path.is_file()).collect();
            found.extend(sorted(paths).into_iter().map(|path| Input { path, below: None }));
            if found.len() == before {
                return Err(format!("{name}: no file matches the pattern"));
            }
        }
    }
    Ok(found)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // A link to a folder is not followed: it could lead back.
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&entry.path(), found)?;
        } else if is_data(&entry.file_name().to_string_lossy()) && entry.path().is_file() {
            found.push(entry.path());
        }
    }
    Ok(())
}

fn sorted(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.sort_by_cached_key(|path| {
        let number = stem(path).parse::<u64>().unwrap_or(u64::MAX);
        (path.parent().map(Path::to_owned), number, path.clone())
    });
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_patterns_are_searched_in_a_fixed_order() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "{}").unwrap();
        };
        for name in ["train/algebra/10.json", "train/algebra/2.json", "test/geometry/1.json", "a.jsonl.gz", "note.md"] {
            write(name);
        }
        let found = find(&[folder.path().to_owned()]).unwrap();
        let names: Vec<_> = found.iter().map(|input| (input.split(), input.name().unwrap())).collect();
        let own = |split: &str, name: &str| (split.to_owned(), name.to_owned());
        let expected =
            [own("a", "a"), own("test", "geometry/1"), own("train", "algebra/2"), own("train", "algebra/10")];
        assert_eq!(names, expected);
        let pattern = folder.path().join("train/*/*.json");
        assert_eq!(find(&[pattern]).unwrap().len(), 2);
        assert!(find(&[folder.path().join("*.csv")]).unwrap_err().contains("no file matches"));
        assert!(find(&[folder.path().join("none.jsonl")]).unwrap_err().contains("none.jsonl"));
    }

    #[test]
    fn a_file_of_its_own_is_its_split() {
        let input = Input { path: "data/gsm8k/train.jsonl.zst".into(), below: None };
        assert_eq!((input.split().as_str(), input.name()), ("train", None));
    }
}
