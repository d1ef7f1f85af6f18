//! What an answer teaches by what hickory-proto reads of it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
};

use hickory_proto::{
    op::{Header, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        self, DNSClass, RData, RecordType,
        rdata::svcb::{SVCB, SvcParamValue},
    },
    serialize::binary::{BinDecodable as _, BinDecoder, DecodeError, Restrict},
};
use steer_common::{
    dns::{ALIASES, SIZE, STEPS},
    stats::Outcome,
    types::Verdict,
};

use super::{
    Asked, Lesson, Name,
    walk::{self, Fault},
};

/// Where steer reads on and hickory-proto refuses, or the other way round, and why it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leniency {
    /// steer reads on behind an owner's name that hickory refuses (too long, or with a pointer that leads nowhere):
    /// whose record it is decides nothing, so it is passed over and not followed.
    Owner,
    /// steer passes over the data of a type or class that it takes nothing from, by its length; hickory reads it and
    /// may refuse it.
    OtherData,
    /// steer passes over parameters of HTTPS and SVCB records that are no hints, whatever their values and order, and
    /// over all of them in alias mode, where they say nothing (RFC 9460 section 2.4.2); hickory refuses the record.
    Parameters,
    /// steer does not ask whether an alias ends where the data of its record does, and does not look at aliases
    /// at all when a rule speaks of the question: whoever made the answer up could have named the alias there as well.
    AliasData,
    /// steer lets the labels behind a pointer go on into those that came before it; hickory refuses that. They end, as
    /// every pointer leads backwards.
    OverlappingLabels,
    /// steer refuses a pointer into the header, where no name stands; hickory reads the header's octets as labels.
    PointerIntoHeader,
    /// steer refuses a name of more labels and pointers than any in use has; hickory follows pointers to the last.
    EndlessName,
    /// steer refuses data of no octets where an address or a name is due; hickory takes it for an update's (RFC 2136).
    NoData,
    /// steer reads no more than [`SIZE`] octets, and hickory is given no more.
    BeyondSize,
    /// steer gives up after [`STEPS`] labels, records, parameters and hints.
    TooManySteps,
}

impl Leniency {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Owner,
        Self::OtherData,
        Self::Parameters,
        Self::AliasData,
        Self::OverlappingLabels,
        Self::PointerIntoHeader,
        Self::EndlessName,
        Self::NoData,
        Self::BeyondSize,
        Self::TooManySteps,
    ];
}

/// What stands in an answer.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The ID, if it is an answer at all.
    pub id: Option<u16>,
    /// The name of its one question.
    pub question: Option<Name>,
    /// What is of interest in the records of the answer section, in their order.
    pub found: Vec<Found>,
    /// Whether all of the section could be read.
    pub whole: bool,
    /// By which leniencies.
    pub leniencies: BTreeSet<Leniency>,
}

/// What is of interest in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// An address, and the seconds that it may be kept.
    Address(IpAddr, u32),
    /// Another name that the name asked for leads to; nothing where it is none.
    Alias(Option<Name>),
}

pub(super) fn read(octets: &[u8]) -> Reading {
    let mut reading = Reading::default();
    if octets.len() > SIZE {
        reading.leniencies.insert(Leniency::BeyondSize);
    }
    let octets = &octets[..octets.len().min(SIZE)];
    let mut decoder = BinDecoder::new(octets);
    let Ok(header) = Header::read(&mut decoder) else {
        return reading;
    };
    let answers = header.message_type == MessageType::Response
        && header.op_code == OpCode::Query
        && header.response_code == ResponseCode::NoError
        && header.counts.queries == 1;
    if !answers {
        return reading;
    }
    reading.id = Some(header.id);
    let Ok(query) = Query::read(&mut decoder) else {
        return reading;
    };
    if Name::of_question(octets).is_none() {
        reading.leniencies.insert(Leniency::PointerIntoHeader);
        return reading;
    }
    reading.question = Some(of_hickory(query.name()));
    let mut walk = Walk {
        octets,
        decoder,
        reading: &mut reading,
        steps: 0,
    };
    // Its end is a step, too.
    let whole =
        (0..header.counts.answers).all(|_| walk.record().is_some()) && walk.step().is_some();
    reading.whole = whole;
    agrees_with_the_whole(octets, &reading);
    reading
}

pub(super) fn learn(asked: &Asked, reading: &Reading) -> Lesson {
    let Some(id) = reading.id else {
        return Lesson::none(Outcome::BadMessage);
    };
    if id != asked.id {
        return Lesson::none(Outcome::Unasked);
    }
    let Some(question) = &reading.question else {
        return Lesson::none(Outcome::BadMessage);
    };
    if *question != asked.name {
        return Lesson::none(Outcome::OtherName);
    }
    let verdict = match verdict(question, reading) {
        Ok(Verdict::NONE) => return Lesson::none(Outcome::NoRule),
        Ok(verdict) => verdict,
        Err(outcome) => return Lesson::none(outcome),
    };
    let mut lesson = Lesson::none(match verdict {
        _ if reading.whole => Outcome::Learned,
        Verdict::DIRECT => Outcome::CutShort,
        _ => Outcome::HeldBack,
    });
    for found in &reading.found {
        if let Found::Address(address, ttl) = *found
            && is_steerable(address)
        {
            lesson.learn(address, ttl, verdict);
        }
    }
    lesson
}

