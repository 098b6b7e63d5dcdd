//! Instances that are gone, break, hang or answer nonsense.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::net::TcpListener;

use crate::client::{COMPLETIONS, RawClient, TestProxy, addresses, config, instance};
use crate::fake_engine::{FakeBody, FakeEngine, event_stream, json as answer_json, nowhere};

const ALONE: &str = r#"chariot_proxy_prefills_total{outcome="absent"}"#;

/// Listens, reads nothing and closes every connection at once.
async fn slammer() -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let closing = tokio::spawn(async move {
        loop {
            drop(listener.accept().await.unwrap());
        }
    });
    (address, closing)
}

#[tokio::test]
async fn what_prefill_refuses_is_refused_without_asking_decode() {
    let error = json!({"error": {"message": "no such model", "code": 404}});
    let prefill = FakeEngine::saying(404, error.clone()).await;
    let decode = FakeEngine::saying(200, json!({})).await;
    let proxy = TestProxy::between(&[&prefill], &[&decode]).await;

    let reply = proxy.post(COMPLETIONS, "{}").await;

    assert_eq!((reply.status.as_u16(), reply.json()), (404, error));
    assert_eq!(reply.header("content-type"), "application/json");
    assert!(decode.received().is_empty());
}

#[tokio::test]
async fn without_any_prefill_decode_answers_alone() {
    let decode = FakeEngine::saying(200, json!({"id": "d"})).await;
    let gone = nowhere();
    let proxy = TestProxy::start(config(vec![gone.instance()], addresses(&[&decode]))).await;

    let reply = proxy.post(COMPLETIONS, r#"{ "prompt":"p" }"#).await;

    assert_eq!((reply.status.as_u16(), reply.json()), (200, json!({"id": "d"})));
    assert_eq!(decode.only().body, r#"{ "prompt":"p" }"#);
    assert_eq!(proxy.metric(ALONE).await, Some(1.0));
}

#[tokio::test]
async fn a_prefill_that_errs_is_replaced_by_another() {
    for status in [500, 503, 302] {
        let erring = FakeEngine::saying(status, json!({})).await;
        let sound = FakeEngine::saying(200, json!({"kv_transfer_params": {"from": "sound"}})).await;
        let decode = FakeEngine::saying(200, json!({})).await;
        let proxy = TestProxy::between(&[&erring, &sound], &[&decode]).await;

        assert_eq!(proxy.post(COMPLETIONS, "{}").await.status, 200);

        assert_eq!((erring.received().len(), sound.received().len()), (1, 1));
        assert_eq!(decode.only().json()["kv_transfer_params"], json!({"from": "sound"}));
    }
}

#[tokio::test]
async fn a_prefill_that_answers_nonsense_or_breaks_off_is_no_prefill() {
    let nonsense = FakeEngine::start(|_| async { event_stream(FakeBody::of(&[b"data: [DONE]\n\n"])) }).await;
    let broken = FakeEngine::start(|_| async {
        let (sender, body) = FakeBody::open();
        sender.send(Ok(Bytes::from("{"))).unwrap();
        sender.send(Err(std::io::ErrorKind::BrokenPipe.into())).unwrap();
        event_stream(body)
    })
    .await;
    let decode = FakeEngine::saying(200, json!({"id": "d"})).await;
    let proxy = TestProxy::between(&[&nonsense, &broken], &[&decode]).await;

    assert_eq!(proxy.post(COMPLETIONS, "{}").await.json(), json!({"id": "d"}));

    assert_eq!((nonsense.received().len(), broken.received().len()), (1, 1));
    assert_eq!(proxy.metric(ALONE).await, Some(1.0));
}

#[tokio::test]
async fn a_prefill_that_hangs_is_given_up_at_the_deadline_and_then_left_alone() {
    let prefill = FakeEngine::silent().await;
    let decode = FakeEngine::saying(200, json!({"id": "d"})).await;
    let mut config = config(addresses(&[&prefill]), addresses(&[&decode]));
    config.timeouts.prefill = Duration::from_millis(50);
    config.backoff.first = Duration::from_secs(3600);
    config.backoff.most = Duration::from_secs(3600);
    let proxy = TestProxy::start(config).await;

    for _ in 0..3 {
        assert_eq!(proxy.post(COMPLETIONS, "{}").await.json(), json!({"id": "d"}));
    }

    prefill.was_abandoned(1).await;
    assert_eq!(prefill.received().len(), 1);
    assert_eq!(proxy.metric(ALONE).await, Some(3.0));
}

#[tokio::test]
async fn a_decode_that_is_gone_is_replaced_by_another() {
    let (slamming, _closing) = slammer().await;
    let nowhere = nowhere();
    for gone in [nowhere.address, slamming] {
        let prefill = FakeEngine::saying(200, json!({})).await;
        let decode = FakeEngine::saying(200, json!({"id": "d"})).await;
        let decodes = vec![instance(gone), decode.instance()];
        let proxy = TestProxy::start(config(addresses(&[&prefill]), decodes)).await;
        for _ in 0..4 {
            assert_eq!(proxy.post(COMPLETIONS, "{}").await.json(), json!({"id": "d"}));
        }
        assert_eq!(prefill.received().len(), 4);
    }
}

#[tokio::test]
async fn with_no_decode_left_the_client_is_told_so() {
    let prefill = FakeEngine::saying(200, json!({})).await;
    let gone = nowhere();
    let proxy = TestProxy::start(config(addresses(&[&prefill]), vec![gone.instance()])).await;

    for path in [COMPLETIONS, "/tokenize"] {
        let reply = proxy.post(path, "{}").await;
        assert_eq!(reply.status, 502);
        assert_eq!(reply.json()["error"]["code"], 502);
        assert_eq!(reply.json()["error"]["type"], "BadGatewayError");
        let message = reply.error_message();
        assert!(message.contains(&gone.address.to_string()) && message.contains("hint: "), "{message}");
    }
}

#[tokio::test]
async fn a_reply_that_breaks_off_ends_without_its_last_chunk() {
    let prefill = FakeEngine::saying(200, json!({})).await;
    let (decode, sender) = FakeEngine::streaming().await;
    let proxy = TestProxy::between(&[&prefill], &[&decode]).await;

    let mut client = RawClient::post(&proxy, COMPLETIONS, "{}").await;
    sender.send(Ok(Bytes::from("data: 1\n\n"))).unwrap();
    client.read_until("data: 1\n\n\r\n").await;
    sender.send(Err(std::io::ErrorKind::BrokenPipe.into())).unwrap();
    let reply = client.read_to_end().await;

    assert!(!reply.ends_with("0\r\n\r\n"), "{reply}");
    assert_eq!(decode.received().len(), 1);
    let cut = format!(
        r#"chariot_proxy_upstream_failures_total{{side="decode",instance="{}",failure="cut"}}"#,
        decode.address
    );
    assert_eq!(proxy.metric(&cut).await, Some(1.0));
}

#[tokio::test]
async fn a_request_that_kills_its_instances_visits_two_of_them_at_most() {
    let prefill = FakeEngine::saying(200, json!({})).await;
    let mut decodes = Vec::new();
    for _ in 0..4 {
        decodes.push(slammer().await);
    }
    let instances = decodes.iter().map(|(address, _)| instance(*address)).collect();
    let mut config = config(addresses(&[&prefill]), instances);
    config.backoff.first = Duration::from_secs(3600);
    config.backoff.most = Duration::from_secs(3600);
    let proxy = TestProxy::start(config).await;

    assert_eq!(proxy.post(COMPLETIONS, "{}").await.status, 502);

    let metrics = proxy.get("/metrics").await.text();
    assert_eq!(metrics.matches(r#"failure="broken"} 1"#).count(), 2, "{metrics}");
}

#[tokio::test]
async fn a_request_that_kills_prefills_visits_two_of_them_and_then_decode() {
    let (mut slammers, mut instances) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let (address, closing) = slammer().await;
        instances.push(instance(address));
        slammers.push(closing);
    }
    let decode = FakeEngine::saying(200, json!({"id": "d"})).await;
    let proxy = TestProxy::start(config(instances, addresses(&[&decode]))).await;

    assert_eq!(proxy.post(COMPLETIONS, "{}").await.json(), json!({"id": "d"}));

    let metrics = proxy.get("/metrics").await.text();
    assert_eq!(metrics.matches(r#"failure="broken"} 1"#).count(), 2, "{metrics}");
}

#[tokio::test]
async fn a_request_that_may_change_something_is_never_sent_twice() {
    let prefill = FakeEngine::saying(200, json!({})).await;
    let (address, _closing) = slammer().await;
    let sound = FakeEngine::saying(200, json!({})).await;
    let decodes = vec![instance(address), sound.instance()];
    let proxy = TestProxy::start(config(addresses(&[&prefill]), decodes)).await;

    assert_eq!(proxy.post("/v1/load_lora_adapter", "{}").await.status, 502);

    assert!(sound.received().is_empty());
}

#[tokio::test]
async fn an_instance_that_comes_back_is_used_again() {
    let prefill = FakeEngine::saying(200, json!({})).await;
    let decode = FakeEngine::saying(200, json!({"life": 1})).await;
    let proxy = TestProxy::between(&[&prefill], &[&decode]).await;
    assert_eq!(proxy.post(COMPLETIONS, "{}").await.json(), json!({"life": 1}));

    let (prefill_address, decode_address) = (prefill.stop().await, decode.stop().await);
    assert_eq!(proxy.post(COMPLETIONS, "{}").await.status, 502);

    let decode = FakeEngine::start_at(decode_address, |_| async { answer_json(200, &json!({"life": 2})) }).await;
    let prefill = FakeEngine::start_at(prefill_address, |_| async { answer_json(200, &json!({})) }).await;
    let prefilled = async {
        while prefill.received().is_empty() {
            assert_eq!(proxy.post(COMPLETIONS, "{}").await.json(), json!({"life": 2}));
        }
    };
    tokio::time::timeout(crate::fake_engine::PATIENCE, prefilled).await.expect("prefill was never used again");
    assert!(!decode.received().is_empty());
}

#[tokio::test]
async fn a_pooled_connection_that_went_stale_costs_the_client_nothing() {
    let prefill = FakeEngine::saying(200, json!({})).await;
    let decode = FakeEngine::saying(200, json!({"life": 1})).await;
    let proxy = TestProxy::between(&[&prefill], &[&decode]).await;
    proxy.post(COMPLETIONS, "{}").await;

    let address = decode.stop().await;
    let _decode = FakeEngine::start_at(address, |_| async { answer_json(200, &json!({"life": 2})) }).await;

    let reply = proxy.post("/v1/load_lora_adapter", "{}").await;
    assert_eq!((reply.status.as_u16(), reply.json()), (200, json!({"life": 2})));
    assert_eq!(proxy.post(COMPLETIONS, "{}").await.json(), json!({"life": 2}));
}

/// Answers the first request of each connection and closes the connection as soon as it reads the second.
#[tokio::test]
async fn a_pooled_connection_that_breaks_in_use_is_replaced_once() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let mut answered = 0;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 65536];
            assert!(stream.read(&mut buffer).await.unwrap() > 0);
            answered += 1;
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{answered}");
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = stream.read(&mut buffer).await;
        }
    });
    let prefill = FakeEngine::saying(200, json!({})).await;
    let proxy = TestProxy::start(config(addresses(&[&prefill]), vec![instance(address)])).await;

    assert_eq!(proxy.post(COMPLETIONS, "{}").await.text(), "1");
    assert_eq!(proxy.post(COMPLETIONS, "{}").await.text(), "2");
    assert_eq!(proxy.post("/v1/load_lora_adapter", "{}").await.status, 502);
    serving.abort();
}
