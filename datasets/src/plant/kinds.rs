//! The kinds of error that are planted, and how often each is drawn.

use super::PlantError;
use crate::synthesize::Random;

/// A kind of error that students and small models make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The right calculation, a wrong value.
    Arithmetic,
    /// The right calculation, one too many or one too few.
    OffByOne,
    /// Another operation on the right numbers.
    Operation,
    /// Another number of the problem in the place of the right one.
    Operand,
    /// A calculation is left out; later ones use its operand as it was.
    DroppedStep,
    /// A number of the question with two digits exchanged, or one misread.
    CopiedNumber,
    /// A wrong factor between units, a percent sign overlooked, a zero or the decimal point lost.
    Unit,
    /// A subtraction the other way round, or a minus lost: read as a plus, or left off a number.
    Sign,
}

/// Names of all kinds, as `planted.kind` has them.
pub const KINDS: [&str; 8] =
    ["arithmetic", "off-by-one", "operation", "operand", "dropped-step", "copied-number", "unit", "sign"];

/// The kinds that built-in problems are trained and probed with. The recorded runs rest on them: a longer list here is
/// other data for the same seed.
pub const BUILT_IN_KINDS: [&str; 4] = ["arithmetic", "off-by-one", "operation", "operand"];

impl Kind {
    /// All kinds, in the order of [`KINDS`].
    pub const ALL: [Kind; 8] = [
        Kind::Arithmetic,
        Kind::OffByOne,
        Kind::Operation,
        Kind::Operand,
        Kind::DroppedStep,
        Kind::CopiedNumber,
        Kind::Unit,
        Kind::Sign,
    ];

    /// The name, as `planted.kind` has it.
    pub const fn name(self) -> &'static str {
        KINDS[self as usize]
    }

    /// The kind of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(super) fn is_built_in(self) -> bool {
        BUILT_IN_KINDS.contains(&self.name())
    }
}

/// Kinds with their weights: one of weight 2 is drawn twice as often as one of weight 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix(Vec<(Kind, u32)>);

impl Mix {
    /// No weight is larger.
    pub const WEIGHT_MAX: u32 = 1_000_000;

    /// Each of these kinds as often as any other.
    pub fn equal(names: &[&str]) -> Result<Self, PlantError> {
        names.iter().map(|name| Self::share(name)).collect::<Result<Vec<_>, _>>().map(Self)
    }

    /// Kinds with weights; the same kind twice is refused.
    pub fn of_shares(shares: &[(Kind, u32)]) -> Result<Self, PlantError> {
        for (index, (kind, _)) in shares.iter().enumerate() {
            if shares[..index].iter().any(|(other, _)| other == kind) {
                return Err(PlantError::KindTwice(kind.name()));
            }
        }
        Ok(Mix(shares.to_vec()))
    }

    /// Reads `kind` (weight 1) or `kind=weight`.
    pub fn share(text: &str) -> Result<(Kind, u32), PlantError> {
        let (name, weight) = text.split_once('=').unwrap_or((text, "1"));
        let kind = Kind::of_name(name).ok_or_else(|| PlantError::UnknownKind(name.to_owned()))?;
        let weight = weight.parse().ok().filter(|weight| (1..=Self::WEIGHT_MAX).contains(weight));
        weight.map(|weight| (kind, weight)).ok_or_else(|| PlantError::BadWeight(text.to_owned()))
    }

    /// The kinds with their weights, in the order in which they were given.
    pub fn shares(&self) -> &[(Kind, u32)] {
        &self.0
    }

    /// One kind by weight; none if there are none.
    pub(super) fn draw(&self, random: &mut Random) -> Option<Kind> {
        let total: i64 = self.0.iter().map(|(_, weight)| i64::from(*weight)).sum();
        if total == 0 {
            return None;
        }
        let mut left = random.range(0, total - 1);
        let drawn = self.0.iter().find(|(_, weight)| {
            left -= i64::from(*weight);
            left < 0
        });
        drawn.map(|(kind, _)| *kind)
    }

    pub(super) fn without(&self, kind: Kind) -> Self {
        Mix(self.0.iter().copied().filter(|(other, _)| *other != kind).collect())
    }

    pub(super) fn is_built_in(&self) -> bool {
        self.0.iter().all(|(kind, _)| kind.is_built_in())
    }
}

impl std::fmt::Display for Mix {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (kind, weight)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(formatter, "{comma}{}={weight}", kind.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_and_obeyed() {
        assert_eq!(Kind::ALL.map(Kind::name), KINDS);
        for (text, expected) in [
            ("unit", Ok((Kind::Unit, 1))),
            ("unit=3", Ok((Kind::Unit, 3))),
            ("unit=0", Err(PlantError::BadWeight("unit=0".into()))),
            ("unit=-1", Err(PlantError::BadWeight("unit=-1".into()))),
            ("unit=", Err(PlantError::BadWeight("unit=".into()))),
            ("typo=2", Err(PlantError::UnknownKind("typo".into()))),
        ] {
            assert_eq!(Mix::share(text), expected, "{text}");
        }
        let twice = [(Kind::Unit, 1), (Kind::Sign, 2), (Kind::Unit, 1)];
        assert_eq!(Mix::of_shares(&twice), Err(PlantError::KindTwice("unit")));
        let mix = Mix::of_shares(&[(Kind::Unit, 1), (Kind::Sign, 3)]).unwrap();
        assert_eq!(mix.to_string(), "unit=1,sign=3");
        let mut random = Random::new([1, 2, 3]);
        let signs = (0..4_000).filter(|_| mix.draw(&mut random) == Some(Kind::Sign)).count();
        assert!((2_900..3_100).contains(&signs), "{signs}");
        assert_eq!(mix.without(Kind::Unit).without(Kind::Sign).draw(&mut random), None);
    }
}
