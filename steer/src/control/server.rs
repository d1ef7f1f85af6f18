//! The run's end of the socket.

use std::{
    fs::{self, Permissions},
    io,
    os::{fd::AsFd as _, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes, to_bytes},
    extract::{Query, State, rejection::QueryRejection},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use futures_util::stream;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde::Serialize;
use serde_json::json;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, broadcast::error::RecvError, mpsc, oneshot},
    task::JoinHandle,
};

use super::{
    Ask,
    access::{Access, GROUP},
    query::{Events, Explain, Test},
    socket,
};
use crate::{
    datapath::{Pins, View},
    error::sentence,
    inspect::{
        self, Snapshot,
        explain::{self, Question},
        flows,
        rules::{self, Change},
        status, usage,
    },
    report::{Journal, Told},
};

/// Connections served at once; others wait.
const AT_ONCE: usize = 64;
/// Of those, clients that follow what is told.
const FOLLOWERS: usize = 32;
/// Answers worked out at once: each may go through whole tables.
const WORKERS: usize = 2;
/// Clients told at once that they may not ask; others are told nothing.
const REFUSED_AT_ONCE: usize = 8;
/// How long a client may take for its request's head, and again for its body.
const PATIENCE: Duration = Duration::from_secs(5);
/// Octets of a request's body.
const BODY: usize = 64 * 1024;
/// Asks that wait for the run.
const WAITING: usize = 16;

/// The socket, served until this is dropped, which removes it.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    /// The folder's mode before others were let through.
    mode: Option<u32>,
    asks: mpsc::Receiver<Ask>,
    task: JoinHandle<()>,
}

impl Server {
    /// Makes the socket in the folder of the run, which holds its lock.
    ///
    /// # Errors
    /// When the folder takes no socket.
    pub fn start(run_dir: &Path, bpffs: &Path, journal: Arc<Journal>) -> io::Result<Self> {
        let path = socket(run_dir);
        // A killed run's: nobody listens to it, for this run has the lock.
        remove(run_dir)?;
        let access = Access::of_host();
        let listener = UnixListener::bind(&path)?;
        let (sender, asks) = mpsc::channel(WAITING);
        let desk = Desk {
            asks: sender,
            pins: Pins::new(bpffs),
            journal,
            workers: Arc::new(Semaphore::new(WORKERS)),
            followers: Arc::new(Semaphore::new(FOLLOWERS)),
        };
        // From here on its end removes what is made.
        let mut server = Self {
            path,
            mode: None,
            asks,
            task: tokio::spawn(serve(listener, access, desk)),
        };
        let reach = if access.is_shared() { 0o666 } else { 0o600 };
        fs::set_permissions(&server.path, Permissions::from_mode(reach))?;
        if access.is_shared() {
            server.mode = Some(let_through(run_dir)?);
        }
        Ok(server)
    }

    /// What is asked of the run. May be dropped and called again without loss.
    pub async fn next(&mut self) -> Option<Ask> {
        self.asks.recv().await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        // The lock's owner removes it at the next start where this fails.
        let _ = fs::remove_file(&self.path);
        if let (Some(mode), Some(folder)) = (self.mode, self.path.parent()) {
            let _ = fs::set_permissions(folder, Permissions::from_mode(mode));
        }
    }
}

