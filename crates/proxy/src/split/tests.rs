use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// The fields that a prefill request does not take from the client.
const CHANGED_FOR_PREFILL: [&str; 8] = [
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "min_tokens",
    "n",
    "best_of",
    "kv_transfer_params",
];

fn prefill(body: &str) -> Value {
    serde_json::from_slice(&Object::parse(body.as_bytes()).unwrap().for_prefill(None)).unwrap()
}

fn decode(body: &str, params: &str) -> String {
    let params = RawValue::from_string(params.to_owned()).unwrap();
    let out = Object::parse(body.as_bytes()).unwrap().for_decode(&params);
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn prefill_asks_for_one_token_in_one_piece() {
    let sent = prefill(
        r#"{"model":"m","prompt":"p","max_tokens":100,"min_tokens":5,"n":3,"best_of":4,
            "stream":true,"stream_options":{"include_usage":true}}"#,
    );
    let expected = serde_json::json!({
        "model": "m", "prompt": "p", "max_tokens": 1, "n": 1, "best_of": 1, "stream": false,
        "kv_transfer_params": {"do_remote_decode": true, "do_remote_prefill": false, "remote_engine_id": null,
                               "remote_block_ids": null, "remote_host": null, "remote_port": null},
    });
    assert_eq!(sent, expected);
}

