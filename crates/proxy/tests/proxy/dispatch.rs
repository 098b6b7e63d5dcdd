//! Prefill that is told where its KV cache goes next, and decode that is asked together with prefill.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chariot_proxy::{Dispatch, ProxyConfig};
use hyper::Response;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::client::{COMPLETIONS, RawClient, TestProxy, addresses, config};
use crate::fake_engine::{FakeBody, FakeEngine, Received, event_stream, json as answer_json, nowhere};

const RESTARTS: &str = "chariot_proxy_decode_restarts_total";
const ALONE: &str = r#"chariot_proxy_prefills_total{outcome="absent"}"#;
const PLAIN: &str = r#"chariot_proxy_prefills_total{outcome="plain"}"#;

fn with_workers(mut config: ProxyConfig, workers: &[&str]) -> ProxyConfig {
    config.decode_workers = workers.iter().map(|address| address.parse().unwrap()).collect();
    config
}

fn concurrent(mut config: ProxyConfig) -> ProxyConfig {
    config.dispatch = Dispatch::Concurrent;
    config
}

async fn side_by_side(prefill: &FakeEngine, decode: &FakeEngine) -> TestProxy {
    TestProxy::start(concurrent(config(addresses(&[prefill]), addresses(&[decode])))).await
}

fn hint(asked: &Received) -> Value {
    asked.json()["kv_transfer_params"]["decode_worker"].clone()
}

fn waits_for_prefill(asked: &Received) -> bool {
    asked.json()["kv_transfer_params"]["do_remote_prefill"] == true
}

/// A decode instance whose waiting requests stay without an answer, and that answers the others.
async fn decode_that_waits() -> FakeEngine {
    FakeEngine::start(|asked| async move {
        if waits_for_prefill(&asked) {
            std::future::pending::<()>().await;
        }
        answer_json(200, &json!({"id": "recomputed"}))
    })
    .await
}

/// The same, but the head of a waiting request's reply is sent, as vLLM does when it streams.
async fn decode_that_waits_with_its_head_sent() -> FakeEngine {
    let held = Mutex::new(Vec::new());
    FakeEngine::start(move |asked| {
        let (sender, body) = FakeBody::open();
        let response = if waits_for_prefill(&asked) {
            held.lock().unwrap().push(sender);
            event_stream(body)
        } else {
            answer_json(200, &json!({"id": "recomputed"}))
        };
        async move { response }
    })
    .await
}

/// An instance that answers each request when it is told to.
async fn told(answer: impl Fn() -> Response<FakeBody> + Clone + Send + Sync + 'static) -> (FakeEngine, Arc<Notify>) {
    let release = Arc::new(Notify::new());
    let waiting = Arc::clone(&release);
    let engine = FakeEngine::start(move |_| {
        let (release, answer) = (Arc::clone(&waiting), answer.clone());
        async move {
            release.notified().await;
            answer()
        }
    });
    (engine.await, release)
}

#[tokio::test]
async fn prefill_is_told_the_data_worker_of_the_decode_instance_that_answers() {
    for dispatch in [Dispatch::Sequential, Dispatch::Concurrent] {
        let prefills = [FakeEngine::saying(200, json!({})).await, FakeEngine::saying(200, json!({})).await];
        let decodes = [FakeEngine::saying(200, json!({})).await, FakeEngine::saying(200, json!({})).await];
        let workers = ["10.0.0.3:31501", "10.0.0.4:31501"];
        let mut config =
            with_workers(config(addresses(&prefills.each_ref()), addresses(&decodes.each_ref())), &workers);
        config.dispatch = dispatch;
        let proxy = Arc::new(TestProxy::start(config).await);

        let mut asking = tokio::task::JoinSet::new();
        for who in 0..20 {
            let proxy = Arc::clone(&proxy);
            asking.spawn(async move { proxy.post(COMPLETIONS, &json!({"who": who}).to_string()).await });
        }
        assert!(asking.join_all().await.iter().all(|reply| reply.status == 200));

        let who = |asked: &Received| asked.json()["who"].as_u64().unwrap();
        let told: HashMap<u64, Value> =
            prefills.iter().flat_map(FakeEngine::received).map(|asked| (who(&asked), hint(&asked))).collect();
        for (decode, worker) in decodes.iter().zip(workers) {
            let answered = decode.received();
            assert!(!answered.is_empty());
            assert!(answered.iter().all(|asked| told[&who(asked)] == worker), "{told:?}");
            assert!(answered.iter().all(|asked| hint(asked).is_null()));
        }
    }
}

