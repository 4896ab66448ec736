//! Exact rationals: machine words while they fit, integers of any size beyond.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub};

use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive};

/// An exact rational of any size, in lowest terms with a positive denominator.
///
/// A value whose numerator and denominator fit into 64 bits is always held so: equal values have equal forms.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Exact(Form);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Form {
    Small(i64, i64),
    Large(Box<BigRational>),
}
use Form::{Large, Small};

impl Exact {
    /// The quotient. Panics if `denominator` is zero.
    pub fn new(numerator: BigInt, denominator: BigInt) -> Self {
        Self::of(BigRational::new(numerator, denominator))
    }

    /// A whole number.
    pub fn from_integer(value: BigInt) -> Self {
        value.to_i64().map_or_else(|| Self::of(BigRational::from_integer(value)), Self::from)
    }

    /// The quotient of two small numbers. Panics if `denominator` is zero.
    pub fn ratio(numerator: i64, denominator: i64) -> Self {
        Self::reduced(numerator.into(), denominator.into())
    }

    /// 0
    pub const fn zero() -> Self {
        Exact(Small(0, 1))
    }

    /// 1
    pub const fn one() -> Self {
        Exact(Small(1, 1))
    }

    fn of(value: BigRational) -> Self {
        match (value.numer().to_i64(), value.denom().to_i64()) {
            (Some(numerator), Some(denominator)) => Exact(Small(numerator, denominator)),
            _ => Exact(Large(Box::new(value))),
        }
    }

    /// The operands of one operation on 64-bit numbers never leave 128 bits.
    fn reduced(numerator: i128, denominator: i128) -> Self {
        assert!(denominator != 0, "division by zero");
        if let (Ok(numerator), Ok(denominator)) = (i64::try_from(numerator), i64::try_from(denominator))
            && let Some(small) = Self::reduced_small(numerator, denominator)
        {
            return small;
        }
        let divisor = if denominator == 1 { 1 } else { numerator.gcd(&denominator) * denominator.signum() };
        let (numerator, denominator) = (numerator / divisor, denominator / divisor);
        match (i64::try_from(numerator), i64::try_from(denominator)) {
            (Ok(numerator), Ok(denominator)) => Exact(Small(numerator, denominator)),
            _ => Exact(Large(Box::new(BigRational::new_raw(numerator.into(), denominator.into())))),
        }
    }

    /// The same where everything stays in 64 bits, as nearly always.
    fn reduced_small(numerator: i64, denominator: i64) -> Option<Self> {
        if denominator == 1 {
            return Some(Exact(Small(numerator, 1)));
        }
        let (over, under) = (numerator.unsigned_abs(), denominator.unsigned_abs());
        let divisor = over.gcd(&under);
        let (over, under) = (i64::try_from(over / divisor).ok()?, i64::try_from(under / divisor).ok()?);
        Some(Exact(Small(if (numerator < 0) == (denominator < 0) { over } else { -over }, under)))
    }

