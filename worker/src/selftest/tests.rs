//! Every check passes as things are, and fails when one side is wrong.

use super::*;

fn subject() -> Subject {
    Subject::new(Placement::CPU).unwrap()
}

#[test]
fn every_check_passes_here_and_fails_once_one_number_is_wrong() {
    let subject = subject();
    for check in &CHECKS {
        let comparison = (check.run)(&subject).unwrap();
        let told = outcome(check, Ok(comparison.clone()), 0.0);
        assert!(told.passed, "{told:?}");
        // One of them, the largest, off by a hundredth.
        let mut wrong = comparison.clone();
        let at = (0..wrong.found.len()).max_by(|a, b| wrong.found[*a].abs().total_cmp(&wrong.found[*b].abs())).unwrap();
        wrong.found[at] *= 1.01;
        assert!(!outcome(check, Ok(wrong), 0.0).passed, "{}", check.name);
        let mut unknown = comparison.clone();
        unknown.found[at] = f64::NAN;
        assert!(!outcome(check, Ok(unknown), 0.0).passed, "{}", check.name);
        let mut short = comparison;
        short.found.pop();
        assert!(!outcome(check, Ok(short), 0.0).passed, "{}", check.name);
    }
}

#[test]
fn a_damaged_weight_is_found() {
    let subject = subject();
    let sample = std::slice::from_ref(&subject.samples[0]);
    let right = reference::Reference::new(&subject).loss(&sample[0], &doubles(&subject.values)).unwrap();
    let distance = || {
        let found = subject.gradient(sample, 0.0, false).unwrap().1;
        Comparison { found: vec![found], expected: vec![right], tolerance: 1e-5, detail: String::new() }.distance()
    };
    assert!(distance() <= 1e-5, "{}", distance());
    let _guard = tch::no_grad_guard();
    let _ = subject.base.model.layers[2].attention_norm.get(5).g_mul_scalar_(1.1);
    assert!(distance() > 1e-5, "{}", distance());
}

#[test]
fn a_check_that_cannot_be_made_has_failed() {
    let check = Check { name: "broken", about: "", run: |_| std::panic::panic_any("no kernel".to_owned()) };
    let told = make(&check, &subject());
    assert!(!told.passed && told.detail == "no kernel", "{told:?}");
    let check = Check { run: |_| anyhow::bail!("no network"), ..check };
    assert_eq!(make(&check, &subject()).detail, "no network");
}
