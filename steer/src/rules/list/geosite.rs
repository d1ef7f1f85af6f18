//! `geosite.dat`: v2fly's lists as protocol buffers.
//!
//! ```text
//! GeoSiteList { repeated GeoSite entry = 1 }
//! GeoSite     { string country_code = 1; repeated Domain domain = 2 }
//! Domain      { Type type = 1; string value = 2; repeated Attribute attribute = 3 }
//! Attribute   { string key = 1; … }
//! Type        { Plain = 0 (a keyword); Regex = 1; RootDomain = 2 (it and all below it); Full = 3 }
//! ```

use super::select::is_category;
use super::{Filter, Parsed, Selector, v2fly};
use crate::rules::{Scope, TextPattern};
use crate::suggest;

/// Why there is nothing to be had from a `geosite.dat`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GeositeError {
    /// It breaks off or is something else.
    #[error("it is no geosite.dat, or is damaged; fetch it again")]
    Damaged,
    /// No category was selected.
    #[error(
        "a geosite.dat holds many lists; say which are meant, as in select = [\"geosite:{0}\"]"
    )]
    NothingSelected(String),
    /// A category is not there.
    #[error("there is no category \"{category}\"{}", hint(.nearest))]
    NoCategory {
        /// The one asked for.
        category: String,
        /// The nearest one that is there.
        nearest: Option<String>,
    },
}

fn hint(nearest: &Option<String>) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean \"{nearest}\"?"),
        None => String::new(),
    }
}

/// What the selected categories say.
pub(super) fn parse(octets: &[u8], selectors: &[Selector]) -> Result<Parsed, GeositeError> {
    let mut parsed = Parsed::default();
    let mut categories = Vec::new();
    for entry in Fields(octets) {
        let (1, Value::Octets(site)) = entry? else {
            continue;
        };
        let category = category(site)?;
        let meant: Vec<_> = selectors
            .iter()
            .filter(|selector| selector.category.as_deref() == Some(&category))
            .cloned()
            .collect();
        // Others cannot be selected.
        if is_category(&category) {
            categories.push(category);
        }
        if !meant.is_empty() {
            read_site(&mut parsed, site, &Filter::of(&meant))?;
        }
    }
    for selector in selectors {
        let Some(wanted) = selector.category.as_deref() else {
            return Err(GeositeError::NothingSelected(
                categories.into_iter().next().unwrap_or_default(),
            ));
        };
        if !categories.iter().any(|category| category == wanted) {
            let known = categories.iter().map(String::as_str);
            return Err(GeositeError::NoCategory {
                category: wanted.to_owned(),
                nearest: suggest::nearest(wanted, known).map(str::to_owned),
            });
        }
    }
    match categories.first() {
        Some(first) if selectors.is_empty() => Err(GeositeError::NothingSelected(first.clone())),
        _ => Ok(parsed),
    }
}

fn category(site: &[u8]) -> Result<String, GeositeError> {
    for field in Fields(site) {
        if let (1, Value::Octets(code)) = field? {
            return Ok(text(code)?.to_ascii_lowercase());
        }
    }
    Ok(String::new())
}

fn read_site(parsed: &mut Parsed, site: &[u8], filter: &Filter) -> Result<(), GeositeError> {
    for field in Fields(site) {
        let (2, Value::Octets(domain)) = field? else {
            continue;
        };
        let (mut kind, mut value, mut attributes) = (0, "", Vec::new());
        for field in Fields(domain) {
            match field? {
                (1, Value::Number(number)) => kind = number,
                (2, Value::Octets(octets)) => value = text(octets)?,
                (3, Value::Octets(attribute)) => {
                    for field in Fields(attribute) {
                        if let (1, Value::Octets(key)) = field? {
                            attributes.push(text(key)?.to_ascii_lowercase());
                        }
                    }
                }
                _ => {}
            }
        }
        if !filter.lets_through(&attributes) {
            continue;
        }
        let added = match kind {
            0 => v2fly::text(parsed, TextPattern::keyword(value), 0),
            1 => v2fly::text(parsed, TextPattern::regex(value), 0),
            2 => v2fly::name(parsed, value, Scope::Both, 0),
            3 => v2fly::name(parsed, value, Scope::Exact, 0),
            _ => Err(format!("\"{value}\" is of the unknown type {kind}")),
        };
        if let Err(why) = added {
            parsed.skipped.add(0, &why);
        }
    }
    Ok(())
}

fn text(octets: &[u8]) -> Result<&str, GeositeError> {
    std::str::from_utf8(octets).map_err(|_| GeositeError::Damaged)
}

/// The fields of a message, each with its number.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Octets(&'a [u8]),
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), GeositeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field().ok_or(GeositeError::Damaged);
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Octets(self.take(8)?),
            2 => {
                let length = self.varint()?;
                Value::Octets(self.take(usize::try_from(length).ok()?)?)
            }
            5 => Value::Octets(self.take(4)?),
            _ => return None,
        };
        (tag >> 3 != 0).then_some((tag >> 3, value))
    }

    /// Seven bits an octet, the lowest first, all but the last with the eighth bit set.
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&octet, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}
