//! The surgery on request bodies: one client request becomes a prefill request and a decode request.
//!
//! A body is looked at one level deep. Every value is kept as the bytes the client sent, so a number of any size, a
//! repeated key inside a message or a field that vLLM will only learn next year goes through as it came. Only the fields
//! named here change. Knows JSON and the names of the OpenAI and vLLM fields; knows no HTTP.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use chariot_types::WorkerAddress;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

#[cfg(test)]
mod tests;

const TRANSFER_PARAMS: &str = "kv_transfer_params";

/// In a client's `kv_transfer_params`: see docs/connector.md.
const PIN_SECONDS: &str = "pin_seconds";

/// What asks a prefill instance to compute a KV cache that another instance will use: the fields that vLLM's own
/// prefill-and-decode proxies send.
const ASK_PREFILL: &str = concat!(
    r#""do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,"#,
    r#""remote_block_ids":null,"remote_host":null,"remote_port":null"#
);

/// What tells a decode instance that the KV cache is on its way.
const AWAIT_PREFILL: &str = concat!(
    r#"{"do_remote_prefill":true,"do_remote_decode":false,"remote_engine_id":null,"#,
    r#""remote_block_ids":null,"remote_host":null,"remote_port":null}"#
);

/// A JSON object, its values untouched. Keys keep their order and their repetitions.
pub(crate) struct Object<'a> {
    fields: Vec<(Key<'a>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// Reads the body of a request or a reply. An error means that it is no JSON or no object.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }

    /// The prefill request: one token, in one piece, and the KV cache kept for another instance, whose node's data worker
    /// is `next` where it is known.
    pub(crate) fn for_prefill(&self, next: Option<&WorkerAddress>) -> Bytes {
        let mut ask = format!("{{{ASK_PREFILL}");
        if let Some(worker) = next {
            // An address is made of characters that JSON takes as they are.
            ask.push_str(&format!(r#","decode_worker":"{worker}""#));
        }
        if let Some(seconds) = self.pin_seconds() {
            ask.push_str(&format!(r#","{PIN_SECONDS}":{seconds}"#));
        }
        ask.push('}');
        let mut edit = Edit::of(self);
        edit.remove("stream_options");
        // A least number of tokens above the one allowed is an error in vLLM.
        edit.remove("min_tokens");
        edit.set("stream", "false");
        edit.set("max_tokens", "1");
        // vLLM prefers this one over `max_tokens` where both are there.
        edit.replace("max_completion_tokens", "1");
        // Further samples would repeat the prompt's work and are thrown away.
        edit.replace("n", "1");
        edit.replace("best_of", "1");
        edit.set(TRANSFER_PARAMS, &ask);
        edit.finish()
    }

    /// The decode request: the client's, with what prefill returned.
    pub(crate) fn for_decode(&self, params: &RawValue) -> Bytes {
        let mut edit = Edit::of(self);
        edit.set(TRANSFER_PARAMS, params.get());
        edit.finish()
    }

    /// The decode request that is sent before prefill has answered.
    pub(crate) fn for_waiting_decode(&self) -> Bytes {
        let mut edit = Edit::of(self);
        edit.set(TRANSFER_PARAMS, AWAIT_PREFILL);
        edit.finish()
    }

    /// For how long the client wants the prompt's KV cache to be kept before others', if it says so: all of its own
    /// `kv_transfer_params` that means something to prefill.
    fn pin_seconds(&self) -> Option<&'a str> {
        let own: Object<'a> = serde_json::from_str(self.transfer_params()?.get()).ok()?;
        let (_, value) = own.fields.into_iter().rev().find(|(key, _)| key.0 == PIN_SECONDS)?;
        Some(value.get())
    }

    /// The `kv_transfer_params` of a request or of a prefill reply, if it has any.
    pub(crate) fn transfer_params(&self) -> Option<&'a RawValue> {
        let (_, value) = self.fields.iter().rev().find(|(key, _)| key.0 == TRANSFER_PARAMS)?;
        (value.get() != "null").then_some(*value)
    }
}

/// A changed copy of an object in the making.
struct Edit<'a> {
    fields: Vec<(&'a str, &'a str)>,
}

impl<'a> Edit<'a> {
    fn of(object: &'a Object<'_>) -> Self {
        Self { fields: object.fields.iter().map(|(key, value)| (&*key.0, value.get())).collect() }
    }

    fn remove(&mut self, name: &str) {
        self.fields.retain(|(key, _)| *key != name);
    }

    /// Gives a field that is there a new value. Repetitions of it go: parsers disagree on which of them counts.
    fn replace(&mut self, name: &'a str, value: &'a str) {
        let Some(at) = self.fields.iter().position(|(key, _)| *key == name) else { return };
        self.remove(name);
        self.fields.insert(at, (name, value));
    }

    /// Gives a field a value, whether it is there or not.
    fn set(&mut self, name: &'a str, value: &'a str) {
        if !self.fields.iter().any(|(key, _)| *key == name) {
            self.fields.push((name, value));
        }
        self.replace(name, value);
    }

    fn finish(self) -> Bytes {
        // Quotes, colon and comma; an escaped key may need more, which only costs a reallocation.
        let length = self.fields.iter().map(|(key, value)| key.len() + value.len() + 4).sum::<usize>() + 2;
        let mut out = Vec::with_capacity(length);
        for (key, value) in &self.fields {
            out.push(if out.is_empty() { b'{' } else { b',' });
            serde_json::to_writer(&mut out, key).expect("writing a string into a vector cannot fail");
            out.push(b':');
            out.extend_from_slice(value.as_bytes());
        }
        if out.is_empty() {
            out.push(b'{');
        }
        out.push(b'}');
        out.into()
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut fields = Vec::with_capacity(16);
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Object { fields })
    }
}

/// A key, borrowed from the body unless it holds an escape.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Borrowed(key)))
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(key.to_owned())))
    }
}
