//! AdamW as torch computes it (Loshchilov and Hutter 2019), over slices of fp32 with scalars in fp64.

/// Constants of the optimiser.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl AdamW {
    /// Step `t` (from 1) at rate `lr`: writes new parameters and moments.
    ///
    /// `p *= 1 - lr wd; m += (g - m)(1 - b1); v = b2 v + (1 - b2) g g; p -= lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 -
    /// b2^t) + eps)`, each in fp32 with fp64 scalars rounded once, element by element: no order, no reduction.
    pub fn step(
        &self,
        t: u64,
        lr: f64,
        gradient: &[f32],
        parameters: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
    ) {
        let power = |base: f64| base.powi(i32::try_from(t).unwrap_or(i32::MAX));
        let decay = (1.0 - lr * self.weight_decay) as f32;
        let lerp = (1.0 - self.beta1) as f32;
        let (beta2, rest2) = (self.beta2 as f32, (1.0 - self.beta2) as f32);
        let step_size = (lr / (1.0 - power(self.beta1))) as f32;
        let root = (1.0 - power(self.beta2)).sqrt() as f32;
        let epsilon = self.epsilon as f32;
        for (((p, m), v), g) in parameters.iter_mut().zip(first).zip(second).zip(gradient) {
            *m += (g - *m) * lerp;
            *v = beta2 * *v + rest2 * g * g;
            *p = *p * decay - step_size * (*m / (v.sqrt() / root + epsilon));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_moves_by_the_rate_against_the_sign() {
        let adamw = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
        let (mut p, mut m, mut v) = ([1.0f32, -2.0], [0.0; 2], [0.0; 2]);
        adamw.step(1, 0.1, &[0.5, -3.0], &mut p, &mut m, &mut v);
        assert!((p[0] - (1.0 * 0.999 - 0.1)).abs() < 1e-6 && (p[1] - (-2.0 * 0.999 + 0.1)).abs() < 1e-6, "{p:?}");
    }

    #[test]
    fn fifty_steps_follow_torch() {
        // The reference is torch's formula in fp64, so the two may differ by fp32 rounding only.
        let adamw = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
        let (mut p, mut m, mut v) = ([0.3f32], [0f32], [0f32]);
        let (mut rp, mut rm, mut rv) = (0.3f64, 0f64, 0f64);
        for t in 1..=50u32 {
            let g = (f64::from(t) * 0.7).sin();
            adamw.step(u64::from(t), 1e-2, &[g as f32], &mut p, &mut m, &mut v);
            rp *= 1.0 - 1e-2 * 0.01;
            rm += (g - rm) * 0.1;
            rv = 0.999 * rv + 0.001 * g * g;
            let denominator = rv.sqrt() / (1.0 - 0.999f64.powi(t as i32)).sqrt() + 1e-8;
            rp -= 1e-2 / (1.0 - 0.9f64.powi(t as i32)) * rm / denominator;
            assert!((f64::from(p[0]) - rp).abs() < 1e-6, "step {t}: {} {rp}", p[0]);
        }
    }
}
