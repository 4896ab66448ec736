//! Wire messages of `polya.v1`.
