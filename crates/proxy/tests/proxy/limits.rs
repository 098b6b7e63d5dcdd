//! What a client may not do.

use std::time::Duration;

use chariot_proxy::ProxyConfig;
use serde_json::json;

use crate::client::{CHAT, COMPLETIONS, RawClient, TestProxy, addresses, config};
use crate::fake_engine::FakeEngine;

/// A proxy with limits that a test can reach, and its two instances.
async fn limited(limit: impl FnOnce(&mut ProxyConfig)) -> (TestProxy, FakeEngine, FakeEngine) {
    let prefill = FakeEngine::saying(200, json!({})).await;
    let decode = FakeEngine::saying(200, json!({})).await;
    let mut config = config(addresses(&[&prefill]), addresses(&[&decode]));
    limit(&mut config);
    (TestProxy::start(config).await, prefill, decode)
}

#[tokio::test]
async fn a_body_that_is_no_json_object_is_refused_with_a_hint() {
    let (proxy, prefill, decode) = limited(|_| {}).await;
    for body in ["", "not json", "[1]", "{\"a\":", "{} {}"] {
        for path in [COMPLETIONS, CHAT] {
            let reply = proxy.post(path, body).await;
            assert_eq!(reply.status, 400, "`{body}`");
            assert_eq!(reply.header("content-type"), "application/json");
            let error = &reply.json()["error"];
            assert_eq!((&error["type"], &error["code"]), (&json!("BadRequestError"), &json!(400)));
            assert!(reply.error_message().contains("hint: "), "{error}");
        }
    }
    assert!(prefill.received().is_empty() && decode.received().is_empty());
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_however_it_is_framed() {
    let (proxy, prefill, decode) = limited(|config| config.limits.max_body_bytes = 1000).await;
    let body = format!(r#"{{"prompt":"{}"}}"#, "x".repeat(1500));

    let reply = proxy.post(COMPLETIONS, &body).await;
    assert_eq!(reply.status, 413);
    assert!(reply.error_message().contains("1000 bytes"), "{}", reply.error_message());

    let mut client = RawClient::connect(&proxy).await;
    client.write("POST /v1/completions HTTP/1.1\r\nhost: p\r\ntransfer-encoding: chunked\r\n\r\n").await;
    for _ in 0..6 {
        client.write(&format!("{:x}\r\n{}\r\n", 250, "y".repeat(250))).await;
    }
    client.write("0\r\n\r\n").await;
    let head = client.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");

    let just_fits = format!(r#"{{"prompt":"{}"}}"#, "x".repeat(1000 - 13));
    assert_eq!(just_fits.len(), 1000);
    assert_eq!(proxy.post(COMPLETIONS, &just_fits).await.status, 200);
    assert_eq!((prefill.received().len(), decode.received().len()), (1, 1));
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_is_answered_before_it_sends() {
    let (proxy, prefill, _decode) = limited(|config| config.limits.max_body_bytes = 1000).await;
    let head = "POST /v1/completions HTTP/1.1\r\nhost: p\r\nexpect: 100-continue\r\ncontent-length:";

    let mut too_large = RawClient::connect(&proxy).await;
    too_large.write(&format!("{head} 1001\r\n\r\n")).await;
    let refused = too_large.read_to_end().await;
    assert!(refused.starts_with("HTTP/1.1 413 "), "{refused}");

    let mut fits = RawClient::connect(&proxy).await;
    fits.write(&format!("{head} 2\r\n\r\n")).await;
    assert_eq!(fits.read_until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    fits.write("{}").await;
    let answered = fits.read_until("\r\n\r\n").await;
    assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
    assert!(!prefill.only().headers.contains_key("expect"));
}

#[tokio::test]
async fn too_many_headers_or_too_long_ones_are_refused() {
    let (proxy, _prefill, decode) = limited(|config| {
        config.limits.max_headers = 10;
        config.limits.max_head_bytes = 4096;
    })
    .await;
    let many: String = (0..11).map(|n| format!("x-{n}: 1\r\n")).collect();
    let long = format!("x-long: {}\r\n", "v".repeat(8000));
    for headers in [many, long] {
        let mut client = RawClient::connect(&proxy).await;
        let _ = client.try_write(format!("GET /v1/models HTTP/1.1\r\nhost: p\r\n{headers}\r\n").as_bytes()).await;
        let reply = client.read_to_end().await;
        assert!(reply.starts_with("HTTP/1.1 431 "), "{reply}");
    }
    assert!(decode.received().is_empty());
}

#[tokio::test]
async fn a_client_that_never_finishes_its_head_or_idles_is_dropped() {
    let (proxy, _prefill, _decode) = limited(|config| config.timeouts.head_read = Duration::from_millis(50)).await;
    let mut client = RawClient::connect(&proxy).await;
    client.write("GET /v1/models HTTP/1.1\r\nhost:").await;
    client.read_to_end().await;

    let mut idle = RawClient::connect(&proxy).await;
    idle.write("GET /v1/models HTTP/1.1\r\nhost: p\r\n\r\n").await;
    idle.read_until("{}").await;
    idle.read_to_end().await;
}

#[tokio::test]
async fn a_client_that_never_finishes_its_body_is_told_so() {
    let (proxy, prefill, _decode) = limited(|config| config.timeouts.body_read = Duration::from_millis(50)).await;
    let mut client = RawClient::connect(&proxy).await;
    client.write("POST /v1/completions HTTP/1.1\r\nhost: p\r\ncontent-length: 100\r\n\r\n{").await;
    let reply = client.read_to_end().await;
    assert!(reply.starts_with("HTTP/1.1 408 "), "{reply}");
    assert!(prefill.received().is_empty());
}

#[tokio::test]
async fn bytes_that_are_no_http_do_no_harm() {
    let (proxy, _prefill, _decode) = limited(|_| {}).await;
    for noise in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..], b"\r\n\r\n\0\0\0\r\n\r\n", b"GET\r\n\r\n"]
    {
        let mut client = RawClient::connect(&proxy).await;
        let _ = client.try_write(noise).await;
        client.read_to_end().await;
    }
    assert_eq!(proxy.post(COMPLETIONS, "{}").await.status, 200);
}

#[tokio::test]
async fn connections_above_the_limit_wait_for_their_turn() {
    let (proxy, _prefill, _decode) = limited(|config| config.limits.max_connections = 1).await;
    let mut first = RawClient::connect(&proxy).await;
    first.write("GET /v1/models HTTP/1.1\r\nhost: p\r\n\r\n").await;
    first.read_until("{}").await;
    let second = proxy.get("/v1/models");
    tokio::pin!(second);
    // The first connection is alive and idle; the second must not be served while it is.
    let early = tokio::time::timeout(Duration::from_millis(100), &mut second).await;
    assert!(early.is_err(), "a second connection was served");
    drop(first);
    assert_eq!(second.await.status, 200);
}

#[tokio::test]
async fn a_tunnel_is_refused() {
    let (proxy, _prefill, decode) = limited(|_| {}).await;
    let mut client = RawClient::connect(&proxy).await;
    client.write("CONNECT example.org:443 HTTP/1.1\r\nhost: example.org:443\r\n\r\n").await;
    let head = client.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
    assert!(decode.received().is_empty());
}
