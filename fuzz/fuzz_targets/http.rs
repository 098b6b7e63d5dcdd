//! A connection to the proxy: requests as a client might send them, whole or broken off.
//!
//! Nothing may panic or hang, no limit is passed, and nothing that speaks of the connection goes on to an instance.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| chariot_proxy::fuzzing::connection(bytes));
