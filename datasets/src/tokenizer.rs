//! The built-in base's tokenizer: byte-level BPE trained on synthesized traces, one token a digit.
//!
//! All 256 bytes are tokens, so any text survives a round trip. Digits, words, signs and line breaks are kept apart
//! before merging, so that a tag's tokens do not depend on what stands around it.

use std::io::Read;
use std::path::Path;

use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, SplitDelimiterBehavior,
    Tokenizer, TokenizerImpl,
};

use crate::sources;
use crate::synthesize::{STEPS, synthesize};

/// Ends a trace; also pads.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// What stands alone before merging: a line break, a word with its space, a digit, signs with their space.
const PIECES: &str = r"\n| ?[A-Za-z]+|[0-9]| ?[^\sA-Za-z0-9]+|\s";

/// Training or use of a tokenizer failed.
#[derive(Debug, thiserror::Error)]
#[error("tokenizer: {0}")]
pub struct TokenizerError(String);

impl From<tokenizers::Error> for TokenizerError {
    fn from(error: tokenizers::Error) -> Self {
        TokenizerError(error.to_string())
    }
}

/// Opens a model's tokenizer.json, packed or not.
pub fn open(path: &Path) -> Result<Tokenizer, TokenizerError> {
    let error = |why: &dyn std::fmt::Display| TokenizerError(format!("{}: {why}", path.display()));
    let mut bytes = Vec::new();
    sources::open::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(|why| error(&why))?;
    Tokenizer::from_bytes(bytes).map_err(|why| error(&why))
}

/// Trains the tokenizer on the first `count` problems of a seed. A function of its arguments alone.
///
/// `extra` are texts that the problems themselves do not hold (wordings of corrective traces).
pub fn train(seed: u64, count: u64, vocabulary: usize, extra: &[String]) -> Result<Tokenizer, TokenizerError> {
    let model = BPE::builder().build()?;
    let mut tokenizer: TokenizerImpl<
        BPE,
        NormalizerWrapper,
        PreTokenizerWrapper,
        PostProcessorWrapper,
        DecoderWrapper,
    > = TokenizerImpl::new(model);
    let split = Split::new(SplitPattern::Regex(PIECES.to_owned()), SplitDelimiterBehavior::Isolated, false)?;
    let bytes = ByteLevel::new(false, true, false);
    tokenizer.with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(Sequence::new(vec![split.into(), bytes.into()]))));
    tokenizer.with_decoder(Some(DecoderWrapper::ByteLevel(ByteLevelDecoder::default())));
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let mut trainer = BpeTrainerBuilder::new()
        .show_progress(false)
        .vocab_size(vocabulary)
        .min_frequency(2)
        .initial_alphabet(alphabet.into_iter().collect())
        .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
        .build();
    let texts = (0..count).map(|index| synthesize(seed, index, STEPS).canonical().text);
    tokenizer.train(&mut trainer, texts.chain(extra.iter().cloned()))?;
    let json = tokenizer.to_string(true)?;
    json.parse().map_err(TokenizerError::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_survives_and_each_digit_is_a_token() {
        let tokenizer = train(1, 500, 700, &[]).unwrap();
        for text in ["12 + 345 = 357\n", "Tiếng Việt: số học, 😀\r\n\t\u{0}", "#### VERIFY ####\n", ""] {
            let encoding = tokenizer.encode(text, false).unwrap();
            assert_eq!(tokenizer.decode(encoding.get_ids(), false).unwrap(), text);
        }
        let encoding = tokenizer.encode("4096", false).unwrap();
        assert_eq!(encoding.get_tokens(), ["4", "0", "9", "6"]);
    }

    #[test]
    fn training_twice_gives_the_same_tokenizer() {
        let once = || train(1, 300, 600, &[]).unwrap().to_string(false).unwrap();
        assert_eq!(once(), once());
    }
}
