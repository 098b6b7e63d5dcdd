//! What the two instances are asked, and what the client gets.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response};
use serde_json::json;

use crate::client::{CHAT, COMPLETIONS, RawClient, TestProxy};
use crate::fake_engine::{FakeBody, FakeEngine};

#[tokio::test]
async fn prefill_is_asked_for_one_token_and_its_parameters_reach_decode() {
    for path in [COMPLETIONS, CHAT] {
        let params = json!({"do_remote_prefill": true, "remote_block_ids": [1, 2], "remote_engine_id": "e"});
        let prefill = FakeEngine::saying(200, json!({"id": "p", "kv_transfer_params": params})).await;
        let decode = FakeEngine::saying(200, json!({"id": "d"})).await;
        let proxy = TestProxy::between(&[&prefill], &[&decode]).await;

        let reply = proxy.post(path, r#"{"model":"m","prompt":"p","max_tokens":50,"min_tokens":2,"n":2}"#).await;

        assert_eq!(reply.json(), json!({"id": "d"}));
        let asked = prefill.only();
        assert_eq!(asked.target, path);
        assert_eq!(asked.header("content-type"), "application/json");
        let expected = json!({
            "model": "m", "prompt": "p", "max_tokens": 1, "n": 1, "stream": false,
            "kv_transfer_params": {"do_remote_decode": true, "do_remote_prefill": false, "remote_engine_id": null,
                                   "remote_block_ids": null, "remote_host": null, "remote_port": null},
        });
        assert_eq!(asked.json(), expected);
        let asked = decode.only();
        assert_eq!(asked.target, path);
        let expected = json!({
            "model": "m", "prompt": "p", "max_tokens": 50, "min_tokens": 2, "n": 2, "kv_transfer_params": params,
        });
        assert_eq!(asked.json(), expected);
    }
}

#[tokio::test]
async fn decode_gets_the_clients_own_bytes_where_prefill_returns_no_parameters() {
    let prefill = FakeEngine::saying(200, json!({"id": "p", "kv_transfer_params": null})).await;
    let decode = FakeEngine::saying(200, json!({})).await;
    let proxy = TestProxy::between(&[&prefill], &[&decode]).await;
    let body = "{ \"seed\" : 1234567890123456789012345, \"temperature\": 0.70,\n\"new_field\": {\"a\":1,\"a\":2} }";

    proxy.post(COMPLETIONS, body).await;

    assert_eq!(decode.only().body, body);
    assert!(String::from_utf8(prefill.only().body.to_vec()).unwrap().contains("1234567890123456789012345"));
}

#[tokio::test]
async fn both_instances_and_the_client_see_one_request_id() {
    let prefill = FakeEngine::saying(200, json!({})).await;
    let decode = FakeEngine::saying(200, json!({})).await;
    let proxy = TestProxy::between(&[&prefill], &[&decode]).await;

    let made = proxy.post(COMPLETIONS, "{}").await;
    let id = prefill.received()[0].header("x-request-id").to_owned();
    assert_eq!(id.len(), 36);
    assert_eq!(decode.received()[0].header("x-request-id"), id);
    assert_eq!(made.header("x-request-id"), id);

    let request = Request::post(COMPLETIONS).header("X-Request-Id", "mine").body(Full::from("{}")).unwrap();
    let kept = proxy.send(request).await;
    assert_eq!(prefill.received()[1].header("x-request-id"), "mine");
    assert_eq!(decode.received()[1].header("x-request-id"), "mine");
    assert_eq!(kept.header("x-request-id"), "mine");
}

#[tokio::test]
async fn end_to_end_headers_and_the_query_reach_both_instances() {
    let prefill = FakeEngine::saying(200, json!({})).await;
    let decode = FakeEngine::saying(200, json!({})).await;
    let proxy = TestProxy::between(&[&prefill], &[&decode]).await;
    let request = Request::post("/v1/completions?a=b%20c")
        .header("authorization", "Bearer key")
        .header("accept-encoding", "gzip")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .body(Full::from("{}"))
        .unwrap();

    proxy.send(request).await;

    for (engine, accepts) in [(&prefill, None), (&decode, Some("gzip"))] {
        let asked = engine.only();
        assert_eq!(asked.target, "/v1/completions?a=b%20c");
        assert_eq!(asked.header("authorization"), "Bearer key");
        assert_eq!(asked.header("host"), engine.address.to_string());
        assert!(!asked.headers.contains_key("x-hop") && !asked.headers.contains_key("connection"));
        assert_eq!(asked.headers.get("accept-encoding").map(|value| value.to_str().unwrap()), accepts);
    }
}

#[tokio::test]
async fn each_piece_of_a_streamed_reply_arrives_before_the_next_is_sent() {
    let prefill = FakeEngine::saying(200, json!({})).await;
    let (decode, sender) = FakeEngine::streaming().await;
    let proxy = TestProxy::between(&[&prefill], &[&decode]).await;

    let mut client = RawClient::post(&proxy, CHAT, r#"{"stream":true}"#).await;
    let head = client.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("content-type: text/event-stream; charset=utf-8\r\n"), "{head}");
    for piece in ["data: {\"a\": 1}\n\n", "data: \u{1f600}\n\n", "data: [DONE]\n\n"] {
        sender.send(Ok(Bytes::from(piece))).unwrap();
        client.read_until(&format!("{:X}\r\n{piece}\r\n", piece.len())).await;
    }
    drop(sender);
    assert_eq!(client.read_until("0\r\n\r\n").await, "0\r\n\r\n");
    assert!(decode.only().json()["stream"].as_bool().unwrap());
    assert!(!prefill.only().json()["stream"].as_bool().unwrap());
}

#[tokio::test]
async fn status_headers_and_body_of_decode_are_relayed_as_they_are() {
    let prefill = FakeEngine::saying(200, json!({})).await;
    let decode = FakeEngine::start(|_| async {
        Response::builder()
            .status(503)
            .header("content-type", "text/weird")
            .header("x-request-id", "theirs")
            .header("retry-after", "7")
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
            .body(FakeBody::of(&[b"\x00\xff", b"rest"]))
            .unwrap()
    })
    .await;
    let proxy = TestProxy::between(&[&prefill], &[&decode]).await;

    let reply = proxy.post(COMPLETIONS, "{}").await;

    assert_eq!(reply.status, 503);
    assert_eq!(reply.body, &b"\x00\xffrest"[..]);
    assert_eq!((reply.header("content-type"), reply.header("x-request-id")), ("text/weird", "theirs"));
    assert_eq!(reply.header("retry-after"), "7");
    assert_eq!(reply.headers.get_all("set-cookie").iter().count(), 2);
    assert_eq!(decode.received().len(), 1);
}

#[tokio::test]
async fn other_paths_go_to_decode_untouched() {
    let prefill = FakeEngine::saying(200, json!({})).await;
    let decode = FakeEngine::start(|asked| async move {
        let answer = format!("{} {}", asked.method, asked.target);
        let length = answer.len();
        Response::builder().header("content-length", length).body(FakeBody::of(&[answer.as_bytes()])).unwrap()
    })
    .await;
    let proxy = TestProxy::between(&[&prefill], &[&decode]).await;

    assert_eq!(proxy.get("/v1/models?x=1").await.text(), "GET /v1/models?x=1");
    assert_eq!(proxy.get(COMPLETIONS).await.text(), "GET /v1/completions");
    assert_eq!(proxy.post("/tokenize", "not json").await.text(), "POST /tokenize");
    assert_eq!(decode.received()[2].body, "not json");
    let head = Request::head("/version").body(Full::default()).unwrap();
    let head = proxy.send(head).await;
    assert_eq!((head.header("content-length"), head.body.len()), ("13", 0));
    assert!(prefill.received().is_empty());
    assert_eq!(proxy.metric(r#"chariot_proxy_client_disconnects_total{route="forwarded"}"#).await, None);
}
