//! The text format of v2fly's domain-list-community: `domain:`, `full:`, `keyword:`, `regexp:`, `include:`, each with
//! attributes; without a prefix, `domain:` is meant. Affiliations (`&list`) say that a line belongs to another list too and
//! change nothing in its own.

use super::{Condition, Filter, Parsed, select::is_category, without_comment};
use crate::rules::{Scope, TextPattern};

/// Another list of the same folder that belongs to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Include {
    /// Its name, in small letters.
    pub name: String,
    /// What of it belongs to this one.
    pub conditions: Vec<Condition>,
    /// The line that says so.
    pub line: u32,
}

pub(super) fn line(
    parsed: &mut Parsed,
    number: u32,
    line: &str,
    filter: &Filter,
) -> Result<(), String> {
    let mut fields = without_comment(line).split_ascii_whitespace();
    let Some(rule) = fields.next() else {
        return Ok(());
    };
    let (kind, value) = rule.split_once(':').unwrap_or(("domain", rule));
    // Lists that are exported have the attributes behind a colon: full:example.com:@ads,@cn.
    let (value, exported) = match value.split_once(":@") {
        Some((value, attributes)) => (value, Some(attributes)),
        None => (value, None),
    };
    let exported = exported
        .into_iter()
        .flat_map(|attributes| attributes.split(','))
        .map(|attribute| attribute.strip_prefix('@').unwrap_or(attribute));
    let mut attributes: Vec<&str> = exported.collect();
    for field in fields {
        match (field.strip_prefix('@'), field.strip_prefix('&')) {
            (Some(attribute), _) => attributes.push(attribute),
            (None, Some(_)) => {}
            (None, None) => {
                return Err(format!(
                    "\"{field}\" is neither an attribute (@name) nor an affiliation (&list)"
                ));
            }
        }
    }
    if kind.eq_ignore_ascii_case("include") {
        let conditions = attributes.into_iter().map(Condition::read).collect();
        return include(parsed, number, value, conditions);
    }
    let attributes: Vec<_> = attributes
        .into_iter()
        .map(str::to_ascii_lowercase)
        .collect();
    if !filter.lets_through(&attributes) {
        return Ok(());
    }
    match kind.to_ascii_lowercase().as_str() {
        "domain" => name(parsed, value, Scope::Both, number),
        "full" => name(parsed, value, Scope::Exact, number),
        "keyword" => text(parsed, TextPattern::keyword(value), number),
        "regexp" | "regex" => text(parsed, TextPattern::regex(value), number),
        _ => Err(format!(
            "\"{kind}:\" is unknown; expected domain:, full:, keyword:, regexp: or include:"
        )),
    }
}

/// Adds a domain.
pub(super) fn name(parsed: &mut Parsed, name: &str, scope: Scope, line: u32) -> Result<(), String> {
    parsed
        .names
        .add(name, scope, line)
        .map_err(|why| why.to_string())
}

/// Adds a keyword or a regular expression.
pub(super) fn text<E: ToString>(
    parsed: &mut Parsed,
    text: Result<TextPattern, E>,
    line: u32,
) -> Result<(), String> {
    let text = text.map_err(|why| why.to_string())?;
    parsed.texts.push((text, line));
    Ok(())
}

fn include(
    parsed: &mut Parsed,
    line: u32,
    name: &str,
    conditions: Option<Vec<Condition>>,
) -> Result<(), String> {
    let Some(conditions) = conditions.filter(|_| is_category(name)) else {
        return Err(format!(
            "\"{name}\" cannot be included; expected the name of a list in the same folder, then attributes"
        ));
    };
    parsed.includes.push(Include {
        name: name.to_ascii_lowercase(),
        conditions,
        line,
    });
    Ok(())
}
