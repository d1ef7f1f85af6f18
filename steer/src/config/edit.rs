//! A rule put into the text of a configuration file, or taken out, all else as it is written.

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, Value};

use crate::rules::Verdict;

/// Why a text cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It is no TOML.
    #[error("it is no TOML, so nothing is changed: {0}")]
    Toml(String),
    /// Something else stands where rules belong.
    #[error("{0} is no array of rules there, so nothing is changed")]
    Kind(&'static str),
}

/// The text with a rule under its verdict, for a VPN if it is to say which, and not under another; `None` where it says so
/// already.
///
/// # Errors
/// When the text has no place for it.
pub fn with_rule(
    text: &str,
    rule: &str,
    verdict: Verdict,
    vpn: Option<&str>,
) -> Result<Option<String>, EditError> {
    let mut document = parse(text)?;
    let mut is_gone = false;
    for other in Verdict::ALL.into_iter().filter(|other| *other != verdict) {
        is_gone |= remove(&mut document, other, rule)?;
    }
    let rules = rules(&mut document)?;
    let item = rules.entry(&verdict.to_string());
    let item = item.or_insert(Item::Value(Array::new().into()));
    let array = item.as_array_mut().ok_or(EditError::Kind(key(verdict)))?;
    let mut value = value(rule, vpn);
    if let Some(known) = place(array, rule).and_then(|place| array.get_mut(place)) {
        if said(known) == said(&value) {
            return Ok(is_gone.then(|| document.to_string()));
        }
        *value.decor_mut() = known.decor().clone();
        *known = value;
        return Ok(Some(document.to_string()));
    }
    // Like the one before it, on a line of its own or not.
    if let Some(last) = array.iter().last() {
        let prefix = last.decor().prefix().and_then(|prefix| prefix.as_str());
        let prefix = prefix.unwrap_or_default();
        value.decor_mut().set_prefix(match prefix.rfind('\n') {
            // A comment before that one is about that one.
            Some(at) => &prefix[at..],
            None if array.len() == 1 => " ",
            None => prefix,
        });
    }
    array.push_formatted(value);
    Ok(Some(document.to_string()))
}

/// The text without a rule; `None` where it has not got it.
///
/// # Errors
/// When the text is no configuration.
pub fn without_rule(text: &str, rule: &str) -> Result<Option<String>, EditError> {
    let mut document = parse(text)?;
    let mut is_gone = false;
    for verdict in Verdict::ALL {
        is_gone |= remove(&mut document, verdict, rule)?;
    }
    Ok(is_gone.then(|| document.to_string()))
}

fn parse(text: &str) -> Result<DocumentMut, EditError> {
    text.parse()
        .map_err(|error: toml_edit::TomlError| EditError::Toml(error.message().to_owned()))
}

fn rules(document: &mut DocumentMut) -> Result<&mut Table, EditError> {
    let item = document.entry("rules").or_insert(Item::Table(Table::new()));
    item.as_table_mut().ok_or(EditError::Kind("rules"))
}

fn key(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Vpn => "rules.vpn",
        Verdict::Direct => "rules.direct",
        Verdict::Block => "rules.block",
    }
}

fn remove(document: &mut DocumentMut, verdict: Verdict, rule: &str) -> Result<bool, EditError> {
    let rules = document.get_mut("rules");
    let item = rules.and_then(|rules| rules.get_mut(verdict.to_string()));
    let Some(item) = item.filter(|item| !item.is_none()) else {
        return Ok(false);
    };
    let array = item.as_array_mut().ok_or(EditError::Kind(key(verdict)))?;
    let Some(place) = place(array, rule) else {
        return Ok(false);
    };
    let gone = array.remove(place);
    // Its successor stands where it stood.
    if place == 0
        && let Some(first) = array.get_mut(0)
        && let Some(prefix) = gone.decor().prefix()
    {
        first.decor_mut().set_prefix(prefix.clone());
    }
    Ok(true)
}

fn place(array: &Array, rule: &str) -> Option<usize> {
    let is_it = |value: &Value| said(value).is_some_and(|(known, _)| known == rule);
    array.iter().position(is_it)
}

