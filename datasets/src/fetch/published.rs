//! Where the published files are, and which bytes they are.

/// A data set that can be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// As it is called on the command line.
    pub name: &'static str,
    /// What it is, in one line.
    pub what: &'static str,
    /// Its licence, in one line.
    pub licence: &'static str,
    /// What somebody has to know and accept before it is fetched.
    pub terms: Option<&'static str>,
    /// The folder that the files' paths are below; none where no link is switched on by default.
    pub root: Option<&'static str>,
    /// Where people find it.
    pub home: &'static str,
    /// What to do once the files are there.
    pub next: &'static str,
    /// The files.
    pub files: &'static [PublishedFile],
}

/// One file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedFile {
    /// Below the root, percent-encoded.
    pub path: &'static str,
    /// Its length, where it is known.
    pub bytes: Option<u64>,
    /// Its SHA-256 in hexadecimal, where it is known.
    pub sha256: Option<&'static str>,
}

impl PublishedFile {
    /// Its name on disk.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }
}

impl Published {
    /// The data set of that name.
    pub fn named(name: &str) -> Option<&'static Published> {
        ALL.iter().find(|published| published.name == name)
    }
}

/// All that are known.
///
/// Checksums: GSM8K's were computed from the files of that commit (7,473 and 1,319 rows). MATH.tar's is the one that
/// ParlAI pins (github facebookresearch/ParlAI, `parlai/tasks/math_dataset/build.py`). VNHSGE's and those of the socratic
/// form are published nowhere.
pub const ALL: &[Published] = &[
    Published {
        name: "gsm8k",
        what: "grade-school problems in English with calculator annotations (Cobbe et al. 2021): 7,473 and 1,319",
        licence: "MIT",
        terms: None,
        root: Some(GSM8K),
        home: "github openai/grade-school-math",
        next: "datasets parse --source gsm8k --input {folder}/train.jsonl --output train.parquet",
        files: &[
            PublishedFile {
                path: "grade_school_math/data/train.jsonl",
                bytes: Some(4_166_206),
                sha256: Some("17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465"),
            },
            PublishedFile {
                path: "grade_school_math/data/test.jsonl",
                bytes: Some(749_738),
                sha256: Some("3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14"),
            },
        ],
    },
    Published {
        name: "gsm8k-socratic",
        what: "the same problems with a question before each step",
        licence: "MIT",
        terms: None,
        root: Some(GSM8K),
        home: "github openai/grade-school-math",
        next: "datasets parse --source gsm8k --input {folder}/train_socratic.jsonl --output train.parquet",
        files: &[
            PublishedFile { path: "grade_school_math/data/train_socratic.jsonl", bytes: None, sha256: None },
            PublishedFile { path: "grade_school_math/data/test_socratic.jsonl", bytes: None, sha256: None },
        ],
    },
    Published {
        name: "math",
        what: "competition problems in English with LaTeX (Hendrycks et al. 2021): 7,500 and 5,000",
        licence: "MIT by its authors, contested",
        terms: Some(
            "The authors of MATH publish it as MIT. In January 2025 Art of Problem Solving, where most of the problems \
             come from, had a well-known copy taken down by a copyright notice. So no link is built in: decide for \
             yourself, find MATH.tar through github hendrycks/math, and give its address with --url.",
        ),
        root: None,
        home: "github hendrycks/math",
        next: "tar -xf {folder}/MATH.tar -C {folder}, then datasets parse --source math --input {folder}/MATH --output math.parquet",
        files: &[PublishedFile {
            path: "MATH.tar",
            bytes: None,
            sha256: Some("0fbe4fad0df66942db6c221cdcc95b298cc7f4595a2f0f518360cce84e90d9ac"),
        }],
    },
    Published {
        name: "vnhsge",
        what: "the mathematics part of the Vietnamese high-school graduation examinations 2019 to 2023 (Dao et al. 2023): 250",
        licence: "none",
        terms: Some(
            "The repository Xdao85/VNHSGE has no licence file; its README invites use with citation. Without a licence \
             nobody is given the right to copy or redistribute the files: whether you may use them is yours to decide.",
        ),
        root: Some("https://raw.githubusercontent.com/Xdao85/VNHSGE/5a694384a9040ecbd9fe8e54d787836f66fc630f"),
        home: "github Xdao85/VNHSGE",
        next: "datasets parse --source vnhsge --input {folder}/MET_Math_IE_2019.json --output vnhsge.parquet",
        files: &[
            vnhsge("Dataset/VNHSGE-V/JSON%20format/eval/Mathematics/MET_Math_IE_2019.json"),
            vnhsge("Dataset/VNHSGE-V/JSON%20format/eval/Mathematics/MET_Math_IE_2020.json"),
            vnhsge("Dataset/VNHSGE-V/JSON%20format/eval/Mathematics/MET_Math_IE_2021.json"),
            vnhsge("Dataset/VNHSGE-V/JSON%20format/eval/Mathematics/MET_Math_IE_2022.json"),
            vnhsge("Dataset/VNHSGE-V/JSON%20format/eval/Mathematics/MET_Math_IE_2023.json"),
        ],
    },
];

const GSM8K: &str =
    "https://raw.githubusercontent.com/openai/grade-school-math/3101c7d5072418e28b9008a6636bde82a006892c";

const fn vnhsge(path: &'static str) -> PublishedFile {
    PublishedFile { path, bytes: None, sha256: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pin_is_a_hash_and_every_root_a_commit() {
        for published in ALL {
            assert_eq!(Published::named(published.name), Some(published));
            assert!(published.root.is_some() || published.terms.is_some(), "{}", published.name);
            if let Some(commit) = published.root.and_then(|root| root.rsplit('/').next()) {
                assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{commit}");
            }
            for hash in published.files.iter().filter_map(|file| file.sha256) {
                assert!(
                    hash.len() == 64 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
                    "{hash}"
                );
            }
        }
    }
}
