//! What Docker tells as it happens.

use super::docker::{self, AskError, asked};
use super::process;
use crate::config::DockerChoice;
use bollard::Docker;
use bollard::query_parameters::EventsOptions;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long Docker is left alone after it was not there.
const PAUSE: Duration = Duration::from_secs(1);
/// What may change which container has which address, name or network.
const KINDS: [&str; 2] = ["container", "network"];
const ACTIONS: [&str; 8] = [
    "create",
    "start",
    "die",
    "destroy",
    "rename",
    "connect",
    "disconnect",
    "remove",
];

/// Tells that Docker's networks or containers may have changed, for as long as it is kept.
///
/// Docker may be absent, go and come back: it is looked for again each second, and not woken where systemd would start it for
/// whoever connects.
pub struct Events {
    told: BoxStream<'static, ()>,
}

impl Events {
    /// Listens where Docker is to be asked; where it is not to be, nothing is ever told.
    pub fn new(choice: DockerChoice) -> Self {
        Self::watching(choice, || process::runs("dockerd"))
    }

    fn watching(choice: DockerChoice, runs: fn() -> bool) -> Self {
        if choice == DockerChoice::Off {
            let told = stream::pending().boxed();
            return Self { told };
        }
        let source = Source {
            choice,
            runs,
            ran: false,
            state: State::Away,
        };
        let told = stream::unfold(source, async |mut source| {
            source.told().await;
            Some(((), source))
        });
        Self { told: told.boxed() }
    }

    /// Returns once something may have changed: at each event, and whenever Docker is there again.
    ///
    /// Cancel safe: what is under way goes on with the next call. Nothing that happens between two calls is lost.
    pub async fn next(&mut self) {
        if self.told.next().await.is_none() {
            std::future::pending().await
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

struct Source {
    choice: DockerChoice,
    /// Whether a daemon runs, as far as can be seen without asking it.
    runs: fn() -> bool,
    /// Whether one was seen to when it answered last.
    ran: bool,
    state: State,
}

enum State {
    Away,
    /// It was, or did not answer, a moment ago.
    Left,
    Listening(BoxStream<'static, bool>),
}

impl Source {
    async fn told(&mut self) {
        loop {
            match &mut self.state {
                State::Listening(events) => match events.next().await {
                    Some(true) => return,
                    Some(false) | None => self.state = State::Left,
                },
                State::Left => {
                    tokio::time::sleep(PAUSE).await;
                    self.state = State::Away;
                }
                State::Away => {
                    self.state = State::Left;
                    // Connecting would have systemd start a Docker that somebody has stopped.
                    if self.ran && !seen(self.runs).await {
                        continue;
                    }
                    match listen(&self.choice).await {
                        Ok(events) => {
                            self.ran = seen(self.runs).await;
                            self.state = State::Listening(events);
                            return;
                        }
                        Err(error) => tracing::debug!("no events of Docker's: {error}"),
                    }
                }
            }
        }
    }
}

async fn seen(runs: fn() -> bool) -> bool {
    tokio::task::spawn_blocking(runs).await.unwrap_or_default()
}

/// The events from now on, each as whether it is one rather than a failure.
async fn listen(choice: &DockerChoice) -> Result<BoxStream<'static, bool>, AskError> {
    let Some(socket) = docker::socket(choice) else {
        return Err(AskError::Absent);
    };
    // The call for events begins when the first is waited for. Docker keeps the last 256, so what happens until then is told as well.
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.unwrap_or_default();
    let docker: Docker = asked(&socket, async |docker| {
        docker.ping().await?;
        Ok(docker)
    })
    .await?;
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let filters = HashMap::from([
        ("type".to_owned(), owned(&KINDS)),
        ("event".to_owned(), owned(&ACTIONS)),
    ]);
    let options = EventsOptions {
        since: Some(format!("{}.{:09}", since.as_secs(), since.subsec_nanos())),
        until: None,
        filters: Some(filters),
    };
    let told = stream::once(async move { docker.events(Some(options)) }).flatten();
    Ok(told.map(|event| event.is_ok()).boxed())
}

#[cfg(test)]
mod tests {
    use super::super::docker::tests::request;
    use super::*;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;
    use tokio::sync::watch;
    use tokio::time::{Instant, timeout};

    /// A dockerd that tells of as many events as the channel says, and ends with it; and of what it was asked.
    async fn daemon(socket: &Path, events: watch::Receiver<usize>) -> watch::Receiver<Vec<String>> {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let (asked, was_asked) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let mut ends = events.clone();
            loop {
                let (mut stream, _) = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap(),
                    _ = ends.wait_for(|&count| count == usize::MAX) => return,
                };
                let (asked, mut events) = (asked.clone(), events.clone());
                tokio::spawn(async move {
                    while let Some(line) = request(&mut stream).await {
                        asked.send_modify(|all| all.push(line.clone()));
                        if !line.starts_with("GET /events") {
                            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";
                            let _ = stream.write_all(answer.as_bytes()).await;
                            continue;
                        }
                        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                        let _ = stream.write_all(head.as_bytes()).await;
                        let mut told = 0;
                        loop {
                            let count = *events.borrow_and_update();
                            if count == usize::MAX {
                                return;
                            }
                            while told < count {
                                let event = "{\"Type\":\"network\",\"Action\":\"connect\",\"Actor\":{\"ID\":\"a\"},\"time\":1}\n";
                                let chunk = format!("{:x}\r\n{event}\r\n", event.len());
                                let _ = stream.write_all(chunk.as_bytes()).await;
                                told += 1;
                            }
                            let mut end = [0];
                            tokio::select! {
                                changed = events.changed() => if changed.is_err() { return },
                                _ = stream.read(&mut end) => return,
                            }
                        }
                    }
                });
            }
        });
        was_asked
    }

