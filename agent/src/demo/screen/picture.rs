//! Draws the road: the US on the left, going down; the EU on the right, going up; the link between them.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Paragraph, RenderDirection, Sparkline};

use super::view::View;
use crate::demo::figures::{grouped, size};
use crate::demo::link::ONE_WAY;
use crate::demo::load::NAMES_OF_A_HOST;
use crate::demo::lookout::Seen;

/// The smallest terminal that has room for it.
const COLUMNS_MIN: u16 = 76;
const ROWS_MIN: u16 = 22;
/// Columns of a node.
const NODE_COLUMNS: u16 = 30;
/// Rows of the picture.
const ROAD_ROWS: u16 = 14;

/// Draws everything; `log` is what the nodes said last.
pub(super) fn draw(view: &View, log: &[String], frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < COLUMNS_MIN || area.height < ROWS_MIN {
        let text = format!("The picture needs {COLUMNS_MIN} columns and {ROWS_MIN} rows.");
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let rows = [1, ROAD_ROWS, 4].map(Constraint::Length);
    let rows = rows.into_iter().chain([Constraint::Min(0), Constraint::Length(1)]);
    let [title, road, backlog, said, keys] = Layout::vertical(rows).areas(area);
    draw_title(view, frame, title);
    draw_road(view, frame, road);
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

fn draw_road(view: &View, frame: &mut Frame<'_>, area: Rect) {
    let columns = [Constraint::Length(NODE_COLUMNS), Constraint::Min(0), Constraint::Length(NODE_COLUMNS)];
    let [us, ocean, eu] = Layout::horizontal(columns).areas(area);
    draw_us(view, frame, us);
    frame.render_widget(ocean_of(view, ocean.width.into()), ocean);
    draw_eu(view, frame, eu);
}

fn draw_us(view: &View, frame: &mut Frame<'_>, area: Rect) {
    let [producers, way, agent] = Layout::vertical([5, 1, 8].map(Constraint::Length)).areas(area);
    let seen = view.seen();
    let hosts = view.rate.div_ceil(NAMES_OF_A_HOST);
    draw_node(
        "US  producers",
        [
            figure("hosts", grouped(hosts.into())),
            figure("metrics/s", grouped(if view.is_finishing { 0 } else { view.rate.into() })),
            figure("have receipts", grouped(seen.accepted)),
        ],
        frame,
        producers,
    );
    frame.render_widget(arrow("│ STOMP  │ plaintext"), way);
    let forwarded = |seen: &Seen| seen.agent.accepted.saturating_sub(seen.agent.backlog);
    let waits = if seen.agent.link == "up" { Style::new() } else { Style::new().fg(Color::Yellow) };
    draw_node(
        "agent us-east",
        [
            figure("accepted/s", grouped(view.per_second(|seen| seen.agent.accepted))),
            figure("backlog", grouped(seen.agent.backlog)).style(waits),
            figure("oldest", format!("{:.1} s", seen.agent.oldest.as_secs_f64())).style(waits),
            figure("spool", size(seen.agent.spool_bytes)),
            figure("its link is", seen.agent.link.clone()).style(waits),
            figure("forwarded/s", grouped(view.per_second(forwarded))),
        ],
        frame,
        agent,
    );
}

fn draw_eu(view: &View, frame: &mut Frame<'_>, area: Rect) {
    let rows = [6, 1, 3, 1, 3].map(Constraint::Length);
    let [graphite, up, consumer, way, broker] = Layout::vertical(rows).areas(area);
    let seen = view.seen();
    draw_node(
        "EU  Graphite (counts only)",
        [
            figure("metrics/s", grouped(view.per_second(|seen| seen.graphite.metrics))),
            figure("metrics", grouped(seen.graphite.metrics)),
            figure("on the way", grouped(seen.accepted.saturating_sub(seen.graphite.metrics))),
            figure("twice", grouped(seen.graphite.copies)),
        ],
        frame,
        graphite,
    );
    frame.render_widget(arrow("▲"), up);
    draw_node(
        "consumer graphite-eu",
        [figure("confirmed", grouped(seen.consumer.confirmed))],
        frame,
        consumer,
    );
    frame.render_widget(arrow("▲"), way);
    let held = format!("{} + {}", seen.broker.waiting, seen.broker.lent);
    draw_node("broker eu (a stand-in)", [figure("waiting + lent", held)], frame, broker);
}

/// The ocean, and the link at the height of agent and broker.
fn ocean_of(view: &View, columns: usize) -> Paragraph<'static> {
    let line = "═".repeat(columns.saturating_sub(2));
    let half = "═".repeat(columns.saturating_sub(4) / 2);
    let (colour, state, drawn) = match (view.link_is_cut, view.seen().agent.link.as_str()) {
        (true, _) => (Color::Red, "the link is CUT", format!("{half} ╳ {half}")),
        (false, "up") => (Color::Green, "the link is up", format!("{line}▶")),
        (false, _) => (Color::Yellow, "the link is dialled", format!("{}▶", line.replace("══", "═ "))),
    };
    let speed = format!("{}/s", size(view.per_second(|seen| seen.link_bytes)));
    let mut lines = vec![Line::default(); usize::from(ROAD_ROWS)];
    lines[3] = Line::from("~  ~  ~  ~".fg(Color::Blue));
    lines[4] = Line::from("~   ~   ~".fg(Color::Blue));
    lines[10] = Line::from(state.fg(colour).bold());
    lines[11] = Line::from(speed.fg(colour));
    lines[12] = Line::from(drawn.fg(colour));
    lines[13] = Line::from(format!("{} ms each way", ONE_WAY.as_millis()).dim());
    Paragraph::new(lines).alignment(Alignment::Center)
}

fn draw_backlog(view: &View, frame: &mut Frame<'_>, area: Rect) {
    let backlogs = view.backlogs(area.width.into());
    let most = backlogs.iter().copied().max().unwrap_or_default();
    let title = format!(" backlog of the agent, at most {} ", grouped(most));
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
    let title = match view.http {
        Some(http) => format!(" what the nodes say (the agent also at http://{http}/metrics) "),
        None => " what the nodes say ".to_owned(),
    };
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

fn arrow(drawn: &'static str) -> Paragraph<'static> {
    Paragraph::new(drawn.dim()).alignment(Alignment::Center)
}

#[cfg(test)]
mod tests;
