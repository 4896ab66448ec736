//! The exact value of a tree: a quotient of polynomials over atoms.

use num_traits::{One, Signed, ToPrimitive};

use super::fraction::Fraction;
use super::node::Node;
use super::polynomial::{Atom, Exponent, Field, Polynomial, Refusal};
use crate::arithmetic::Exact;

/// Larger factorials and binomials are not multiplied out.
const FACTORIAL_MAX: u64 = 400;

impl Field {
    /// The value of a scalar tree.
    pub(super) fn value(&mut self, node: &Node) -> Result<Fraction, Refusal> {
        self.spend(1)?;
        Ok(match node {
            Node::Number { value, .. } => Fraction::rational(value.clone()),
            Node::Name(name) => {
                let atom = match name.as_str() {
                    "π" => Atom::Pi,
                    "e" => Atom::Euler,
                    "i" => Atom::Imaginary,
                    _ => Atom::Variable(name.clone()),
                };
                self.of_atom(atom)?
            }
            Node::Sum(items) => {
                let mut sum = Fraction::rational(Exact::zero());
                for item in items {
                    let item = self.value(item)?;
                    sum = self.add(&sum, &item)?;
                }
                sum
            }
            Node::Product(items) => {
                let mut product = Fraction::rational(Exact::one());
                for item in items {
                    let item = self.value(item)?;
                    product = self.times(&product, &item)?;
                }
                product
            }
            Node::Ratio(items) => match &items[..] {
                [over, under] => {
                    let (over, under) = (self.value(over)?, self.value(under)?);
                    let under = self.inverse(&under)?;
                    self.times(&over, &under)?
                }
                _ => return Err(Refusal::Undefined),
            },
            Node::Inverse(inner) => {
                let inner = self.value(inner)?;
                self.inverse(&inner)?
            }
            Node::Negative(inner) => self.value(inner)?.negated(),
            Node::Power(base, exponent) => {
                let (base, exponent) = (self.value(base)?, self.value(exponent)?);
                self.raise(&base, &exponent)?
            }
            Node::Root(index, inner) => {
                let (index, inner) = (self.value(index)?, self.value(inner)?);
                let exponent = self.inverse(&index)?;
                self.raise(&inner, &exponent)?
            }
            Node::Absolute(inner) => {
                let inner = self.value(inner)?;
                self.absolute(inner)?
            }
            Node::Degrees(inner) => {
                let (inner, pi) = (self.value(inner)?, self.of_atom(Atom::Pi)?);
                let radians = self.times(&inner, &pi)?;
                self.times(&radians, &Fraction::rational(Exact::new(1.into(), 180.into())))?
            }
            Node::Percent(inner) => {
                let inner = self.value(inner)?;
                self.times(&inner, &Fraction::rational(Exact::new(1.into(), 100.into())))?
            }
            Node::Call(name, arguments) => {
                let arguments: Result<Vec<_>, _> = arguments.iter().map(|argument| self.value(argument)).collect();
                self.call(name, arguments?)?
            }
            Node::Bracket('(', items, ')') if items.len() == 1 => self.value(&items[0])?,
            _ => return Err(Refusal::Undefined),
        })
    }

    fn of_atom(&mut self, atom: Atom) -> Result<Fraction, Refusal> {
        let number = self.intern(atom)?;
        Ok(Fraction::of(Polynomial::atom(number, Exponent::one())))
    }

    fn function(&mut self, name: &str, arguments: Vec<Fraction>) -> Result<Fraction, Refusal> {
        self.of_atom(Atom::Function(name.to_owned(), arguments))
    }

    fn absolute(&mut self, inner: Fraction) -> Result<Fraction, Refusal> {
        if let Some(sign) = self.approximate(&inner).filter(|value| value.abs() > 1e-6) {
            return Ok(if sign < 0.0 { inner.negated() } else { inner });
        }
        if inner.is_zero() {
            return Ok(inner);
        }
        let inner = if inner.over.is_mirrored() { inner.negated() } else { inner };
        self.function("abs", vec![inner])
    }

