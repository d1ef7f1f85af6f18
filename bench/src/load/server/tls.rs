//! TLS: a handshake, an octet for an octet.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use rustls::{
    ServerConfig, ServerConnection, Stream,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::Options;

/// What every session has.
pub fn config(options: &Options) -> Result<Arc<ServerConfig>> {
    let certificate = CertificateDer::from_pem_file(&options.certificate)
        .context("the certificate cannot be read")?;
    let key = PrivateKeyDer::from_pem_file(&options.key).context("its key cannot be read")?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    // Nobody comes back with one.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Answers a session, and waits for the client to close first.
pub fn serve(mut stream: TcpStream, config: &Arc<ServerConfig>) -> Result<()> {
    let mut session = ServerConnection::new(Arc::clone(config))?;
    let mut within = Stream::new(&mut session, &mut stream);
    let mut octet = [0];
    within.read_exact(&mut octet)?;
    within.write_all(&octet)?;
    while stream.read(&mut [0; 64])? > 0 {}
    Ok(())
}