/// The question's verdict, else that of the first alias that has one.
fn verdict(question: &Name, reading: &Reading) -> Result<Verdict, Outcome> {
    let verdict = question.verdict();
    if verdict != Verdict::NONE {
        return Ok(verdict);
    }
    let aliases = reading.found.iter().filter_map(|found| match found {
        Found::Alias(alias) => Some(alias),
        Found::Address(..) => None,
    });
    for alias in aliases.take(ALIASES as usize) {
        let verdict = alias.as_ref().ok_or(Outcome::BadMessage)?.verdict();
        if verdict != Verdict::NONE {
            return Ok(verdict);
        }
    }
    if reading.whole {
        Ok(Verdict::NONE)
    } else {
        Err(Outcome::BadMessage)
    }
}

/// Where the answer section is read.
struct Walk<'a, 'r> {
    octets: &'a [u8],
    decoder: BinDecoder<'a>,
    reading: &'r mut Reading,
    steps: u32,
}

/// The part of a record behind its owner.
struct Record {
    kind: RecordType,
    ttl: u32,
    /// Where its data begins and ends.
    data: usize,
    end: usize,
}

impl Walk<'_, '_> {
    /// Reads one record as `Record::read` does, part by part, so that what steer does not look at may be refused.
    fn record(&mut self) -> Option<()> {
        let (end, labels) = walk::pass_over_name(self.octets, self.decoder.index())?;
        (0..=labels).try_for_each(|_| self.step())?;
        if rr::Name::read(&mut self.decoder).is_err() {
            self.allow(Leniency::Owner);
            self.go_on_at(end);
        }
        assert_eq!(
            self.decoder.index(),
            end,
            "an owner ends where its labels or its pointer do"
        );
        let kind = RecordType::read(&mut self.decoder).ok()?;
        let class = DNSClass::read(&mut self.decoder).ok()?;
        let ttl = self.decoder.read_u32().ok()?.unverified();
        let length = self.decoder.read_u16().ok()?.unverified();
        let data = self.decoder.index();
        let end = data + usize::from(length);
        if end > self.octets.len() {
            return None;
        }
        let theirs = RData::read(&mut self.decoder, kind, Restrict::new(length));
        let matters = matches!(
            kind,
            RecordType::A
                | RecordType::AAAA
                | RecordType::CNAME
                | RecordType::HTTPS
                | RecordType::SVCB
        );
        let record = Record {
            kind,
            // A TTL with the highest bit set is none (RFC 2181 section 8).
            ttl: if ttl >> 31 == 0 { ttl } else { 0 },
            data,
            end,
        };
        if !matters || class != DNSClass::IN {
            if theirs.is_err() {
                self.allow(Leniency::OtherData);
            }
        } else if length == 0 {
            self.allow(Leniency::NoData);
            return None;
        } else {
            self.data(&record, theirs)?;
        }
        self.go_on_at(end);
        Some(())
    }

    fn data(&mut self, record: &Record, theirs: Result<RData, DecodeError>) -> Option<()> {
        match (record.kind, theirs) {
            (RecordType::A, theirs) => match theirs.ok()? {
                RData::A(a) => self.address(a.0.into(), record.ttl),
                other => panic!("an A record is read as {other}"),
            },
            (RecordType::AAAA, theirs) => match theirs.ok()? {
                RData::AAAA(a) => self.address(a.0.into(), record.ttl),
                other => panic!("an AAAA record is read as {other}"),
            },
            (RecordType::CNAME, theirs) => {
                if theirs.is_err() {
                    self.allow(Leniency::AliasData);
                }
                self.alias(record.data);
            }
            (_, Ok(RData::HTTPS(rr::rdata::HTTPS(theirs)) | RData::SVCB(theirs))) => {
                self.service(record, Some(&theirs))?;
            }
            (_, Ok(other)) => panic!("an HTTPS or SVCB record is read as {other}"),
            (_, Err(_)) => self.service(record, None)?,
        }
        Some(())
    }