#[test]
fn prefill_limits_completion_tokens_only_where_the_client_used_them() {
    assert_eq!(prefill(r#"{"max_completion_tokens":9}"#)["max_completion_tokens"], 1);
    assert!(prefill("{}").get("max_completion_tokens").is_none());
    assert!(prefill("{}").get("n").is_none());
}

#[test]
fn prefill_is_told_where_its_cache_goes_next() {
    let next = "[::1]:31501".parse().unwrap();
    let sent = Object::parse(b"{}").unwrap().for_prefill(Some(&next));
    let sent: Value = serde_json::from_slice(&sent).unwrap();
    assert_eq!(sent["kv_transfer_params"]["decode_worker"], "[::1]:31501");
    assert_eq!(sent["kv_transfer_params"]["do_remote_decode"], true);
}

#[test]
fn prefill_is_told_for_how_long_a_prompt_is_hot_and_nothing_else_of_the_clients() {
    let sent = prefill(r#"{"kv_transfer_params":{"pin_seconds":3600.50,"do_remote_prefill":true}}"#);
    assert_eq!(sent["kv_transfer_params"]["pin_seconds"], 3600.5);
    assert_eq!(sent["kv_transfer_params"]["do_remote_prefill"], false);
    for other in ["{}", r#"{"kv_transfer_params":7}"#, r#"{"kv_transfer_params":{"a":1}}"#] {
        assert!(prefill(other)["kv_transfer_params"].get("pin_seconds").is_none(), "{other}");
    }
}

#[test]
fn decode_gets_the_clients_bytes_and_what_prefill_returned() {
    let sent =
        decode(r#"{ "seed": 123456789012345678901234567890, "temperature": 0.10 , "a": [1,  2] }"#, r#"{"x":1e400}"#);
    let expected =
        r#"{"seed":123456789012345678901234567890,"temperature":0.10,"a":[1,  2],"kv_transfer_params":{"x":1e400}}"#;
    assert_eq!(sent, expected);
}

#[test]
fn decode_never_gets_two_sets_of_transfer_params() {
    let sent = decode(r#"{"kv_transfer_params":1,"a":0,"kv_transfer_params":2}"#, "3");
    assert_eq!(sent, r#"{"kv_transfer_params":3,"a":0}"#);
}

#[test]
fn a_field_named_with_escapes_is_still_recognised() {
    assert_eq!(prefill(r#"{"str\u0065am":true}"#)["stream"], false);
}

#[test]
fn transfer_params_are_found_only_where_there_are_some() {
    let found =
        |reply: &str| Object::parse(reply.as_bytes()).unwrap().transfer_params().map(|raw| raw.get().to_owned());
    assert_eq!(found(r#"{"id":"x","kv_transfer_params":{"a": [1.0]}}"#).as_deref(), Some(r#"{"a": [1.0]}"#));
    assert_eq!(found(r#"{"kv_transfer_params":null}"#), None);
    assert_eq!(found("{}"), None);
}

#[test]
fn what_is_no_object_is_refused() {
    for body in ["", "[]", "1", "\"x\"", "{", "{\"a\":}", "{}x", "{\"a\":1,}", "\u{feff}{}"] {
        assert!(Object::parse(body.as_bytes()).is_err(), "`{body}` was accepted");
    }
    assert!(Object::parse(b"{\"a\":\"\xff\"}").is_err());
}

#[test]
fn deeply_nested_values_do_not_exhaust_the_stack() {
    let depth = 1_000_000;
    let body = format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let object = Object::parse(body.as_bytes()).unwrap();
    assert!(object.for_prefill(None).len() > 2 * depth);
}

/// A JSON value as text, numbers far beyond 64 bits among them.
fn any_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,5})?",
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec((any::<String>(), inner), 0..5).prop_map(|fields| write_object(&fields)),
        ]
    })
}

fn any_key() -> impl Strategy<Value = String> {
    prop_oneof![3 => any::<String>(), 2 => prop::sample::select(&CHANGED_FOR_PREFILL[..]).prop_map(str::to_owned)]
}

fn any_object() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec((any_key(), any_value()), 0..12)
}

fn write_object(fields: &[(String, String)]) -> String {
    let fields: Vec<_> =
        fields.iter().map(|(key, value)| format!("{} : {value}", serde_json::to_string(key).unwrap())).collect();
    format!("{{{}}}", fields.join(" ,\n"))
}

fn fields_except(body: &[u8], named: &[&str]) -> Vec<(String, String)> {
    let object = Object::parse(body).unwrap();
    let kept = object.fields.iter().filter(|(key, _)| !named.contains(&&*key.0));
    kept.map(|(key, value)| (key.0.to_string(), value.get().to_owned())).collect()
}

proptest! {
    #[test]
    fn prefill_keeps_every_field_that_is_not_its_own(fields in any_object()) {
        let out = Object::parse(write_object(&fields).as_bytes()).unwrap().for_prefill(None);
        let expected: Vec<_> =
            fields.into_iter().filter(|(key, _)| !CHANGED_FOR_PREFILL.contains(&key.as_str())).collect();
        prop_assert_eq!(fields_except(&out, &CHANGED_FOR_PREFILL), expected);
    }

    #[test]
    fn decode_keeps_every_field_but_the_transfer_params(fields in any_object(), params in any_value()) {
        let raw = RawValue::from_string(params.clone()).unwrap();
        let out = Object::parse(write_object(&fields).as_bytes()).unwrap().for_decode(&raw);
        let named = ["kv_transfer_params"];
        let expected: Vec<_> = fields.into_iter().filter(|(key, _)| !named.contains(&key.as_str())).collect();
        prop_assert_eq!(fields_except(&out, &named), expected);
        let found = Object::parse(&out).unwrap().transfer_params().map(|found| found.get().to_owned());
        prop_assert_eq!(found, (params != "null").then_some(params));
    }

    #[test]
    fn the_named_fields_always_come_out_as_prefill_needs_them(fields in any_object()) {
        let out = Object::parse(write_object(&fields).as_bytes()).unwrap().for_prefill(None);
        let out = Object::parse(&out).unwrap();
        let values = |name: &str| -> Vec<String> {
            out.fields.iter().filter(|(key, _)| key.0 == name).map(|(_, value)| value.get().to_owned()).collect()
        };
        prop_assert_eq!(values("stream"), ["false"]);
        prop_assert_eq!(values("max_tokens"), ["1"]);
        prop_assert_eq!(values("kv_transfer_params"), [format!("{{{ASK_PREFILL}}}")]);
        prop_assert!(values("stream_options").is_empty() && values("min_tokens").is_empty());
        for name in ["n", "best_of", "max_completion_tokens"] {
            let expected: &[&str] = if fields.iter().any(|(key, _)| key == name) { &["1"] } else { &[] };
            prop_assert_eq!(values(name), expected);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused_without_a_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(object) = Object::parse(&body) {
            object.for_prefill(None);
        }
    }

    #[test]
    fn almost_json_is_read_or_refused_without_a_panic(body in "[\\[\\]{}\":,a\\\\u0-9. -]{0,60}") {
        if let Ok(object) = Object::parse(body.as_bytes()) {
            object.for_prefill(None);
        }
    }
}
