//! A file that a user names for TLS: certificates, authorities or a key.
//!
//! Nothing may panic, and what is taken has something in it.

#![no_main]

use std::cell::RefCell;
use std::io::{Seek, Write};

use chariot_certificates::{authorities, chain, key};
use libfuzzer_sys::fuzz_target;
use tempfile::NamedTempFile;

fuzz_target!(|bytes: &[u8]| {
    thread_local! {
        static FILE: RefCell<NamedTempFile> = RefCell::new(NamedTempFile::new_in("/dev/shm").expect("there is room for a file"));
    }
    FILE.with_borrow_mut(|file| {
        let written = file.as_file().set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(bytes));
        written.expect("there is room for a file");
        assert!(!chain(file.path()).is_ok_and(|chain| chain.is_empty()));
        assert!(!authorities(file.path()).is_ok_and(|authorities| authorities.is_empty()));
        let _ = key(file.path());
    });
});
