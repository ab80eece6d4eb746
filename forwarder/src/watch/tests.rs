use std::sync::atomic::AtomicI64;

use super::*;
use crate::batch::{Encoding, Part};
use crate::sink::SinkEnd;

/// Writes down what it hears.
#[derive(Default)]
struct Ear(Mutex<Vec<String>>);

impl Ear {
    fn note(&self, text: String) {
        self.0.lock().expect("ear").push(text);
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("ear"))
    }
}

impl LinkObserver for Ear {
    fn link_up(&self, up: bool) {
        self.note(format!("up {up}"));
    }
    fn reconnected(&self) {
        self.note("reconnected".into());
    }
    fn confirmed(&self, lines: u64, since_sent: Duration, age: Duration) {
        self.note(format!("confirmed {lines} {since_sent:?} {age:?}"));
    }
}

struct Scene {
    watch: LinkWatch,
    ear: Arc<Ear>,
    now_ms: Arc<AtomicI64>,
}

fn scene() -> Scene {
    let (ear, now_ms) = (Arc::new(Ear::default()), Arc::new(AtomicI64::new(1000)));
    let watch = LinkWatch::new("eu", Clock::manual(now_ms.clone()), ear.clone());
    Scene { watch, ear, now_ms }
}

impl Scene {
    fn at(&self, now_ms: i64) -> &LinkWatch {
        self.now_ms.store(now_ms, std::sync::atomic::Ordering::Relaxed);
        &self.watch
    }

    fn state(&self) -> (LinkState, i64) {
        let status = self.watch.status();
        (status.state, status.since_ms)
    }
}

fn carried(lines: u32, accepted_ms: i64) -> Carried {
    Carried::of(&Batch {
        label: None,
        encoding: Encoding::Plain,
        parts: vec![Part { seq: 1, lines, raw_bytes: 0, body: bytes::Bytes::new(), plain: None }],
        accepted_ms: accepted_ms..=i64::MAX,
    })
}

fn lost() -> SinkEnd {
    SinkEnd::Closed("end of stream".into())
}

#[test]
fn a_link_goes_up_and_down_and_tells_since_when() {
    let scene = scene();
    assert_eq!(scene.state(), (LinkState::Down, 1000));
    scene.at(2000).failed(&lost(), false);
    assert_eq!(scene.state(), (LinkState::Down, 1000));
    scene.at(3000).stands(false);
    assert_eq!(scene.state(), (LinkState::Up, 3000));
    scene.at(4000).failed(&lost(), false);
    assert_eq!(scene.state(), (LinkState::Down, 4000));
    scene.at(5000).stands(false);
    assert_eq!(scene.ear.heard(), ["up true", "up false", "reconnected", "up true"]);
    scene.at(6000).stopped();
    scene.at(7000).stopped();
    assert_eq!(scene.ear.heard(), ["up false"]);
    let status = scene.watch.status();
    assert_eq!((status.reconnects, status.since_ms), (1, 6000));
    assert_eq!(status.last_error.as_deref(), Some("connection lost: end of stream"));
}

#[test]
fn a_refused_link_stays_refused_over_its_sessions_until_something_is_confirmed() {
    let scene = scene();
    scene.at(2000).stands(false);
    scene.at(3000).failed(&lost(), true);
    scene.at(4000).stands(true);
    scene.at(5000).failed(&lost(), true);
    assert_eq!(scene.state(), (LinkState::Refused, 3000));
    scene.at(6000).stands(true);
    scene.at(7000).confirmed(&carried(5, 6500), Duration::from_secs(1));
    assert_eq!(scene.state(), (LinkState::Up, 7000));
    let expected = ["up true", "up false", "reconnected", "reconnected", "up true", "confirmed 5 1s 500ms"];
    assert_eq!(scene.ear.heard(), expected);
}

#[test]
fn what_is_carried_is_counted() {
    let scene = scene();
    scene.at(1500).confirmed(&carried(5, 1000), Duration::from_millis(90));
    scene.at(1500).confirmed(&carried(7, 9000), Duration::ZERO);
    scene.at(1500).set_aside("loop");
    assert_eq!(scene.ear.heard(), ["confirmed 5 90ms 500ms", "confirmed 7 0ns 0ns"]);
    let status = scene.watch.status();
    assert_eq!((status.confirmed_batches, status.confirmed_lines), (2, 12));
    assert_eq!(status.set_aside_batches, 1);
}

#[test]
fn an_error_is_told_with_its_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("no session with mq1:61613")]
    struct Outer(#[source] SinkEnd);
    let scene = scene();
    scene.watch.failed(&Outer(lost()), false);
    let expected = "no session with mq1:61613: connection lost: end of stream";
    assert_eq!(scene.watch.status().last_error.as_deref(), Some(expected));
}