    fn service(&mut self, record: &Record, theirs: Option<&SVCB>) -> Option<()> {
        const IPV4_HINT: u16 = 4;
        const IPV6_HINT: u16 = 6;
        let Record { ttl, data, end, .. } = *record;
        if end < data + 3 {
            return None;
        }
        let target = data + 2;
        if self.octets[target] != 0 {
            self.alias(target);
        }
        if theirs.is_none() {
            self.allow(Leniency::Parameters);
        }
        if self.octets[data..target] == [0, 0] {
            return Some(());
        }
        let before = self.reading.found.len();
        let (parameters, labels) = walk::pass_over_name(&self.octets[..end], target)?;
        (0..=labels).try_for_each(|_| self.step())?;
        let mut rest = &self.octets[parameters..end];
        while !rest.is_empty() {
            let (key, value) = walk::parameter(&mut rest)?;
            self.step()?;
            let size = match key {
                IPV4_HINT => 4,
                IPV6_HINT => 16,
                _ => continue,
            };
            for hint in value.chunks(size) {
                let address: IpAddr = match (<[u8; 4]>::try_from(hint), <[u8; 16]>::try_from(hint))
                {
                    (Ok(v4), _) if size == 4 => v4.into(),
                    (_, Ok(v6)) => v6.into(),
                    _ => return None,
                };
                self.step()?;
                self.address(address, ttl);
            }
            self.step()?;
        }
        self.step()?;
        if let Some(theirs) = theirs {
            let hints = hints(theirs).map(|hint| Found::Address(hint.to_canonical(), ttl));
            assert!(
                hints.eq(self.reading.found[before..].iter().cloned()),
                "{theirs}"
            );
        }
        Some(())
    }

    fn address(&mut self, address: IpAddr, ttl: u32) {
        let address = address.to_canonical();
        self.reading.found.push(Found::Address(address, ttl));
    }

    fn alias(&mut self, at: usize) {
        let mut decoder = BinDecoder::new(self.octets).clone(at as u16);
        let theirs = rr::Name::read(&mut decoder);
        let ours = walk::name(self.octets, at);
        match (&ours, theirs) {
            (Ok(ours), Ok(theirs)) => assert_eq!(*ours, of_hickory(&theirs)),
            (Ok(_), Err(DecodeError::LabelOverlapsWithOther { .. })) => {
                self.allow(Leniency::OverlappingLabels);
            }
            (Ok(ours), Err(error)) => panic!("hickory refuses {ours}: {error}"),
            (Err(Fault::IntoHeader), Ok(_)) => self.allow(Leniency::PointerIntoHeader),
            (Err(Fault::Endless), Ok(_)) => self.allow(Leniency::EndlessName),
            (Err(Fault::Other), Ok(theirs)) => panic!("hickory reads {theirs}"),
            (Err(_), Err(_)) => {}
        }
        self.reading.found.push(Found::Alias(ours.ok()));
    }

    fn step(&mut self) -> Option<()> {
        self.steps += 1;
        if self.steps > STEPS {
            self.allow(Leniency::TooManySteps);
            return None;
        }
        Some(())
    }

    fn go_on_at(&mut self, at: usize) {
        self.decoder = BinDecoder::new(self.octets).clone(at as u16);
    }

    fn allow(&mut self, leniency: Leniency) {
        self.reading.leniencies.insert(leniency);
    }
}

/// Where hickory reads the whole message, the parts that were read above are the same.
fn agrees_with_the_whole(octets: &[u8], reading: &Reading) {
    let Ok(message) = Message::from_vec(octets) else {
        return;
    };
    let stricter = [Leniency::NoData, Leniency::TooManySteps];
    if stricter.iter().any(|one| reading.leniencies.contains(one)) {
        return;
    }
    assert!(reading.whole, "hickory reads all of it: {reading:?}");
    let mut theirs = Vec::new();
    for record in message
        .answers
        .iter()
        .filter(|record| record.dns_class == DNSClass::IN)
    {
        match &record.data {
            RData::A(a) => theirs.push(a.0.into()),
            RData::AAAA(a) => theirs.push(IpAddr::from(a.0).to_canonical()),
            RData::HTTPS(rr::rdata::HTTPS(service)) | RData::SVCB(service)
                if service.svc_priority != 0 =>
            {
                theirs.extend(hints(service).map(|hint| hint.to_canonical()));
            }
            _ => {}
        }
    }
    let ours: Vec<_> = reading
        .found
        .iter()
        .filter_map(|found| match found {
            Found::Address(address, _) => Some(*address),
            Found::Alias(_) => None,
        })
        .collect();
    assert_eq!(ours, theirs);
}

fn hints(service: &SVCB) -> impl Iterator<Item = IpAddr> {
    service
        .svc_params
        .iter()
        .flat_map(|(_, value)| match value {
            SvcParamValue::Ipv4Hint(hints) => hints.0.iter().map(|a| a.0.into()).collect(),
            SvcParamValue::Ipv6Hint(hints) => hints.0.iter().map(|a| a.0.into()).collect(),
            _ => Vec::new(),
        })
}

fn of_hickory(name: &rr::Name) -> Name {
    Name::new(name.iter())
}

fn is_steerable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let reserved = v4.octets()[0] >= 224 || v4.octets()[0] == 0;
            !(reserved || v4.is_loopback() || v4.is_link_local())
        }
        IpAddr::V6(v6) => {
            let own = v6 == Ipv6Addr::UNSPECIFIED || v6 == Ipv6Addr::LOCALHOST;
            !(own || v6.is_multicast() || v6.is_unicast_link_local())
        }
    }
}
