//! Polynomials with exact coefficients over atoms: variables, π, e, i, roots and functions of such.
//!
//! A monomial maps atoms to positive rational exponents. Every rewriting below is an identity, so two polynomials whose
//! difference is empty are equal; the converse is not promised (an unknown relation of atoms is a missed equality).
//! Roots of distinct primes are linearly independent over the rationals (Besicovitch 1940), so for them it holds too.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use num_rational::Ratio;
use num_traits::Zero;

use super::fraction::Fraction;
use crate::arithmetic::Exact;

/// An exponent of an atom.
pub(super) type Exponent = Ratio<i64>;
/// Atoms by number, sorted, with their exponents.
pub(super) type Monomial = Vec<(usize, Exponent)>;

/// No exponent of an atom, over or under, is larger.
const EXPONENT_MAX: i64 = 20_000;
/// No coefficient has more bits, over or under.
pub(super) const BITS_MAX: u64 = 20_000;
/// Products of two terms in one comparison.
const STEPS_MAX: u32 = 20_000;
const TERMS_MAX: usize = 2_000;

/// Why a value is not worked out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    TooLarge,
    /// Division by zero, or a structure where a number belongs.
    Undefined,
}

/// What cannot be taken apart any further.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Atom {
    Imaginary,
    Pi,
    Euler,
    /// A whole number above 1 that has only broken exponents.
    Prime(BigInt),
    Variable(String),
    /// A polynomial that has only broken exponents.
    Radicand(Polynomial),
    /// A base to the power of one monomial (coefficient 1): the rest is in the exponent.
    Tower(Fraction, Monomial),
    Function(String, Vec<Fraction>),
}

/// A sum of monomials with their coefficients, none of them zero.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Polynomial(pub(super) BTreeMap<Monomial, Exact>);

impl Polynomial {
    pub(super) fn constant(value: Exact) -> Self {
        Polynomial::term(Vec::new(), value)
    }

    pub(super) fn one() -> Self {
        Polynomial::constant(Exact::one())
    }

    pub(super) fn term(monomial: Monomial, coefficient: Exact) -> Self {
        let mut terms = BTreeMap::new();
        if !coefficient.is_zero() {
            terms.insert(monomial, coefficient);
        }
        Polynomial(terms)
    }

    pub(super) fn atom(atom: usize, exponent: Exponent) -> Self {
        Polynomial::term(if exponent.is_zero() { Vec::new() } else { vec![(atom, exponent)] }, Exact::one())
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    /// The value, if it holds no atom.
    pub(super) fn rational(&self) -> Option<Exact> {
        match self.0.iter().next() {
            None => Some(Exact::zero()),
            Some((monomial, value)) => (self.0.len() == 1 && monomial.is_empty()).then(|| value.clone()),
        }
    }

    /// The only term, if there is one.
    pub(super) fn single(&self) -> Option<(&Monomial, &Exact)> {
        if self.0.len() == 1 { self.0.iter().next() } else { None }
    }

    pub(super) fn scaled(&self, factor: &Exact) -> Self {
        if factor.is_zero() {
            return Polynomial::default();
        }
        Polynomial(self.0.iter().map(|(monomial, value)| (monomial.clone(), value * factor)).collect())
    }

    pub(super) fn plus(&self, other: &Polynomial) -> Self {
        let mut sum = self.clone();
        for (monomial, value) in &other.0 {
            sum.add(monomial.clone(), value.clone());
        }
        sum
    }

    pub(super) fn minus(&self, other: &Polynomial) -> Self {
        self.plus(&other.scaled(&-Exact::one()))
    }

    fn add(&mut self, monomial: Monomial, value: Exact) {
        let entry = self.0.entry(monomial).or_insert_with(Exact::zero);
        *entry += value;
        if entry.is_zero() {
            self.0.retain(|_, value| !value.is_zero());
        }
    }

    /// Whether the first coefficient is negative: of `p` and `-p` just one has it so.
    pub(super) fn is_mirrored(&self) -> bool {
        self.0.values().next_back().is_some_and(|value| *value < Exact::zero())
    }
}

pub(super) fn is_small(value: &Exact) -> bool {
    value.bits() <= BITS_MAX
}

/// The atoms of one comparison, and what it may still cost.
#[derive(Debug, Default)]
pub(super) struct Field {
    atoms: Vec<Atom>,
    steps: u32,
}

impl Field {
    pub(super) fn atom(&self, number: usize) -> Option<&Atom> {
        self.atoms.get(number)
    }

    /// The number of an atom: that of an equal one if there is one.
    pub(super) fn intern(&mut self, atom: Atom) -> Result<usize, Refusal> {
        for number in 0..self.atoms.len() {
            let same = match (&self.atoms[number].clone(), &atom) {
                (Atom::Function(name, known), Atom::Function(other, wanted))
                    if name == other && known.len() == wanted.len() =>
                {
                    let mut same = true;
                    for (a, b) in known.iter().zip(wanted) {
                        same = same && self.equal(a, b)?;
                    }
                    same
                }
                (Atom::Tower(known, over), Atom::Tower(wanted, other)) => over == other && self.equal(known, wanted)?,
                (known, wanted) => *known == *wanted,
            };
            if same {
                return Ok(number);
            }
        }
        if self.atoms.len() > 300 {
            return Err(Refusal::TooLarge);
        }
        self.atoms.push(atom);
        Ok(self.atoms.len() - 1)
    }

