//! .
fn main() {
    let t = polya_datasets::tokenizer::train(1, 4000, 1024, &[]).unwrap();
    let mut total = 0;
    for i in 0..1000 {
        let s = polya_datasets::synthesize::synthesize(5, i, 1..=6);
        let text = s.canonical().text;
        let e = t.encode(text.as_str(), false).unwrap();
        total += e.len();
        if i < 4 {
            println!("{text}\n{:?}\n", e.get_tokens());
        }
    }
    println!("{} mean tokens, vocab {}", total as f64 / 1000.0, t.get_vocab_size(true));
}
