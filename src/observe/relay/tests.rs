//! A channel that the test plays, with paused time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::*;

/// What happens on a connection.
enum Act {
    /// A piece comes in.
    Send(String),
    /// Nothing happens for so long.
    Pause(Duration),
    /// It ends.
    End,
}

/// Connections that are to come; `None` for one that is refused. When there is no more, all are refused.
#[derive(Clone, Default)]
struct Played(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    connections: VecDeque<Option<VecDeque<Act>>>,
    attempts: Vec<Instant>,
}

impl Wire for Played {
    type Stream = VecDeque<Act>;

    async fn open(&mut self) -> Result<VecDeque<Act>, String> {
        let mut script = self.0.lock().unwrap();
        script.attempts.push(Instant::now());
        script.connections.pop_front().flatten().ok_or_else(|| "cannot be reached".into())
    }
}

impl Stream for VecDeque<Act> {
    async fn chunk(&mut self) -> Result<Option<Vec<u8>>, String> {
        loop {
            match self.pop_front() {
                Some(Act::Send(text)) => return Ok(Some(text.into_bytes())),
                // Whoever waits no longer than this gives the connection up.
                Some(Act::Pause(length)) => tokio::time::sleep(length).await,
                Some(Act::End) => return Ok(None),
                None => std::future::pending().await,
            }
        }
    }
}

impl Played {
    fn connect(&self, acts: impl IntoIterator<Item = Act>) -> &Self {
        self.0.lock().unwrap().connections.push_back(Some(acts.into_iter().collect()));
        self
    }

    fn refuse(&self) -> &Self {
        self.0.lock().unwrap().connections.push_back(None);
        self
    }

    fn follow(&self) -> Relay<Self> {
        Relay::new(self.clone(), 1000, Pace::default(), || 1.0)
    }

    /// Times between attempts, in seconds.
    fn waits(&self) -> Vec<f64> {
        let attempts = &self.0.lock().unwrap().attempts;
        attempts.windows(2).map(|two| (two[1] - two[0]).as_secs_f64()).collect()
    }
}

fn ready() -> Act {
    Act::Send("id: 0\nevent: ready\ndata: {}\n\n".into())
}

fn ping() -> Act {
    Act::Send("event: ping\ndata: {}\n\n".into())
}

fn body(text: &str) -> Act {
    Act::Send(format!("id: 1\ndata: {{\"body\":{text}}}\n\n"))
}

fn seconds(many: u64) -> Act {
    Act::Pause(Duration::from_secs(many))
}

async fn delivered(relay: &mut Relay<Played>) -> Vec<u8> {
    match relay.next().await {
        Signal::Delivery(message) => message.bodies[0].clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn brings_deliveries_and_passes_signs_of_life_on() {
    let played = Played::default();
    let idle = std::iter::repeat_with(|| [seconds(30), ping()]).take(100).flatten();
    played.connect([ready(), body("1")].into_iter().chain(idle).chain([body("2")]));
    let mut relay = played.follow();
    assert_eq!(relay.next().await, Signal::Connected);
    assert_eq!(relay.next().await, Signal::Alive);
    assert_eq!(delivered(&mut relay).await, b"1");
    for _ in 0..100 {
        assert_eq!(relay.next().await, Signal::Alive);
    }
    assert_eq!(delivered(&mut relay).await, b"2");
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_is_away_for_an_hour_is_asked_less_and_less_and_found_when_it_is_back() {
    let played = Played::default();
    let mut relay = played.follow();
    let began = Instant::now();
    let mut failed = 0;
    while began.elapsed() < Duration::from_secs(3600) {
        assert_eq!(relay.next().await, Signal::Lost("cannot be reached".into()));
        failed += 1;
    }
    let waits = played.waits();
    assert!(waits.windows(2).all(|two| two[0] <= two[1]), "{waits:?}");
    assert_eq!((waits[0], waits[1]), (0.75, 1.5));
    assert!(waits.iter().all(|wait| *wait <= 300.0) && failed < 30, "{failed}: {waits:?}");
    played.connect([ready(), body("1")]);
    let back = Instant::now();
    assert_eq!(relay.next().await, Signal::Connected);
    assert!(back.elapsed() <= Duration::from_mins(5));
    assert_eq!(relay.next().await, Signal::Alive);
    assert_eq!(delivered(&mut relay).await, b"1");
}

#[tokio::test(start_paused = true)]
async fn waits_are_drawn_from_all_of_their_range() {
    let played = Played::default();
    let mut relay = Relay::new(played.clone(), 1000, Pace::default(), || 0.5);
    for _ in 0..20 {
        relay.next().await;
    }
    let waits = played.waits();
    assert_eq!((waits[0], waits[waits.len() - 1]), (0.375, 150.0));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_held_is_no_failure_in_a_row_and_one_that_flaps_is() {
    let played = Played::default();
    for _ in 0..3 {
        played.refuse();
    }
    played.connect([ready(), seconds(60), Act::End]);
    for _ in 0..3 {
        played.connect([ready(), Act::End]);
    }
    let mut relay = played.follow();
    let mut connected = 0;
    while played.0.lock().unwrap().attempts.len() < 8 {
        connected += usize::from(relay.next().await == Signal::Connected);
    }
    assert_eq!(connected, 4);
    let waits = played.waits();
    assert_eq!(waits[..3], [0.75, 1.5, 3.0]);
    // A minute of good connection, and then the first wait again.
    assert_eq!(waits[3..], [60.75, 1.5, 3.0, 6.0]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_silent_or_drips_is_given_up() {
    let dripping = std::iter::repeat_with(|| [seconds(1), Act::Send("x".into())]).take(10_000).flatten();
    for acts in [vec![ready()], vec![], dripping.collect()] {
        let played = Played::default();
        played.connect(acts);
        let mut relay = played.follow();
        let began = Instant::now();
        assert_eq!(relay.next().await, Signal::Connected);
        loop {
            match relay.next().await {
                Signal::Alive => {}
                other => break assert_eq!(other, Signal::Lost("showed no sign of life for 90 s".into())),
            }
        }
        assert_eq!(began.elapsed().as_secs(), 90);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_delivery_does_not_end_the_connection() {
    let played = Played::default();
    let large = Act::Send(format!("data: {{\"body\":\"{}\"}}\n\n", "x".repeat(100_000)));
    let too_large = body(&format!("\"{}\"", "x".repeat(1000)));
    let garbage = Act::Send("data: {\n\ndata: [1]\n\ndata: {\"x\":1}\n\n\u{0}\u{7}\n\n".into());
    played.connect([ready(), large, too_large, garbage, body("1"), Act::End]);
    let mut relay = played.follow();
    let expected = [
        Signal::Connected,
        Signal::Alive,
        Signal::Unusable(Unusable::TooLarge),
        Signal::Unusable(Unusable::TooLarge),
        Signal::Unusable(Unusable::Garbage),
        Signal::Unusable(Unusable::Garbage),
        Signal::Unusable(Unusable::Garbage),
        Signal::Alive,
    ];
    for signal in expected {
        assert_eq!(relay.next().await, signal);
    }
    assert_eq!(delivered(&mut relay).await, b"1");
    assert_eq!(relay.next().await, Signal::Lost("ended the connection".into()));
}