#[tokio::test]
async fn one_data_worker_serves_all_decode_instances_and_none_is_no_hint() {
    for (workers, expected) in [(&["[::1]:31501"][..], json!("[::1]:31501")), (&[], Value::Null)] {
        let prefill = FakeEngine::saying(200, json!({})).await;
        let decodes = [FakeEngine::saying(200, json!({})).await, FakeEngine::saying(200, json!({})).await];
        let config = config(addresses(&[&prefill]), addresses(&decodes.each_ref()));
        let proxy = TestProxy::start(with_workers(config, workers)).await;
        for _ in 0..2 {
            assert_eq!(proxy.post(COMPLETIONS, "{}").await.status, 200);
        }
        assert!(prefill.received().iter().all(|asked| hint(asked) == expected));
    }
}

#[tokio::test]
async fn a_decode_instance_that_was_chosen_and_is_gone_is_replaced() {
    for dispatch in [Dispatch::Sequential, Dispatch::Concurrent] {
        let prefill = FakeEngine::saying(200, json!({})).await;
        let (gone, sound) = (nowhere(), FakeEngine::saying(200, json!({"id": "d"})).await);
        let mut config = config(addresses(&[&prefill]), vec![gone.instance(), sound.instance()]);
        config.dispatch = dispatch;
        let proxy = TestProxy::start(with_workers(config, &["10.0.0.3:1", "10.0.0.4:1"])).await;
        assert_eq!(proxy.post(COMPLETIONS, "{}").await.json(), json!({"id": "d"}));
        assert_eq!(waits_for_prefill(&sound.only()), dispatch == Dispatch::Concurrent);
    }
}

