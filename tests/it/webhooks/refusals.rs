//! Deliveries that must not count.

use super::*;

/// The start of a delivery whose signature has the right form, and is not worth more.
fn head(path: &str) -> String {
    let signature = "0".repeat(64);
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256={signature}\r\n")
}

/// What a stranger is told.
const STRANGER: &str = "there is no such webhook, or the signature is missing or wrong";

#[tokio::test]
async fn strangers_learn_and_leave_nothing() {
    let mut place = Place::new("");
    let commit = place.publish("one");
    let client = place.service.start().await;
    client.reconcile().await;
    let body = place.push("main", &commit);
    let good = Delivery::new("push", "d-1", &body);
    let other_body = Delivery { body: body.replace("main", "mains").into_bytes(), ..good.clone() };
    let upper = sign(SECRET, body.as_bytes()).to_ascii_uppercase();
    let unknown = Delivery { path: "/webhooks/nobody".into(), ..good.clone() };
    let strangers = [
        good.clone().without("X-Hub-Signature-256"),
        good.clone().without("X-Hub-Signature-256").with("X-Hub-Signature", "sha1=0123456789abcdef0123"),
        good.clone().with("X-Hub-Signature-256", &sign("another secret of 16", body.as_bytes())),
        good.clone().with("X-Hub-Signature-256", "sha256="),
        good.clone().with("X-Hub-Signature-256", "sha256=00"),
        good.clone().with("X-Hub-Signature-256", &upper),
        good.clone().with("X-Hub-Signature-256", &sign(SECRET, body.as_bytes()).replace("sha256=", "")),
        other_body,
        unknown,
        Delivery { path: "/webhooks/..%2f".into(), ..good.clone() },
        Delivery::new("ping", "d-1", "{}").without("X-Hub-Signature-256"),
    ];
    for method in ["GET", "PUT"] {
        let answer = client.call(method, "/webhooks/s", None).await.unwrap();
        assert_eq!((answer.status, answer.json()["code"].as_str()), (405, Some("Invalid")), "{answer:?}");
    }
    for stranger in &strangers {
        let answer = stranger.send(&client).await;
        assert_eq!((answer.status, answer.json()["message"].as_str()), (401, Some(STRANGER)), "{answer:?}");
    }
    assert_eq!(client.items("/api/v1/deliveries").await, Vec::<Value>::new());
    assert_eq!(place.service.log().matches("without a right signature").count(), 1, "the log is not flooded");
    assert_eq!(good.send(&client).await.status, 202);
}

#[tokio::test]
async fn bad_bodies_are_refused_by_what_they_are() {
    let mut place = Place::new("limits: {webhook_body: 64KiB}\n");
    let commit = place.publish("one");
    let client = place.service.start().await;
    let large = "x".repeat(64 * 1024 + 1);
    assert_eq!(Delivery::new("push", "d-1", &large).send(&client).await.status, 413);
    for body in
        ["", "[]", "null", "{", "{\"ref\": 1}trailing", "payload=", "\u{feff}{}", "{\"ref\":\"\\ud83d\"}"]
    {
        let answer = Delivery::new("push", "d-2", body).send(&client).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
    }
    let body = place.push("main", &commit);
    for header in ["X-GitHub-Event", "X-GitHub-Delivery"] {
        assert_eq!(Delivery::new("push", "d-3", &body).without(header).send(&client).await.status, 400);
    }
    assert_eq!(client.items("/api/v1/deliveries").await, Vec::<Value>::new());
}

#[tokio::test]
async fn many_commits_are_no_reason_to_refuse_a_push() {
    let mut place = Place::new("");
    place.publish("one");
    let client = place.service.start().await;
    let commit = place.publish("two");
    let mut many: Value = serde_json::from_str(&place.push("main", &commit)).unwrap();
    let one = |n: u32| json!({"id": commit, "message": format!("{n} {}", "x".repeat(500)), "modified": ["a/b", "c/d"]});
    many["commits"] = (0..2048).map(one).collect();
    assert_eq!(Delivery::new("push", "d-1", &many.to_string()).send(&client).await.status, 202);
    until_live(&client, &commit).await;
}

#[tokio::test]
async fn a_chunked_body_is_cut_at_the_limit() {
    let mut place = Place::new("limits: {webhook_body: 64KiB}\n");
    place.publish("one");
    let client = place.service.start().await;
    let mut stream = TcpStream::connect(client.address()).await.unwrap();
    stream
        .write_all(
            format!("{}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n", head("/webhooks/s"))
                .as_bytes(),
        )
        .await
        .unwrap();
    let chunk = [b"8000\r\n".as_slice(), &[b'x'; 0x8000], b"\r\n"].concat();
    for _ in 0..4 {
        let _ = stream.write_all(&chunk).await;
    }
    assert_eq!(answer(stream).await.status, 413);
}

#[tokio::test]
async fn a_body_without_a_signature_is_not_read() {
    let mut place = Place::new("");
    place.publish("one");
    let client = place.service.start().await;
    for path in ["/webhooks/s", "/webhooks/nobody"] {
        let mut stream = TcpStream::connect(client.address()).await.unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(answer_line(stream).await, 401, "{path}");
    }
}

/// Begins bodies that are larger than all the memory there is for them together, and goes on with none of them.
async fn drip(client: &Client, path: &str) -> Vec<TcpStream> {
    let mut dripping = Vec::new();
    for _ in 0..80 {
        let mut stream = TcpStream::connect(client.address()).await.unwrap();
        let head = format!("{}Content-Length: 3000000\r\n\r\n", head(path));
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; 1 << 20]).await.unwrap();
        dripping.push(stream);
    }
    dripping
}

#[tokio::test]
async fn bodies_that_drip_do_not_hold_up_a_valid_push() {
    let mut place = Place::new("");
    place.publish("one");
    let client = place.service.start().await;
    let mut dripping = drip(&client, "/webhooks/s").await;
    let commit = place.publish("two");
    // Of the same address, and larger than what takes no memory of the others.
    let mut large: Value = serde_json::from_str(&place.push("main", &commit)).unwrap();
    large["commits"] = vec![json!({"message": "x".repeat(1000)}); 2000].into();
    let sent = Delivery::new("push", "d-1", &large.to_string()).send(&client).await;
    assert_eq!(sent.status, 202);
    until_live(&client, &commit).await;
    let (first, last) = (dripping.remove(0), dripping.pop().unwrap());
    assert_eq!(answer_line(first).await, 503, "it gave way");
    assert_eq!(answer_line(last).await, 408, "a body that does not come in ends");
}

/// The status of an answer on a connection that stays open.
async fn answer_line(mut stream: TcpStream) -> u16 {
    let mut start = [0; 12];
    timeout(BOUND, stream.read_exact(&mut start)).await.expect("an answer within the bound").unwrap();
    String::from_utf8_lossy(&start[9..]).parse().unwrap_or_default()
}
