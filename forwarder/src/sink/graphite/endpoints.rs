//! Which of several interchangeable ways into a Graphite is dialled next. Pure.

use std::time::Duration;

use tokio::time::Instant;
use topology::model::Endpoint;

/// For this long after a failure an endpoint is dialled only if there is no better one.
pub(super) const AVOIDED_FOR: Duration = Duration::from_secs(30);

/// Half-closed connections without an answer at which an endpoint counts as hanging.
const UNANSWERED_MAX: usize = 2;

/// Names an endpoint of one [`Endpoints`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EndpointId(usize);

/// The ways in, in turn.
#[derive(Debug)]
pub(super) struct Endpoints {
    known: Vec<Known>,
    next: usize,
}

#[derive(Debug)]
struct Known {
    endpoint: Endpoint,
    failed_at: Option<Instant>,
}

impl Known {
    fn avoided_until(&self) -> Option<Instant> {
        self.failed_at.map(|at| at + AVOIDED_FOR)
    }
}

impl Endpoints {
    pub(super) fn new(endpoints: Vec<Endpoint>) -> Self {
        let known = endpoints.into_iter().map(|endpoint| Known { endpoint, failed_at: None });
        Self { known: known.collect(), next: 0 }
    }

    /// The next one in turn among those that neither failed of late nor hang, that is leave half-closed
    /// connections without an answer. The `present` one is kept if it is one of them, so that the
    /// successor of a connection is its witness, where the name still leads to the same address.
    pub(super) fn pick(
        &mut self,
        now: Instant,
        present: Option<EndpointId>,
        unanswered: impl Fn(EndpointId) -> usize,
    ) -> Option<(EndpointId, Endpoint)> {
        let EndpointId(best) = self.best(now, present, unanswered)?;
        if present != Some(EndpointId(best)) {
            self.next = (best + 1) % self.known.len();
        }
        Some((EndpointId(best), self.known[best].endpoint.clone()))
    }

    /// The one that [`Self::pick`] would pick.
    pub(super) fn best(
        &self,
        now: Instant,
        present: Option<EndpointId>,
        unanswered: impl Fn(EndpointId) -> usize,
    ) -> Option<EndpointId> {
        let count = self.known.len();
        let best = (0..count).min_by_key(|&id| {
            let avoided = self.known[id].avoided_until().is_some_and(|until| now < until);
            let hangs = unanswered(EndpointId(id)) >= UNANSWERED_MAX;
            let turn = (id + count - self.next) % count;
            (avoided, hangs, present != Some(EndpointId(id)), turn)
        });
        best.map(EndpointId)
    }

    /// When those that failed are as good as others again.
    pub(super) fn avoided_until(&self) -> impl Iterator<Item = Instant> {
        self.known.iter().filter_map(Known::avoided_until)
    }

    pub(super) fn failed(&mut self, id: EndpointId, now: Instant) {
        self.known[id.0].failed_at = Some(now);
    }

    pub(super) fn worked(&mut self, id: EndpointId) {
        self.known[id.0].failed_at = None;
    }

    pub(super) fn get(&self, id: EndpointId) -> &Endpoint {
        &self.known[id.0].endpoint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(count: u16) -> Endpoints {
        let endpoint = |port| Endpoint { host: "graphite".into(), port };
        Endpoints::new((0..count).map(endpoint).collect())
    }

    fn picks(endpoints: &mut Endpoints, now: Instant, hung: Option<usize>) -> Vec<u16> {
        let unanswered = |id: EndpointId| if Some(id.0) == hung { UNANSWERED_MAX } else { 0 };
        (0..4)
            .filter_map(|_| endpoints.pick(now, None, unanswered))
            .map(|(_, endpoint)| endpoint.port)
            .collect()
    }

    #[test]
    fn they_take_turns() {
        assert_eq!(picks(&mut endpoints(3), Instant::now(), None), [0, 1, 2, 0]);
        assert_eq!(picks(&mut endpoints(0), Instant::now(), None), []);
    }

    #[test]
    fn the_present_one_is_kept_unless_it_hangs_or_failed() {
        let now = Instant::now();
        let present = Some(EndpointId(1));
        let mut two = endpoints(2);
        let mut pick = |unanswered| {
            let id = two.pick(now, present, |id| if id.0 == 1 { unanswered } else { 0 });
            id.map(|(id, _)| id.0)
        };
        assert_eq!(pick(0), Some(1));
        assert_eq!(pick(UNANSWERED_MAX - 1), Some(1));
        assert_eq!(pick(UNANSWERED_MAX), Some(0));
        two.failed(EndpointId(1), now);
        assert_eq!(two.pick(now, present, |_| 0).map(|(id, _)| id.0), Some(0));
    }

    #[test]
    fn one_that_does_not_answer_is_left_alone() {
        assert_eq!(picks(&mut endpoints(3), Instant::now(), Some(1)), [0, 2, 0, 2]);
        assert_eq!(picks(&mut endpoints(1), Instant::now(), Some(0)), [0, 0, 0, 0]);
    }

    #[test]
    fn one_that_failed_is_avoided_for_a_while_unless_all_did() {
        let now = Instant::now();
        let mut two = endpoints(2);
        two.failed(EndpointId(0), now);
        assert_eq!(picks(&mut two, now, None), [1, 1, 1, 1]);
        assert_eq!(picks(&mut two, now + AVOIDED_FOR, None), [0, 1, 0, 1]);
        two.failed(EndpointId(0), now);
        two.failed(EndpointId(1), now);
        assert_eq!(picks(&mut two, now, None), [0, 1, 0, 1]);
        two.worked(EndpointId(1));
        assert_eq!(picks(&mut two, now, None), [1, 1, 1, 1]);
    }
}
