//! ClientHellos as rustls's client makes them.

use std::sync::Arc;

use rustls::{
    ClientConfig, ClientConnection, Error, NamedGroup, RootCertStore,
    crypto::{ActiveKeyExchange, CryptoProvider, SharedSecret, SupportedKxGroup, ring},
    pki_types::ServerName,
    version::{TLS12, TLS13},
};

/// A key exchange of which only the client's first message is needed: as large as that of X25519MLKEM768, and random.
#[derive(Debug)]
struct PostQuantum;

struct Share(Vec<u8>);

impl SupportedKxGroup for PostQuantum {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        const SHARE: usize = 1184 + 32;
        let mut share = vec![0; SHARE];
        ring::default_provider().secure_random.fill(&mut share)?;
        Ok(Box::new(Share(share)))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }
}

impl ActiveKeyExchange for Share {
    fn complete(self: Box<Self>, _: &[u8]) -> Result<SharedSecret, Error> {
        Err(Error::General("no server answers here".to_owned()))
    }

    fn pub_key(&self) -> &[u8] {
        &self.0
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }
}

/// Clients of several kinds.
pub struct Clients {
    pub classic: ClientConfig,
    pub only_new: ClientConfig,
    pub post_quantum: ClientConfig,
    pub old: ClientConfig,
}

impl Clients {
    pub fn new() -> Self {
        let classic = ring::default_provider();
        let mut post_quantum = classic.clone();
        post_quantum.kx_groups.insert(0, &PostQuantum);
        let config = |provider: CryptoProvider, versions: &[_]| {
            ClientConfig::builder_with_provider(Arc::new(provider))
                .with_protocol_versions(versions)
                .unwrap()
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth()
        };
        let mut post_quantum = config(post_quantum, &[&TLS13]);
        post_quantum.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self {
            old: config(classic.clone(), &[&TLS12]),
            only_new: config(classic.clone(), &[&TLS13]),
            classic: config(classic, &[&TLS13, &TLS12]),
            post_quantum,
        }
    }
}

/// What a client sends first.
pub fn first_octets(config: ClientConfig, name: &str) -> Vec<u8> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut octets = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut octets).unwrap();
    }
    octets
}
