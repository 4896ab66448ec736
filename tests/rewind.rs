//! `--resume --from-step`: going back to where the arithmetic was last seen to be right.

use std::ffi::OsStr;

use polya_tests::fleet::commits;
use polya_tests::process::{Coordinator, proven_digests, run, run_texts, stderr};

#[test]
fn what_followed_a_step_is_taken_back_and_made_again() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let dir = folder.path().join("run");
    assert_eq!(Coordinator::start(&dir, 1, &[]).wait(), Some(0));
    let (digests, first) = (proven_digests(&dir), commits(&dir));
    let path = dir.to_str().expect("a temporary folder has a plain name");
    for step in ["0", "9"] {
        let output = run_texts("coordinator", &["--resume", path, "--from-step", step]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(&format!("step {step} is not committed")), "{}", stderr(&output));
    }
    assert_eq!(commits(&dir), first, "nothing was taken back");

    let output = run("coordinator", &["--resume", path, "--from-step", "5", "--workers", "2"].map(OsStr::new));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(proven_digests(&dir), digests);
    let second = commits(&dir);
    assert_eq!(second[..5], first[..5]);
    assert!(second[5].time_ms > first[7].time_ms, "step 6 was made anew");
    let aside = std::fs::read_dir(&dir).expect("the run has a folder").flatten().map(|entry| entry.path());
    let aside = aside.into_iter().find(|path| path.to_string_lossy().contains("taken-back-"));
    let aside = aside.expect("what was there is kept");
    for kept in ["journal-00000001", "checkpoints/step-000006/manifest.json", "checkpoints/step-000008/manifest.json"] {
        assert!(aside.join(kept).is_file(), "{kept}");
    }
}
