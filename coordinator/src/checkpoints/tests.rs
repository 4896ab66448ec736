use std::cell::{Cell, RefCell};
use std::io;

use super::*;

fn files(seed: u8) -> StateFiles {
    let names = ["reasoning/adapter_config.json", "reasoning/adapter_model.safetensors", "optimizer.safetensors"];
    names.iter().map(|name| ((*name).to_owned(), vec![seed; 100])).collect()
}

fn state(step: u64, files: &StateFiles) -> StateJson {
    let fold = polya_proto::state_digest(files.iter().map(|(n, b)| (n.as_str(), b.as_slice())));
    StateJson { step, state: Digest(fold), epoch: 1 }
}

#[test]
fn what_was_saved_is_read_and_any_flipped_bit_is_refused() {
    let run = tempfile::tempdir().unwrap();
    let files = files(3);
    let digest = save(run.path(), &state(7, &files), &files).unwrap();
    let target = folder(run.path(), 7);
    assert_eq!(read(&target).unwrap(), (state(7, &files), digest, files.clone()));
    for name in ["state.json", "manifest.json", "optimizer.safetensors", "reasoning/adapter_config.json"] {
        let path = target.join(name);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, flipped).unwrap();
            assert!(read(&target).map_or(true, |(_, found, _)| found != digest), "{name}, byte {at}");
        }
        fs::write(&path, whole).unwrap();
    }
}

#[test]
fn a_state_that_does_not_fold_to_its_digest_is_refused() {
    let run = tempfile::tempdir().unwrap();
    let wrong = StateJson { state: Digest::of(b"other"), ..state(7, &files(1)) };
    save(run.path(), &wrong, &files(1)).unwrap();
    assert!(read(&folder(run.path(), 7)).unwrap_err().to_string().contains("do not fold"));
}

#[test]
fn the_best_checkpoint_is_kept_beside_the_newest() {
    let run = tempfile::tempdir().unwrap();
    for (step, loss) in [(1, 0.5), (2, 0.3), (3, 0.4), (4, 0.6), (5, 0.7)] {
        let files = files(step as u8);
        save(run.path(), &state(step, &files), &files).unwrap();
        note_holdout_loss(run.path(), step, loss).unwrap();
        prune(run.path(), 2).unwrap();
    }
    assert_eq!(steps(run.path()), [2, 4, 5]);
    fs::create_dir(run.path().join("checkpoints/.tmp-step-000009")).unwrap();
    clean(run.path()).unwrap();
    assert_eq!(fs::read_dir(run.path().join("checkpoints")).unwrap().count(), 4);
}

#[test]
fn a_name_that_leaves_the_folder_is_refused() {
    let run = tempfile::tempdir().unwrap();
    let files = vec![("../../evil".to_owned(), vec![1])];
    assert!(save(run.path(), &state(1, &files), &files).is_err());
}

/// What a crash leaves of calls that nothing has made durable.
#[derive(Debug, Clone)]
enum Pending {
    /// A file or folder whose name is not yet in its folder.
    Entry(PathBuf),
    /// A file's bytes.
    Bytes(PathBuf),
    Rename(PathBuf, PathBuf),
}

/// The real disk until its call number `fails_at`; from there on nothing works any more. `crash` then takes back what was
/// not durable.
struct FailingDisk {
    fails_at: usize,
    calls: Cell<usize>,
    pending: RefCell<Vec<Pending>>,
}

impl FailingDisk {
    fn new(fails_at: usize) -> Self {
        FailingDisk { fails_at, calls: Cell::new(0), pending: RefCell::default() }
    }

