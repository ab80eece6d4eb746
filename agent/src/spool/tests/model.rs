//! The spool against a plain model, with a reopen as one of the operations.

use proptest::prelude::*;

use super::faults::two_links;
use super::*;
use crate::spool::leases::key_of;
use crate::spool::seal::Press;

/// What may happen to a spool with two links: set 0 is both of them, set 1 is the second alone.
#[derive(Debug, Clone)]
enum Operation {
    Append {
        link_set: usize,
        lines: u32,
    },
    Lend {
        link: usize,
    },
    /// Ends the `nth` lease of a link.
    Confirm {
        link: usize,
        nth: usize,
    },
    SetAside {
        link: usize,
        nth: usize,
    },
    GiveBack {
        link: usize,
        nth: usize,
    },
    Reopen,
    /// As after damage that hit nothing: what is lent stays lent.
    Replace,
}

fn operation() -> impl Strategy<Value = Operation> {
    let link = 0..2_usize;
    prop_oneof![
        4 => (0..2_usize, 1..50_u32).prop_map(|(link_set, lines)| Operation::Append { link_set, lines }),
        3 => link.clone().prop_map(|link| Operation::Lend { link }),
        2 => (link.clone(), 0..4_usize).prop_map(|(link, nth)| Operation::Confirm { link, nth }),
        1 => (link.clone(), 0..4_usize).prop_map(|(link, nth)| Operation::SetAside { link, nth }),
        1 => (link, 0..4_usize).prop_map(|(link, nth)| Operation::GiveBack { link, nth }),
        1 => Just(Operation::Reopen),
        1 => Just(Operation::Replace),
    ]
}

/// What one link should hold: the bodies of the batches, by the number in which they came.
#[derive(Debug, Default)]
struct ModelLink {
    waiting: std::collections::BTreeMap<usize, String>,
    lent: Vec<(Lent, Vec<usize>)>,
    delivered_lines: i64,
    aside_lines: i64,
}

struct Model {
    dir: tempfile::TempDir,
    spool: Option<Spool>,
    press: Press,
    appended: usize,
    accepted_lines: i64,
    links: [ModelLink; 2],
}