    async fn soon(events: &mut Events) -> bool {
        timeout(Duration::from_secs(10), events.next())
            .await
            .is_ok()
    }

    async fn silent(events: &mut Events) -> bool {
        let short = Duration::from_millis(100);
        timeout(short, events.next()).await.is_err()
    }

    #[tokio::test]
    async fn each_event_and_each_return_of_docker_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let choice = DockerChoice::Socket(socket.clone());
        let mut events = Events::watching(choice, || false);
        assert!(silent(&mut events).await, "nobody listens");

        let (tell, told) = watch::channel(0);
        let asked = daemon(&socket, told).await;
        assert!(soon(&mut events).await, "it is there");
        assert!(silent(&mut events).await);
        tell.send(2).unwrap();
        assert!(soon(&mut events).await && soon(&mut events).await);
        assert!(silent(&mut events).await);
        let line = asked.borrow().last().cloned().unwrap();
        assert!(
            line.contains("since=") && line.contains("connect"),
            "{line}"
        );

        tell.send(usize::MAX).unwrap();
        assert!(silent(&mut events).await, "it has gone");
        let (tell, told) = watch::channel(0);
        daemon(&socket, told).await;
        assert!(soon(&mut events).await, "it is back");
        // Several happen while nobody waits.
        tell.send(3).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        for _ in 0..3 {
            assert!(soon(&mut events).await);
        }
        assert!(silent(&mut events).await);
    }

    #[tokio::test]
    async fn one_who_waits_for_other_things_as_well_misses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let (tell, told) = watch::channel(0);
        daemon(&socket, told).await;
        let mut events = Events::watching(DockerChoice::Socket(socket), || false);
        let mut count = 0;
        let begun = Instant::now();
        while count < 4 && begun.elapsed() < Duration::from_secs(10) {
            tokio::select! {
                () = events.next() => {
                    count += 1;
                    tell.send_modify(|told| *told += 1);
                }
                () = tokio::time::sleep(Duration::from_micros(200)) => {}
            }
        }
        assert_eq!(count, 4);
    }

    #[tokio::test]
    async fn a_docker_that_was_stopped_is_not_woken() {
        static RUNS: AtomicBool = AtomicBool::new(true);
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let (tell, told) = watch::channel(0);
        daemon(&socket, told).await;
        let choice = DockerChoice::Socket(socket.clone());
        let mut events = Events::watching(choice, || RUNS.load(Ordering::Relaxed));
        assert!(soon(&mut events).await && silent(&mut events).await);

        RUNS.store(false, Ordering::Relaxed);
        tell.send(usize::MAX).unwrap();
        // As systemd's socket: whoever connects would be answered.
        let (_tell, told) = watch::channel(0);
        let asked = daemon(&socket, told).await;
        let while_away = timeout(3 * PAUSE, events.next()).await;
        assert!(while_away.is_err() && asked.borrow().is_empty());
        RUNS.store(true, Ordering::Relaxed);
        assert!(soon(&mut events).await);
    }

    #[tokio::test]
    async fn where_docker_is_not_to_be_asked_nothing_is_told() {
        assert!(silent(&mut Events::new(DockerChoice::Off)).await);
    }
}