/// Removes a socket that a killed run left.
///
/// # Errors
/// When it stays.
pub fn remove(run_dir: &Path) -> io::Result<()> {
    match fs::remove_file(socket(run_dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Lets everybody through to the socket, and says what the folder's mode was. What else is there stays root's.
fn let_through(folder: &Path) -> io::Result<u32> {
    const THROUGH: u32 = 0o011;
    let mode = fs::metadata(folder)?.permissions().mode();
    fs::set_permissions(folder, Permissions::from_mode(mode | THROUGH))?;
    Ok(mode)
}

async fn serve(listener: UnixListener, access: Access, desk: Desk) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let refused = Arc::new(Semaphore::new(REFUSED_AT_ONCE));
    let routes = routes(desk);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Too many files are open, most likely.
            Err(error) => {
                tracing::debug!("the control socket takes nobody: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Who may not ask takes no place of those who may.
        if !access.allows(stream.as_fd()) {
            if let Ok(permit) = refused.clone().try_acquire_owned() {
                tokio::spawn(async move {
                    let _ =
                        tokio::time::timeout(PATIENCE, converse(stream, refusing(), false)).await;
                    drop(permit);
                });
            }
            continue;
        }
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        let routes = routes.clone();
        tokio::spawn(async move {
            converse(stream, routes, true).await;
            drop(permit);
        });
    }
}

async fn converse(stream: UnixStream, routes: Router, keep_alive: bool) {
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .keep_alive(keep_alive)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    if let Err(error) = served.await {
        tracing::debug!("a client of the control socket went away: {error}");
    }
}

fn refusing() -> Router {
    Router::new().fallback(async || {
        failure(
            StatusCode::FORBIDDEN,
            &format!("only root and members of the group {GROUP} may ask"),
        )
    })
}

fn routes(desk: Desk) -> Router {
    Router::new()
        .route("/v1/status", get(of_status))
        .route("/v1/explain", get(of_explain))
        .route("/v1/flows", get(of_flows))
        .route("/v1/usage", get(of_usage))
        .route("/v1/events", get(of_events))
        .route("/v1/rules", get(of_rules).post(add_rule))
        .route("/v1/rules", delete(delete_rule))
        .route("/v1/rules/test", get(test_rule))
        .route("/v1/reload", post(reload))
        .fallback(async || {
            failure(
                StatusCode::NOT_FOUND,
                "there is no such path; docs/control.md lists them",
            )
        })
        .method_not_allowed_fallback(async || {
            failure(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path takes another method; docs/control.md lists them",
            )
        })
        .with_state(desk)
}

/// What the answers are worked out from.
#[derive(Clone, Debug)]
struct Desk {
    asks: mpsc::Sender<Ask>,
    pins: Pins,
    journal: Arc<Journal>,
    workers: Arc<Semaphore>,
    followers: Arc<Semaphore>,
}

impl Desk {
    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Failure> {
        let (sender, receiver) = oneshot::channel();
        let ending = |()| Failure::unavailable("steer is ending");
        let sent = self.asks.send(ask(sender)).await;
        sent.map_err(|_| ending(()))?;
        receiver.await.map_err(|_| ending(()))
    }

    async fn look(&self) -> Result<(Box<Snapshot>, View), Failure> {
        let snapshot = self.ask(Ask::Snapshot).await?;
        let view = View::open(&self.pins)
            .map_err(|error| Failure::internal(&error))?
            .ok_or_else(|| Failure::unavailable("steer is ending"))?;
        Ok((snapshot, view))
    }

    /// Works an answer out beside the run, which goes on meanwhile: going through a table takes a while.
    async fn aside<T, F>(
        &self,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Response, Failure>
    where
        T: Serialize + Send + 'static,
        F: Future<Output = Result<T, inspect::Error>>,
    {
        let permit = self.workers.clone().acquire_owned().await;
        let worked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| Failure::internal(&error))?;
            runtime.block_on(work()).map_err(|error| match error {
                inspect::Error::Unknown(why) => Failure {
                    status: StatusCode::NOT_FOUND,
                    why,
                },
                error => Failure::internal(&error),
            })
        });
        match worked.await {
            Ok(answer) => answer.map(|answer| Json(answer).into_response()),
            Err(error) => Err(Failure::internal(&error)),
        }
    }
}

async fn of_status(State(desk): State<Desk>) -> Result<Response, Failure> {
    let (snapshot, view) = desk.look().await?;
    desk.aside(move || async move { status::status(&snapshot, &view) })
        .await
}

async fn of_explain(
    State(desk): State<Desk>,
    asked: Result<Query<Explain>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(asked) = asked.map_err(|error| Failure::bad(error.body_text()))?;
    let question: Question = asked.to.parse().map_err(Failure::bad)?;
    let from = asked.from.map(|from| from.parse()).transpose();
    let question = Question {
        from: from.map_err(Failure::bad)?,
        ..question
    };
    let (snapshot, view) = desk.look().await?;
    desk.aside(move || async move { explain::explain(&snapshot, &view, &question).await })
        .await
}

async fn of_flows(
    State(desk): State<Desk>,
    wanted: Result<Query<flows::Wanted>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(wanted) = wanted.map_err(|error| Failure::bad(error.body_text()))?;
    let (snapshot, view) = desk.look().await?;
    desk.aside(move || async move { flows::flows(&snapshot, &view, &wanted).await })
        .await
}

async fn of_usage(State(desk): State<Desk>) -> Result<Response, Failure> {
    desk.ask(Ask::Watch).await?;
    let (snapshot, view) = desk.look().await?;
    desk.aside(move || async move { usage::usage(&snapshot, &view).await })
        .await
}

async fn of_rules(
    State(desk): State<Desk>,
    wanted: Result<Query<rules::Wanted>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(wanted) = wanted.map_err(|error| Failure::bad(error.body_text()))?;
    let snapshot = desk.ask(Ask::Snapshot).await?;
    desk.aside(move || async move { Ok::<_, inspect::Error>(rules::list(&snapshot, &wanted)) })
        .await
}

async fn test_rule(
    State(desk): State<Desk>,
    asked: Result<Query<Test>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(asked) = asked.map_err(|error| Failure::bad(error.body_text()))?;
    let snapshot = desk.ask(Ask::Snapshot).await?;
    let tested = rules::test(&snapshot, &asked.about).map_err(Failure::bad)?;
    Ok(Json(tested).into_response())
}

async fn reload(State(desk): State<Desk>) -> Result<Response, Failure> {
    done(desk.ask(Ask::Reload).await?)
}

async fn add_rule(State(desk): State<Desk>, body: Body) -> Result<Response, Failure> {
    let change = change(body).await?;
    if change.verdict().map_err(Failure::bad)?.is_none() {
        return Err(Failure::bad(
            "the rule lacks its verdict: vpn, direct or block".to_owned(),
        ));
    }
    done(desk.ask(|answer| Ask::Change(change, answer)).await?)
}

async fn delete_rule(State(desk): State<Desk>, body: Body) -> Result<Response, Failure> {
    let change = Change {
        verdict: None,
        ..change(body).await?
    };
    done(desk.ask(|answer| Ask::Change(change, answer)).await?)
}

/// What a body says, whose client may not take for ever.
async fn change(body: Body) -> Result<Change, Failure> {
    let read = tokio::time::timeout(PATIENCE, to_bytes(body, BODY)).await;
    let whole = match read {
        Ok(Ok(whole)) => whole,
        Ok(Err(error)) => {
            return Err(Failure::bad(format!(
                "the body cannot be read, of which {BODY} octets at most are taken: {error}"
            )));
        }
        Err(_) => return Err(Failure::bad("the body did not come in time".to_owned())),
    };
    serde_json::from_slice(&whole).map_err(|error| Failure::bad(error.to_string()))
}

fn done<T: Serialize>(done: Result<T, String>) -> Result<Response, Failure> {
    match done {
        Ok(done) => Ok(Json(done).into_response()),
        Err(why) => Err(Failure {
            status: StatusCode::CONFLICT,
            why,
        }),
    }
}

async fn of_events(
    State(desk): State<Desk>,
    asked: Result<Query<Events>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(asked) = asked.map_err(|error| Failure::bad(error.body_text()))?;
    let place = match asked.follow {
        true => Some(desk.followers.clone().try_acquire_owned().map_err(|_| {
            Failure::unavailable("as many clients follow already as may; end one of them")
        })?),
        false => None,
    };
    let wanted = asked.kinds();
    let (before, coming) = desk.journal.listen(asked.before, &wanted);
    let before = stream::iter(before.into_iter().map(|told| line(&told)));
    let Some(place) = place else {
        return Ok(lines(Body::from_stream(before)));
    };
    let coming = stream::unfold(
        (coming, wanted, place),
        async |(mut coming, wanted, place)| {
            loop {
                let told = match coming.recv().await {
                    Ok(told) if told.is_of(&wanted) => line(&told),
                    Ok(_) => continue,
                    Err(RecvError::Lagged(count)) => line(&Told::lost(count)),
                    Err(RecvError::Closed) => return None,
                };
                return Some((told, (coming, wanted, place)));
            }
        },
    );
    let body = Body::from_stream(futures_util::StreamExt::chain(before, coming));
    Ok(lines(body))
}

fn lines(body: Body) -> Response {
    ([(CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

fn line(told: &Told) -> Result<Bytes, std::convert::Infallible> {
    let mut text = serde_json::to_vec(told).unwrap_or_default();
    text.push(b'\n');
    Ok(text.into())
}

/// Why there is no answer.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    why: String,
}

impl Failure {
    fn bad(why: String) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            why,
        }
    }

    fn unavailable(why: &str) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            why: why.to_owned(),
        }
    }

    fn internal(error: &dyn std::error::Error) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            why: sentence(error),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        failure(self.status, &self.why)
    }
}

fn failure(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "error": why }))).into_response()
}
