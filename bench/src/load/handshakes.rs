//! TLS handshakes, each anew: no session is resumed.

use std::{
    io::{Read as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, Result};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, Stream,
    client::Resumption,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use super::{Ask, Told, drive::drive, server::TLS_PORT, way::Way};

/// Makes them, so many at once, to one server after the other.
pub fn run(ask: &Ask, way: &Way, workers: usize) -> Result<Told> {
    let config = config(ask)?;
    let turn = AtomicUsize::new(0);
    drive(ask, workers, |_, clock| {
        while clock.goes_on() {
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            let mut stream = way.connect(turn, TLS_PORT)?;
            let name = ServerName::try_from(way.name(turn))?.to_owned();
            let mut session = ClientConnection::new(Arc::clone(&config), name)?;
            let mut within = Stream::new(&mut session, &mut stream);
            let mut octet = [0];
            within.write_all(b"?").context("no handshake")?;
            within
                .read_exact(&mut octet)
                .context("no answer within TLS")?;
            clock.count(1);
        }
        Ok(())
    })
}

fn config(ask: &Ask) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&ask.certificate)?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
