use std::collections::BTreeMap;
use std::path::PathBuf;

use coordinator_core::plan::learning_rate::LearningRate;
use coordinator_core::plan::schedule::{Cut, Length, SampleSummary, Schedule};
use coordinator_core::record::Commit;

use super::*;

fn setup() -> Setup {
    let sample = SampleSummary { id: "a".to_owned(), tokens: 1, learned: 1 };
    let cut = Cut { seed: 1, tokens_per_microbatch: 1, microbatches_per_step: 1 };
    Setup {
        seed: 1,
        second_computation: 0,
        allow_mixed: false,
        schedule: Schedule::new(vec![sample], cut, Length::Steps(1)).unwrap(),
        learning_rate: LearningRate { peak: 1.0, minimum: 0.0, warmup_steps: 0, steps: 1 },
        stage_weights: [1.0; 4],
        dynamic_weights: false,
        scale_log2: 0,
        checkpoint_every: 0,
        evaluation_every: 0,
        evaluate: false,
        holdout: false,
        min_workers: 1,
        failure_detection_ms: 1_000,
    }
}

fn record(epoch: u64) -> Record {
    Record::Epoch { epoch, time_ms: 7 }
}

fn read(path: &Path) -> Result<Vec<Record>, JournalError> {
    Records::open(path)?.collect()
}

fn fresh() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    (folder, path)
}

/// A journal of `count` records, sealed after every second one.
fn sealed(path: &Path, count: u64) -> Fold {
    let (setup, mut fold) = (setup(), Fold::new(0));
    let mut journal = Journal::create(path).unwrap().with_segment_bytes(200);
    for epoch in 1..=count {
        journal.seal_if_long(&fold).unwrap();
        journal.append(&record(epoch)).unwrap();
        fold.fold(&setup, &record(epoch));
    }
    fold
}

#[test]
fn what_was_appended_is_read_and_a_second_coordinator_is_refused() {
    let (_folder, path) = fresh();
    let mut journal = Journal::create(&path).unwrap();
    (1..4).for_each(|epoch| journal.append(&record(epoch)).unwrap());
    assert!(matches!(Journal::open(&path, &setup()), Err(JournalError::Locked { .. })));
    assert_eq!(read(&path).unwrap(), [record(1), record(2), record(3)]);
    let head = journal.head();
    drop(journal);
    let (mut journal, found) = Journal::open(&path, &setup()).unwrap();
    assert_eq!((journal.head(), found.torn, found.fold.records()), (head, 0, 3));
    journal.append(&record(4)).unwrap();
    assert_eq!(read(&path).unwrap().len(), 4);
}

#[test]
fn a_torn_tail_is_cut_wherever_it_was_torn() {
    let (_folder, path) = fresh();
    let mut journal = Journal::create(&path).unwrap();
    journal.append(&record(1)).unwrap();
    let whole = std::fs::metadata(&path).unwrap().len() as usize;
    journal.append(&record(2)).unwrap();
    drop(journal);
    let bytes = std::fs::read(&path).unwrap();
    for length in whole..bytes.len() {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let (mut journal, found) = Journal::open(&path, &setup()).unwrap();
        assert_eq!((found.fold.records(), found.torn), (1, (length - whole) as u64));
        journal.append(&record(3)).unwrap();
        drop(journal);
        assert_eq!(read(&path).unwrap(), [record(1), record(3)]);
    }
}

#[test]
fn a_flipped_byte_before_a_whole_frame_is_an_error_with_its_place() {
    let (_folder, path) = fresh();
    let mut journal = Journal::create(&path).unwrap();
    (1..4).for_each(|epoch| journal.append(&record(epoch)).unwrap());
    drop(journal);
    let bytes = std::fs::read(&path).unwrap();
    let frame = (bytes.len() - frame::HEADER) / 3;
    for at in frame::HEADER..frame::HEADER + 2 * frame {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        assert!(matches!(read(&path), Err(JournalError::Broken { .. })), "byte {at}: {:?}", read(&path));
    }
}

#[test]
fn a_sealed_journal_is_resumed_from_its_last_segment_and_read_whole() {
    let (_folder, path) = fresh();
    let expected = sealed(&path, 9);
    assert!(Records::tail(&path).unwrap().count() < 9, "the last segment is a part of the journal");
    assert_eq!(read(&path).unwrap(), (1..10).map(record).collect::<Vec<_>>());
    let (mut journal, found) = Journal::open(&path, &setup()).unwrap();
    assert_eq!((&found.fold, found.refolded), (&expected, false));
    journal.append(&record(10)).unwrap();
    assert_eq!(read(&path).unwrap().len(), 10);
}

#[test]
fn without_a_good_snapshot_the_sealed_segments_are_folded() {
    let (folder, path) = fresh();
    let expected = sealed(&path, 9);
    let snapshots = || std::fs::read_dir(folder.path().join("journal.sealed")).unwrap().flatten().map(|e| e.path());
    let snapshot = snapshots().find(|path| path.extension().is_some()).unwrap();
    assert_eq!(snapshots().filter(|path| path.extension().is_some()).count(), 1, "older snapshots are removed");
    let bytes = std::fs::read(&snapshot).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        std::fs::write(&snapshot, damaged).unwrap();
        let (_, found) = Journal::open(&path, &setup()).unwrap();
        assert_eq!((&found.fold, found.refolded), (&expected, true), "byte {at}");
    }
    std::fs::remove_file(&snapshot).unwrap();
    assert!(Journal::open(&path, &setup()).unwrap().1.refolded);
}

