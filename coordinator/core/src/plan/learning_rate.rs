//! Linear warm-up from a tenth, then a cosine. Computed with `libm` alone, so that no system library changes a bit.

/// The schedule's constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRate {
    /// Highest rate.
    pub peak: f64,
    /// Rate at the end.
    pub minimum: f64,
    /// Steps of warm-up.
    pub warmup_steps: u64,
    /// Steps of the run.
    pub steps: u64,
}

impl LearningRate {
    /// Rate of a step, counted from 1.
    ///
    /// With s = step - 1: `lr * (0.1 + 0.9 s / W)` for s < W, else `lo + (lr - lo)(1 + cos(pi (s - W) / (S - W))) / 2`.
    pub fn at(&self, step: u64) -> f64 {
        let done = step.saturating_sub(1);
        if done < self.warmup_steps {
            return self.peak * (0.1 + 0.9 * done as f64 / self.warmup_steps as f64);
        }
        let span = self.steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let share = ((done - self.warmup_steps) as f64 / span).min(1.0);
        self.minimum + (self.peak - self.minimum) * (1.0 + libm::cos(core::f64::consts::PI * share)) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_warms_up_from_a_tenth_and_ends_at_the_minimum() {
        let rate = LearningRate { peak: 1e-4, minimum: 1e-6, warmup_steps: 300, steps: 1300 };
        assert!((rate.at(1) - 1e-5).abs() < 1e-12);
        assert!((rate.at(301) - 1e-4).abs() < 1e-12);
        assert!((rate.at(801) - (1e-6 + 0.5 * (1e-4 - 1e-6))).abs() < 1e-12);
        assert!((rate.at(1301) - 1e-6).abs() < 1e-12);
        assert_eq!(rate.at(5000), rate.at(1301));
    }

    #[test]
    fn fifty_steps_are_those_of_the_parity_fixtures() {
        const FIXTURE: &str = include_str!("../../../../worker/tests/fixtures/parity/rates.json");
        let json: serde_json::Value = serde_json::from_str(FIXTURE).unwrap();
        let number = |key: &str| json[key].as_f64().unwrap();
        let rates = json["rates"].as_array().unwrap();
        let warmup_steps = json["warmup_steps"].as_u64().unwrap();
        let (peak, minimum, steps) = (number("peak"), number("minimum"), rates.len() as u64);
        let rate = LearningRate { peak, minimum, warmup_steps, steps };
        for (step, expected) in (1..).zip(rates) {
            assert!((rate.at(step) / expected.as_f64().unwrap() - 1.0).abs() < 1e-11, "step {step}");
        }
    }

    #[test]
    fn a_run_without_warm_up_begins_at_the_peak() {
        let rate = LearningRate { peak: 0.5, minimum: 0.0, warmup_steps: 0, steps: 10 };
        assert_eq!(rate.at(1), 0.5);
    }
}
