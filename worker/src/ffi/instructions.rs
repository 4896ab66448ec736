//! Code for the widest vectors that this processor has, chosen when it runs. The sources are plain loops; only the
//! compiler's target differs, so all variants compute the same sequence of roundings.

/// Vector instructions to compile for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// 512 bits.
    Avx512,
    /// 256 bits with fused multiply-add.
    Avx2,
    /// What every processor has.
    Portable,
}

impl Class {
    /// Of this processor.
    pub(crate) fn here() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
                return Class::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Class::Avx2;
            }
        }
        Class::Portable
    }
}

/// Defines functions that are compiled once for each [`Class`] and choose at each call.
macro_rules! vectorised {
    ($($(#[$attribute:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block)*) => {$(
        $(#[$attribute])*
        #[allow(unsafe_code, clippy::too_many_arguments, reason = "the class is checked right before the call")]
        $visibility fn $name($($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments, reason = "that of the function")]
            fn body($($argument: $type),*) $(-> $result)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512dq,avx2,fma")]
            fn avx512($($argument: $type),*) $(-> $result)? { body($($argument),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($argument: $type),*) $(-> $result)? { body($($argument),*) }
            match $crate::ffi::instructions::Class::here() {
                // SAFETY: this processor has the instructions.
                #[cfg(target_arch = "x86_64")]
                $crate::ffi::instructions::Class::Avx512 => unsafe { avx512($($argument),*) },
                // SAFETY: this processor has the instructions.
                #[cfg(target_arch = "x86_64")]
                $crate::ffi::instructions::Class::Avx2 => unsafe { avx2($($argument),*) },
                _ => body($($argument),*),
            }
        }
    )*};
}
pub(crate) use vectorised;

/// Tile of a product: `c += a b` for `a` `[k][R]`, `b` `[k][W]`, `c` `[R][W]`, each element one sum in the order of k.
pub(crate) type Tile<const R: usize, const W: usize> = fn(&[[f32; R]], &[[f32; W]], &mut [[f32; W]; R]);

#[inline(always)]
fn tile<const R: usize, const W: usize>(
    a: &[[f32; R]],
    b: &[[f32; W]],
    c: &mut [[f32; W]; R],
    add: impl Fn(f32, f32, f32) -> f32,
) {
    let mut sums = *c;
    for (a, b) in a.iter().zip(b) {
        for (a, sums) in a.iter().zip(&mut sums) {
            for (b, sum) in b.iter().zip(sums) {
                *sum = add(*a, *b, *sum);
            }
        }
    }
    *c = sums;
}

/// 24 of the 32 registers hold sums.
pub(crate) fn tile_avx512(a: &[[f32; 12]], b: &[[f32; 32]], c: &mut [[f32; 32]; 12]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512dq,avx2,fma")]
        fn compiled(a: &[[f32; 12]], b: &[[f32; 32]], c: &mut [[f32; 32]; 12]) {
            tile(a, b, c, f32::mul_add);
        }
        assert_eq!(Class::here(), Class::Avx512);
        // SAFETY: this processor has the instructions.
        unsafe { compiled(a, b, c) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    tile(a, b, c, |a, b, c| a * b + c);
}

/// 12 of the 16 registers hold sums.
pub(crate) fn tile_avx2(a: &[[f32; 6]], b: &[[f32; 16]], c: &mut [[f32; 16]; 6]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn compiled(a: &[[f32; 6]], b: &[[f32; 16]], c: &mut [[f32; 16]; 6]) {
            tile(a, b, c, f32::mul_add);
        }
        assert_eq!(Class::here(), Class::Avx2);
        // SAFETY: this processor has the instructions.
        unsafe { compiled(a, b, c) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    tile(a, b, c, |a, b, c| a * b + c);
}

/// Without assuming anything.
pub(crate) fn tile_portable(a: &[[f32; 4]], b: &[[f32; 8]], c: &mut [[f32; 8]; 4]) {
    tile(a, b, c, |a, b, c| a * b + c);
}
