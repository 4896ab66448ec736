//! Quotients of polynomials, their powers and roots; equality by cross multiplication.

use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::polynomial::{Atom, Exponent, Field, Polynomial, Refusal, bounded, is_small};
use crate::arithmetic::Exact;

/// Primes up to here are taken out of radicands.
const PRIME_MAX: u32 = 10_000;
/// Larger powers of a sum are not multiplied out.
const POWER_MAX: i64 = 200;

/// `over / under`; `under` is not the empty polynomial.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fraction {
    pub(super) over: Polynomial,
    pub(super) under: Polynomial,
}

impl Fraction {
    pub(super) fn of(over: Polynomial) -> Self {
        Fraction { over, under: Polynomial::one() }
    }

    pub(super) fn rational(value: Exact) -> Self {
        Fraction::of(Polynomial::constant(value))
    }

    /// The value, if it holds no atom.
    pub(super) fn value(&self) -> Option<Exact> {
        let under = self.under.rational().filter(|under| !under.is_zero())?;
        Some(self.over.rational()? / under)
    }

    pub(super) fn is_zero(&self) -> bool {
        self.over.is_zero()
    }

    pub(super) fn negated(&self) -> Self {
        Fraction { over: self.over.scaled(&-Exact::one()), under: self.under.clone() }
    }

    /// Takes a rational denominator into the numerator.
    fn tidied(self) -> Self {
        match self.under.rational() {
            Some(under) if !under.is_zero() && !under.is_one() => Fraction::of(self.over.scaled(&under.recip())),
            _ => self,
        }
    }
}

impl Field {
    pub(super) fn equal(&mut self, a: &Fraction, b: &Fraction) -> Result<bool, Refusal> {
        if a.under == b.under {
            return Ok(a.over == b.over);
        }
        Ok(self.multiply(&a.over, &b.under)? == self.multiply(&b.over, &a.under)?)
    }

    pub(super) fn add(&mut self, a: &Fraction, b: &Fraction) -> Result<Fraction, Refusal> {
        if a.under == b.under {
            return Ok(Fraction { over: a.over.plus(&b.over), under: a.under.clone() });
        }
        let over = self.multiply(&a.over, &b.under)?.plus(&self.multiply(&b.over, &a.under)?);
        Ok(Fraction { over, under: self.multiply(&a.under, &b.under)? }.tidied())
    }

    pub(super) fn times(&mut self, a: &Fraction, b: &Fraction) -> Result<Fraction, Refusal> {
        let under = self.multiply(&a.under, &b.under)?;
        if under.is_zero() {
            return Err(Refusal::Undefined);
        }
        Ok(Fraction { over: self.multiply(&a.over, &b.over)?, under }.tidied())
    }

    pub(super) fn inverse(&mut self, a: &Fraction) -> Result<Fraction, Refusal> {
        if a.over.is_zero() {
            return Err(Refusal::Undefined);
        }
        Ok(Fraction { over: a.under.clone(), under: a.over.clone() }.tidied())
    }

    /// `base ^ exponent`.
    pub(super) fn raise(&mut self, base: &Fraction, exponent: &Fraction) -> Result<Fraction, Refusal> {
        if let Some(exponent) = exponent.value() {
            let (over, under) = (exponent.numer().to_i64(), exponent.denom().to_i64());
            let (Some(over), Some(under)) = (over, under) else { return Err(Refusal::TooLarge) };
            return self.power(base, bounded(Exponent::new(over, under))?);
        }
        if exponent.under.rational().is_none_or(|under| !under.is_one()) || base.is_zero() {
            let atom = self.intern(Atom::Function("power".to_owned(), vec![base.clone(), exponent.clone()]))?;
            return Ok(Fraction::of(Polynomial::atom(atom, Exponent::one())));
        }
        let mut product = Fraction::rational(Exact::one());
        for (monomial, coefficient) in exponent.over.0.clone() {
            let (Some(over), Some(under)) = (coefficient.numer().to_i64(), coefficient.denom().to_i64()) else {
                return Err(Refusal::TooLarge);
            };
            let share = bounded(Exponent::new(over, under))?;
            let part = if monomial.is_empty() {
                self.power(base, share)?
            } else {
                let mut part = Fraction::rational(Exact::one());
                for (factor, times) in self.tower_bases(base) {
                    let atom = self.intern(Atom::Tower(factor, monomial.clone()))?;
                    let times = bounded(share * times)?;
                    let tower = Fraction::of(Polynomial::atom(atom, times.abs()));
                    let tower = if times.is_negative() { self.inverse(&tower)? } else { tower };
                    part = self.times(&part, &tower)?;
                }
                part
            };
            product = self.times(&product, &part)?;
        }
        Ok(product)
    }