/// A rule and its VPN.
fn said(value: &Value) -> Option<(&str, Option<&str>)> {
    if let Some(rule) = value.as_str() {
        return Some((rule, None));
    }
    let table = value.as_inline_table()?;
    let vpn = table.get("vpn").and_then(Value::as_str);
    Some((table.get("rule")?.as_str()?, vpn))
}

fn value(rule: &str, vpn: Option<&str>) -> Value {
    let Some(vpn) = vpn else {
        return rule.into();
    };
    InlineTable::from_iter([("rule", rule), ("vpn", vpn)]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_put_in_as_its_neighbours_are_written() {
        for (before, after) in [
            ("", "[rules]\nvpn = [\".x.example\"]\n"),
            (
                "# mine\n[rules]\nvpn = []  # none yet\n",
                "# mine\n[rules]\nvpn = [\".x.example\"]  # none yet\n",
            ),
            (
                "[rules]\nvpn = [\"a.example\"]\n\n[vpn]\ninterface = \"wg0\"\n",
                "[rules]\nvpn = [\"a.example\", \".x.example\"]\n\n[vpn]\ninterface = \"wg0\"\n",
            ),
            (
                "[rules]\nvpn = [\n    \"a.example\",  # a\n    # b, too\n    \"b.example\",\n]\n",
                "[rules]\nvpn = [\n    \"a.example\",  # a\n    # b, too\n    \"b.example\",\n    \".x.example\",\n]\n",
            ),
            (
                "[rules]\ndirect = [\".x.example\", \"y.example\"]\nvpn = [\"a.example\", \"b.example\"]\n",
                "[rules]\ndirect = [\"y.example\"]\nvpn = [\"a.example\", \"b.example\", \".x.example\"]\n",
            ),
        ] {
            let edited = with_rule(before, ".x.example", Verdict::Vpn, None).unwrap();
            assert_eq!(edited.as_deref(), Some(after));
            // Once is enough.
            assert_eq!(
                with_rule(after, ".x.example", Verdict::Vpn, None).unwrap(),
                None
            );
        }
    }

    #[test]
    fn a_rule_may_say_which_vpn() {
        let text = "[rules]\nvpn = [\"a.example\", \".x.example\"]  # mine\n";
        let with = |text: &str, vpn| with_rule(text, ".x.example", Verdict::Vpn, vpn).unwrap();
        let said =
            "[rules]\nvpn = [\"a.example\", { rule = \".x.example\", vpn = \"us\" }]  # mine\n";
        assert_eq!(with(text, Some("us")).as_deref(), Some(said));
        assert_eq!(with(said, Some("us")), None);
        assert_eq!(with(said, None).as_deref(), Some(text));
        assert_eq!(
            with("", Some("us")).as_deref(),
            Some("[rules]\nvpn = [{ rule = \".x.example\", vpn = \"us\" }]\n")
        );
    }

    #[test]
    fn a_rule_is_taken_out_wherever_it_stands() {
        let text = "[rules]\nvpn = [\"a\", \"b\"]\ndirect = [\n  \"a\",\n]\nblock = [\"a\"]\n";
        let edited = without_rule(text, "a").unwrap();
        assert_eq!(
            edited.as_deref(),
            Some("[rules]\nvpn = [\"b\"]\ndirect = [\n]\nblock = []\n")
        );
        let edited = with_rule(text, "a", Verdict::Block, None).unwrap();
        assert_eq!(
            edited.as_deref(),
            Some("[rules]\nvpn = [\"b\"]\ndirect = [\n]\nblock = [\"a\"]\n")
        );
        assert_eq!(without_rule(text, "c").unwrap(), None);
    }

    #[test]
    fn what_is_no_configuration_is_left_alone() {
        for text in ["[rules", "rules = 1", "[rules]\nvpn = 1"] {
            assert!(
                with_rule(text, "a.example", Verdict::Vpn, None).is_err(),
                "{text}"
            );
        }
    }
}
