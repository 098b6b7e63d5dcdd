//! Several instances a side, and the connections to them.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::Notify;

use crate::client::{COMPLETIONS, RawClient, TestProxy, addresses, config};
use crate::fake_engine::{FakeBody, FakeEngine, event_stream, json as answer_json};

#[tokio::test]
async fn requests_go_to_each_instance_in_turn() {
    let prefills = [FakeEngine::saying(200, json!({})).await, FakeEngine::saying(200, json!({})).await];
    let decodes = [
        FakeEngine::saying(200, json!({})).await,
        FakeEngine::saying(200, json!({})).await,
        FakeEngine::saying(200, json!({})).await,
    ];
    let proxy = TestProxy::between(&prefills.each_ref(), &decodes.each_ref()).await;
    for _ in 0..6 {
        assert_eq!(proxy.post(COMPLETIONS, "{}").await.status, 200);
    }
    assert_eq!(prefills.each_ref().map(|engine| engine.received().len()), [3, 3]);
    assert_eq!(decodes.each_ref().map(|engine| engine.received().len()), [2, 2, 2]);
}

#[tokio::test]
async fn a_busy_instance_is_passed_over_until_it_is_free() {
    let release = Arc::new(Notify::new());
    let waiting = Arc::clone(&release);
    let prefill = FakeEngine::saying(200, json!({})).await;
    let busy = FakeEngine::start(move |asked| {
        let release = Arc::clone(&waiting);
        async move {
            if asked.json().get("wait").is_some() {
                release.notified().await;
            }
            answer_json(200, &json!({}))
        }
    })
    .await;
    let free = FakeEngine::saying(200, json!({})).await;
    let proxy = TestProxy::between(&[&prefill], &[&busy, &free]).await;

    let mut client = RawClient::post(&proxy, COMPLETIONS, r#"{"wait":1}"#).await;
    busy.has_begun(1).await;
    for _ in 0..4 {
        proxy.post(COMPLETIONS, "{}").await;
    }
    assert_eq!((busy.received().len(), free.received().len()), (1, 4));

    release.notify_one();
    client.read_until("{}").await;
    for _ in 0..4 {
        proxy.post(COMPLETIONS, "{}").await;
    }
    assert_eq!((busy.received().len(), free.received().len()), (3, 6));
}

#[tokio::test]
async fn connections_to_instances_are_used_again() {
    let prefill = FakeEngine::saying(200, json!({"kv_transfer_params": {}})).await;
    let decode = FakeEngine::start(|asked| async move {
        match asked.json().get("stream") {
            Some(_) => event_stream(FakeBody::of(&[b"data: 1\n\n", b"data: 2\n\n"])),
            None => answer_json(200, &json!({"a": 1})),
        }
    })
    .await;
    let mut config = config(addresses(&[&prefill]), addresses(&[&decode]));
    config.timeouts.upstream_idle = std::time::Duration::from_secs(3600);
    let proxy = TestProxy::start(config).await;
    for _ in 0..5 {
        assert_eq!(proxy.post(COMPLETIONS, "{}").await.text(), r#"{"a":1}"#);
        assert_eq!(proxy.post(COMPLETIONS, r#"{"stream":true}"#).await.text(), "data: 1\n\ndata: 2\n\n");
    }
    assert_eq!((prefill.received().len(), decode.received().len()), (10, 10));
    assert_eq!((prefill.connected(), decode.connected()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_at_once_each_get_their_own_reply() {
    let prefills = [FakeEngine::saying(200, json!({})).await, FakeEngine::saying(200, json!({})).await];
    let echo = |asked: crate::fake_engine::Received| async move {
        let (sender, body) = FakeBody::open();
        for _ in 0..50 {
            sender.send(Ok(Bytes::from(asked.json()["who"].to_string()))).unwrap();
            tokio::task::yield_now().await;
        }
        event_stream(body)
    };
    let decodes = [FakeEngine::start(echo).await, FakeEngine::start(echo).await];
    let proxy = Arc::new(TestProxy::between(&prefills.each_ref(), &decodes.each_ref()).await);
    let mut asking = tokio::task::JoinSet::new();
    for who in 1000..1200 {
        let proxy = Arc::clone(&proxy);
        asking.spawn(async move {
            let reply = proxy.post(COMPLETIONS, &json!({"who": who}).to_string()).await;
            assert_eq!(reply.text(), who.to_string().repeat(50));
        });
    }
    while let Some(asked) = asking.join_next().await {
        asked.unwrap();
    }
    let counts = decodes.each_ref().map(|engine| engine.received().len());
    assert_eq!(counts.iter().sum::<usize>(), 200);
    for (side, engine) in [("prefill", &prefills[0]), ("decode", &decodes[0])] {
        let line = format!(r#"chariot_proxy_outstanding_requests{{side="{side}",instance="{}"}}"#, engine.address);
        proxy.metric_reaches(&line, 0.0).await;
    }
}