    /// The bases that `base^x` is a product of: a positive rational by its primes, so that `4^x = (2^x)^2`.
    fn tower_bases(&mut self, base: &Fraction) -> Vec<(Fraction, Exponent)> {
        let Some(value) = base.value().filter(Exact::is_positive) else {
            return vec![(base.clone(), Exponent::one())];
        };
        let mut found = Vec::new();
        for (whole, sign) in [(value.numer(), 1), (value.denom(), -1)] {
            for (prime, times) in factors(&whole) {
                found.push((Fraction::rational(Exact::from_integer(prime)), Exponent::from_integer(sign * times)));
            }
        }
        found
    }

    /// `base ^ exponent` for a rational exponent.
    pub(super) fn power(&mut self, base: &Fraction, exponent: Exponent) -> Result<Fraction, Refusal> {
        if exponent.is_negative() {
            let inverse = self.inverse(base)?;
            return self.power(&inverse, -exponent);
        }
        if exponent.is_integer() {
            let (over, under) = (
                self.whole_power(&base.over, exponent.to_integer())?,
                self.whole_power(&base.under, exponent.to_integer())?,
            );
            return Ok(Fraction { over, under }.tidied());
        }
        if let Some(value) = base.value() {
            return self.rational_power(&value, exponent);
        }
        if let Some(found) = self.denested(base, exponent)? {
            return Ok(found);
        }
        match (base.over.single(), base.under.rational()) {
            (Some((monomial, coefficient)), Some(under)) if coefficient.is_positive() && self.splits(monomial) => {
                let mut product = self.rational_power(&(coefficient / under), exponent)?;
                for (atom, times) in monomial.clone() {
                    let factor = Polynomial::atom(atom, bounded(times * exponent)?);
                    // Through the product, which reduces whole powers.
                    product = self.times(&product, &Fraction::of(factor))?;
                }
                Ok(product)
            }
            (_, Some(_)) => {
                // A positive rational content comes out of the root.
                let content = content(&base.over);
                let inner = base.over.scaled(&content.recip());
                let atom = self.intern(Atom::Radicand(inner))?;
                let outer = self.rational_power(&content, exponent)?;
                self.times(&outer, &Fraction::of(Polynomial::atom(atom, exponent)))
            }
            _ => {
                let share = Exact::new((*exponent.numer()).into(), (*exponent.denom()).into());
                let arguments = vec![base.clone(), Fraction::rational(share)];
                let atom = self.intern(Atom::Function("power".to_owned(), arguments))?;
                Ok(Fraction::of(Polynomial::atom(atom, Exponent::one())))
            }
        }
    }

    /// Whether the root of a monomial is the product of the roots: positive atoms, and at most one other, to the first.
    fn splits(&self, monomial: &[(usize, Exponent)]) -> bool {
        let mut others = monomial.iter().filter(|(atom, _)| !self.is_positive(*atom));
        others.next().is_none_or(|(_, times)| times.is_one()) && others.next().is_none()
    }

