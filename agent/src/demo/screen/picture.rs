//! Draws the mesh: the US and the DMZ on the left, the EU on the right, going down to Graphite, and the ways
//! between them.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Paragraph, RenderDirection, Sparkline};

use super::view::View;
use crate::demo::figures::{grouped, size};
use crate::demo::link::ONE_WAY;
use crate::demo::lookout::Seen;
use crate::demo::nodes::NodeSeen;

/// The smallest terminal that has room for it.
const COLUMNS_MIN: u16 = 80;
const ROWS_MIN: u16 = 23;
/// Columns of a node.
const NODE_COLUMNS: u16 = 30;
/// Rows of the picture.
const MESH_ROWS: u16 = 15;

/// Draws everything; `log` is what the nodes said last.
pub(super) fn draw(view: &View, log: &[String], frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < COLUMNS_MIN || area.height < ROWS_MIN {
        let text = format!("The picture needs {COLUMNS_MIN} columns and {ROWS_MIN} rows.");
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let rows = [1, MESH_ROWS, 4].map(Constraint::Length);
    let rows = rows.into_iter().chain([Constraint::Min(0), Constraint::Length(1)]);
    let [title, mesh, backlog, said, keys] = Layout::vertical(rows).areas(area);
    draw_title(view, frame, title);
    draw_mesh(view, frame, mesh);
    draw_backlog(view, frame, backlog);
    draw_log(view, log, frame, said);
    frame.render_widget(keys_of(view), keys);
}

fn draw_title(view: &View, frame: &mut Frame<'_>, area: Rect) {
    let seconds = view.elapsed().as_secs();
    let time = format!("{}:{:02} ", seconds / 60, seconds % 60);
    let title = match (view.is_finishing, view.seen().outstanding) {
        (false, _) => " packetboat demo: a mesh on loopback".to_owned(),
        (true, None) => " finishing: the producers wait for their last receipts".to_owned(),
        (true, Some(still)) => format!(" finishing: {} metrics are still to come", grouped(still)),
    };
    frame.render_widget(Line::from(title.bold()), area);
    frame.render_widget(Line::from(time).alignment(Alignment::Right), area);
}

fn draw_mesh(view: &View, frame: &mut Frame<'_>, area: Rect) {
    let columns = [Constraint::Length(NODE_COLUMNS), Constraint::Min(0), Constraint::Length(NODE_COLUMNS)];
    let [left, between, right] = Layout::horizontal(columns).areas(area);
    let [us, _, dmz] = Layout::vertical([7, 1, 7].map(Constraint::Length)).areas(left);
    let [eu, consumer, graphite] = Layout::vertical([7, 2, 6].map(Constraint::Length)).areas(right);
    let seen = view.seen();
    draw_agent("US  agent us-east", ("sends to eu", &seen.us.link), view, |seen| &seen.us, frame, us);
    draw_agent("DMZ  agent dmz-web", ("dials", "nobody"), view, |seen| &seen.dmz, frame, dmz);
    draw_agent("EU  agent eu", ("collects dmz-web", &seen.eu.link), view, |seen| &seen.eu, frame, eu);
    frame.render_widget(Paragraph::new(ways_of(view, between.width.into())), between);
    let drains = format!(" │ consumer graphite-eu {}\n ▼ confirms about every 5 s", seen.consumer.link);
    frame.render_widget(Paragraph::new(drains).fg(colour(&seen.consumer)), consumer);
    draw_node(
        "Graphite (counts only)",
        [
            figure("metrics/s", grouped(view.per_second(|seen| seen.graphite.metrics))),
            figure("metrics", grouped(seen.graphite.metrics)),
            figure("on the way", grouped(seen.accepted.saturating_sub(seen.graphite.metrics))),
            figure("twice", grouped(seen.graphite.copies)),
        ],
        frame,
        graphite,
    );
}

/// An agent, with what it dials and how that stands.
fn draw_agent(
    title: &str,
    (dials, link): (&str, &str),
    view: &View,
    agent: impl Fn(&Seen) -> &NodeSeen,
    frame: &mut Frame<'_>,
    area: Rect,
) {
    let seen = agent(view.seen());
    let is_down = !["up", ""].contains(&&*seen.link);
    let waits = if is_down { Style::new().fg(Color::Yellow) } else { Style::new() };
    draw_node(
        title,
        [
            figure("taken/s", grouped(view.per_second(|seen| agent(seen).accepted))),
            figure("backlog", grouped(seen.backlog)).style(waits),
            figure("oldest", format!("{:.1} s", seen.oldest.as_secs_f64())).style(waits),
            figure("spool", size(seen.spool_bytes)),
            figure(dials, link.to_owned()).style(waits),
        ],
        frame,
        area,
    );
}

/// The link over the ocean, from us-east to eu, and the way from dmz-web up to eu.
fn ways_of(view: &View, columns: usize) -> Vec<Line<'static>> {
    let seen = view.seen();
    let line = "═".repeat(columns.saturating_sub(2));
    let half = "═".repeat(columns.saturating_sub(4) / 2);
    let (colour_of_link, state, drawn) = match (view.link_is_cut, seen.us.link.as_str()) {
        (true, _) => (Color::Red, "the link is CUT", format!("{half} ╳ {half}")),
        (false, "up") => (Color::Green, "the link is up", format!("{line}▶")),
        (false, _) => (Color::Yellow, "the link is dialled", format!("{}▶", line.replace("══", "═ "))),
    };
    let speed = format!("{}/s", size(view.per_second(|seen| seen.link_bytes)));
    let mut lines = vec![
        Line::default(),
        Line::from(state.bold()).centered().fg(colour_of_link),
        Line::from(speed).centered().fg(colour_of_link),
        Line::from(drawn).centered().fg(colour_of_link),
        Line::from(format!("{} ms each way", ONE_WAY.as_millis())).centered().dim(),
    ];
    let foot = format!("{}╯    ", "─".repeat(columns.saturating_sub(5)));
    let up = ["╭───▶"].into_iter().chain(["│    "; 4]).map(str::to_owned).chain([foot]);
    lines.extend(up.map(|way| Line::from(way).right_aligned().fg(colour(&seen.eu))));
    lines.push(Line::from("eu dials").centered().dim());
    lines
}

