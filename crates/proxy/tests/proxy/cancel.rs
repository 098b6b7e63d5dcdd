//! A client that goes away takes its upstream request with it.

use bytes::Bytes;
use serde_json::json;

use crate::client::{CHAT, COMPLETIONS, RawClient, TestProxy};
use crate::fake_engine::FakeEngine;

const DISCONNECTS: &str = r#"chariot_proxy_client_disconnects_total{route="completions"}"#;

fn outstanding(side: &str, engine: &FakeEngine) -> String {
    format!(r#"chariot_proxy_outstanding_requests{{side="{side}",instance="{}"}}"#, engine.address)
}

#[tokio::test]
async fn a_client_that_leaves_during_prefill_cancels_prefill() {
    let prefill = FakeEngine::silent().await;
    let decode = FakeEngine::saying(200, json!({})).await;
    let proxy = TestProxy::between(&[&prefill], &[&decode]).await;

    let client = RawClient::post(&proxy, COMPLETIONS, "{}").await;
    prefill.has_begun(1).await;
    assert_eq!(proxy.metric(&outstanding("prefill", &prefill)).await, Some(1.0));
    drop(client);

    prefill.was_abandoned(1).await;
    proxy.metric_reaches(DISCONNECTS, 1.0).await;
    proxy.metric_reaches(&outstanding("prefill", &prefill), 0.0).await;
    assert!(decode.received().is_empty());
}

#[tokio::test]
async fn a_client_that_leaves_before_the_reply_begins_cancels_decode() {
    let prefill = FakeEngine::saying(200, json!({})).await;
    let decode = FakeEngine::silent().await;
    let proxy = TestProxy::between(&[&prefill], &[&decode]).await;

    let client = RawClient::post(&proxy, COMPLETIONS, "{}").await;
    decode.has_begun(1).await;
    drop(client);

    decode.was_abandoned(1).await;
    proxy.metric_reaches(DISCONNECTS, 1.0).await;
    proxy.metric_reaches(&outstanding("decode", &decode), 0.0).await;
}

#[tokio::test]
async fn a_client_that_leaves_during_the_reply_cancels_decode() {
    let prefill = FakeEngine::saying(200, json!({})).await;
    let (decode, sender) = FakeEngine::streaming().await;
    let proxy = TestProxy::between(&[&prefill], &[&decode]).await;

    let mut client = RawClient::post(&proxy, CHAT, "{}").await;
    sender.send(Ok(Bytes::from("data: 1\n\n"))).unwrap();
    client.read_until("data: 1\n\n\r\n").await;
    assert_eq!(decode.abandoned(), 0);
    drop(client);

    decode.was_abandoned(1).await;
    proxy.metric_reaches(&DISCONNECTS.replace("completions", "chat_completions"), 1.0).await;
    proxy.metric_reaches(&outstanding("decode", &decode), 0.0).await;
}

#[tokio::test]
async fn a_client_that_leaves_while_it_sends_reaches_no_instance() {
    let prefill = FakeEngine::saying(200, json!({})).await;
    let decode = FakeEngine::saying(200, json!({})).await;
    let proxy = TestProxy::between(&[&prefill], &[&decode]).await;

    let mut client = RawClient::connect(&proxy).await;
    client.write("POST /v1/completions HTTP/1.1\r\nhost: p\r\ncontent-length: 100\r\n\r\n{").await;
    drop(client);

    proxy.metric_reaches(r#"chariot_proxy_requests_total{route="completions",code="400"}"#, 1.0).await;
    assert!(prefill.received().is_empty() && decode.received().is_empty());
}

#[tokio::test]
async fn a_reply_that_was_read_is_no_disconnect() {
    let prefill = FakeEngine::saying(200, json!({})).await;
    let decode = FakeEngine::saying(200, json!({"a": 1})).await;
    let proxy = TestProxy::between(&[&prefill], &[&decode]).await;
    for _ in 0..3 {
        proxy.post(COMPLETIONS, "{}").await;
    }
    assert_eq!(proxy.metric(r#"chariot_proxy_requests_total{route="completions",code="200"}"#).await, Some(3.0));
    assert_eq!(proxy.metric(DISCONNECTS).await, None);
}
