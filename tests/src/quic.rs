//! The first datagram of a QUIC client.

use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::{
    ClientConfig, RootCertStore, Side,
    crypto::ring::{self, cipher_suite::TLS13_AES_128_GCM_SHA256},
    pki_types::ServerName,
    quic::{ClientConnection, Keys, Version},
};

/// Octets of a client's first datagram (RFC 9000 section 14.1).
const SIZE: usize = 1200;
const DESTINATION: [u8; 8] = [7; 8];

/// An Initial with the ClientHello for a name (RFC 9001 section 5), in a datagram of its own.
pub fn initial(name: &str) -> Result<Vec<u8>> {
    const NUMBER: [u8; 4] = [0; 4];
    const TAG: usize = 16;
    let suite = TLS13_AES_128_GCM_SHA256.tls13().context("a suite")?;
    let quic = suite.quic_suite().context("a suite for QUIC")?.quic;
    let keys = Keys::initial(Version::V1, suite, quic, &DESTINATION, Side::Client).local;
    let hello = hello(name)?;

    let mut header = vec![0xc3, 0, 0, 0, 1, DESTINATION.len() as u8];
    header.extend(DESTINATION);
    header.extend([0, 0]);
    let number = header.len() + 2;
    let carried = SIZE - number;
    header.extend(varint(carried));
    header.extend(NUMBER);
    // A CRYPTO frame, and padding to the end.
    let mut payload = vec![6, 0];
    payload.extend(varint(hello.len()));
    payload.extend(hello);
    payload.resize(carried - NUMBER.len() - TAG, 0);
    let tag = keys.packet.encrypt_in_place(0, &header, &mut payload)?;
    let mut packet = [&header, &payload, tag.as_ref()].concat();
    let (front, sample) = packet.split_at_mut(number + NUMBER.len());
    let (first, number) = front.split_at_mut(number);
    keys.header
        .encrypt_in_place(&sample[..TAG], &mut first[0], number)?;
    Ok(packet)
}

fn hello(name: &str) -> Result<Vec<u8>> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned())?;
    let mut client = ClientConnection::new(Arc::new(config), Version::V1, name, Vec::new())?;
    let mut hello = Vec::new();
    client.write_hs(&mut hello);
    Ok(hello)
}

/// A number in two octets (RFC 9000 section 16).
fn varint(number: usize) -> [u8; 2] {
    (0x4000 | number as u16).to_be_bytes()
}
