//! Copies into shared memory.
//!
//! Bytes that are put are read next by another process, on another core, or by a device: there is no use in having
//! them in this core's cache, and fetching the lines that are about to be overwritten costs a third of the memory's
//! bandwidth. Above a size found by measuring (docs/perf.md), stores therefore go past the cache.

/// From this many bytes on, stores go past the cache.
const STREAM_FROM: usize = 32 << 10;

/// Copies `source` to `target`.
///
/// # Safety
/// `target` is valid for writes of `source.len()` bytes, does not overlap `source`, and nobody else accesses it
/// during the call.
pub unsafe fn copy_into_shared_memory(target: *mut u8, source: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    if source.len() >= STREAM_FROM && is_x86_feature_detected!("avx2") {
        // SAFETY: as the caller promises, and the processor has AVX2.
        unsafe { x86::stream(target, source) };
        return;
    }
    // SAFETY: as the caller promises.
    unsafe { std::ptr::copy_nonoverlapping(source.as_ptr(), target, source.len()) };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256i, _mm_sfence, _mm256_loadu_si256, _mm256_stream_si256};

    const LINE: usize = 64;

    /// # Safety
    /// As for `copy_into_shared_memory`; the processor has AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn stream(target: *mut u8, source: &[u8]) {
        let head = target.align_offset(LINE).min(source.len());
        let lines = (source.len() - head) / LINE;
        let tail = head + lines * LINE;
        // SAFETY: `head <= source.len()`, and the caller promises as many writable bytes.
        unsafe { std::ptr::copy_nonoverlapping(source.as_ptr(), target, head) };
        for line in 0..lines {
            let at = head + line * LINE;
            // SAFETY: `at + LINE <= tail <= source.len()`; `target + at` is aligned to a line.
            unsafe {
                let from = source.as_ptr().add(at).cast::<__m256i>();
                let to = target.add(at).cast::<__m256i>();
                let (low, high) = (_mm256_loadu_si256(from), _mm256_loadu_si256(from.add(1)));
                _mm256_stream_si256(to, low);
                _mm256_stream_si256(to.add(1), high);
            }
        }
        // SAFETY: `tail <= source.len()`, and the caller promises as many writable bytes.
        unsafe { std::ptr::copy_nonoverlapping(source.as_ptr().add(tail), target.add(tail), source.len() - tail) };
        // Streamed stores are ordered with nothing else: the message that announces the bytes must come after them.
        _mm_sfence();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_alignment_is_copied_whole() {
        let source: Vec<u8> = (0..STREAM_FROM + 4096).map(|i| (i * 31 % 251) as u8).collect();
        for len in [0, 1, 63, 4096, STREAM_FROM - 1, STREAM_FROM, STREAM_FROM + 1, STREAM_FROM + 777] {
            for shift in [0, 1, 17, 63] {
                let mut target = vec![0xEE; len + 200];
                // SAFETY: the target has room for `shift + len` bytes.
                unsafe { copy_into_shared_memory(target.as_mut_ptr().add(shift), &source[shift..shift + len]) };
                assert_eq!(target[shift..shift + len], source[shift..shift + len]);
                assert!(target[..shift].iter().chain(&target[shift + len..]).all(|byte| *byte == 0xEE));
            }
        }
    }
}
