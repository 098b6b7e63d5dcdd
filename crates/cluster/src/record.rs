//! [`Record`]: what a worker says of itself in etcd.
//!
//! Whoever can write to etcd can write anything there, so a record is believed no more than its form allows.

use chariot_types::{Member, RunId, WorkerAddress};
use serde::{Deserialize, Serialize};

use crate::host::Host;

/// More bytes than this are no record.
pub(crate) const MAX_RECORD: usize = 1024;

/// What a worker says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(with = "text")]
    pub(crate) address: WorkerAddress,
    #[serde(with = "text")]
    pub(crate) run: RunId,
    /// What workers speak with each other.
    pub(crate) protocol: u32,
    /// Where it runs.
    #[serde(flatten)]
    pub(crate) host: Host,
}

/// Why a value is not the record of a worker that this one can speak with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("it has {length} bytes, and a record at most {MAX_RECORD}")]
    TooLong { length: usize },
    #[error("it is no record of a worker")]
    NotARecord {
        #[from]
        source: serde_json::Error,
    },
    #[error("it stands under another address than its own, `{address}`")]
    AnotherAddress { address: WorkerAddress },
    #[error(
        "the worker speaks version {theirs} of the workers' protocol, and this one version {}",
        chariot_wire::PEER_VERSION
    )]
    AnotherProtocol { theirs: u32 },
}

impl Record {
    pub(crate) fn new(me: &Member, host: Host) -> Self {
        Self { address: me.address.clone(), run: me.run, protocol: chariot_wire::PEER_VERSION, host }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and texts can be written")
    }

    /// The record in `value`, whoever wrote it.
    pub(crate) fn decode(value: &[u8]) -> Result<Self, RecordError> {
        match value.len() {
            length if length > MAX_RECORD => Err(RecordError::TooLong { length }),
            _ => Ok(serde_json::from_slice(value)?),
        }
    }

    /// The member whose record stands under `name`, if this worker can speak with it.
    pub(crate) fn member(name: &str, value: &[u8]) -> Result<Member, RecordError> {
        let Self { address, run, protocol, .. } = Self::decode(value)?;
        if address.to_string() != name {
            return Err(RecordError::AnotherAddress { address });
        }
        if protocol != chariot_wire::PEER_VERSION {
            return Err(RecordError::AnotherProtocol { theirs: protocol });
        }
        Ok(Member { run, address })
    }
}

/// Values that are texts in JSON.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(value: &impl Display, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(from: D) -> Result<T, D::Error> {
        String::deserialize(from)?.parse().map_err(Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> Record {
        let me = Member { run: RunId::from_bytes([0xab; 16]), address: "node-1:31501".parse().unwrap() };
        Record::new(&me, Host { host: "boot/7".into(), host_name: "node-1".into() })
    }

    #[test]
    fn records_do_not_change_between_releases() {
        let text = String::from_utf8(record().encode()).unwrap();
        let run = "ab".repeat(16);
        let rest = r#""protocol":1,"host":"boot/7","host_name":"node-1"}"#;
        assert_eq!(text, format!(r#"{{"address":"node-1:31501","run":"{run}",{rest}"#));
    }

    #[test]
    fn a_record_may_say_more_than_this_release_knows() {
        let text = String::from_utf8(record().encode()).unwrap().replace('{', r#"{"zone":[1,2],"#);
        assert_eq!(Record::decode(text.as_bytes()).unwrap(), record());
    }

    #[test]
    fn what_is_no_record_is_refused_in_words() {
        let said = |name: &str, value: &[u8]| Record::member(name, value).unwrap_err().to_string();
        let other = Record { protocol: 99, ..record() };
        assert!(said("node-1:31501", &[b' '; MAX_RECORD + 1]).contains("1025 bytes"));
        assert!(said("node-1:31501", b"{}").contains("no record"));
        assert!(said("node-2:31501", &record().encode()).contains("`node-1:31501`"));
        assert!(said("node-1:31501", &other.encode()).contains("version 99"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_are_refused(value in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Record::member("node-1:31501", &value);
        }

        #[test]
        fn a_record_with_a_wrong_byte_is_itself_or_another_or_refused(at in 0_usize..90, byte: u8) {
            let mut value = record().encode();
            value[at] = byte;
            if let Ok(found) = Record::decode(&value) {
                prop_assert_eq!(Record::decode(&found.encode()).unwrap(), found);
            }
        }
    }
}
