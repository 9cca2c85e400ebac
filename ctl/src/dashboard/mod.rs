//! `top` without a container: what runs on the node and what it uses, on the whole terminal, again and again.
//!
//! News of the agent are taken as they come, whatever the terminal does; pictures are made when it has taken those before.

mod app;
mod columns;
mod detail;
mod feed;
mod history;
mod paint;
mod row;
mod sort;
mod table;
mod theme;

use std::thread;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use self::app::{App, Wish};
use self::feed::News;
use self::theme::Theme;
use crate::cli::Connection;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output;
use crate::terminal::{Screen, Signals, stdin_is_terminal};

/// Time between readings, where none is given.
const PACE: prost_types::Duration = prost_types::Duration { seconds: 1, nanos: 0 };
/// News that wait to be taken.
const QUEUE: usize = 64;
/// Shortest time between pictures.
const FRAME: Duration = Duration::from_millis(40);
/// How often the times in a picture are brought up to date.
const CLOCK: Duration = Duration::from_secs(1);

/// Shows it until somebody has seen enough.
pub(crate) async fn run(connection: &Connection, pace: Option<prost_types::Duration>) -> Result<u8> {
    if !output::is_terminal() || !stdin_is_terminal() {
        return Err(Error::new(
            "the dashboard needs a terminal: `hullctl stats` tells the same in lines, `hullctl top CONTAINER` lists processes",
        ));
    }
    if std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb") {
        return Err(Error::new(
            "this terminal (TERM) cannot show a dashboard: `hullctl stats` tells the same in lines",
        ));
    }
    let mut signals = Signals::catch()?;
    // An agent that is not there at first is an error as elsewhere.
    let client = signals.hold(Client::connect(connection)).await??;
    let (queue, mut news) = mpsc::channel(QUEUE);
    let mut node = JoinSet::new();
    node.spawn(feed::node(connection.clone(), client.clone(), pace.unwrap_or(PACE), queue.clone()));
    let mut screen = Screen::enter()?;
    let shown = show(&mut screen, App::new(client), &mut news, queue, &mut signals).await;
    screen.leave().await;
    shown
}

async fn show(
    screen: &mut Screen,
    mut app: App,
    news: &mut mpsc::Receiver<News>,
    queue: mpsc::Sender<News>,
    signals: &mut Signals,
) -> Result<u8> {
    let theme = Theme::new(output::on_stdout());
    let mut keys = keys()?;
    let mut followed = JoinSet::new();
    let mut clock = interval(CLOCK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut stale, mut next) = (true, Instant::now());
    loop {
        let wish = tokio::select! {
            number = signals.next() => return Err(Error::Interrupted(number)),
            key = keys.recv() => match key {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => app.key(key),
                Some(_) => Wish::Nothing,
                // The terminal has gone.
                None => return Err(Error::BrokenPipe),
            },
            Some(news) = news.recv() => app.take(news),
            _ = clock.tick() => Wish::Nothing,
            drawn = picture(screen, &mut app, theme, next), if stale => {
                drawn?;
                (stale, next) = (false, Instant::now() + FRAME);
                continue;
            }
        };
        stale = true;
        match wish {
            Wish::Nothing => {}
            Wish::Leave => return Ok(0),
            Wish::Redraw => screen.forget()?,
            Wish::Unfollow => followed.abort_all(),
            Wish::Follow => {
                followed.abort_all();
                if let Some(detail) = &app.detail {
                    followed.spawn(feed::log(app.client(), detail.id.clone(), queue.clone()));
                    followed.spawn(feed::happenings(app.client(), detail.id.clone(), queue.clone()));
                }
            }
        }
    }
}

/// Makes a picture once it is time for one.
async fn picture(screen: &mut Screen, app: &mut App, theme: Theme, when: Instant) -> Result<()> {
    sleep_until(when).await;
    screen.draw(|frame| paint::paint(frame, app, theme)).await
}

/// What is typed, and changes of the terminal's size. The thread may stay in its read; it ends with the process.
fn keys() -> Result<mpsc::Receiver<Event>> {
    let (queue, keys) = mpsc::channel(QUEUE);
    let read = move || {
        while let Ok(event) = event::read() {
            if queue.blocking_send(event).is_err() {
                return;
            }
        }
    };
    let spawned = thread::Builder::new().name("keys".to_owned()).spawn(read);
    spawned.map(|_| keys).map_err(|error| Error::new(format!("starting a thread for the keys: {error}")))
}
