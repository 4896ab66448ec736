//! Random numbers of tests: from a seed that is printed, and that `FAULTS_SEED` replays.

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator of a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The seed of `FAULTS_SEED`, or this one; printed, so that a failure can be replayed.
    pub fn of_test(default: u64) -> Random {
        let seed = given().unwrap_or(default);
        println!("FAULTS_SEED={seed}");
        Random(seed)
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit
    }
}

/// What `FAULTS_SEED` says.
pub fn given() -> Option<u64> {
    std::env::var("FAULTS_SEED").ok().map(|text| text.parse().expect("FAULTS_SEED is a number"))
}
