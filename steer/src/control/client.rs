//! The command line's end of the socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use axum::http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::net::UnixStream;

use super::socket;

/// How long an answer may take to begin; that of a reload takes as long as its lists.
const ANSWER: Duration = Duration::from_secs(30);

/// Why a run did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket is there and takes nobody.
    #[error("the control socket {} does not let you in; only root and members of the group steer may ask", path.display())]
    Denied {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The socket cannot be used.
    #[error("the control socket {} cannot be used", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The run went away, or is no run.
    #[error("steer went away before it had answered; is it being restarted?")]
    Gone(#[source] hyper::Error),
    /// What it said is not understood.
    #[error(
        "the answer of the steer that runs is not understood; is it another version than this one?"
    )]
    Answer(#[source] serde_json::Error),
    /// It takes too long.
    #[error("steer does not answer within {} s; does it hang? kill -9 and the next start lose nothing", ANSWER.as_secs())]
    Silent,
    /// It says why not.
    #[error("{0}")]
    Refused(String),
}

/// A connection to a run.
#[derive(Debug)]
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    /// Connects to the run that has this folder; `None` where none goes on.
    ///
    /// # Errors
    /// When there is one that cannot be asked.
    pub async fn connect(run_dir: &Path) -> Result<Option<Self>, Error> {
        let path = socket(run_dir);
        let stream = match UnixStream::connect(&path).await {
            Ok(stream) => stream,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                    io::ErrorKind::PermissionDenied => Err(Error::Denied {
                        path,
                        source: error,
                    }),
                    _ => Err(Error::Socket {
                        path,
                        source: error,
                    }),
                };
            }
        };
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(Error::Gone)?;
        tokio::spawn(connection);
        Ok(Some(Self { sender }))
    }

    /// Asks for something.
    ///
    /// # Errors
    /// When there is no answer, or it says why not.
    pub async fn get<T: DeserializeOwned>(
        &mut self,
        path: &str,
        query: &impl Serialize,
    ) -> Result<T, Error> {
        let path = with(path, query)?;
        let answered = async {
            let answer = self.send(Method::GET, &path, Bytes::new()).await?;
            whole(answer).await
        };
        let answered = tokio::time::timeout(ANSWER, answered).await;
        answered.map_err(|_| Error::Silent)?
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    /// As for [`Self::get`].
    pub async fn act<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(Error::Answer)?;
        let answer = self.send(method, path, body.into()).await?;
        whole(answer).await
    }

    /// Asks for lines, and shows each as it comes, until there are no more or `visit` wants none.
    ///
    /// # Errors
    /// As for [`Self::get`].
    pub async fn lines<T: DeserializeOwned>(
        &mut self,
        path: &str,
        query: &impl Serialize,
        mut visit: impl FnMut(T) -> bool,
    ) -> Result<(), Error> {
        let mut answer = self
            .send(Method::GET, &with(path, query)?, Bytes::new())
            .await?;
        let mut rest = Vec::new();
        while let Some(frame) = answer.frame().await {
            // It ended, in whatever way.
            let Ok(frame) = frame else { break };
            let Ok(octets) = frame.into_data() else {
                continue;
            };
            rest.extend_from_slice(&octets);
            while let Some(end) = rest.iter().position(|&octet| octet == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                if !visit(serde_json::from_slice(&line).map_err(Error::Answer)?) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self, method: Method, path: &str, body: Bytes) -> Result<Incoming, Error> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path
            .parse()
            .map_err(|_| Error::Refused(format!("\"{path}\" cannot be asked for")))?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, header::HeaderValue::from_static("steer"));
        let json = header::HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        let response = self
            .sender
            .send_request(request)
            .await
            .map_err(Error::Gone)?;
        if response.status() == StatusCode::OK {
            return Ok(response.into_body());
        }
        let answer: Value = whole(response.into_body()).await?;
        let why = answer["error"].as_str().unwrap_or("it does not say why");
        Err(Error::Refused(why.to_owned()))
    }
}

fn with(path: &str, query: &impl Serialize) -> Result<String, Error> {
    let query =
        serde_urlencoded::to_string(query).map_err(|error| Error::Refused(error.to_string()))?;
    Ok(if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    })
}

async fn whole<T: DeserializeOwned>(body: Incoming) -> Result<T, Error> {
    let octets = body.collect().await.map_err(Error::Gone)?.to_bytes();
    serde_json::from_slice(&octets).map_err(Error::Answer)
}
