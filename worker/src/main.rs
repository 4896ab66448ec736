//! .
fn main() {
    tch::set_num_threads(1);
    let args: Vec<String> = std::env::args().collect();
    let o = worker::pretrain::Options {
        output: args[1].clone().into(),
        seed: 2026,
        tokens: args[2].parse().unwrap(),
        batch_tokens: args[3].parse().unwrap(),
        learning_rate: args[4].parse().unwrap(),
        hidden: 128,
        layers: args[5].parse().unwrap(),
        heads: 4,
        intermediate: 384,
        vocabulary: 1024,
    };
    worker::pretrain::pretrain(&o).unwrap();
}