    pub(super) fn spend(&mut self, steps: usize) -> Result<(), Refusal> {
        self.steps = self.steps.saturating_add(u32::try_from(steps).unwrap_or(u32::MAX));
        if self.steps > STEPS_MAX { Err(Refusal::TooLarge) } else { Ok(()) }
    }

    pub(super) fn multiply(&mut self, a: &Polynomial, b: &Polynomial) -> Result<Polynomial, Refusal> {
        self.multiply_at(a, b, 0)
    }

    fn multiply_at(&mut self, a: &Polynomial, b: &Polynomial, depth: u32) -> Result<Polynomial, Refusal> {
        if depth > 40 {
            return Err(Refusal::TooLarge);
        }
        self.spend(a.0.len() * b.0.len())?;
        let mut product = Polynomial::default();
        for (a_monomial, a_value) in &a.0 {
            for (b_monomial, b_value) in &b.0 {
                let value = a_value * b_value;
                // A product of large coefficients costs more than one step.
                self.spend((value.numer().bits() / 512) as usize)?;
                if !is_small(&value) {
                    return Err(Refusal::TooLarge);
                }
                let (monomial, value, rest) = self.reduce(&joined(a_monomial, b_monomial)?, value)?;
                let mut part = Polynomial::term(monomial, value);
                for factor in rest {
                    part = self.multiply_at(&part, &factor, depth + 1)?;
                }
                for (monomial, value) in part.0 {
                    product.add(monomial, value);
                }
                if product.0.len() > TERMS_MAX {
                    return Err(Refusal::TooLarge);
                }
            }
        }
        Ok(product)
    }

    /// Brings the exponents of a monomial into range: `i² = -1`, whole powers of primes and radicands, `sin² = 1 - cos²`.
    fn reduce(&mut self, monomial: &Monomial, mut value: Exact) -> Result<(Monomial, Exact, Vec<Polynomial>), Refusal> {
        let (mut kept, mut rest) = (Monomial::new(), Vec::new());
        for (number, exponent) in monomial {
            let (mut exponent, floor) = (*exponent, exponent.floor().to_integer());
            match self.atoms.get(*number) {
                Some(Atom::Imaginary) if exponent.is_integer() => {
                    if floor.rem_euclid(4) >= 2 {
                        value = -value;
                    }
                    exponent = Exponent::from_integer(floor.rem_euclid(2));
                }
                Some(Atom::Prime(prime)) if floor >= 1 => {
                    if prime.bits().saturating_mul(floor.unsigned_abs()) > BITS_MAX {
                        return Err(Refusal::TooLarge);
                    }
                    value *= Exact::from_integer(num_traits::pow(prime.clone(), floor as usize));
                    exponent -= floor;
                }
                Some(Atom::Radicand(inner)) if floor >= 1 => {
                    let inner = inner.clone();
                    exponent -= floor;
                    if floor > 60 {
                        return Err(Refusal::TooLarge);
                    }
                    rest.extend(std::iter::repeat_n(inner, floor as usize));
                }
                Some(Atom::Function(name, arguments)) if name == "sin" && floor >= 2 => {
                    let cosine = self.intern(Atom::Function("cos".to_owned(), arguments.clone()))?;
                    let square = Polynomial::atom(cosine, Exponent::from_integer(2));
                    exponent -= floor - floor % 2;
                    if floor > 60 {
                        return Err(Refusal::TooLarge);
                    }
                    let inner = Polynomial::one().minus(&square);
                    rest.extend(std::iter::repeat_n(inner, (floor / 2) as usize));
                }
                _ => {}
            }
            if !exponent.is_zero() {
                kept.push((*number, exponent));
            }
        }
        Ok((kept, value, rest))
    }
}

/// The product of two monomials.
fn joined(a: &Monomial, b: &Monomial) -> Result<Monomial, Refusal> {
    let mut all: BTreeMap<usize, Exponent> = a.iter().copied().collect();
    for (atom, exponent) in b {
        let sum = all.get(atom).copied().unwrap_or_default() + exponent;
        all.insert(*atom, bounded(sum)?);
    }
    Ok(all.into_iter().filter(|(_, exponent)| !exponent.is_zero()).collect())
}

/// Refuses exponents that are too large to calculate with.
pub(super) fn bounded(exponent: Exponent) -> Result<Exponent, Refusal> {
    let small = exponent.numer().abs() <= EXPONENT_MAX && *exponent.denom() <= EXPONENT_MAX;
    if small { Ok(exponent) } else { Err(Refusal::TooLarge) }
}
