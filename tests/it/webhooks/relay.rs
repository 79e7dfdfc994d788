//! Deliveries that come by a relay.

use kindling::config::relay::RelayUrl;
use kindling::observe::relay::{Http, Pace, Relay, Signal};

use super::smee::{Smee, message};
use super::*;

async fn place() -> (Smee, Place) {
    let smee = Smee::start().await;
    let place = Place::followed("1h", &smee.key(), "");
    (smee, place)
}

async fn deliveries(client: &Client) -> Vec<Value> {
    client.items("/api/v1/deliveries?source=s").await
}

async fn until_recorded(client: &Client, id: &str) -> Value {
    until(&format!("{id} is recorded"), async || {
        deliveries(client).await.into_iter().find(|row| row["id"] == id)
    })
    .await
}

async fn until_connected(client: &Client) -> Value {
    client.source_until("s", "has its relay", |s| s["relay"]["connectedSince"].is_string()).await
}

#[tokio::test]
async fn a_push_behind_a_relay_is_live_at_once() {
    let (smee, mut place) = place().await;
    place.publish("one");
    let client = place.service.start().await;
    smee.until_open(1).await;
    let head = smee.asked().remove(0).to_ascii_lowercase();
    assert!(
        head.contains("accept: text/event-stream\r\n") && head.contains("user-agent: kindling/"),
        "{head}"
    );
    // Rewritten, as it is, and as a form, which only its own bytes can be checked of.
    for (number, text) in ["two", "three", "four"].into_iter().enumerate() {
        let commit = place.publish(text);
        let (id, body) = (format!("d-{number}"), place.push("main", &commit));
        let form = format!("payload={body}");
        match number {
            0 => smee.pass(&Delivery::new("push", &id, &body)).await,
            // With a space that no parser keeps.
            1 => smee.pass_raw(&Delivery::new("push", &id, &format!("{body} "))).await,
            _ => {
                let kind = "application/x-www-form-urlencoded";
                smee.pass_raw(&Delivery::new("push", &id, &form).with("Content-Type", kind)).await;
            }
        }
        until_live(&client, &commit).await;
        let row = until_recorded(&client, &id).await;
        assert_eq!(
            (&row["via"], &row["outcome"], &row["revision"]),
            (&json!("relay"), &json!("accepted"), &json!(commit))
        );
    }
    assert_eq!(client.run("t").await["output"], "four");
    let row = client.items("/api/v1/history?unit=s/t").await.remove(0);
    assert_eq!(row["trigger"], json!({"kind": "webhook", "detail": "delivery d-2"}));
    // One that comes both ways is one.
    let commit = place.publish("five");
    let both = Delivery::new("push", "d-both", &place.push("main", &commit));
    assert_eq!(both.send(&client).await.status, 202);
    smee.pass(&both).await;
    until("it counts once", async || (deliveries(&client).await[0]["duplicates"] == 1).then_some(())).await;
    assert_eq!(deliveries(&client).await[0]["via"], "direct");
    // Other events are told apart as ever.
    smee.pass(&Delivery::new("ping", "d-ping", "{\"zen\":\"x\"}")).await;
    assert_eq!(until_recorded(&client, "d-ping").await["reason"], "pong");
}

/// A payload whose numbers and texts a parser changes.
#[tokio::test]
async fn a_body_that_was_written_anew_is_checked_as_javascript_writes_it() {
    let (smee, mut place) = place().await;
    let commit = place.publish("one");
    let client = place.service.start().await;
    smee.until_open(1).await;
    let url = place.repo.bare().display().to_string();
    let signed = format!(
        "{{\"ref\":\"refs/heads/main\",\"after\":\"{commit}\",\"size\":1.5,\"big\":1e+21,\"text\":\"<\u{e9}\u{2028}\\u001f>\",\
         \"repository\":{{\"7\":0,\"clone_url\":\"{url}\"}}}}"
    );
    let written = signed
        .replace("1.5", "1.50")
        .replace("1e+21", "1000000000000000000000")
        .replace("\u{e9}", "\\u00e9")
        .replace('<', "\\u003C")
        .replace(",\"repository", " , \"repository");
    let delivery = Delivery::new("push", "d-1", &signed);
    let rest = message(&delivery).to_string();
    let body = serde_json::from_str::<Value>(&signed).unwrap().to_string();
    assert!(rest.contains(&body));
    smee.send(format!("data: {}\n\n", rest.replace(&body, &written)).as_bytes()).await;
    assert_eq!(until_recorded(&client, "d-1").await["outcome"], "accepted");
}

