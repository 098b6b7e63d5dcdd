//! Which headers go from one side of the proxy to the other.

use hyper::HeaderMap;
use hyper::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use uuid::Uuid;

/// The id that both instances, the client and their logs know a request by.
pub(crate) static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Headers that speak of one connection, not of the message (RFC 9110, 7.6.1, and two that clients still send).
static HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Leaves what a request says to the instance: length and host are set anew, and `expect` was answered here.
pub(crate) fn keep_for_instance(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    for name in [HOST, CONTENT_LENGTH, EXPECT] {
        headers.remove(name);
    }
}

/// Leaves what a reply says to the client.
pub(crate) fn keep_for_client(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
}

/// The request's headers for prefill, whose reply is read here and must not come compressed.
pub(crate) fn for_prefill(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    headers.remove(ACCEPT_ENCODING);
    headers
}

/// The client's request id, or a new one, which is then added.
pub(crate) fn ensure_request_id(headers: &mut HeaderMap) -> HeaderValue {
    let fresh = || {
        let mut text = Uuid::encode_buffer();
        let text = Uuid::new_v4().hyphenated().encode_lower(&mut text);
        HeaderValue::from_str(text).expect("a uuid is printable")
    };
    headers.entry(&REQUEST_ID).or_insert_with(fresh).clone()
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn headers_of_the_connection_stay_behind_and_the_others_go_on() {
        let mut sent = headers(&[
            ("connection", "keep-alive, x-once"),
            ("x-once", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("host", "proxy"),
            ("content-length", "3"),
            ("expect", "100-continue"),
            ("authorization", "Bearer k"),
            ("traceparent", "00-1-2-01"),
        ]);
        keep_for_instance(&mut sent);
        assert_eq!(sent, headers(&[("authorization", "Bearer k"), ("traceparent", "00-1-2-01")]));
    }

    #[test]
    fn a_reply_keeps_its_length() {
        let mut reply = headers(&[("content-length", "3"), ("connection", "close"), ("content-type", "text/plain")]);
        keep_for_client(&mut reply);
        assert_eq!(reply, headers(&[("content-length", "3"), ("content-type", "text/plain")]));
    }

    #[test]
    fn a_request_id_is_kept_or_made() {
        let mut given = headers(&[("x-request-id", "mine")]);
        assert_eq!(ensure_request_id(&mut given), "mine");
        let mut none = HeaderMap::new();
        let made = ensure_request_id(&mut none);
        assert_eq!((none[&REQUEST_ID].clone(), made.len()), (made, 36));
    }
}
