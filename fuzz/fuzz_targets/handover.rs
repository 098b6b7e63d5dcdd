//! What one process tells another that goes on for it, as a version with a fault might.
//!
//! Nothing may panic, and no room may be lost: `chariot_worker::fuzzing` says what is looked at.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| chariot_worker::fuzzing::handover(bytes));
