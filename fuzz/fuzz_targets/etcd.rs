//! What etcd answers, as whoever can write there, or answers in its place, would have it.
//!
//! Nothing may panic, and what is no record of a worker is nobody's: `chariot_cluster::fuzzing` says what is looked at.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| chariot_cluster::fuzzing::answer(bytes));
