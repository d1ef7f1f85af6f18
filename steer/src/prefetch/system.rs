//! The system's resolver: the name servers of `/etc/resolv.conf`, and before them `/etc/hosts`.

use std::{fmt, net::IpAddr, path::Path};

use futures_util::future::join;
use hickory_resolver::{
    Resolver, TokioResolver,
    config::ServerOrderingStrategy,
    lookup::Lookup,
    net::{DnsError, NetError},
    proto::{
        op::ResponseCode,
        rr::{Name, RecordType},
    },
};

use crate::stamp::Stamp;

/// What the resolver is made from.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// A name's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Each with its TTL in seconds.
    pub addresses: Vec<(IpAddr, u32)>,
    /// The shortest TTL, those of aliases on the way included.
    pub ttl: u32,
    /// Why those of one family may be missing.
    pub lacks: Option<Failure>,
}

/// Why a name has no addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no such name.
    Absent,
    /// There is, and it has no address.
    Empty,
    /// No name server could be asked, or none knows.
    Failed(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "there is no such name",
            Self::Empty => "it has no address",
            Self::Failed(why) => why,
        })
    }
}

/// The system's resolver as the files were when it was made.
pub(super) struct System {
    resolver: Result<TokioResolver, Failure>,
    files: [Stamp; FILES.len()],
}

impl System {
    pub fn new() -> Self {
        // Before the files are read, so that a change meanwhile is seen at the next look.
        let files = stamps();
        let resolver = make()
            .map_err(|error| Failure::Failed(format!("/etc/resolv.conf cannot be used: {error}")));
        Self { resolver, files }
    }

    /// Whether the files are others by now.
    pub fn is_stale(&self) -> bool {
        stamps() != self.files
    }

    /// Asks for a name's addresses of both families.
    pub fn ask(&self, name: &str) -> impl Future<Output = Result<Answer, Failure>> + use<> {
        let resolver = self.resolver.clone();
        let name = absolute(name);
        async move {
            let (resolver, name) = (resolver?, name?);
            let (v4, v6) = join(
                resolver.lookup(name.clone(), RecordType::A),
                resolver.lookup(name, RecordType::AAAA),
            )
            .await;
            combine(v4, v6)
        }
    }
}

fn stamps() -> [Stamp; FILES.len()] {
    FILES.map(|file| Stamp::of(Path::new(file)))
}

fn make() -> Result<TokioResolver, NetError> {
    let mut builder = Resolver::builder_tokio()?;
    let options = builder.options_mut();
    // Every question is to be answered by what is so now.
    options.cache_size = 0;
    options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
    options.num_concurrent_reqs = 1;
    builder.build()
}

/// As the rules have names: without search domains.
fn absolute(name: &str) -> Result<Name, Failure> {
    let mut name = Name::from_ascii(name)
        .map_err(|error| Failure::Failed(format!("it cannot be asked for: {error}")))?;
    name.set_fqdn(true);
    Ok(name)
}

fn combine(v4: Result<Lookup, NetError>, v6: Result<Lookup, NetError>) -> Result<Answer, Failure> {
    let mut answer = Answer {
        ttl: u32::MAX,
        ..Answer::default()
    };
    let mut failures = Vec::new();
    for lookup in [v4, v6] {
        match lookup {
            Ok(lookup) => {
                let records = lookup.answers();
                let addresses = records
                    .iter()
                    .filter_map(|record| Some((record.data.ip_addr()?, record.ttl)));
                let before = answer.addresses.len();
                answer.addresses.extend(addresses);
                if answer.addresses.len() > before {
                    let shortest = records.iter().map(|record| record.ttl).min();
                    answer.ttl = answer.ttl.min(shortest.unwrap_or(u32::MAX));
                } else {
                    failures.push(Failure::Empty);
                }
            }
            Err(error) => failures.push(failure(&error)),
        }
    }
    let failed = failures
        .iter()
        .position(|failure| matches!(failure, Failure::Failed(_)));
    if answer.addresses.is_empty() {
        // A failure says more than that there is nothing of the other family.
        return Err(failures.swap_remove(failed.unwrap_or(0)));
    }
    answer.lacks = failed.map(|index| failures.swap_remove(index));
    Ok(answer)
}

fn failure(error: &NetError) -> Failure {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => Failure::Absent,
            ResponseCode::NoError => Failure::Empty,
            code => Failure::Failed(format!("the name server answers: {code}")),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => {
            Failure::Failed(format!("the name server answers: {code}"))
        }
        NetError::Timeout => {
            Failure::Failed("no name server of /etc/resolv.conf answered in time".to_owned())
        }
        error => Failure::Failed(format!(
            "no name server of /etc/resolv.conf could be asked: {error}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use hickory_resolver::proto::{
        op::Query,
        rr::{RData, Record, rdata::CNAME},
    };

    use super::*;

    fn lookup(records: impl IntoIterator<Item = (u32, RData)>) -> Lookup {
        let name = absolute("a.example").expect("a name");
        let records = records
            .into_iter()
            .map(|(ttl, data)| Record::from_rdata(name.clone(), ttl, data));
        Lookup::new_with_max_ttl(Query::query(name.clone(), RecordType::A), records)
    }

    #[test]
    fn both_families_count_and_the_shortest_time() {
        let alias = RData::CNAME(CNAME(absolute("b.example").expect("a name")));
        let (v4, v6) = (Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::LOCALHOST);
        let answer = combine(
            Ok(lookup([(30, alias), (300, RData::from(IpAddr::from(v4)))])),
            Ok(lookup([(200, RData::from(IpAddr::from(v6)))])),
        );
        let expected = Answer {
            addresses: vec![(v4.into(), 300), (v6.into(), 200)],
            ttl: 30,
            lacks: None,
        };
        assert_eq!(answer, Ok(expected));
    }

    #[test]
    fn one_family_is_enough_and_what_failed_of_the_other_is_known() {
        let v4 = IpAddr::from([192, 0, 2, 1]);
        for (other, lacks) in [
            (Ok(lookup([])), None),
            (Err(NetError::Timeout), Some(failure(&NetError::Timeout))),
        ] {
            let answer = combine(Ok(lookup([(300, RData::from(v4))])), other);
            let answer = answer.expect("an answer");
            assert_eq!(answer.addresses, [(v4, 300)]);
            assert_eq!(answer.lacks, lacks);
        }
    }

    #[test]
    fn of_two_failures_the_one_that_may_pass_is_told() {
        let timeout = failure(&NetError::Timeout);
        assert_eq!(
            combine(Ok(lookup([])), Err(NetError::Timeout)),
            Err(timeout)
        );
        assert_eq!(combine(Ok(lookup([])), Ok(lookup([]))), Err(Failure::Empty));
    }
}
