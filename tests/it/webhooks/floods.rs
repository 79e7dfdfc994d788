//! Many deliveries at once, and those that come at a bad moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;

use super::*;

/// Sends copies of deliveries from several connections at a time until it is stopped.
struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    work: Vec<tokio::task::JoinHandle<()>>,
}

impl Flood {
    fn start(
        client: &Client,
        make: impl Fn(usize) -> Delivery + Send + Sync + 'static,
        expected: u16,
    ) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let make = Arc::new(make);
        let one = |_| {
            let (client, stop, sent, make) =
                (client.clone(), Arc::clone(&stop), Arc::clone(&sent), Arc::clone(&make));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let number = sent.fetch_add(1, Ordering::Relaxed);
                    assert_eq!(make(number).send(&client).await.status, expected);
                }
            })
        };
        let work = (0..8).map(one).collect();
        Self { stop, sent, work }
    }

    async fn until_sent(&self, many: usize) {
        until("the flood flows", async || (self.sent.load(Ordering::Relaxed) >= many).then_some(())).await;
    }

    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for work in join_all(self.work).await {
            work.unwrap();
        }
        self.sent.load(Ordering::Relaxed)
    }
}

/// What the store has written: its files with their sizes and times.
fn written(place: &Place) -> Vec<(String, u64, std::time::SystemTime)> {
    let mut files: Vec<_> = std::fs::read_dir(place.service.data_dir())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("kindling.db"))
        .map(|entry| {
            let found = entry.metadata().unwrap();
            (entry.file_name().to_string_lossy().into_owned(), found.len(), found.modified().unwrap())
        })
        .filter(|(name, ..)| !name.ends_with("-shm"))
        .collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_strangers_writes_nothing_and_holds_no_push_up() {
    let mut place = Place::new("");
    let commit = place.publish("one");
    let client = place.service.start().await;
    client.reconcile().await;
    let body = place.push("main", &commit);
    let before = written(&place);
    let stranger =
        Delivery::new("push", "d-1", &body).with("X-Hub-Signature-256", &sign("another secret of 16", b""));
    let flood =
        Flood::start(&client, move |n| stranger.clone().with("X-GitHub-Delivery", &format!("x-{n}")), 401);
    flood.until_sent(500).await;
    assert_eq!(written(&place), before, "strangers cause no write");
    let commit = place.publish("two");
    assert_eq!(Delivery::new("push", "d-1", &place.push("main", &commit)).send(&client).await.status, 202);
    until_live(&client, &commit).await;
    let sent = flood.stop().await;
    assert_eq!(client.items("/api/v1/deliveries").await.len(), 1);
    assert!(place.service.log().matches("without a right signature").count() <= 2, "the log is not flooded");
    let figures = client.call("GET", "/metrics", None).await.unwrap().body;
    assert!(figures.contains(&format!("kindling_webhook_refused_total {sent}")), "{sent}: {figures}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_with_the_secret_is_recorded_and_holds_no_push_up() {
    let mut place = Place::new("");
    let old = place.publish("one");
    let client = place.service.start().await;
    let body = place.push("main", &old);
    let flood = Flood::start(&client, move |n| Delivery::new("push", &format!("x-{n}"), &body), 202);
    flood.until_sent(200).await;
    let commit = place.publish("two");
    assert_eq!(Delivery::new("push", "d-1", &place.push("main", &commit)).send(&client).await.status, 202);
    until_live(&client, &commit).await;
    let sent = flood.stop().await;
    assert_eq!(client.run("t").await["output"], "two");
    let rows = client.items("/api/v1/deliveries?limit=1000").await;
    assert_eq!(rows.len(), (sent + 1).min(1000));
}

#[tokio::test]
async fn two_pushes_within_a_few_milliseconds_end_at_the_second() {
    let mut place = Place::new("");
    place.publish("one");
    let client = place.service.start().await;
    for round in 0..10 {
        let first = place.publish(&format!("a{round}"));
        let second = place.publish(&format!("b{round}"));
        let send = |id: String, commit: &str| {
            let delivery = Delivery::new("push", &id, &place.push("main", commit));
            let client = client.clone();
            async move { delivery.send(&client).await.status }
        };
        let later = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            send(format!("b-{round}"), &second).await
        };
        assert_eq!(tokio::join!(send(format!("a-{round}"), &first), later), (202, 202));
        until_live(&client, &second).await;
        assert_eq!(client.run("t").await["output"], format!("b{round}"));
    }
    assert_eq!(client.items("/api/v1/deliveries?limit=1000").await.len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_while_the_service_ends_is_recorded_and_applied_by_the_next() {
    let mut place = Place::new("");
    place.publish("one");
    let client = place.service.start().await;
    let commit = place.publish("two");
    let body = place.push("main", &commit);
    let senders = (0..8).map(|sender| {
        let (client, body) = (client.clone(), body.clone());
        tokio::spawn(async move {
            let mut answered = Vec::new();
            for number in 0.. {
                let id = format!("d-{sender}-{number}");
                let Some(status) = try_send(&client, &Delivery::new("push", &id, &body)).await else { break };
                assert!(matches!(status, 202 | 503), "{status}");
                if status == 202 {
                    answered.push(id);
                }
            }
            answered
        })
    });
    let senders: Vec<_> = senders.collect();
    until("some came in", async || (client.items("/api/v1/deliveries").await.len() >= 20).then_some(()))
        .await;
    assert!(place.service.terminate().await.success());
    let answered: Vec<String> = join_all(senders).await.into_iter().flat_map(Result::unwrap).collect();
    let client = place.service.start().await;
    let rows = client.items("/api/v1/deliveries?limit=1000").await;
    for id in answered.iter().rev().take(900) {
        assert!(
            rows.len() == 1000 || rows.iter().any(|row| row["id"] == **id),
            "{id} was answered and is lost"
        );
    }
    until_live(&client, &commit).await;
    assert!(!place.service.log().contains("panicked"));
    let source = client.source_until("s", "is there", |_| true).await;
    assert!(source["webhook"]["lastDeliveryAt"].is_string(), "it is known after a start: {source}");
}

/// The status that is answered; `None` where nobody is there.
pub async fn try_send(client: &Client, delivery: &Delivery) -> Option<u16> {
    let mut stream = TcpStream::connect(client.address()).await.ok()?;
    let mut text = format!("POST {} HTTP/1.0\r\nHost: x\r\n", delivery.path);
    for (name, value) in &delivery.headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += &format!("Content-Length: {}\r\n\r\n", delivery.body.len());
    stream.write_all(&[text.as_bytes(), &delivery.body].concat()).await.ok()?;
    let mut answer = Vec::new();
    timeout(BOUND, stream.read_to_end(&mut answer)).await.expect("an end within the bound").ok()?;
    String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
}
