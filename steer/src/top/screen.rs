//! The terminal: drawn on while somebody watches, and as it was before on every way out.

use std::{future::Future, io};

use crossterm::event::{Event, EventStream};
use futures_util::StreamExt as _;
use ratatui::DefaultTerminal;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{
    draw::{Look, draw},
    input::action,
    state::{State, Wish},
};
use crate::inspect::usage::Usage;

/// The terminal, taken over. A panic gives it back, too, before it is told.
struct Taken {
    terminal: DefaultTerminal,
}

impl Taken {
    fn take() -> io::Result<Self> {
        let terminal = ratatui::try_init();
        Ok(Self {
            terminal: terminal.inspect_err(|_| give_back())?,
        })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // Of a terminal that has gone nothing need be put back.
        let _ = self.terminal.show_cursor();
        // Twice would put the cursor back to where it was before the panic was told.
        if !std::thread::panicking() {
            give_back();
        }
    }
}

fn give_back() {
    let _ = ratatui::try_restore();
}

/// Panics in a debug build where `STEER_FAULT` says so, so that a test sees the terminal given back.
fn fault() {
    assert!(
        !cfg!(debug_assertions) || std::env::var("STEER_FAULT").as_deref() != Ok("top"),
        "as STEER_FAULT says"
    );
}

/// Shows samples as they come, until a key or a signal ends it. `explain` says in lines why something takes its path.
///
/// # Errors
/// When the terminal cannot be drawn on or read from.
pub async fn show<E>(
    mut samples: mpsc::Receiver<Result<Usage, String>>,
    mut explain: impl FnMut(String) -> E,
    look: Look,
) -> io::Result<()>
where
    E: Future<Output = Vec<String>> + Send + 'static,
{
    let mut ends = [
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
        signal(SignalKind::interrupt())?,
        signal(SignalKind::quit())?,
    ];
    let [terminate, hangup, interrupt, quit] = &mut ends;
    let (explained, mut explanations) = mpsc::channel(1);
    let mut state = State::default();
    let mut taken = Taken::take()?;
    let mut events = EventStream::new();
    loop {
        taken.terminal.draw(|frame| draw(frame, &state, look))?;
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(Event::Key(key))) => {
                    let wish = action(state.mode, &key).and_then(|action| state.apply(action));
                    match wish {
                        Some(Wish::Quit) => return Ok(()),
                        Some(Wish::Explain(about)) => {
                            state.explain(vec![format!("asking about {about} …")]);
                            let (answer, explained) = (explain(about), explained.clone());
                            tokio::spawn(async move { explained.send(answer.await).await });
                        }
                        None => {}
                    }
                }
                // Of another size it is drawn anew.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            sample = samples.recv() => match sample {
                Some(Ok(usage)) => {
                    state.sample(usage);
                    fault();
                }
                Some(Err(why)) => state.failed(why),
                None => return Err(io::Error::other("no more samples come")),
            },
            Some(lines) = explanations.recv() => state.explained(lines),
            _ = terminate.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = quit.recv() => return Ok(()),
        }
    }
}