#[test]
fn a_lost_or_changed_sealed_segment_is_named() {
    let (folder, path) = fresh();
    sealed(&path, 9);
    let second = folder.path().join("journal.sealed/00000002");
    let bytes = std::fs::read(&second).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        std::fs::write(&second, damaged).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("00000002"), "byte {at}: {error}");
    }
    // A segment that was cut at a frame's end is whole in itself, and yet the next one does not continue it.
    let frame::Next::Frame { end: cut, .. } =
        frame::next(&bytes, frame::HEADER, Header::decode(&bytes).unwrap().previous)
    else {
        panic!("a sealed segment begins with a whole frame");
    };
    std::fs::write(&second, &bytes[..cut]).unwrap();
    assert!(matches!(read(&path), Err(JournalError::Discontinued { .. })), "{:?}", read(&path));
    std::fs::remove_file(&second).unwrap();
    assert!(read(&path).unwrap_err().to_string().contains("00000002"));
}

#[test]
fn a_crash_while_sealing_leaves_a_whole_journal() {
    let (folder, path) = fresh();
    let fold = sealed(&path, 2); // long enough to be sealed
    let (before, head) = (read(&path).unwrap(), Journal::open(&path, &setup()).unwrap().0.head());
    segment::make_folder(&path).unwrap();
    let crashes: [&dyn Fn(); 3] = [
        &|| snapshot::write(&segment::snapshot(&path, 1), head, &fold).unwrap(),
        &|| segment::seal(&path, 1).unwrap(),
        &|| std::fs::write(path.with_extension("next"), b"half a hea").unwrap(),
    ];
    for crash in crashes {
        crash();
        assert_eq!(read(&path).unwrap(), before, "a reader sees it whole");
        let (journal, found) = Journal::open(&path, &setup()).unwrap();
        assert_eq!((&found.fold, journal.head()), (&fold, head));
        assert!(!folder.path().join("journal.sealed/00000001").exists(), "the second name is removed");
    }
    let (mut journal, _) = Journal::open(&path, &setup()).unwrap();
    journal = journal.with_segment_bytes(1);
    assert!(journal.seal_if_long(&fold).unwrap());
    journal.append(&record(3)).unwrap();
    assert_eq!(read(&path).unwrap().len(), 3);
}

#[test]
fn another_format_is_refused_naming_both() {
    let (_folder, path) = fresh();
    std::fs::write(&path, b"POLYAJ01 and frames").unwrap();
    let error = Journal::open(&path, &setup()).unwrap_err().to_string();
    assert!(error.contains("POLYAJ01") && error.contains("POLYAJ02"), "{error}");
    std::fs::write(&path, b"something else").unwrap();
    assert!(matches!(read(&path), Err(JournalError::NotAJournal { .. })));
}

/// R3. A pipe takes every byte and cannot be made durable.
#[test]
fn what_cannot_be_made_durable_is_an_error_and_nothing_is_written_after_it() {
    let (_folder, path) = fresh();
    let mut journal = Journal::create(&path).unwrap();
    let (mut out, into) = std::io::pipe().unwrap();
    journal.file = File::from(std::os::fd::OwnedFd::from(into));
    assert!(matches!(journal.append(&record(1)), Err(JournalError::Io { .. })));
    assert!(matches!(journal.append(&record(2)), Err(JournalError::Poisoned { .. })));
    drop(journal);
    let mut written = vec![];
    std::io::Read::read_to_end(&mut out, &mut written).unwrap();
    let (first, _) = frame::encode(Header::first().previous, &record(1).encode());
    assert_eq!(written, first, "the second record was not tried");
}

fn commit(step: u64) -> Record {
    Record::Commit(Box::new(Commit {
        step,
        attempt: 0,
        time_ms: step,
        plan: Digest([0; 32]),
        microbatches: BTreeMap::new(),
        sum_digest: 0,
        state: Digest::of(&step.to_le_bytes()),
        gradient_norm_bits: 0,
    }))
}

/// The journal after `steps` commits in segments of a few records each, under epoch 1.
fn committed(path: &Path, steps: u64) {
    let setup = setup();
    let mut fold = Fold::new(0);
    let mut journal = Journal::create(path).unwrap().with_segment_bytes(600);
    let mut append = |record: Record| {
        journal.seal_if_long(&fold).unwrap();
        journal.append(&record).unwrap();
        fold.fold(&setup, &record);
    };
    append(record(1));
    (1..=steps).for_each(|step| append(commit(step)));
}

#[test]
fn a_rewound_journal_ends_with_the_step_and_the_highest_epoch_and_what_followed_is_kept() {
    let (folder, path) = fresh();
    for (step, name) in [(9, "same segment"), (7, "later"), (2, "earliest")] {
        std::fs::remove_file(&path).ok();
        std::fs::remove_dir_all(path.with_extension("sealed")).ok();
        committed(&path, 9);
        let before = read(&path).unwrap();
        let (mut journal, _) = Journal::open(&path, &setup()).unwrap();
        assert!(matches!(rewind(&path, step, &folder.path().join(name), 8), Err(JournalError::Locked { .. })));
        journal.append(&record(4)).unwrap(); // a coordinator that came later
        drop(journal);
        rewind(&path, step, &folder.path().join(name), 8).unwrap();
        let kept = step as usize + 1;
        let epoch = Record::Epoch { epoch: 4, time_ms: 8 };
        assert_eq!(read(&path).unwrap(), [&before[..kept], &[epoch]].concat(), "{name}");
        assert!(std::fs::read_dir(folder.path().join(name)).unwrap().count() > 0, "{name}");
        let (mut journal, found) = Journal::open(&path, &setup()).unwrap();
        assert_eq!((found.fold.committed(), found.fold.epoch()), (step, 4));
        journal.append(&commit(step + 1)).unwrap();
    }
    assert!(matches!(
        rewind(&path, 9, folder.path(), 8),
        Err(JournalError::NotCommitted { step: 9, committed: 3, .. })
    ));
}
