//! What programs read in packets: the beginning of TLS. Messages of the DNS are those of the loads.

/// A ClientHello for a host, in a record (RFC 8446 section 4.1.2), with the extensions that a client of today sends.
pub fn hello(host: &str) -> Vec<u8> {
    let name = host.as_bytes();
    let mut server_name = Vec::new();
    short(&mut server_name, name.len() + 3);
    server_name.push(0);
    short(&mut server_name, name.len());
    server_name.extend(name);

    let mut extensions = Vec::new();
    // Groups, signature algorithms, versions and a key share come before the name as often as behind.
    for (kind, size) in [(10, 8), (13, 20), (43, 5), (51, 38)] {
        short(&mut extensions, kind);
        short(&mut extensions, size);
        extensions.extend(vec![0; size]);
    }
    short(&mut extensions, 0);
    short(&mut extensions, server_name.len());
    extensions.extend(server_name);

    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(32);
    body.extend([8; 32]);
    body.extend([0, 6, 0x13, 1, 0x13, 2, 0x13, 3, 1, 0]);
    short(&mut body, extensions.len());
    body.extend(extensions);

    let mut record = vec![22, 3, 1];
    short(&mut record, body.len() + 4);
    record.extend([1, 0]);
    short(&mut record, body.len());
    record.extend(body);
    record
}

fn short(octets: &mut Vec<u8>, number: usize) {
    octets.extend((number as u16).to_be_bytes());
}