#[tokio::test]
async fn what_was_altered_is_told_of_once_and_counted() {
    let (smee, mut place) = place().await;
    place.publish("one");
    let client = place.service.start().await;
    smee.until_open(1).await;
    client.source_until("s", "is read", |s| !s["revision"]["deployed"].is_null()).await;
    let commit = place.publish("two");
    let delivery = Delivery::new("push", "d-1", &place.push("main", &commit));
    let altered = Delivery {
        body: [&delivery.body[..delivery.body.len() - 1], b",\"x\":1}"].concat(),
        ..delivery.clone()
    };
    smee.pass(&altered).await;
    // It says that there may be something new: the next poll is now.
    until_live(&client, &commit).await;
    for _ in 0..500 {
        smee.pass(&altered).await;
    }
    smee.pass(&delivery.clone().without("X-Hub-Signature-256")).await;
    // The true one is none of them, whatever id they named.
    smee.pass(&delivery).await;
    assert_eq!(until_recorded(&client, "d-1").await["outcome"], "accepted");
    let rows = deliveries(&client).await;
    assert_eq!(rows.len(), 2, "{rows:?}");
    let row = &rows[1];
    assert_eq!(
        (&row["outcome"], &row["via"], &row["event"]),
        (&json!("relay-altered"), &json!("relay"), &json!("push"))
    );
    assert!(
        row["reason"].as_str().unwrap().starts_with("the signature of delivery d-1 does not fit"),
        "{row}"
    );
    assert!(row["revision"].is_null() && row["repeat"] == false && rows[0]["repeat"] == false);
    assert_eq!(place.service.log().matches("passed on what is refused").count(), 1, "the log is not flooded");
    let figures = client.call("GET", "/metrics", None).await.unwrap().body;
    for line in [
        "kindling_webhook_deliveries_total{source=\"s\",outcome=\"relay-altered\"} 502",
        "kindling_webhook_deliveries_total{source=\"s\",outcome=\"accepted\"} 1",
        "kindling_relay_connected{source=\"s\"} 1",
    ] {
        assert!(figures.contains(line), "{figures}");
    }
    // Nobody knows what it announced.
    let number = row["number"].to_string();
    let output = place.service.attempt(&["webhook", "redeliver", &number]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    // What was counted in memory is written down at the end.
    assert!(place.service.terminate().await.success());
    let client = place.service.start().await;
    assert_eq!(deliveries(&client).await[1]["duplicates"], 501);
}

/// Who reads along has what was signed, and can post it under any id and as any event.
#[tokio::test]
async fn what_was_signed_once_and_is_posted_again_and_again_is_not_written_each_time() {
    let (smee, mut place) = place().await;
    place.publish("one");
    let client = place.service.start().await;
    smee.until_open(1).await;
    let commit = place.publish("two");
    let body = place.push("main", &commit);
    smee.pass(&Delivery::new("push", "d-1", &body)).await;
    until_live(&client, &commit).await;
    for number in 0..300 {
        let event = if number % 2 == 0 { "push" } else { "ping" };
        smee.pass(&Delivery::new(event, &format!("x-{number}"), &body)).await;
    }
    let next = place.publish("three");
    smee.pass(&Delivery::new("push", "d-2", &place.push("main", &next))).await;
    until_live(&client, &next).await;
    let ids: Vec<Value> = deliveries(&client).await.iter().map(|row| row["id"].clone()).collect();
    assert_eq!(ids, ["d-2", "x-0", "d-1"]);
}

#[tokio::test]
async fn a_relay_that_was_away_is_found_again_and_what_was_pushed_meanwhile_too() {
    let (mut smee, mut place) = place().await;
    place.publish("one");
    let client = place.service.start().await;
    until_connected(&client).await;
    client.source_until("s", "is read", |s| !s["revision"]["deployed"].is_null()).await;
    smee.stop();
    let source = client.source_until("s", "says so", |s| s["relay"]["lostSince"].is_string()).await;
    assert!(source["relay"]["connectedSince"].is_null() && source["relay"]["error"].is_string(), "{source}");
    let place_shown = source["relay"]["place"].as_str().unwrap();
    assert!(place_shown.ends_with("/AbCd...") && !source.to_string().contains("AbCdEf"), "{source}");
    // Nobody is told of this one.
    let commit = place.publish("two");
    smee.listen().await;
    until_live(&client, &commit).await;
    let row = client.items("/api/v1/history?unit=s/t").await.remove(0);
    assert_eq!(row["trigger"], json!({"kind": "webhook", "detail": "the relay was connected"}));
    let source = until_connected(&client).await;
    assert!(source["relay"]["lostSince"].is_null() && source["webhook"]["missed"] == 0, "{source}");
    assert!(!place.service.log().contains("AbCdEf"), "the log does not say the channel");
}

#[tokio::test]
async fn what_is_no_delivery_and_what_is_too_large_ends_nothing() {
    let smee = Smee::start().await;
    let mut place = Place::followed("1h", &smee.key(), "limits: {webhook_body: 64KiB}\n");
    place.publish("one");
    let client = place.service.start().await;
    smee.until_open(1).await;
    let large = vec![b'x'; 1 << 20];
    smee.send(b"data: {}\n\ndata: [\n\nevent: x\ndata: {\n\n\xff\xfe\n\n").await;
    smee.send(&[b"data: ", &large[..], b"\n\n"].concat()).await;
    smee.say(&json!({"body": "x".repeat(100_000), "x-hub-signature-256": "sha256=00"})).await;
    let commit = place.publish("two");
    // Byte by byte.
    let delivery = message(&Delivery::new("push", "d-1", &place.push("main", &commit)));
    for byte in format!("data: {delivery}\n\n").bytes() {
        smee.send(&[byte]).await;
    }
    until_live(&client, &commit).await;
    assert_eq!(deliveries(&client).await.len(), 1);
    assert_eq!(smee.asked().len(), 1, "the connection held");
}

#[tokio::test]
async fn the_relay_changes_with_the_configuration() {
    let (smee, mut place) = place().await;
    let commit = place.publish("one");
    let client = place.service.start().await;
    until_connected(&client).await;
    let other = Smee::start().await;
    let text = std::fs::read_to_string(place.service.configuration()).unwrap();
    std::fs::write(place.service.configuration(), text.replace(&smee.url(), &other.url())).unwrap();
    other.until_open(1).await;
    other.pass(&Delivery::new("push", "d-1", &place.push("main", &commit))).await;
    until_recorded(&client, "d-1").await;
    std::fs::write(place.service.configuration(), text.replace(&smee.key(), "")).unwrap();
    client.source_until("s", "has none", |s| s["relay"].is_null()).await;
    assert_eq!(smee.asked().len(), 1);
    // What the last relay knew is no secret that a source may keep: it is in no row and no file but the configuration.
    let database = std::fs::read(place.service.data_dir().join("kindling.db")).unwrap();
    assert!(!database.windows(16).any(|part| part == b"AbCdEf0123456789"));
}

#[tokio::test]
async fn listings_and_check_show_the_relay() {
    let (mut smee, mut place) = place().await;
    place.publish("one");
    let client = place.service.start().await;
    until_connected(&client).await;
    let out = |output: std::process::Output| String::from_utf8(output.stdout).unwrap();
    let wide = out(place.service.attempt(&["get", "sources", "-o", "wide"]).await);
    assert!(wide.contains("RELAY") && wide.contains("/AbCd... connected "), "{wide}");
    let checked = out(place.service.attempt(&["check"]).await);
    assert!(checked.contains("/AbCd... is connected"), "{checked}");
    smee.stop();
    client.source_until("s", "has lost it", |s| s["relay"]["lostSince"].is_string()).await;
    let checked = out(place.service.attempt(&["check"]).await);
    assert!(checked.contains("/AbCd... is away: it "), "{checked}");
}

/// What a relay over HTTP says first.
async fn first(smee: &Smee) -> Signal {
    let url = RelayUrl::parse(&smee.url()).unwrap();
    Relay::new(Http::new(url), 1000, Pace::default(), || 0.5).next().await
}

#[tokio::test]
async fn answers_that_are_no_stream_are_told() {
    let mut smee = Smee::start().await;
    assert_eq!(first(&smee).await, Signal::Connected);
    let elsewhere = Smee::start().await;
    let redirect = format!("HTTP/1.1 307 X\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", elsewhere.url());
    for (answer, said) in [
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "answers with HTTP status 403 Forbidden"),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n",
            "answers with `text/html`, which is no stream of events",
        ),
        (&redirect, "points to another place, which is not followed"),
    ] {
        smee.answer(answer);
        assert_eq!(first(&smee).await, Signal::Lost(said.into()));
    }
    assert_eq!(elsewhere.asked().len(), 0);
    smee.stop();
    let Signal::Lost(why) = first(&smee).await else { panic!("it is away") };
    assert!(why.starts_with("cannot be reached: ") && !why.contains("AbCd"), "{why}");
}
