//! How `steer top` looks: a state becomes a frame.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{
        Block, Borders, Cell, Clear, Paragraph, RenderDirection, Row as Cells, Sparkline, Table,
        TableState, Wrap,
    },
};

use super::{
    input::{KEYS, Mode},
    state::{Lane, Row, Sort, State},
};
use crate::{
    inspect::Path,
    words::{octets, span},
};

/// From here on there are plots.
const PLOTTED: (u16, u16) = (80, 20);
/// From here on there is room for every column.
const WIDE: u16 = 120;
/// Lines of a plot with its frame.
const PLOT: u16 = 6;

/// Colours, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether there are any. Nothing is told by them alone.
    pub coloured: bool,
}

impl Look {
    fn of(self, colour: Color) -> Style {
        if self.coloured {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    fn path(self, path: Path) -> Style {
        self.of(match path {
            Path::Vpn => Color::Cyan,
            _ => Color::Green,
        })
    }

    fn bad(self) -> Style {
        self.of(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }
}

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, state: &State, look: Look) {
    let area = frame.area();
    let plotted = area.width >= PLOTTED.0 && area.height >= PLOTTED.1;
    let [head, trouble, lanes, table, stopped, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(u16::from(state.trouble.is_some())),
        Constraint::Length(if plotted { PLOT } else { 2 }),
        Constraint::Min(2),
        Constraint::Length(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(header(state, look), head);
    if let Some(why) = &state.trouble {
        frame.render_widget(Line::styled(format!("! {why}"), look.bad()), trouble);
    }
    if plotted {
        plots(frame, lanes, state, look);
    } else {
        lines(frame, lanes, state, look);
    }
    rows(frame, table, state, look);
    frame.render_widget(stops(state, look), stopped);
    frame.render_widget(footer(state, area.width, look), keys);
    let over = |height: u16| Rect {
        y: area.y + 1,
        height: height.min(area.height.saturating_sub(2)),
        ..area
    };
    match state.mode {
        Mode::Explain => {
            let text: Vec<_> = state
                .explanation
                .iter()
                .map(|it| it.as_str().into())
                .collect();
            let top = u16::try_from(state.scrolled).unwrap_or(u16::MAX);
            pane(frame, over(u16::MAX), "why", text, top);
        }
        Mode::Help => {
            let line = |(key, what): &(&str, &str)| Line::from(format!("{key:<24} {what}"));
            let text: Vec<_> = KEYS.iter().map(line).collect();
            let height = u16::try_from(text.len()).unwrap_or(u16::MAX);
            pane(frame, over(height.saturating_add(2)), "keys", text, 0);
        }
        Mode::Table | Mode::Filter => {}
    }
}

fn header(state: &State, look: Look) -> Line<'static> {
    let mut spans = vec![Span::styled("steer", look.strong()), "  ".into()];
    if state.uptime.is_none() {
        spans.push("waiting for an answer".into());
    }
    for (place, vpn) in state.vpns.iter().enumerate() {
        if place > 0 {
            spans.push("  ".into());
        }
        let name = match state.vpns.len() {
            1 => "vpn",
            _ => &vpn.name,
        };
        spans.push(match &vpn.interface {
            Some(interface) if vpn.up => {
                Span::styled(format!("{name} {interface} up"), look.path(Path::Vpn))
            }
            Some(interface) => Span::styled(format!("{name} {interface} DOWN"), look.bad()),
            None => Span::styled(format!("NO {}", name.to_uppercase()), look.bad()),
        });
    }
    if let Some(uptime) = state.uptime {
        spans.push(format!("  runs for {}", span(uptime)).into());
    }
    if state.paused {
        spans.push("  ".into());
        spans.push(Span::styled("HELD", look.strong()));
    }
    Line::from(spans)
}

fn of_lane(lane: &Lane) -> String {
    format!(
        "{} in, {} out",
        a_second(lane.rate.down),
        a_second(lane.rate.up)
    )
}

fn in_all(lane: &Lane) -> String {
    let total = &lane.total;
    format!(
        "{} in, {} out",
        octets(total.bytes_in),
        octets(total.bytes_out)
    )
}

fn both(state: &State) -> [(&'static str, Path, &Lane); 2] {
    [
        ("VPN", Path::Vpn, &state.by_vpn),
        ("direct", Path::Direct, &state.direct),
    ]
}

fn plots(frame: &mut Frame<'_>, area: Rect, state: &State, look: Look) {
    let halves: [Rect; 2] = Layout::horizontal([Constraint::Fill(1); 2]).areas(area);
    let all = if area.width >= WIDE { " in all" } else { "" };
    for ((name, path, lane), area) in both(state).into_iter().zip(halves) {
        let shown = usize::from(area.width.saturating_sub(2));
        let rates: Vec<_> = lane
            .history
            .iter()
            .rev()
            .take(shown)
            .map(|it| it.sum())
            .collect();
        let most = rates.iter().copied().max().unwrap_or(0);
        let block = Block::new()
            .borders(Borders::ALL)
            .title_top(Line::styled(
                format!(" {name} {} ", of_lane(lane)),
                look.strong(),
            ))
            .title_bottom(format!(" {}{all} ", in_all(lane)))
            .title_bottom(Line::from(format!(" max {} ", a_second(most))).right_aligned());
        let plot = Sparkline::default()
            .block(block)
            .direction(RenderDirection::RightToLeft)
            .max(most.max(1))
            .style(look.path(path))
            .data(rates);
        frame.render_widget(plot, area);
    }
}

fn lines(frame: &mut Frame<'_>, area: Rect, state: &State, look: Look) {
    let lines: Vec<_> = both(state)
        .into_iter()
        .map(|(name, path, lane)| {
            let text = format!("{name:<6} {}; all {}", of_lane(lane), in_all(lane));
            Line::styled(text, look.path(path))
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), area);
}

/// A column of the table.
struct Column {
    title: &'static str,
    width: Constraint,
    /// What sorts by it.
    sort: Option<Sort>,
    is_number: bool,
    cell: fn(&Row) -> String,
}

impl Column {
    const fn text(title: &'static str, width: Constraint, cell: fn(&Row) -> String) -> Self {
        Self {
            title,
            width,
            sort: None,
            is_number: false,
            cell,
        }
    }

    const fn number(title: &'static str, cell: fn(&Row) -> String) -> Self {
        Self {
            is_number: true,
            ..Self::text(title, Constraint::Length(9), cell)
        }
    }

    const fn sorted(self, sort: Sort) -> Self {
        Self {
            sort: Some(sort),
            ..self
        }
    }
}

/// The columns that a width has room for.
fn columns(width: u16) -> Vec<Column> {
    let mut columns = vec![
        Column::text("", Constraint::Length(1), |row| {
            if row.contested { "!" } else { "" }.to_owned()
        }),
        Column::text("NAME", Constraint::Fill(1), |row| row.label.clone()).sorted(Sort::Name),
        Column::text("PATH", Constraint::Length(6), Row::way).sorted(Sort::Path),
    ];
    if width >= PLOTTED.0 {
        let size = if width >= WIDE { 24 } else { 14 };
        let who = Column::text("WHO", Constraint::Length(size), |row| row.who.clone());
        columns.push(who.sorted(Sort::Who));
    }
    if width >= WIDE {
        columns.push(Column::text("BRIDGE", Constraint::Length(15), |row| {
            row.bridge.clone().unwrap_or_default()
        }));
    }
    columns.push(Column::number("IN/s", |row| a_second(row.rate.down)).sorted(Sort::Rate));
    columns.push(Column::number("OUT/s", |row| a_second(row.rate.up)));
    if width >= WIDE {
        columns.push(Column::number("IN", |row| octets(row.count.bytes_in)));
        columns.push(Column::number("OUT", |row| octets(row.count.bytes_out)));
        columns.push(Column::number("PACKETS", |row| {
            (row.count.packets_in + row.count.packets_out).to_string()
        }));
    }
    if width >= PLOTTED.0 {
        columns.push(Column::number("BYTES", |row| octets(row.count.bytes())).sorted(Sort::Bytes));
    }
    columns
}

fn rows(frame: &mut Frame<'_>, area: Rect, state: &State, look: Look) {
    let found = state.rows();
    let columns = columns(area.width);
    let aligned = |column: &Column, text: String| {
        if column.is_number {
            Cell::from(Line::from(text).right_aligned())
        } else {
            Cell::from(text)
        }
    };
    let titles = columns.iter().map(|column| {
        let mark = match (column.sort == Some(state.sort), state.reversed) {
            (false, _) => "",
            (true, false) => " v",
            (true, true) => " ^",
        };
        aligned(column, format!("{}{mark}", column.title))
    });
    let titles = Cells::new(titles).style(look.strong());
    let selected = state.selected(&found);
    // Those further down cannot be in sight.
    let shown = selected.unwrap_or(0) + usize::from(area.height);
    let lines = found.iter().take(shown).map(|row| {
        let cells = columns
            .iter()
            .map(|column| aligned(column, (column.cell)(row)));
        Cells::new(cells).style(look.path(row.path))
    });
    let widths = columns.iter().map(|column| column.width);
    let table = Table::new(lines, widths)
        .header(titles)
        .highlight_symbol(">")
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut at = TableState::new().with_selected(selected);
    frame.render_stateful_widget(table, area, &mut at);
    if found.is_empty() && area.height > 2 {
        let why = if !state.filter.is_empty() {
            "no row has that text"
        } else if state.uptime.is_none() {
            ""
        } else {
            "nothing has gone to anybody since this began to watch"
        };
        let below = Rect {
            y: area.y + 1,
            height: 1,
            ..area
        };
        frame.render_widget(Line::from(format!("  {why}")), below);
    }
}

fn stops(state: &State, look: Look) -> Line<'static> {
    let stopped: Vec<_> = state
        .dropped
        .iter()
        .map(|(name, count)| format!("{count} × {name}"))
        .collect();
    if stopped.is_empty() {
        return Line::from("stopped: nothing");
    }
    Line::styled(format!("stopped: {}", stopped.join(", ")), look.bad())
}

fn footer(state: &State, width: u16, look: Look) -> Line<'static> {
    if state.mode == Mode::Filter {
        return Line::styled(format!("filter: {}_", state.filter), look.strong());
    }
    let mut text = if width >= PLOTTED.0 {
        "q quit  s sort  r reverse  / filter  e explain  p hold  ? keys".to_owned()
    } else {
        "q quit s sort r reverse / filter e why p hold ? keys".to_owned()
    };
    if !state.filter.is_empty() {
        text = format!("filter: {}  {text}", state.filter);
    }
    Line::from(text)
}

fn pane(frame: &mut Frame<'_>, area: Rect, title: &str, text: Vec<Line<'_>>, top: u16) {
    frame.render_widget(Clear, area);
    let block = Block::bordered()
        .title_top(format!(" {title} "))
        .title_bottom(" Esc closes ");
    let text = Paragraph::new(text)
        .block(block)
        .wrap(Wrap { trim: false })
        .scroll((top, 0));
    frame.render_widget(text, area);
}

/// A rate as it is read: nothing where nothing moves.
fn a_second(rate: u64) -> String {
    match rate {
        0 => "-".to_owned(),
        rate => format!("{}/s", octets(rate)),
    }
}
