//! What is shown, and what keys and news do to it.

use std::time::Instant;

use hull_proto::v1::{GetDiskUsageResponse, GetInfoResponse, NodeStats};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::detail::Detail;
use super::feed::News;
use super::history::History;
use super::row::percent_of;
use super::sort::KEYS;
use super::table::Table;
use crate::client::Client;

/// Lines that Page Up and Page Down move by where nothing was drawn yet.
const PAGE: usize = 10;

/// The node as a whole.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) info: Option<Box<GetInfoResponse>>,
    pub(super) last: Option<NodeStats>,
    /// Percent of one processor, between the last two readings.
    pub(super) busy: Option<f64>,
    /// The same in hundredths.
    pub(super) cpu: History,
    /// Bytes that are not available.
    pub(super) memory: History,
    pub(super) disk: Option<Box<GetDiskUsageResponse>>,
}

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct App {
    pub(super) node: Node,
    pub(super) table: Table,
    /// The container that is looked at.
    pub(super) detail: Option<Detail>,
    /// Why the agent is away, and since when.
    pub(super) away: Option<(String, Instant)>,
    /// The filter is being typed.
    pub(super) typing: bool,
    /// The keys are explained.
    pub(super) help: bool,
    /// Lines of the table or the log that were drawn last.
    pub(super) page: usize,
    /// The first line of the table that was drawn last.
    pub(super) top: usize,
    client: Client,
}

/// What a key asks of others.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    /// End.
    Leave,
    /// Tell of the container that is looked at.
    Follow,
    /// Do not any more.
    Unfollow,
    /// Draw everything anew.
    Redraw,
}

impl App {
    /// With nothing to show yet.
    pub(super) fn new(client: Client) -> Self {
        Self {
            node: Node::default(),
            table: Table::default(),
            detail: None,
            away: None,
            typing: false,
            help: false,
            page: PAGE,
            top: 0,
            client,
        }
    }

    /// The agent as it was last reached.
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Takes news.
    pub(super) fn take(&mut self, news: News) -> Wish {
        match news {
            News::Here(client, info) => {
                (self.client, self.node.info, self.away) = (client, Some(info), None);
                if let Some(detail) = &mut self.detail {
                    detail.begin_anew();
                    return Wish::Follow;
                }
            }
            News::Away(why) => {
                let since = self.away.take().map_or_else(Instant::now, |(_, since)| since);
                self.away = Some((why, since));
            }
            News::All(containers) => self.table.replace(containers),
            News::Changed(container) => self.table.change(*container),
            News::Gone(id) => self.table.forget(&id),
            News::Frame(mut frame) => {
                if let Some(node) = frame.node.take() {
                    self.node.take(node);
                }
                self.table.take(*frame);
            }
            News::Disk(disk) => self.node.disk = Some(disk),
            News::Log(id, entries) => {
                if let Some(detail) = self.detail.as_mut().filter(|detail| detail.id == id) {
                    detail.wrote(entries);
                }
            }
            News::Happened(id, events) => {
                if let Some(detail) = self.detail.as_mut().filter(|detail| detail.id == id) {
                    detail.happened(events);
                }
            }
        }
        Wish::Nothing
    }

    /// Takes a key.
    pub(super) fn key(&mut self, key: KeyEvent) -> Wish {
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Wish::Leave,
            KeyCode::Char('l') if key.modifiers.contains(KeyModifiers::CONTROL) => return Wish::Redraw,
            KeyCode::Char(_) if key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => {
                return Wish::Nothing;
            }
            _ => {}
        }
        if self.help {
            self.help = false;
            return if key.code == KeyCode::Char('q') { Wish::Leave } else { Wish::Nothing };
        }
        if self.typing {
            self.typed(key.code);
            return Wish::Nothing;
        }
        match key.code {
            KeyCode::Char('q') => Wish::Leave,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => {
                self.help = true;
                Wish::Nothing
            }
            code if self.detail.is_some() => self.in_detail(code),
            code => self.in_table(code),
        }
    }

    /// A key while the filter is typed.
    fn typed(&mut self, code: KeyCode) {
        let text = &mut self.table.filter.text;
        match code {
            KeyCode::Char(letter) => text.push(letter),
            KeyCode::Backspace => drop(text.pop()),
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                text.clear();
                self.typing = false;
            }
            KeyCode::Up => self.table.step(-1),
            KeyCode::Down => self.table.step(1),
            _ => return,
        }
        self.table.arrange();
    }

    fn in_table(&mut self, code: KeyCode) -> Wish {
        let table = &mut self.table;
        match code {
            KeyCode::Enter | KeyCode::Right => {
                table.step(0);
                self.detail = table.chosen().map(|row| Detail::new(row.container.id.clone()));
                return if self.detail.is_some() { Wish::Follow } else { Wish::Nothing };
            }
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Esc => table.filter.text.clear(),
            KeyCode::Char('a') => table.filter.all = !table.filter.all,
            KeyCode::Char('r') => table.sort.reversed = !table.sort.reversed,
            KeyCode::Char('s' | '>') | KeyCode::Tab => table.sort.step(true),
            KeyCode::Char('S' | '<') | KeyCode::BackTab => table.sort.step(false),
            code => match KEYS.iter().find(|key| code == KeyCode::Char(key.letter())) {
                Some(key) => table.sort.choose(*key),
                None => table.step(places(code, self.page)),
            },
        }
        self.table.arrange();
        Wish::Nothing
    }

    fn in_detail(&mut self, code: KeyCode) -> Wish {
        match code {
            KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => {
                self.detail = None;
                return Wish::Unfollow;
            }
            KeyCode::Char('f') => self.scroll(isize::MAX),
            code => self.scroll(places(code, self.page)),
        }
        Wish::Nothing
    }

    /// Moves forward in the log.
    fn scroll(&mut self, places: isize) {
        if let Some(detail) = &mut self.detail {
            detail.scroll(places.saturating_neg());
        }
    }
}

/// How far a key moves down.
fn places(code: KeyCode, page: usize) -> isize {
    let page = isize::try_from(page).unwrap_or(isize::MAX);
    match code {
        KeyCode::Up | KeyCode::Char('k') => -1,
        KeyCode::Down | KeyCode::Char('j') => 1,
        KeyCode::PageUp => -page,
        KeyCode::PageDown | KeyCode::Char(' ') => page,
        KeyCode::Home | KeyCode::Char('g') => isize::MIN,
        KeyCode::End | KeyCode::Char('G') => isize::MAX,
        _ => 0,
    }
}

impl Node {
    fn take(&mut self, now: NodeStats) {
        let busy = |stats: &NodeStats| stats.cpu.as_ref().map(|cpu| cpu.user_nanos + cpu.system_nanos);
        self.busy = self.last.as_ref().and_then(|then| {
            let elapsed = now.monotonic_nanos.checked_sub(then.monotonic_nanos)?;
            let used = busy(&now)?.checked_sub(busy(then)?)?;
            percent_of(used, elapsed)
        });
        if let Some(busy) = self.busy {
            self.cpu.push_percent(busy);
        }
        if let Some((used, _)) = memory(&now) {
            self.memory.push(used);
        }
        self.last = Some(now);
    }
}

/// Bytes that are not available, and all there are.
pub(super) fn memory(stats: &NodeStats) -> Option<(u64, u64)> {
    let memory = stats.memory.as_ref()?;
    let total = memory.total?;
    Some((total.saturating_sub(memory.available?), total))
}
