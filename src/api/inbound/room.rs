//! Room for the bodies that are on their way: when it is short, which of them gives way. Nobody waits for it.
//!
//! A body that nobody signed rightly is known for that only when it is whole. So room goes by what is known before: who
//! showed a right signature lately comes first, no network takes more than its share, and what comes in slowly gives way to
//! what does not.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::HeaderMap;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Room is taken in pieces of this many bytes.
const PIECE: usize = 64 << 10;
/// One network takes this part of the room at most while it is short, unless by one body alone.
const SHARES: usize = 4;
/// Networks that are remembered for a right signature.
const MOST_PROVEN: usize = 1024;

/// What is known of a body before it is whole; the least comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::api) enum Standing {
    /// It goes to no place that is there.
    Nowhere,
    /// Nothing is known of its sender.
    Unknown,
    /// Its sender showed what proves it, or somebody of the same network did lately.
    Proven,
}

/// Where a body comes from: the first 24 bits of an IPv4 address, the first 48 of an IPv6 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::api) struct Network(IpAddr);

impl Network {
    /// That of an address.
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << 8)).into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 80)).into(),
        })
    }

    /// That of a caller. What a proxy or tunnel on this machine passes on is of the address that it saw.
    pub(in crate::api) fn of_caller(from: IpAddr, headers: &HeaderMap) -> Self {
        let last = || {
            let line = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
            line.rsplit(',').next()?.trim().parse().ok()
        };
        let is_here = from.to_canonical().is_loopback();
        Self::of(is_here.then(last).flatten().unwrap_or(from))
    }
}

/// The bodies that have taken room, and who is known.
pub(super) struct Room {
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    count: u64,
    taken: usize,
    bodies: BTreeMap<u64, Taken>,
    /// When a right signature came from each network last.
    proven: HashMap<Network, Instant>,
}

struct Taken {
    standing: Standing,
    network: Network,
    room: usize,
    /// When it took its last piece.
    grew: Instant,
    gone: CancellationToken,
}

/// A body in the room; it leaves when this is dropped.
pub(super) struct Place<'a> {
    room: &'a Room,
    number: u64,
    gone: CancellationToken,
}

impl Room {
    /// Nobody is there; `most` in bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { most, state: Mutex::default() }
    }

    /// Remembers that a right signature came from there.
    pub(super) fn prove(&self, network: Network) {
        let proven = &mut self.lock().proven;
        if proven.len() >= MOST_PROVEN && !proven.contains_key(&network) {
            let oldest = proven.iter().min_by_key(|(_, at)| **at).map(|(network, _)| *network);
            oldest.map(|network| proven.remove(&network));
        }
        proven.insert(network, Instant::now());
    }

    /// A body comes.
    pub(super) fn enter(&self, standing: Standing, network: Network) -> Place<'_> {
        let mut state = self.lock();
        let is_proven = standing == Standing::Unknown && state.proven.contains_key(&network);
        let standing = if is_proven { Standing::Proven } else { standing };
        let (gone, number) = (CancellationToken::new(), state.count);
        state.count += 1;
        let taken = Taken { standing, network, room: 0, grew: Instant::now(), gone: gone.clone() };
        state.bodies.insert(number, taken);
        Place { room: self, number, gone }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// Takes room for all that came in of the body so far, in bytes; others may have to give way. Gives back whether it
    /// is there: otherwise this one gave way.
    pub(super) fn grow(&self, received: usize) -> bool {
        let mut state = self.room.lock();
        let Some(own) = state.bodies.get_mut(&self.number) else { return false };
        let more = received.next_multiple_of(PIECE).saturating_sub(own.room);
        if more == 0 {
            return true;
        }
        (own.room, own.grew) = (own.room + more, Instant::now());
        state.taken += more;
        // A single one always fits: its own size has a limit too.
        while state.taken > self.room.most && state.bodies.len() > 1 {
            let Some(number) = gives_way(&state.bodies, self.room.most / SHARES) else { break };
            state.leave(number);
            if number == self.number {
                return false;
            }
        }
        true
    }

    /// Returns when the body has given way.
    pub(super) async fn gave_way(&self) {
        self.gone.cancelled().await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.room.lock().leave(self.number);
    }
}

