//! What is said of a Graphite, by a link or by a consumer.

use super::book::Checked;
use super::section::Section;
use super::value::Value;
use crate::model::GraphiteConfirm;

/// A pool larger than this helps no carbon.
const CONNECTIONS_MAX: usize = 64;

/// How many connections stand.
pub(crate) fn connections(at: &Value<'_>) -> Checked<usize> {
    at.count(CONNECTIONS_MAX)
}

/// What counts as receipt; the FIN that answers a half-close, unless the section says otherwise.
pub(crate) fn confirm(section: &Section<'_>) -> Checked<GraphiteConfirm> {
    let choices = [("half-close", GraphiteConfirm::HalfClose), ("kernel", GraphiteConfirm::Kernel)];
    let given = section.read("confirm", |at| at.choice(&choices))?;
    Ok(given.unwrap_or(GraphiteConfirm::HalfClose))
}