#[tokio::test]
async fn side_by_side_decode_is_asked_while_prefill_computes() {
    let (prefill, prefilled) = told(|| answer_json(200, &json!({"kv_transfer_params": {"x": 1}}))).await;
    let (decode, decoded) = told(|| answer_json(200, &json!({"id": "d"}))).await;
    let proxy = side_by_side(&prefill, &decode).await;

    let asking = proxy.post(COMPLETIONS, r#"{"prompt":"p","max_tokens":5}"#);
    let answering = async {
        tokio::join!(prefill.has_begun(1), decode.has_begun(1));
        prefilled.notify_one();
        decoded.notify_one();
    };
    let (reply, ()) = tokio::join!(asking, answering);

    assert_eq!(reply.json(), json!({"id": "d"}));
    assert_eq!(prefill.only().json()["kv_transfer_params"]["do_remote_decode"], true);
    let expected = json!({
        "prompt": "p", "max_tokens": 5,
        "kv_transfer_params": {"do_remote_prefill": true, "do_remote_decode": false, "remote_engine_id": null,
                               "remote_block_ids": null, "remote_host": null, "remote_port": null},
    });
    assert_eq!(decode.only().json(), expected);
    assert_eq!(prefill.only().header("x-request-id"), decode.only().header("x-request-id"));
    assert_eq!(proxy.metric(RESTARTS).await, Some(0.0));
}

#[tokio::test]
async fn a_prefill_that_fails_while_decode_waits_costs_the_client_nothing() {
    for decode in [decode_that_waits().await, decode_that_waits_with_its_head_sent().await] {
        let (prefill, fails) = told(|| answer_json(500, &json!({}))).await;
        let proxy = side_by_side(&prefill, &decode).await;

        let asking = proxy.post(COMPLETIONS, r#"{ "prompt":"p" }"#);
        let failing = async {
            decode.has_begun(1).await;
            fails.notify_one();
        };
        let (reply, ()) = tokio::join!(asking, failing);

        assert_eq!((reply.status.as_u16(), reply.json()), (200, json!({"id": "recomputed"})));
        decode.was_abandoned(1).await;
        let asked = decode.received();
        assert_eq!(asked.len(), 2);
        assert_eq!(asked[1].body, r#"{ "prompt":"p" }"#);
        assert_eq!(asked[0].header("x-request-id"), asked[1].header("x-request-id"));
        assert_eq!((proxy.metric(RESTARTS).await, proxy.metric(ALONE).await), (Some(1.0), Some(1.0)));
    }
}

#[tokio::test]
async fn a_prefill_that_could_not_save_its_cache_is_not_waited_for() {
    for (saved, asked) in [(json!(false), 2), (json!(true), 1), (json!("no"), 1), (Value::Null, 1)] {
        let params = json!({"do_remote_prefill": true, "prefill_is_done": true, "prefill_is_saved": saved});
        let answer = json!({"kv_transfer_params": params});
        let (prefill, prefilled) = told(move || answer_json(200, &answer)).await;
        let (decode, decoded) = told(|| answer_json(200, &json!({"id": "d"}))).await;
        let proxy = side_by_side(&prefill, &decode).await;

        let asking = proxy.post(COMPLETIONS, r#"{"prompt":"p"}"#);
        let answering = async {
            decode.has_begun(1).await;
            prefilled.notify_one();
            decode.has_begun(asked).await;
            proxy.metric_reaches(RESTARTS, asked as f64 - 1.0).await;
            decoded.notify_waiters();
            decoded.notify_one();
        };
        let (reply, ()) = tokio::join!(asking, answering);

        assert_eq!(reply.json(), json!({"id": "d"}));
        let last = decode.received().pop().unwrap();
        assert_eq!(last.json()["kv_transfer_params"]["prefill_is_done"] == true, asked == 2);
    }
}

#[tokio::test]
async fn a_prefill_whose_connection_breaks_while_decode_waits_costs_the_client_nothing() {
    let prefill = FakeEngine::silent().await;
    let decode = decode_that_waits().await;
    let proxy = side_by_side(&prefill, &decode).await;

    let asking = proxy.post(COMPLETIONS, "{}");
    let breaking = async {
        tokio::join!(prefill.has_begun(1), decode.has_begun(1));
        prefill.stop().await;
    };
    let (reply, ()) = tokio::join!(asking, breaking);

    assert_eq!(reply.json(), json!({"id": "recomputed"}));
    decode.was_abandoned(1).await;
}

#[tokio::test]
async fn a_prefill_that_hangs_while_decode_waits_is_given_up_at_the_deadline() {
    let prefill = FakeEngine::silent().await;
    let decode = decode_that_waits_with_its_head_sent().await;
    let mut config = concurrent(config(addresses(&[&prefill]), addresses(&[&decode])));
    config.timeouts.prefill = Duration::from_millis(50);
    let proxy = TestProxy::start(config).await;

    assert_eq!(proxy.post(COMPLETIONS, "{}").await.json(), json!({"id": "recomputed"}));

    tokio::join!(prefill.was_abandoned(1), decode.was_abandoned(1));
}

#[tokio::test]
async fn another_prefill_is_tried_while_decode_waits() {
    let erring = FakeEngine::saying(500, json!({})).await;
    let sound = FakeEngine::saying(200, json!({})).await;
    let prefilled = Arc::new(Notify::new());
    let released = Arc::clone(&prefilled);
    let decode = FakeEngine::start(move |_| {
        let released = Arc::clone(&released);
        async move {
            released.notified().await;
            answer_json(200, &json!({"id": "d"}))
        }
    })
    .await;
    let proxy = TestProxy::start(concurrent(config(addresses(&[&erring, &sound]), addresses(&[&decode])))).await;

    let asking = proxy.post(COMPLETIONS, "{}");
    let answering = async {
        proxy.metric_reaches(PLAIN, 1.0).await;
        prefilled.notify_one();
    };
    let (reply, ()) = tokio::join!(asking, answering);

    assert_eq!(reply.json(), json!({"id": "d"}));
    assert!(waits_for_prefill(&decode.only()));
    assert_eq!(proxy.metric(RESTARTS).await, Some(0.0));
}

#[tokio::test]
async fn with_no_prefill_at_all_decode_computes_the_prompt() {
    let gone = nowhere();
    let decode = decode_that_waits().await;
    let proxy = TestProxy::start(concurrent(config(vec![gone.instance()], addresses(&[&decode])))).await;
    for _ in 0..3 {
        assert_eq!(proxy.post(COMPLETIONS, "{}").await.json(), json!({"id": "recomputed"}));
    }
}

#[tokio::test]
async fn once_decode_has_sent_its_first_byte_prefill_no_longer_matters() {
    let (prefill, fails) = told(|| answer_json(500, &json!({}))).await;
    let (decode, sender) = FakeEngine::streaming().await;
    let proxy = side_by_side(&prefill, &decode).await;

    let mut client = RawClient::post(&proxy, COMPLETIONS, "{}").await;
    prefill.has_begun(1).await;
    sender.send(Ok(Bytes::from("data: 1\n\n"))).unwrap();
    client.read_until("data: 1\n\n\r\n").await;
    fails.notify_one();
    proxy.metric_reaches(ALONE, 1.0).await;
    sender.send(Ok(Bytes::from("data: 2\n\n"))).unwrap();
    drop(sender);

    client.read_until("data: 2\n\n\r\n0\r\n\r\n").await;
    assert_eq!(decode.received().len(), 1);
    assert_eq!(proxy.metric(RESTARTS).await, Some(0.0));
}

#[tokio::test]
async fn a_prefill_that_answers_after_decode_has_begun_is_not_cancelled() {
    let (prefill, prefilled) = told(|| answer_json(200, &json!({}))).await;
    let (decode, sender) = FakeEngine::streaming().await;
    let proxy = side_by_side(&prefill, &decode).await;

    let mut client = RawClient::post(&proxy, COMPLETIONS, "{}").await;
    prefill.has_begun(1).await;
    sender.send(Ok(Bytes::from("data: 1\n\n"))).unwrap();
    client.read_until("data: 1\n\n\r\n").await;
    prefilled.notify_one();

    proxy.metric_reaches(PLAIN, 1.0).await;
    drop(sender);
    client.read_until("0\r\n\r\n").await;
}

#[tokio::test]
async fn what_prefill_refuses_is_refused_and_decode_is_cancelled() {
    let error = json!({"error": {"message": "no such model", "code": 404}});
    let refused = error.clone();
    let (prefill, refuses) = told(move || answer_json(404, &refused)).await;
    let decode = decode_that_waits_with_its_head_sent().await;
    let proxy = side_by_side(&prefill, &decode).await;

    let asking = proxy.post(COMPLETIONS, "{}");
    let refusing = async {
        decode.has_begun(1).await;
        refuses.notify_one();
    };
    let (reply, ()) = tokio::join!(asking, refusing);

    assert_eq!((reply.status.as_u16(), reply.json()), (404, error));
    decode.was_abandoned(1).await;
    assert_eq!(decode.received().len(), 1);
}

#[tokio::test]
async fn a_decode_side_that_fails_cancels_prefill() {
    let prefill = FakeEngine::silent().await;
    let gone = nowhere();
    let proxy = TestProxy::start(concurrent(config(addresses(&[&prefill]), vec![gone.instance()]))).await;

    assert_eq!(proxy.post(COMPLETIONS, "{}").await.status, 502);

    // Decode may fail before prefill was asked at all.
    let begun = prefill.received().len();
    prefill.was_abandoned(begun).await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_both_sides() {
    for decode in [decode_that_waits().await, decode_that_waits_with_its_head_sent().await] {
        let prefill = FakeEngine::silent().await;
        let proxy = side_by_side(&prefill, &decode).await;

        let client = RawClient::post(&proxy, COMPLETIONS, "{}").await;
        tokio::join!(prefill.has_begun(1), decode.has_begun(1));
        drop(client);

        tokio::join!(prefill.was_abandoned(1), decode.was_abandoned(1));
        proxy.metric_reaches(r#"chariot_proxy_client_disconnects_total{route="completions"}"#, 1.0).await;
        assert_eq!(decode.received().len(), 1);
    }
}

#[tokio::test]
async fn a_client_that_leaves_during_the_reply_cancels_a_prefill_that_goes_on() {
    let prefill = FakeEngine::silent().await;
    let (decode, sender) = FakeEngine::streaming().await;
    let proxy = side_by_side(&prefill, &decode).await;

    let mut client = RawClient::post(&proxy, COMPLETIONS, "{}").await;
    prefill.has_begun(1).await;
    sender.send(Ok(Bytes::from("data: 1\n\n"))).unwrap();
    client.read_until("data: 1\n\n\r\n").await;
    drop(client);

    tokio::join!(prefill.was_abandoned(1), decode.was_abandoned(1));
}