    fn large(&self) -> Cow<'_, BigRational> {
        match &self.0 {
            Small(numerator, denominator) => {
                Cow::Owned(BigRational::new_raw((*numerator).into(), (*denominator).into()))
            }
            Large(value) => Cow::Borrowed(value),
        }
    }

    /// Numerator and denominator, if both fit into 64 bits.
    pub fn small(&self) -> Option<(i64, i64)> {
        match self.0 {
            Small(numerator, denominator) => Some((numerator, denominator)),
            Large(_) => None,
        }
    }

    /// The numerator; it has the sign.
    pub fn numer(&self) -> BigInt {
        self.large().numer().clone()
    }

    /// The denominator, positive.
    pub fn denom(&self) -> BigInt {
        self.large().denom().clone()
    }

    /// Bits of the numerator or the denominator, whichever has more.
    pub fn bits(&self) -> u64 {
        match &self.0 {
            Small(numerator, denominator) => {
                u64::from(u64::BITS - (numerator.unsigned_abs() | denominator.unsigned_abs()).leading_zeros())
            }
            Large(value) => value.numer().bits().max(value.denom().bits()),
        }
    }

    /// Whether it is 0.
    pub fn is_zero(&self) -> bool {
        matches!(self.0, Small(0, _))
    }

    /// Whether it is 1.
    pub fn is_one(&self) -> bool {
        matches!(self.0, Small(1, 1))
    }

    /// Whether its denominator is 1.
    pub fn is_integer(&self) -> bool {
        match &self.0 {
            Small(_, denominator) => *denominator == 1,
            Large(value) => value.is_integer(),
        }
    }

    /// Whether it is above 0.
    pub fn is_positive(&self) -> bool {
        match &self.0 {
            Small(numerator, _) => *numerator > 0,
            Large(value) => value.is_positive(),
        }
    }

    /// Whether it is below 0.
    pub fn is_negative(&self) -> bool {
        !self.is_positive() && !self.is_zero()
    }

    /// Its distance from 0.
    pub fn abs(&self) -> Self {
        if self.is_negative() { -self } else { self.clone() }
    }

    /// 1 over it. Panics if it is zero.
    pub fn recip(&self) -> Self {
        Self::one() / self
    }

    /// The next whole number below it, or itself.
    pub fn floor(&self) -> Self {
        match &self.0 {
            Small(numerator, denominator) => Exact(Small(numerator.div_euclid(*denominator), 1)),
            Large(value) => Self::of(value.floor()),
        }
    }

    /// The next whole number above it, or itself.
    pub fn ceil(&self) -> Self {
        -(-self).floor()
    }

    /// Multiplied by itself. Panics for a negative power of zero.
    pub fn pow(&self, exponent: i32) -> Self {
        Self::of(self.large().pow(exponent))
    }

    /// The nearest float.
    pub fn to_f64(&self) -> Option<f64> {
        self.large().to_f64()
    }

    /// Rounded towards 0.
    pub fn to_integer(&self) -> BigInt {
        self.large().to_integer()
    }
}

impl From<i64> for Exact {
    fn from(value: i64) -> Self {
        Exact(Small(value, 1))
    }
}

/// `n` or `n/d`.
impl fmt::Display for Exact {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Small(numerator, 1) => write!(formatter, "{numerator}"),
            Small(numerator, denominator) => write!(formatter, "{numerator}/{denominator}"),
            Large(value) => value.fmt(formatter),
        }
    }
}

impl PartialOrd for Exact {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Exact {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Small(a, b), Small(c, d)) if b == d => a.cmp(c),
            (Small(a, b), Small(c, d)) => (i128::from(*a) * i128::from(*d)).cmp(&(i128::from(*c) * i128::from(*b))),
            _ => self.large().cmp(&other.large()),
        }
    }
}

/// Whole numbers while they stay in 64 bits; `a/b` and `c/d` with the result's numerator and denominator; and the same
/// with large numbers.
macro_rules! operation {
    ($operation:ident, $method:ident, $whole:expr, |$a:ident, $b:ident, $c:ident, $d:ident| $small:expr) => {
        impl $operation<&Exact> for &Exact {
            type Output = Exact;

            #[inline]
            fn $method(self, other: &Exact) -> Exact {
                if let (Small(a, 1), Small(b, 1)) = (&self.0, &other.0)
                    && let Some(value) = $whole(*a, *b)
                {
                    return Exact(Small(value, 1));
                }
                match (&self.0, &other.0) {
                    (Small(a, b), Small(c, d)) => {
                        let ($a, $b, $c, $d) = (i128::from(*a), i128::from(*b), i128::from(*c), i128::from(*d));
                        let (numerator, denominator) = $small;
                        Exact::reduced(numerator, denominator)
                    }
                    _ => Exact::of(self.large().as_ref().$method(other.large().as_ref())),
                }
            }
        }

        impl $operation for Exact {
            type Output = Exact;

            fn $method(self, other: Exact) -> Exact {
                (&self).$method(&other)
            }
        }

        impl $operation<&Exact> for Exact {
            type Output = Exact;

            fn $method(self, other: &Exact) -> Exact {
                (&self).$method(other)
            }
        }

        impl $operation<Exact> for &Exact {
            type Output = Exact;

            fn $method(self, other: Exact) -> Exact {
                self.$method(&other)
            }
        }
    };
}