    fn is_positive(&self, atom: usize) -> bool {
        match self.atom(atom) {
            Some(Atom::Pi | Atom::Euler | Atom::Prime(_)) => true,
            Some(Atom::Tower(base, exponent)) => {
                let imaginary = exponent.iter().any(|(atom, _)| self.atom(*atom) == Some(&Atom::Imaginary));
                let euler = base.over.single().is_some_and(|(monomial, value)| {
                    value.is_positive() && monomial.iter().all(|(atom, _)| self.atom(*atom) == Some(&Atom::Euler))
                });
                !imaginary && (euler || base.value().is_some_and(|value| value.is_positive()))
            }
            _ => false,
        }
    }

    fn whole_power(&mut self, base: &Polynomial, exponent: i64) -> Result<Polynomial, Refusal> {
        let Ok(count) = u32::try_from(exponent) else { return Err(Refusal::TooLarge) };
        if let Some(value) = base.rational() {
            let bits = value.bits();
            if bits > 1 && bits.saturating_mul(u64::from(count)) > super::polynomial::BITS_MAX {
                return Err(Refusal::TooLarge);
            }
            let count = i32::try_from(count).map_err(|_| Refusal::TooLarge)?;
            return Ok(Polynomial::constant(value.pow(count)));
        }
        if let Some((monomial, value)) = base.single().filter(|(_, value)| value.is_one()) {
            let raised: Result<Vec<_>, Refusal> =
                monomial.iter().map(|(atom, times)| Ok((*atom, bounded(times * exponent)?))).collect();
            let raised = Polynomial::term(raised?, value.clone());
            return self.multiply(&raised, &Polynomial::one());
        }
        if exponent > POWER_MAX {
            return Err(Refusal::TooLarge);
        }
        let mut product = Polynomial::one();
        for _ in 0..count {
            product = self.multiply(&product, base)?;
        }
        Ok(product)
    }

    /// A rational to a positive broken exponent, by its primes: `√8 = 2√2`, `√(1/2) = √2 / 2`, `√-3 = i√3`.
    fn rational_power(&mut self, value: &Exact, exponent: Exponent) -> Result<Fraction, Refusal> {
        let mut product = Polynomial::one();
        if value.is_negative() {
            match (*exponent.numer(), *exponent.denom()) {
                (times, 2) => {
                    let i = self.intern(Atom::Imaginary)?;
                    let power = Polynomial::atom(i, Exponent::from_integer(times.rem_euclid(4)));
                    product = self.multiply(&power, &Polynomial::one())?;
                }
                // The real root, as school books have it.
                (times, under) if under.is_odd() => {
                    product = if times.is_odd() { product.scaled(&-Exact::one()) } else { product };
                }
                _ => {
                    let share = Exact::new((*exponent.numer()).into(), (*exponent.denom()).into());
                    let arguments = vec![Fraction::rational(value.clone()), Fraction::rational(share)];
                    let atom = self.intern(Atom::Function("power".to_owned(), arguments))?;
                    return Ok(Fraction::of(Polynomial::atom(atom, Exponent::one())));
                }
            }
        }
        if value.is_zero() {
            return Ok(Fraction::rational(Exact::zero()));
        }
        for (whole, sign) in [(value.numer().abs(), 1), (value.denom(), -1)] {
            self.spend(200)?;
            for (prime, times) in factors(&whole) {
                let times = bounded(exponent * times * sign)?;
                let floor = times.floor().to_integer();
                if prime.bits().saturating_mul(floor.unsigned_abs()) > super::polynomial::BITS_MAX {
                    return Err(Refusal::TooLarge);
                }
                let whole = Exact::from_integer(prime.clone()).pow(floor as i32);
                let rest = times - floor;
                let factor = if rest.is_zero() {
                    Polynomial::one()
                } else {
                    Polynomial::atom(self.intern(Atom::Prime(prime))?, rest)
                };
                product = self.multiply(&product, &factor.scaled(&whole))?;
            }
        }
        Ok(Fraction::of(product))
    }