impl State {
    fn leave(&mut self, number: u64) {
        if let Some(taken) = self.bodies.remove(&number) {
            self.taken -= taken.room;
            taken.gone.cancel();
        }
    }
}

/// Of those of the least standing the one whose last piece came longest ago: of the network that takes most, where its
/// bodies take more than its `share`.
fn gives_way(bodies: &BTreeMap<u64, Taken>, share: usize) -> Option<u64> {
    let least = bodies.values().map(|taken| taken.standing).min()?;
    let of_least = || bodies.iter().filter(|(_, taken)| taken.standing == least);
    let mut networks: HashMap<Network, (usize, usize)> = HashMap::new();
    for (_, taken) in of_least() {
        let (room, count) = networks.entry(taken.network).or_default();
        (*room, *count) = (*room + taken.room, *count + 1);
    }
    let greedy = networks.iter().filter(|(_, (room, count))| *room > share && *count > 1);
    let greediest = greedy.max_by_key(|(_, (room, _))| *room).map(|(network, _)| *network);
    let slowest = of_least()
        .filter(|(_, taken)| greediest.is_none_or(|network| taken.network == network))
        .min_by_key(|(number, taken)| (taken.grew, **number));
    slowest.map(|(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn network(address: &str) -> Network {
        Network::of(address.parse().unwrap())
    }

    #[test]
    fn a_network_is_that_of_who_called_the_proxy() {
        let of = |from: &str, lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            Network::of_caller(from.parse().unwrap(), &headers)
        };
        assert_eq!(of("192.0.2.7", &[]), network("192.0.2.99"));
        assert_ne!(of("192.0.2.7", &[]), network("192.0.3.7"));
        assert_eq!(of("::ffff:192.0.2.7", &[]), network("192.0.2.1"));
        assert_eq!(of("2001:db8:1:2::3", &[]), network("2001:db8:1:ffff::"));
        assert_eq!(of("192.0.2.7", &["198.51.100.1"]), network("192.0.2.7"), "anybody may say that");
        assert_eq!(of("127.0.0.1", &["203.0.113.1, 198.51.100.1"]), network("198.51.100.2"));
        assert_eq!(of("::1", &["203.0.113.1", "198.51.100.1"]), network("198.51.100.2"));
        assert_eq!(of("127.0.0.1", &["nonsense"]), network("127.0.0.1"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_stalest_gives_way_of_a_network_that_takes_more_than_its_share_first() {
        let room = Room::new(11 * PIECE);
        let (a, b) = (network("192.0.2.1"), network("198.51.100.1"));
        let enter = |network| room.enter(Standing::Unknown, network);
        let (other, slow, fast) = (enter(b), enter(a), enter(a));
        assert!(other.grow(PIECE) && slow.grow(4 * PIECE));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(fast.grow(5 * PIECE) && slow.grow(4 * PIECE), "what is no piece does not count");
        let newest = enter(b);
        assert!(newest.grow(2 * PIECE), "another one gives way");
        slow.gave_way().await;
        assert!(!slow.grow(5 * PIECE) && fast.grow(6 * PIECE));
        assert!(newest.grow(5 * PIECE), "a single body is never too much of one network");
        assert!(!other.grow(2 * PIECE) && fast.grow(6 * PIECE));
        drop((other, slow, fast, newest));
        let state = room.lock();
        assert_eq!((state.taken, state.bodies.len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_showed_a_right_signature_stays() {
        let room = Room::new(4 * PIECE);
        let (a, b) = (network("192.0.2.1"), network("198.51.100.1"));
        room.prove(a);
        let enter = |standing, network| room.enter(standing, network);
        let proven = enter(Standing::Unknown, a);
        let (unknown, nowhere) = (enter(Standing::Unknown, b), enter(Standing::Nowhere, a));
        assert!(nowhere.grow(PIECE) && unknown.grow(PIECE) && proven.grow(3 * PIECE));
        assert!(!nowhere.grow(PIECE) && !unknown.grow(2 * PIECE) && proven.grow(40 * PIECE));
        for n in 0..2 * MOST_PROVEN {
            room.prove(Network::of(Ipv4Addr::from_bits(u32::try_from(n << 8).unwrap()).into()));
        }
        assert_eq!(room.lock().proven.len(), MOST_PROVEN);
    }
}
