//! Starting, stopping, health and metrics.

use std::time::Duration;

use bytes::Bytes;
use chariot_proxy::{Proxy, ProxyError, serve};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::client::{COMPLETIONS, RawClient, TestProxy, addresses, config};
use crate::fake_engine::{FakeEngine, nowhere};

#[tokio::test]
async fn a_taken_port_is_an_error_with_a_hint() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(vec![nowhere().instance()], vec![nowhere().instance()]);
    config.port = taken.local_addr().unwrap().port();
    let error = serve(config, std::future::pending()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on `{}`", taken.local_addr().unwrap()));
    assert!(error.hint().contains("--port"), "{}", error.hint());
}

#[tokio::test]
async fn a_configuration_is_checked_before_anything_listens() {
    let refused = Proxy::bind(config(vec![], vec![nowhere().instance()])).await;
    assert!(matches!(refused, Err(ProxyError::NoInstance { .. })));
}

#[tokio::test]
async fn shutdown_lets_a_reply_finish_and_accepts_nothing_new() {
    let prefill = FakeEngine::saying(200, json!({})).await;
    let (decode, sender) = FakeEngine::streaming().await;
    let mut proxy = TestProxy::between(&[&prefill], &[&decode]).await;
    let mut idle = RawClient::connect(&proxy).await;
    let mut client = RawClient::post(&proxy, COMPLETIONS, "{}").await;
    sender.send(Ok(Bytes::from("data: 1\n\n"))).unwrap();
    client.read_until("data: 1\n\n\r\n").await;

    proxy.ask_to_stop();
    idle.read_to_end().await;
    assert!(TcpStream::connect(proxy.address).await.is_err());
    sender.send(Ok(Bytes::from("data: 2\n\n"))).unwrap();
    drop(sender);

    let rest = client.read_to_end().await;
    assert!(rest.contains("data: 2\n\n") && rest.ends_with("0\r\n\r\n"), "{rest}");
    proxy.has_stopped().await;
}

#[tokio::test]
async fn shutdown_ends_what_outlasts_the_grace() {
    let prefill = FakeEngine::silent().await;
    let decode = FakeEngine::saying(200, json!({})).await;
    let mut config = config(addresses(&[&prefill]), addresses(&[&decode]));
    config.timeouts.shutdown_grace = Duration::from_millis(50);
    let mut proxy = TestProxy::start(config).await;
    let mut client = RawClient::post(&proxy, COMPLETIONS, "{}").await;
    prefill.has_begun(1).await;

    proxy.ask_to_stop();

    proxy.has_stopped().await;
    assert_eq!(client.read_to_end().await, "");
    prefill.was_abandoned(1).await;
}

#[tokio::test]
async fn health_is_good_while_one_decode_is_reachable() {
    let well = FakeEngine::saying(200, json!({})).await;
    let unwell = FakeEngine::saying(503, json!({})).await;
    let silent = FakeEngine::silent().await;
    let gone = nowhere();
    let decodes = vec![gone.instance(), unwell.instance(), silent.instance(), well.instance()];
    let mut config = config(vec![nowhere().instance()], decodes);
    config.timeouts.health = Duration::from_millis(200);
    let proxy = TestProxy::start(config).await;

    let reply = proxy.get("/health").await;

    assert_eq!((reply.status.as_u16(), &reply.json()["status"]), (200, &json!("ok")));
    let report = reply.json();
    let states = |side: &str| -> Vec<Value> {
        report[side].as_array().unwrap().iter().map(|instance| instance["state"].clone()).collect()
    };
    assert_eq!(states("prefill"), ["down"]);
    assert_eq!(states("decode"), ["down", "unwell", "down", "up"]);
    assert_eq!(report["decode"][3]["url"], format!("http://{}", well.address));
}

#[tokio::test]
async fn health_is_bad_without_a_decode() {
    let prefill = FakeEngine::saying(200, json!({})).await;
    let proxy = TestProxy::start(config(addresses(&[&prefill]), vec![nowhere().instance()])).await;
    let reply = proxy.get("/health").await;
    assert_eq!((reply.status.as_u16(), &reply.json()["status"]), (503, &json!("unavailable")));
    assert_eq!(reply.json()["prefill"][0]["state"], "up");
}

#[tokio::test]
async fn metrics_are_in_the_text_format_and_count_what_happened() {
    let prefill = FakeEngine::saying(200, json!({"kv_transfer_params": {"a": 1}})).await;
    let decode = FakeEngine::saying(200, json!({})).await;
    let proxy = TestProxy::between(&[&prefill], &[&decode]).await;
    proxy.post(COMPLETIONS, "{}").await;

    let reply = proxy.get("/metrics").await;

    assert!(reply.header("content-type").starts_with("application/openmetrics-text"));
    assert!(reply.text().ends_with("# EOF\n"));
    assert_eq!(proxy.metric(r#"chariot_proxy_prefills_total{outcome="carried"}"#).await, Some(1.0));
    assert_eq!(proxy.metric("chariot_proxy_prefill_seconds_count").await, Some(1.0));
    assert_eq!(proxy.metric("chariot_proxy_first_byte_seconds_count").await, Some(1.0));
}