impl Model {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let spool = Some(Spool::open(two_links(dir.path()), 0).unwrap());
        let press = Press::default();
        Self { dir, spool, press, appended: 0, accepted_lines: 0, links: Default::default() }
    }

    fn spool(&mut self) -> &mut Spool {
        self.spool.as_mut().unwrap()
    }

    fn apply(&mut self, operation: &Operation) {
        match *operation {
            Operation::Append { link_set, lines } => self.append(link_set, lines),
            Operation::Lend { link } => self.lend(link),
            Operation::Confirm { link, nth } => self.settle(link, nth, &Verdict::Delivered),
            Operation::SetAside { link, nth } => self.settle(link, nth, &Verdict::SetAside("bad".to_owned())),
            Operation::GiveBack { link, nth } => self.give_back(link, nth),
            Operation::Reopen => self.reopen(),
            Operation::Replace => replace(self.spool()),
        }
        self.compare();
    }

    fn append(&mut self, link_set: usize, lines: u32) {
        let number = self.appended;
        let body: String = (0..lines).map(|line| format!("m{number}.{line} 1 1\n")).collect();
        let sealed = self.press.seal(raw(&body), link_set);
        self.spool().transact(|writer| writer.append(&sealed)).unwrap();
        let links: &[usize] = if link_set == 0 { &[0, 1] } else { &[1] };
        for &link in links {
            self.links[link].waiting.insert(number, body.clone());
        }
        self.appended += 1;
        self.accepted_lines += i64::from(lines);
    }

    /// What is lent is the oldest that waits, in order and without a gap.
    fn lend(&mut self, link: usize) {
        for lent in self.spool().lend(link, 4096).unwrap() {
            let mut found = Vec::new();
            lent.batch.append_lines(&mut found).unwrap();
            let found = String::from_utf8(found).unwrap();
            let mut expected = String::new();
            let mut numbers = Vec::new();
            while expected.len() < found.len() {
                let (number, body) = self.links[link].waiting.pop_first().expect("more was lent than waits");
                expected.push_str(&body);
                numbers.push(number);
            }
            assert_eq!(found, expected);
            self.links[link].lent.push((lent, numbers));
        }
    }

    fn take_lease(&mut self, link: usize, nth: usize) -> Option<(Lent, Vec<usize>)> {
        let lent = &mut self.links[link].lent;
        (nth < lent.len()).then(|| lent.remove(nth))
    }

    fn settle(&mut self, link: usize, nth: usize, verdict: &Verdict) {
        let Some((lent, _)) = self.take_lease(link, nth) else {
            return;
        };
        let spool = self.spool.as_mut().unwrap();
        let rows = spool.links[link].leases.end(key_of(lent.first)).unwrap();
        spool.transact(|writer| writer.settle(link, rows, verdict)).unwrap();
        let lines = i64::try_from(lent.batch.lines()).unwrap();
        match verdict {
            Verdict::Delivered => self.links[link].delivered_lines += lines,
            Verdict::SetAside(_) => self.links[link].aside_lines += lines,
        }
    }

    fn give_back(&mut self, link: usize, nth: usize) {
        let Some((lent, numbers)) = self.take_lease(link, nth) else {
            return;
        };
        self.return_to_waiting(link, &lent, &numbers);
        self.spool().links[link].leases.give_back(key_of(lent.first));
    }

    fn return_to_waiting(&mut self, link: usize, lent: &Lent, numbers: &[usize]) {
        for (number, part) in numbers.iter().zip(&lent.batch.parts) {
            let body = zstd::bulk::decompress(&part.body, 1 << 20).unwrap();
            self.links[link].waiting.insert(*number, String::from_utf8(body).unwrap());
        }
    }

    fn reopen(&mut self) {
        for link in 0..2 {
            for (lent, numbers) in std::mem::take(&mut self.links[link].lent) {
                self.return_to_waiting(link, &lent, &numbers);
            }
        }
        self.spool = None;
        self.spool = Some(Spool::open(two_links(self.dir.path()), 0).unwrap());
    }

    /// The books say what the model says, and they balance.
    fn compare(&mut self) {
        let report = self.spool().report().unwrap();
        assert_eq!(report.accepted.lines, self.accepted_lines);
        for (model, link) in self.links.iter().zip(&report.links) {
            let lent: i64 =
                model.lent.iter().map(|(lent, _)| i64::try_from(lent.batch.lines()).unwrap()).sum();
            let waiting: usize = model.waiting.values().map(|body| body.lines().count()).sum();
            assert_eq!(link.backlog.lines, lent + i64::try_from(waiting).unwrap());
            assert_eq!(link.delivered.lines, model.delivered_lines);
            assert_eq!(link.aside.lines, model.aside_lines);
            assert_eq!(link.dropped_corrupt, Amount::default());
            assert_eq!(link.oldest_ms.is_some(), link.backlog.batches > 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn it_holds_what_the_model_holds(operations in prop::collection::vec(operation(), 1..60)) {
        let mut model = Model::new();
        for operation in &operations {
            model.apply(operation);
        }
        // In the end every batch that neither link needs is gone, and every other one is whole.
        let mut spool = model.spool.take().unwrap();
        for link in 0..2 {
            let lent: usize = model.links[link].lent.iter().map(|(_, numbers)| numbers.len()).sum();
            let waiting = model.links[link].waiting.len();
            let aside = usize::try_from(spool.report().unwrap().links[link].aside.batches).unwrap();
            let rows: usize = spool
                .db
                .query_row("SELECT count(*) FROM delivery WHERE link = ?1", [spool.links[link].row], |row| row.get(0))
                .unwrap();
            prop_assert_eq!(rows, lent + waiting + aside);
        }
        let unneeded: i64 = spool
            .db
            .query_row("SELECT count(*) FROM batch WHERE id NOT IN (SELECT batch FROM delivery)", [], |row| row.get(0))
            .unwrap();
        prop_assert_eq!(unneeded, 0);
        spool.transact(|_| Ok(())).unwrap();
    }
}