    /// Counts a call. Err from the failing one on.
    fn call(&self) -> io::Result<()> {
        self.calls.set(self.calls.get() + 1);
        if self.calls.get() > self.fails_at { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn pend(&self, what: Pending) {
        self.pending.borrow_mut().push(what);
    }

    /// Power is lost: each call that is not durable is undone where `lost` says so. Bytes and names first, since they
    /// are pending under their new paths, then renames.
    fn crash(self, mut lost: impl FnMut() -> bool) {
        let pending = self.pending.into_inner();
        for what in &pending {
            match what {
                Pending::Bytes(path) if lost() => {
                    let bytes = fs::read(path).unwrap_or_default();
                    drop(fs::write(path, &bytes[..bytes.len() / 2]));
                }
                Pending::Entry(path) if lost() => {
                    drop(fs::remove_file(path));
                    drop(fs::remove_dir_all(path));
                }
                _ => {}
            }
        }
        for what in pending.iter().rev() {
            if let Pending::Rename(from, to) = what
                && lost()
            {
                drop(fs::rename(to, from));
            }
        }
    }
}

impl Disk for FailingDisk {
    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.call()?;
        RealDisk.remove_folder(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.call()?;
        if !path.exists() {
            self.pend(Pending::Entry(path.to_owned()));
        }
        RealDisk.create_folder(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.pend(Pending::Entry(path.to_owned()));
        self.pend(Pending::Bytes(path.to_owned()));
        if let Err(error) = self.call() {
            drop(RealDisk.write(path, &bytes[..bytes.len() / 2])); // the disk is full half way
            return Err(error);
        }
        RealDisk.write(path, bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.call()?;
        let is_durable = |what: &Pending| match what {
            Pending::Bytes(of) => of == path,
            Pending::Entry(of) | Pending::Rename(_, of) => of.parent() == Some(path),
        };
        self.pending.borrow_mut().retain(|what| !is_durable(what));
        RealDisk.sync(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call()?;
        for what in self.pending.borrow_mut().iter_mut() {
            if let Pending::Bytes(path) | Pending::Entry(path) = what
                && let Ok(rest) = path.strip_prefix(from)
            {
                *path = to.join(rest);
            }
        }
        // A folder's own name goes with the rename.
        self.pending.borrow_mut().retain(|what| !matches!(what, Pending::Entry(path) if path == to));
        self.pend(Pending::Rename(from.to_owned(), to.to_owned()));
        RealDisk.rename(from, to)
    }
}

/// Whether the nth thing of a crash is lost.
fn losses(kind: u64) -> impl FnMut() -> bool {
    let mut count = 0u64;
    move || {
        count += 1;
        match kind {
            0 => true,
            1 => false,
            seed => blake3::hash(&[seed.to_le_bytes(), count.to_le_bytes()].concat()).as_bytes()[0].is_multiple_of(2),
        }
    }
}

#[test]
fn i8_a_failure_at_any_call_of_a_save_leaves_the_old_or_the_new_and_never_a_mix() {
    const KINDS: u64 = 4;
    for kind in 0..KINDS {
        let mut fails_at = 0;
        loop {
            let run = tempfile::tempdir().unwrap();
            let (old, new) = (files(3), files(6));
            save(run.path(), &state(3, &old), &old).unwrap();
            let disk = FailingDisk::new(fails_at);
            let saved = save_on(&disk, run.path(), &state(6, &new), &new).is_ok();
            disk.crash(losses(kind));
            let place = format!("call {fails_at}, losses {kind}");
            assert_eq!(read(&folder(run.path(), 3)).unwrap().2, old, "{place}: the old one stays");
            let target = folder(run.path(), 6);
            match read(&target) {
                Ok((_, _, found)) => assert_eq!(found, new, "{place}"),
                Err(error) => assert!(!saved && !target.exists(), "{place}: {error}"),
            }
            clean(run.path()).unwrap();
            save(run.path(), &state(6, &new), &new).unwrap();
            assert_eq!(read(&target).unwrap().2, new, "{place}: the next save is whole");
            if saved {
                assert!(fails_at > 15, "a save has more calls than {fails_at}");
                break;
            }
            fails_at += 1;
        }
    }
}

#[test]
fn the_first_checkpoint_of_a_run_survives_a_crash_after_its_save() {
    let run = tempfile::tempdir().unwrap();
    let files = files(3);
    let disk = FailingDisk::new(usize::MAX);
    save_on(&disk, run.path(), &state(3, &files), &files).unwrap();
    disk.crash(losses(0));
    assert_eq!(read(&folder(run.path(), 3)).unwrap().2, files);
}

#[test]
fn another_format_is_refused_naming_both() {
    let run = tempfile::tempdir().unwrap();
    let files = files(3);
    save(run.path(), &state(7, &files), &files).unwrap();
    let path = folder(run.path(), 7).join(MANIFEST);
    let text = fs::read_to_string(&path).unwrap().replace("\"format\": 1", "\"format\": 9");
    fs::write(&path, text).unwrap();
    let error = verify(&folder(run.path(), 7)).unwrap_err().to_string();
    assert!(error.contains("format 9") && error.contains("reads 1"), "{error}");
}
