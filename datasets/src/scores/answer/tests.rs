use super::*;
use proptest::prelude::*;

#[test]
fn answers_that_mean_the_same_are_equal() {
    let cases = [
        ("72", "72.0", "en"),
        ("1,234", "$1234", "en"),
        ("0.5", "1/2", "en"),
        ("\\frac{1}{2}", "0.5", "en"),
        ("64", "64 square feet", "en"),
        ("-5", "−5", "en"),
        ("28\\%", "28 percent", "en"),
        ("52^\\circ", "52°", "en"),
        ("C", "(C)", "en"),
        ("C", "\\text{C}.", "en"),
        ("(1;2;3)", "(1,2,3)", "vi"),
        ("2,5", "2.5", "vi"),
        ("1.500.000", "1500000", "vi"),
        ("n = 7", "7", "en"),
        ("42", "I first got 41, but the answer is 42.", "en"),
        ("42", "#### 42", "en"),
        ("42", "so we get $\\boxed{42}$", "en"),
    ];
    for (gold, prediction, language) in cases {
        assert!(equal(gold, prediction, language), "{gold} | {prediction}");
    }
}

#[test]
fn answers_that_differ_are_not_equal() {
    let cases = [
        ("9007199254740993", "9007199254740992", "en"),
        ("225", "22.5", "en"),
        ("48", "8", "en"),
        ("5", "5x", "en"),
        ("5", "5 million", "en"),
        ("2 1/2", "21/2", "en"),
        ("1,2", "1.2", "en"),
        ("[1,2]", "(1,2)", "en"),
        ("5 meters", "5 feet", "en"),
        ("\\$5", "5 cents", "en"),
        ("A", "B", "en"),
        ("x = 5", "y = 5", "en"),
        ("", "", "en"),
        ("3", "", "en"),
    ];
    for (gold, prediction, language) in cases {
        assert!(!equal(gold, prediction, language), "{gold} | {prediction}");
    }
}

#[test]
fn the_stated_answer_comes_before_the_last_number() {
    let cases = [
        ("#### VERIFY ####\n2 + 2 = 4\n\nFinal Answer: 4\n9", Some("4")),
        ("x \\boxed{\\frac{1}{2}} in 3 ways", Some("\\frac{1}{2}")),
        ("The answer is 42. There were 17.", Some("42")),
        ("we get 3, then 1,200", Some("1,200")),
        ("9 - 4", Some("4")),
        ("#### PLAN ####\nnothing", None),
        ("", None),
    ];
    for (text, expected) in cases {
        assert_eq!(extract(text, "en").as_deref(), expected, "{text}");
    }
    assert_eq!(stated("we get 3", "en"), None);
    assert_eq!(stated("Final Answer:", "en"), None);
}

proptest! {
    #[test]
    fn any_texts_are_compared(a in "(\\PC|\\\\frac|\\\\boxed|[{}(),;=0-9]){0,40}", b in "\\PC{0,40}") {
        for language in ["en", "vi"] {
            equal(&a, &b, language);
            equal(&b, &a, language);
            extract(&a, language);
        }
    }

    #[test]
    fn a_whole_number_equals_itself_only(a in 0u64..100_000, b in 0u64..100_000) {
        prop_assert_eq!(equal(&a.to_string(), &b.to_string(), "en"), a == b);
    }
}

/// Prints the agreement with the published cases, if they are there; no false equal among the clear ones.
#[test]
fn the_published_cases_hold_no_false_equal() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/answers/cases.jsonl");
    let Ok(text) = std::fs::read_to_string(path) else {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{path} is missing");
        println!("passed by: {path} is not here");
        return;
    };
    let (mut right, mut all, mut false_equals) = (0, 0, Vec::new());
    for line in text.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| case[name].as_str().unwrap();
        if field("certain") != "clear" {
            continue;
        }
        let found = equal(field("gold"), field("prediction"), field("language"));
        let wanted = case["equal"].as_bool().unwrap();
        all += 1;
        right += usize::from(found == wanted);
        if found && !wanted {
            false_equals.push(field("id").to_owned());
        } else if found != wanted {
            println!("missed {}: {} | {:.60}", field("id"), field("gold"), field("prediction"));
        }
    }
    println!("answers: {right} of {all} clear cases");
    assert!(false_equals.is_empty(), "{false_equals:?}");
    assert!(right * 100 >= all * 70, "{right} of {all}");
}