/// Of the link that a node dials.
fn colour(node: &NodeSeen) -> Color {
    if node.link == "up" { Color::Green } else { Color::Yellow }
}

fn draw_backlog(view: &View, frame: &mut Frame<'_>, area: Rect) {
    let backlogs = view.backlogs(area.width.into());
    let most = backlogs.iter().copied().max().unwrap_or_default();
    let title = format!(" backlog of us-east, at most {} ", grouped(most));
    // So that a backlog of some batches, which is always there, does not look like a mountain.
    let scale = most.max(u64::from(view.rate));
    let line = Sparkline::default()
        .block(Block::new().title(title))
        .data(&backlogs)
        .max(scale)
        .direction(RenderDirection::RightToLeft)
        .style(Style::new().fg(Color::Yellow));
    frame.render_widget(line, area);
}

fn draw_log(view: &View, log: &[String], frame: &mut Frame<'_>, area: Rect) {
    let title = format!(" what the nodes say (us-east also at http://{}/metrics) ", view.http);
    let block = Block::new().title(title);
    let room = usize::from(block.inner(area).height);
    let last = &log[log.len().saturating_sub(room)..];
    let lines: Vec<Line<'_>> =
        last.iter().map(|line| Line::from(format!(" {}", line.trim_start()).dim())).collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn keys_of(view: &View) -> Line<'static> {
    let key = |key: &'static str, does: &'static str| [key.bold(), Span::from(does)];
    let keys = match (view.is_finishing, view.link_is_cut) {
        (true, _) => vec![key(" q", " leaves at once, without a verdict")],
        (false, true) => {
            vec![key(" c", " mends the link    "), key("q", " mends, drains and tells the verdict")]
        }
        (false, false) => vec![key(" c", " cuts the link    "), key("q", " drains and tells the verdict")],
    };
    Line::from(keys.concat())
}

fn draw_node<const N: usize>(title: &str, figures: [Line<'_>; N], frame: &mut Frame<'_>, area: Rect) {
    let block = Block::bordered().border_type(BorderType::Rounded).title(format!(" {title} ").bold());
    frame.render_widget(Paragraph::new(figures.to_vec()).block(block), area);
}

/// What it is on the left, how much on the right.
fn figure(what: &str, much: String) -> Line<'static> {
    let room = usize::from(NODE_COLUMNS).saturating_sub(what.chars().count() + 4);
    Line::from(format!(" {what}{much:>room$} "))
}

#[cfg(test)]
mod tests;
