//! The body of a completion, as a client might send it to the proxy.
//!
//! Nothing may panic, and what is made of it for prefill and decode is JSON wherever the body was.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| chariot_proxy::fuzzing::completion(bytes));