    /// `√(a + b√c) = √x ± √y` with rational x and y, where `a² - b²c` is the square of a rational.
    fn denested(&mut self, base: &Fraction, exponent: Exponent) -> Result<Option<Fraction>, Refusal> {
        if *exponent.denom() != 2 || base.under.rational().is_none() || base.over.0.len() != 2 {
            return Ok(None);
        }
        let mut terms = base.over.0.clone().into_iter();
        let (Some((empty, whole)), Some((monomial, root))) = (terms.next(), terms.next()) else { return Ok(None) };
        let half = Exponent::new(1, 2);
        let primes =
            monomial.iter().all(|(atom, times)| *times == half && matches!(self.atom(*atom), Some(Atom::Prime(_))));
        if !empty.is_empty() || !primes || !whole.is_positive() {
            return Ok(None);
        }
        let surd = Polynomial::term(monomial, root.clone());
        let Some(square) = self.multiply(&surd, &surd)?.rational() else { return Ok(None) };
        let Some(difference) = exact_root(&(&whole * &whole - square)) else { return Ok(None) };
        let two = Exact::from_integer(2.into());
        let (x, y) = ((&whole + &difference) / &two, (&whole - &difference) / &two);
        if !x.is_positive() || !y.is_positive() {
            return Ok(None);
        }
        let (x, y) = (self.rational_power(&x, half)?, self.rational_power(&y, half)?);
        let sum = self.add(&x, &if root.is_negative() { y.negated() } else { y })?;
        Ok(Some(self.power(&sum, Exponent::from_integer(*exponent.numer()))?))
    }
}

/// The square root of a rational that has a rational one.
fn exact_root(value: &Exact) -> Option<Exact> {
    if value.is_negative() {
        return None;
    }
    let (over, under) = (value.numer().sqrt(), value.denom().sqrt());
    (&over * &over == value.numer() && &under * &under == value.denom()).then(|| Exact::new(over, under))
}

/// The positive rational that leaves whole coefficients without a common divisor.
fn content(polynomial: &Polynomial) -> Exact {
    let mut coefficients = polynomial.0.values();
    let Some(first) = coefficients.next() else { return Exact::one() };
    let (mut over, mut under) = (first.numer().abs(), first.denom());
    for value in coefficients {
        (over, under) = (over.gcd(&value.numer()), under.lcm(&value.denom()));
    }
    let content = Exact::new(over, under);
    if is_small(&content) && !content.is_zero() { content } else { Exact::one() }
}

/// Prime factors up to [`PRIME_MAX`] of a positive number with how often each divides it; what is left counts as one.
pub(super) fn factors(whole: &BigInt) -> Vec<(BigInt, i64)> {
    let (mut found, mut rest) = (Vec::new(), whole.clone());
    if rest.bits() > 2_000 {
        return vec![(rest, 1)];
    }
    let mut divisor = 2u32;
    while divisor <= PRIME_MAX && !rest.is_one() {
        let mut times = 0;
        while (&rest % divisor).is_zero() {
            rest /= divisor;
            times += 1;
        }
        if times > 0 {
            found.push((BigInt::from(divisor), times));
        }
        if BigInt::from(divisor) * divisor > rest {
            break;
        }
        divisor += if divisor == 2 { 1 } else { 2 };
    }
    if !rest.is_one() {
        let root = rest.sqrt();
        let square = &root * &root == rest;
        let known = found.iter().position(|(prime, _)| *prime == rest);
        match known {
            Some(at) => found[at].1 += 1,
            None if square => found.push((root, 2)),
            None => found.push((rest, 1)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fall_into_primes() {
        let list =
            |n: i64| factors(&BigInt::from(n)).iter().map(|(p, t)| (p.to_i64().unwrap(), *t)).collect::<Vec<_>>();
        assert_eq!(list(1), vec![]);
        assert_eq!(list(72), vec![(2, 3), (3, 2)]);
        assert_eq!(list(452), vec![(2, 2), (113, 1)]);
        assert_eq!(list(10_007 * 10_007), vec![(10_007, 2)]);
    }
}
