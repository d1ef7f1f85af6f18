//! Qdiscs and filters of interfaces over netlink, which aya adds but does not list: `tc qdisc` and `tc filter`.
//!
//! Synchronous, for what is attached is let go of in `Drop`. Messages are taken apart no further than needed, so that a
//! filter of a kind that nobody here knows is one more filter and no error.

use std::io;

use aya::programs::TcAttachType;
use rtnetlink::{
    packet_core::{
        DecodeError, Emitable as _, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable,
        NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlasIterator,
    },
    packet_route::tc::TcHeader,
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

/// Where clsact is on an interface (`ffff:fff1`), and the qdisc `ingress` in its stead.
const PLACE: u32 = 0xffff_fff1;
/// The filters of what comes in by an interface (`ffff:fff2`).
const INGRESS: u32 = 0xffff_fff2;
/// The filters of what leaves by an interface (`ffff:fff3`).
const EGRESS: u32 = 0xffff_fff3;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;
const TCA_BPF_NAME: u16 = 7;

/// A netlink socket of the network namespace of the thread that opened it.
pub(super) struct Tc {
    socket: Socket,
}

/// A qdisc in the place of clsact.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Qdisc {
    pub(super) index: u32,
    pub(super) kind: String,
}

/// A filter, or what several of one preference have in common; then its handle is zero.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) preference: u16,
    /// As the kernel has it, in network order.
    pub(super) protocol: u16,
    pub(super) handle: u32,
    pub(super) chain: u32,
    pub(super) kind: String,
    /// The name of a bpf filter.
    pub(super) name: Option<String>,
}

impl Tc {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket })
    }

    /// `tc qdisc show`, those that are clsact or in its place.
    pub(super) fn qdiscs(&self) -> io::Result<Vec<Qdisc>> {
        let told = self.ask(libc::RTM_GETQDISC, NLM_F_DUMP, TcHeader::default())?;
        let mut qdiscs = Vec::new();
        for message in &told {
            let header = TcHeader::parse(&message.octets).map_err(bad)?;
            if u32::from(header.parent) == PLACE {
                qdiscs.push(Qdisc {
                    index: header.index.cast_unsigned(),
                    kind: message.attributes()?.kind,
                });
            }
        }
        Ok(qdiscs)
    }

    /// `tc filter show dev INDEX HOOK`
    pub(super) fn filters(&self, index: u32, hook: TcAttachType) -> io::Result<Vec<Filter>> {
        let told = self.ask(libc::RTM_GETTFILTER, NLM_F_DUMP, header(index, hook))?;
        told.iter().map(Message::filter).collect()
    }

    /// `tc filter del dev INDEX HOOK pref … handle … protocol …`
    pub(super) fn delete_filter(
        &self,
        index: u32,
        hook: TcAttachType,
        filter: &Filter,
    ) -> io::Result<()> {
        let header = TcHeader {
            handle: filter.handle.into(),
            info: u32::from(filter.preference) << 16 | u32::from(filter.protocol),
            ..header(index, hook)
        };
        self.ask(libc::RTM_DELTFILTER, NLM_F_ACK, header).map(drop)
    }

    /// `tc qdisc del dev INDEX clsact`
    pub(super) fn delete_clsact(&self, index: u32) -> io::Result<()> {
        let header = TcHeader {
            index: index.cast_signed(),
            parent: PLACE.into(),
            ..TcHeader::default()
        };
        self.ask(libc::RTM_DELQDISC, NLM_F_ACK, header).map(drop)
    }

    /// Sends a request and reads all that comes in answer.
    fn ask(&self, kind: u16, flags: u16, header: TcHeader) -> io::Result<Vec<Message>> {
        let mut request = NetlinkMessage::new(
            NetlinkHeader::default(),
            NetlinkPayload::InnerMessage(Request { kind, header }),
        );
        request.header.flags = NLM_F_REQUEST | flags;
        request.finalize();
        let mut octets = vec![0; request.buffer_len()];
        request.serialize(&mut octets);
        self.socket.send(&octets, 0)?;

        let mut told = Vec::new();
        loop {
            let (octets, _) = self.socket.recv_from_full()?;
            let mut rest = &octets[..];
            while !rest.is_empty() {
                let message = NetlinkMessage::<Message>::deserialize(rest).map_err(bad)?;
                let length = message.header.length.next_multiple_of(4);
                match message.payload {
                    NetlinkPayload::InnerMessage(message) => told.push(message),
                    NetlinkPayload::Done(done) if done.code == 0 => return Ok(told),
                    NetlinkPayload::Done(done) => return Err(refused(done.code)),
                    NetlinkPayload::Error(error) => match error.code {
                        None => return Ok(told),
                        Some(code) => return Err(refused(code.get())),
                    },
                    _ => {}
                }
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                rest = rest.get(length..).unwrap_or_default();
            }
        }
    }
}

