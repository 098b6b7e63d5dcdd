//! A value as a user might write it on a command line or in the environment.
//!
//! Nothing may panic, and what is taken is written as it is read.

#![no_main]

#[path = "../../crates/dscli/src/size.rs"]
mod size;

use std::fmt::{Debug, Display};
use std::str::FromStr;

use chariot_cluster::{ClusterName, EtcdEndpoint};
use chariot_proxy::InstanceAddress;
use chariot_types::{Key, NamespaceName, RunId, WorkerAddress};
use libfuzzer_sys::fuzz_target;
use size::Size;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    reads_back::<WorkerAddress>(text);
    reads_back::<EtcdEndpoint>(text);
    reads_back::<ClusterName>(text);
    reads_back::<NamespaceName>(text);
    reads_back::<InstanceAddress>(text);
    reads_back::<Key>(text);
    reads_back::<RunId>(text);
    if let Ok(Size(bytes)) = text.parse() {
        assert_eq!(bytes.to_string().parse::<Size>().ok(), Some(Size(bytes)));
    }
});

fn reads_back<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse::<T>().ok().as_ref(), Some(&value));
    }
}
