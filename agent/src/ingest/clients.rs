//! What one client may take: connections, and lines a second. A client is an address; all its connections
//! to whichever listener of the agent count together.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use topology::model;

/// A client may save up this much of its rate, so that a burst is not slowed.
const SAVED: Duration = Duration::from_secs(1);

/// All clients of an agent. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Clients(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: model::Limits,
    /// Those that have a connection, and those that left in debt: no more than twice as many as there may be
    /// connections.
    present: Mutex<HashMap<IpAddr, Client>>,
}

#[derive(Debug)]
struct Client {
    connections: usize,
    /// When all that it has sent would have been sent at its rate.
    paid_up: Option<Instant>,
}

/// One connection of a client, for as long as it is kept.
#[derive(Debug)]
pub struct Visit {
    clients: Clients,
    address: IpAddr,
}

impl Clients {
    /// Nobody is there yet.
    pub fn new(limits: model::Limits) -> Self {
        Self(Arc::new(Shared { limits, present: Mutex::default() }))
    }

    /// Lets one more connection of a client in, or tells how many it may have.
    pub fn enter(&self, address: IpAddr) -> Result<Visit, usize> {
        let most = self.0.limits.connections_per_client;
        let mut present = self.present();
        let known_max = 2 * self.0.limits.connections;
        if present.len() >= known_max {
            let now = Instant::now();
            present.retain(|_, client| client.counts(now));
            if present.len() >= known_max {
                present.retain(|_, client| client.connections > 0);
            }
        }
        let client = present.entry(address).or_insert(Client { connections: 0, paid_up: None });
        if client.connections >= most {
            return Err(most);
        }
        client.connections += 1;
        drop(present);
        Ok(Visit { clients: self.clone(), address })
    }

    /// How many connections there may be of all clients together.
    pub fn connections_max(&self) -> usize {
        self.0.limits.connections
    }

    fn present(&self) -> MutexGuard<'_, HashMap<IpAddr, Client>> {
        // Counts and times only, each of them whole.
        self.0.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Whether there is anything to remember of it.
    fn counts(&self, now: Instant) -> bool {
        self.connections > 0 || self.paid_up.is_some_and(|paid_up| paid_up > now)
    }
}

impl Visit {
    /// The client has sent `lines`: tells until when it is not to be read, if it was too fast.
    pub fn sent(&self, lines: u64, now: Instant) -> Option<Instant> {
        let rate = self.clients.0.limits.lines_per_second?;
        let cost = Duration::from_secs_f64(lines as f64 / f64::from(rate));
        let mut present = self.clients.present();
        let client = present.get_mut(&self.address)?;
        let from = client.paid_up.map_or(now, |paid_up| paid_up.max(now));
        client.paid_up = Some(from + cost);
        let due = (from + cost).checked_sub(SAVED)?;
        (due > now).then_some(due)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut present = self.clients.present();
        if let Some(client) = present.get_mut(&self.address) {
            client.connections -= 1;
            // Whoever comes again for each of its bursts goes on where it was.
            if !client.counts(Instant::now()) {
                present.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const WEB: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const APP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    fn clients(connections_per_client: usize, lines_per_second: Option<u32>) -> Clients {
        Clients::new(model::Limits { connections: 100, connections_per_client, lines_per_second })
    }

    #[test]
    fn a_client_has_so_many_connections_and_others_have_theirs() {
        let clients = clients(2, None);
        let first = clients.enter(WEB).unwrap();
        let _second = clients.enter(WEB).unwrap();
        assert_eq!(clients.enter(WEB).unwrap_err(), 2);
        let _other = clients.enter(APP).unwrap();
        drop(first);
        drop(clients.enter(WEB).unwrap());
        assert_eq!(clients.present().len(), 2);
    }

    #[test]
    fn nobody_is_remembered_who_is_gone() {
        let clients = clients(2, Some(1));
        drop(clients.enter(WEB).unwrap());
        assert!(clients.present().is_empty());
    }

    #[test]
    fn whoever_comes_again_for_each_burst_is_slowed_all_the_same() {
        let (clients, now) = (clients(2, Some(100)), Instant::now());
        assert_eq!(clients.enter(WEB).unwrap().sent(100, now), None);
        assert_eq!(clients.enter(WEB).unwrap().sent(100, now), Some(now + SECOND));
        let late = now + 3 * SECOND;
        clients.present().retain(|_, client| client.counts(late));
        assert!(clients.present().is_empty());
    }

    #[test]
    fn a_burst_is_let_pass_and_what_goes_on_is_slowed() {
        let (clients, now) = (clients(2, Some(100)), Instant::now());
        let (one, two) = (clients.enter(WEB).unwrap(), clients.enter(WEB).unwrap());
        assert_eq!(one.sent(100, now), None);
        assert_eq!(one.sent(50, now), Some(now + SECOND / 2));
        assert_eq!(two.sent(50, now), Some(now + SECOND), "its connections count together");
        assert_eq!(one.sent(0, now + 2 * SECOND), None);
        assert_eq!(clients.enter(APP).unwrap().sent(100, now), None, "others do not notice");
    }

    #[test]
    fn without_a_rate_nobody_is_slowed() {
        let clients = clients(1, None);
        assert_eq!(clients.enter(WEB).unwrap().sent(u64::MAX, Instant::now()), None);
    }
}
