//! Ways in for fuzzers, and built for them alone (`--cfg fuzzing`): what clients send, without sockets and instances.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::value::RawValue;
use tokio::runtime::{Builder, Runtime};

use crate::ProxyConfig;
use crate::answer::{Answer, whole};
use crate::metrics::Route;
use crate::routes::Routes;
use crate::server::http;
use crate::split::Object;

/// Small limits, so that they are reached.
static CONFIG: LazyLock<ProxyConfig> = LazyLock::new(|| {
    let instance = |text: &str| vec![text.parse().expect("it is a host and a port")];
    let mut config = ProxyConfig::new(instance("prefill:1"), instance("decode:1"));
    config.limits.max_body_bytes = 256;
    config.limits.max_headers = 8;
    config
});

static ROUTES: LazyLock<Arc<Routes>> = LazyLock::new(|| Arc::new(Routes::new(&CONFIG)));

/// What a client writes on a connection until it closes it. Each request in it is received and taken apart as if it went
/// on to the instances.
pub fn connection(bytes: &[u8]) {
    thread_local! {
        static RUNTIME: Runtime =
            Builder::new_current_thread().enable_time().build().expect("a runtime without sockets needs nothing");
    }
    let stream = TokioIo::new(tokio::io::join(bytes, tokio::io::sink()));
    // That bytes are no HTTP ends a connection, as it should.
    let _ = RUNTIME
        .with(|runtime| runtime.block_on(async { http(&CONFIG).serve_connection(stream, service_fn(receive)).await }));
}

async fn receive(request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let route = Route::of(&request);
    let (outbound, request_id) = match ROUTES.receive(route, request).await {
        Ok(received) => received,
        Err(refusal) => return Ok(refusal),
    };
    assert!(outbound.body.len() <= CONFIG.limits.max_body_bytes);
    assert!(request_id.is_some() || route == Route::Forwarded);
    let request = outbound.to_request(&HeaderValue::from_static("decode:1"));
    assert_eq!(request.headers().get_all("host").iter().count(), 1);
    for left in ["connection", "content-length", "transfer-encoding", "upgrade", "expect"] {
        assert!(!request.headers().contains_key(left), "`{left}` goes on to the instance");
    }
    completion(&outbound.body);
    Ok(whole(hyper::StatusCode::OK, HeaderValue::from_static("text/plain"), String::new()))
}

/// The body of a completion. What is made of it for prefill and for decode says what it should, and all else that was in
/// it as it was.
pub fn completion(body: &[u8]) {
    let Ok(object) = Object::parse(body) else { return };
    let worker = "decode:31501".parse().expect("it is a host and a port");
    let params = RawValue::from_string(r#"{"a":[1]}"#.to_owned()).expect("it is JSON");
    let is_json = serde_json::from_slice::<serde_json::Value>(body).is_ok();
    let made = [
        object.for_prefill(None),
        object.for_prefill(Some(&worker)),
        object.for_decode(&params),
        object.for_waiting_decode(),
    ];
    for made in &made {
        let again = Object::parse(made).expect("what is made of an object is one");
        assert!(again.transfer_params().is_some());
        assert!(!is_json || serde_json::from_slice::<serde_json::Value>(made).is_ok());
    }
    let again = Object::parse(&made[2]).expect("what is made of an object is one");
    assert_eq!(again.transfer_params().map(RawValue::get), Some(params.get()));
    // Done twice, it is as if it was done once: nothing else was changed.
    assert_eq!(again.for_decode(&params), made[2]);
}