    fn call(&mut self, name: &str, arguments: Vec<Fraction>) -> Result<Fraction, Refusal> {
        let whole = |argument: &Fraction| {
            argument.value().filter(Exact::is_integer).and_then(|value| value.to_integer().to_u64())
        };
        match (name, &arguments[..]) {
            ("sin" | "cos", [angle]) => self.circular(name, angle),
            ("tan" | "cot", [angle]) => {
                let (sine, cosine) = (self.circular("sin", angle)?, self.circular("cos", angle)?);
                let (over, under) = if name == "tan" { (sine, cosine) } else { (cosine, sine) };
                let under = self.inverse(&under)?;
                self.times(&over, &under)
            }
            ("sec" | "csc", [angle]) => {
                let under = self.circular(if name == "sec" { "cos" } else { "sin" }, angle)?;
                self.inverse(&under)
            }
            ("exp", [exponent]) => {
                let base = self.of_atom(Atom::Euler)?;
                self.raise(&base, exponent)
            }
            ("ln", [inner]) => self.logarithm(inner),
            ("log", [base, inner]) => {
                let (over, under) = (self.logarithm(inner)?, self.logarithm(base)?);
                let under = self.inverse(&under)?;
                self.times(&over, &under)
            }
            ("abs", [inner]) => self.absolute(inner.clone()),
            ("floor" | "ceil", [inner]) if inner.value().is_some() => {
                let value = inner.value().unwrap_or_else(Exact::zero);
                Ok(Fraction::rational(if name == "floor" { value.floor() } else { value.ceil() }))
            }
            ("!", [inner]) => match whole(inner) {
                Some(n) if n <= FACTORIAL_MAX => Ok(Fraction::rational(
                    (1..=n).fold(Exact::one(), |product, k| product * Exact::from_integer(k.into())),
                )),
                _ => self.function("!", arguments),
            },
            ("binom", [n, k]) => match (whole(n), whole(k)) {
                (Some(n), Some(k)) if k > n => Ok(Fraction::rational(Exact::zero())),
                (Some(n), Some(k)) if n <= FACTORIAL_MAX => Ok(Fraction::rational(
                    (0..k).fold(Exact::one(), |product, j| product * Exact::new((n - j).into(), (j + 1).into())),
                )),
                _ => self.function("binom", arguments),
            },
            _ => self.function(name, arguments),
        }
    }

    /// Sine and cosine: exact at multiples of π/12, else an atom of the angle without its sign.
    fn circular(&mut self, name: &str, angle: &Fraction) -> Result<Fraction, Refusal> {
        if let Some(twelfths) = self.twelfths(angle) {
            return self.sine_of_twelfths(if name == "cos" { twelfths + 6 } else { twelfths });
        }
        if !angle.over.is_mirrored() {
            return self.function(name, vec![angle.clone()]);
        }
        let found = self.function(name, vec![angle.negated()])?;
        Ok(if name == "sin" { found.negated() } else { found })
    }

    /// The angle in twelfths of π, if that is whole.
    fn twelfths(&self, angle: &Fraction) -> Option<i64> {
        if angle.is_zero() {
            return Some(0);
        }
        let (monomial, value) = angle.over.single()?;
        let is_pi = matches!(monomial[..], [(atom, times)] if times.is_one() && self.atom(atom) == Some(&Atom::Pi));
        let turns = value / angle.under.rational()? * Exact::from_integer(12.into());
        (is_pi && turns.is_integer()).then(|| (turns.to_integer() % 24u32).to_i64())?
    }