operation!(Add, add, i64::checked_add, |a, b, c, d| if b == d { (a + c, b) } else { (a * d + c * b, b * d) });
operation!(Sub, sub, i64::checked_sub, |a, b, c, d| if b == d { (a - c, b) } else { (a * d - c * b, b * d) });
operation!(Mul, mul, i64::checked_mul, |a, b, c, d| (a * c, b * d));
operation!(Div, div, divided, |a, b, c, d| (a * d, b * c));

/// The quotient of whole numbers, where it is one.
#[inline]
fn divided(over: i64, under: i64) -> Option<i64> {
    if over.checked_rem(under)? == 0 { Some(over / under) } else { None }
}

impl AddAssign for Exact {
    fn add_assign(&mut self, other: Exact) {
        *self = &*self + other;
    }
}

impl MulAssign for Exact {
    fn mul_assign(&mut self, other: Exact) {
        *self = &*self * other;
    }
}

impl Neg for &Exact {
    type Output = Exact;

    fn neg(self) -> Exact {
        match &self.0 {
            Small(numerator, denominator) if *numerator != i64::MIN => Exact(Small(-numerator, *denominator)),
            _ => Exact::of(-self.large().as_ref()),
        }
    }
}

impl Neg for Exact {
    type Output = Exact;

    fn neg(self) -> Exact {
        -&self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whole numbers around every border of the two forms.
    fn whole() -> impl Strategy<Value = i128> {
        let near = |border: i128| (-3..=3i128).prop_map(move |off| border + off);
        let (low, high) = (i128::from(i64::MIN), i128::from(i64::MAX));
        prop_oneof![
            -40..=40i128,
            near(low),
            near(high),
            near(1 << 32),
            any::<i64>().prop_map(i128::from),
            any::<i128>()
        ]
    }

    fn pair() -> impl Strategy<Value = (Exact, BigRational)> {
        (whole(), whole().prop_filter("no denominator", |value| *value != 0)).prop_map(|(over, under)| {
            (Exact::new(over.into(), under.into()), BigRational::new(over.into(), under.into()))
        })
    }

    proptest! {
        #[test]
        fn it_calculates_as_rationals_of_any_size_do(a in pair(), b in pair()) {
            let ((x, large_x), (y, large_y)) = (a, b);
            let agrees = |exact: Exact, large: BigRational| {
                prop_assert_eq!(&exact, &Exact::of(large.clone()), "one form for one value");
                prop_assert_eq!((exact.numer(), exact.denom()), large.into_raw());
                Ok(())
            };
            agrees(&x + &y, &large_x + &large_y)?;
            agrees(&x - &y, &large_x - &large_y)?;
            agrees(&x * &y, &large_x * &large_y)?;
            if !y.is_zero() {
                agrees(&x / &y, &large_x / &large_y)?;
                agrees(y.recip(), large_y.recip())?;
            }
            agrees(-&x, -&large_x)?;
            agrees(x.abs(), large_x.abs())?;
            agrees(x.floor(), large_x.floor())?;
            agrees(x.ceil(), large_x.ceil())?;
            agrees(x.pow(3), large_x.pow(3))?;
            prop_assert_eq!(x.cmp(&y), large_x.cmp(&large_y));
            prop_assert_eq!(x.is_integer(), large_x.is_integer());
            prop_assert_eq!((x.is_negative(), x.is_positive()), (large_x.is_negative(), large_x.is_positive()));
            prop_assert_eq!(x.bits(), large_x.numer().bits().max(large_x.denom().bits()));
            prop_assert_eq!(x.to_integer(), large_x.to_integer());
        }
    }

    #[test]
    fn small_values_are_equal_however_they_were_made() {
        let huge = Exact::from_integer(BigInt::from(10).pow(40));
        assert_eq!(&huge / &huge, Exact::one());
        assert_eq!(&huge - &huge, Exact::zero());
        assert_eq!(Exact::ratio(6, -8), Exact::ratio(-3, 4));
        assert_eq!(-Exact::from(i64::MIN), Exact::from_integer(-BigInt::from(i64::MIN)));
        assert_eq!(Exact::one().bits(), BigInt::from(1).bits());
    }
}
