//! Tests that change what a whole process has.

/// Set in the process of such a test.
const ALONE: &str = "POLYA_TEST_ALONE";

/// Has the test of that name run in a process of its own: the others run meanwhile, and need what it changes.
pub(super) fn in_a_process_of_its_own(name: &str, test: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let program = std::env::current_exe().unwrap();
    let child = std::process::Command::new(program).args(["--exact", name]).env(ALONE, "1").output().unwrap();
    let told = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && told.contains("1 passed"), "{told}");
}