    fn sine_of_twelfths(&mut self, twelfths: i64) -> Result<Fraction, Refusal> {
        let turned = twelfths.rem_euclid(24);
        let (sign, turned) = if turned >= 12 { (-1, turned - 12) } else { (1, turned) };
        // Quarters: coefficients of 1, √2, √3, √6 in 4 sin.
        let quarters: [(i64, i64); 2] = match turned.min(12 - turned) {
            0 => [(0, 1), (0, 1)],
            1 => [(1, 6), (-1, 2)],
            2 => [(2, 1), (0, 1)],
            3 => [(2, 2), (0, 1)],
            4 => [(2, 3), (0, 1)],
            5 => [(1, 6), (1, 2)],
            _ => [(4, 1), (0, 1)],
        };
        let mut sum = Fraction::rational(Exact::zero());
        for (times, radicand) in quarters {
            let root = self.power(&Fraction::rational(Exact::from_integer(radicand.into())), Exponent::new(1, 2))?;
            let part = self.times(&root, &Fraction::rational(Exact::new((sign * times).into(), 4.into())))?;
            sum = self.add(&sum, &part)?;
        }
        Ok(sum)
    }

    /// The natural logarithm; that of a positive monomial is a sum over its factors.
    fn logarithm(&mut self, inner: &Fraction) -> Result<Fraction, Refusal> {
        let known = inner.under.rational().and_then(|under| {
            let (monomial, value) = inner.over.single()?;
            let positive =
                |(atom, _): &(usize, Exponent)| matches!(self.atom(*atom), Some(Atom::Euler | Atom::Prime(_)));
            let value = value / under;
            (value.is_positive() && monomial.iter().all(positive)).then(|| (monomial.clone(), value))
        });
        let Some((monomial, value)) = known else { return self.function("ln", vec![inner.clone()]) };
        let mut sum = Fraction::rational(Exact::zero());
        for (atom, times) in monomial {
            let times = Fraction::rational(Exact::new((*times.numer()).into(), (*times.denom()).into()));
            let log = match self.atom(atom).cloned() {
                Some(Atom::Prime(prime)) => {
                    self.function("ln", vec![Fraction::rational(Exact::from_integer(prime))])?
                }
                _ => Fraction::rational(Exact::one()),
            };
            let part = self.times(&times, &log)?;
            sum = self.add(&sum, &part)?;
        }
        for (whole, sign) in [(value.numer(), 1), (value.denom(), -1)] {
            self.spend(200)?;
            for (prime, times) in super::fraction::factors(&whole) {
                let log = self.function("ln", vec![Fraction::rational(Exact::from_integer(prime))])?;
                let part = self.times(&log, &Fraction::rational(Exact::from_integer((sign * times).into())))?;
                sum = self.add(&sum, &part)?;
            }
        }
        Ok(sum)
    }

    /// The value as a float, if it is a real constant whose atoms are known. Only for order and signs.
    pub(super) fn approximate(&self, fraction: &Fraction) -> Option<f64> {
        let value = self.approximate_sum(&fraction.over)? / self.approximate_sum(&fraction.under)?;
        value.is_finite().then_some(value)
    }

    fn approximate_sum(&self, polynomial: &Polynomial) -> Option<f64> {
        polynomial.0.iter().try_fold(0.0, |sum, (monomial, value)| {
            let product = monomial.iter().try_fold(value.to_f64()?, |product, (atom, times)| {
                let base = match self.atom(*atom)? {
                    Atom::Pi => std::f64::consts::PI,
                    Atom::Euler => std::f64::consts::E,
                    Atom::Prime(prime) => prime.to_f64()?,
                    Atom::Radicand(inner) => self.approximate_sum(inner).filter(|value| *value >= 0.0)?,
                    Atom::Tower(base, exponent) => {
                        let exponent = self.approximate_sum(&Polynomial::term(exponent.clone(), Exact::one()))?;
                        self.approximate(base).filter(|base| *base > 0.0)?.powf(exponent)
                    }
                    Atom::Function(name, arguments) => {
                        let argument = self.approximate(arguments.first()?)?;
                        match name.as_str() {
                            "ln" if argument > 0.0 => argument.ln(),
                            "sin" => argument.sin(),
                            "cos" => argument.cos(),
                            "arctan" => argument.atan(),
                            "abs" => argument.abs(),
                            _ => return None,
                        }
                    }
                    Atom::Imaginary | Atom::Variable(_) => return None,
                };
                Some(product * base.powf(times.to_f64()?))
            })?;
            Some(sum + product)
        })
    }
}
