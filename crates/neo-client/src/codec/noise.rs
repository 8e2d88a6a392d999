//! Values that no compressor makes smaller (images, archives, ciphertext), told by a glance: to find
//! it out by compressing them costs more than all the rest of a store.

/// Bytes of a window; a longer value is looked at in several.
const WINDOW_BYTES: usize = 1024;
/// Most windows, spread evenly.
const WINDOWS_MAX: usize = 8;

/// Whether every window looks as if its bytes were drawn at random. Wrong now and then, on both
/// sides: a value with a little redundancy somewhere is sent as it is.
pub(super) fn is_noise(value: &[u8]) -> bool {
    let windows = value.len().div_ceil(WINDOW_BYTES).clamp(1, WINDOWS_MAX);
    let stride = value.len() / windows;
    let mut rest = value.chunks(stride.max(1)).take(windows);
    rest.all(|part| is_noisy(&part[..part.len().min(WINDOW_BYTES)]))
}

fn is_noisy(window: &[u8]) -> bool {
    !is_skewed(window) && !repeats(window)
}

/// Whether some bytes are so much more frequent than others that shorter codes for them pay: the
/// number of pairs of equal bytes is half as high again as in noise, and more than chance makes it.
fn is_skewed(window: &[u8]) -> bool {
    let mut counts = [0u32; 256];
    for byte in window {
        counts[usize::from(*byte)] += 1;
    }
    let pairs: u32 = counts.iter().map(|n| n * n.saturating_sub(1)).sum();
    let n = window.len() as u32;
    let in_noise = n * n.saturating_sub(1) / 256;
    pairs >= in_noise + in_noise / 2 + 24
}

/// Whether sequences of four bytes come again: one in sixteen is enough.
fn repeats(window: &[u8]) -> bool {
    let mut last = [0u32; 512];
    let mut found = 0;
    for bytes in window.windows(4) {
        let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let slot = (word.wrapping_mul(0x9e37_79b1) >> 23) as usize;
        found += usize::from(std::mem::replace(&mut last[slot], word) == word);
    }
    16 * found >= window.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed | 1;
        let step = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        };
        (0..len).map(step).collect()
    }

    #[test]
    fn what_zlib_makes_much_smaller_is_no_noise() {
        let text = include_bytes!("noise.rs");
        let hex: Vec<u8> = noise(3, 3000)
            .iter()
            .flat_map(|byte| format!("{byte:02x}").into_bytes())
            .collect();
        let repeated = noise(5, 100).repeat(10);
        for value in [&text[..], &hex, &repeated, &[0; 64], &text[..200]] {
            assert!(!is_noise(value), "{} bytes", value.len());
        }
    }

    #[test]
    fn one_window_of_text_is_enough() {
        let mut value = noise(7, 100_000);
        value[50_000..54_000].fill(b'a');
        assert!(!is_noise(&value));
    }

    proptest! {
        #[test]
        fn noise_is_noise(seed: u64, len in 64usize..20_000) {
            prop_assert!(is_noise(&noise(seed, len)));
        }
    }
}