fn header(index: u32, hook: TcAttachType) -> TcHeader {
    let parent = match hook {
        TcAttachType::Ingress => INGRESS,
        TcAttachType::Egress => EGRESS,
        TcAttachType::Custom(parent) => parent,
    };
    TcHeader {
        index: index.cast_signed(),
        parent: parent.into(),
        ..TcHeader::default()
    }
}

struct Request {
    kind: u16,
    header: TcHeader,
}

impl NetlinkSerializable for Request {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.header.buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        self.header.emit(buffer);
    }
}

/// `struct tcmsg` and the attributes after it.
struct Message {
    octets: Vec<u8>,
}

#[derive(Default)]
struct Attributes {
    kind: String,
    chain: u32,
    name: Option<String>,
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self {
            octets: payload.to_vec(),
        })
    }
}

impl Message {
    fn filter(&self) -> io::Result<Filter> {
        let header = TcHeader::parse(&self.octets).map_err(bad)?;
        let Attributes { kind, chain, name } = self.attributes()?;
        let [preference, protocol] = [(header.info >> 16) as u16, header.info as u16];
        Ok(Filter {
            preference,
            protocol,
            handle: header.handle.into(),
            chain,
            kind,
            name,
        })
    }

    fn attributes(&self) -> io::Result<Attributes> {
        let mut found = Attributes::default();
        let mut options = None;
        let attributes = self.octets.get(TcHeader::default().buffer_len()..);
        for attribute in NlasIterator::new(attributes.unwrap_or_default()) {
            let attribute = attribute.map_err(bad)?;
            match attribute.kind() {
                TCA_KIND => found.kind = text(attribute.value()),
                TCA_CHAIN => {
                    let number = attribute.value().first_chunk().copied();
                    found.chain = u32::from_ne_bytes(number.unwrap_or_default());
                }
                TCA_OPTIONS => options = Some(attribute),
                _ => {}
            }
        }
        // What the options are depends on the kind, which may come after them.
        if let Some(options) = options.filter(|_| found.kind == "bpf") {
            for option in NlasIterator::new(options.value()) {
                let option = option.map_err(bad)?;
                if option.kind() == TCA_BPF_NAME {
                    found.name = Some(text(option.value()));
                }
            }
        }
        Ok(found)
    }
}

/// Text that ends with a zero.
fn text(octets: &[u8]) -> String {
    let end = octets.iter().position(|&octet| octet == 0);
    String::from_utf8_lossy(&octets[..end.unwrap_or(octets.len())]).into_owned()
}

fn refused(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code.saturating_neg())
}

fn bad(error: DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(attributes: &[(u16, &[u8])]) -> Message {
        let header = TcHeader {
            index: 7,
            handle: 0x7350.into(),
            parent: INGRESS.into(),
            info: 7350 << 16 | 0x300,
            ..TcHeader::default()
        };
        let mut octets = vec![0; header.buffer_len()];
        header.emit(&mut octets);
        for (kind, value) in attributes {
            octets.extend(attribute(*kind, value));
        }
        Message { octets }
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut octets = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        octets.extend(value);
        octets.resize(octets.len().next_multiple_of(4), 0);
        octets
    }

    #[test]
    fn a_bpf_filter_is_read_whatever_the_order() {
        let options = attribute(TCA_BPF_NAME, b"bridge_egress\0");
        let chain = 3_u32.to_ne_bytes();
        let kind = (TCA_KIND, &b"bpf\0"[..]);
        let rest = [(TCA_CHAIN, &chain[..]), (TCA_OPTIONS, &options)];
        for attributes in [[kind, rest[0], rest[1]], [rest[1], rest[0], kind]] {
            let filter = message(&attributes).filter().unwrap();
            let expected = Filter {
                preference: 7350,
                protocol: 0x300,
                handle: 0x7350,
                chain: 3,
                kind: "bpf".to_owned(),
                name: Some("bridge_egress".to_owned()),
            };
            assert_eq!(filter, expected);
        }
    }

    #[test]
    fn a_filter_of_an_unknown_kind_is_one() {
        let attributes = [
            (TCA_KIND, &b"new\0"[..]),
            (TCA_OPTIONS, &b"\xff\xff\xff"[..]),
        ];
        let filter = message(&attributes).filter().unwrap();
        assert_eq!((filter.kind.as_str(), filter.name), ("new", None));
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        assert!(Message { octets: vec![0; 7] }.filter().is_err());
        let mut cut = message(&[(TCA_KIND, b"bpf\0")]);
        cut.octets.truncate(22);
        assert!(cut.filter().is_err());
    }
}
