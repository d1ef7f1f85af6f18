//! Adblock's syntax, of which `||example.com^` is a rule of a domain: that name and all below it; `@@||example.com^` is an
//! exception. All else is about parts of pages and kinds of requests.

use super::{Parsed, add_below};

/// Options that leave a rule about the whole domain.
const WHOLE: [&str; 4] = ["important", "all", "document", "doc"];

pub(super) fn line(parsed: &mut Parsed, number: u32, line: &str) -> Result<(), String> {
    let comment = line.starts_with(['!', '[']) || line == "#" || line.starts_with("# ");
    if comment {
        return Ok(());
    }
    let (names, rule) = match line.strip_prefix("@@") {
        Some(rule) => (&mut parsed.exceptions, rule),
        None => (&mut parsed.names, line),
    };
    let Some(rule) = rule.strip_prefix("||") else {
        return Err("it is not about a domain; expected ||example.com^".to_owned());
    };
    let Some((domain, rest)) = rule.split_once('^') else {
        return Err("it is not about a whole domain; expected ||example.com^".to_owned());
    };
    let options = match rest.trim_start_matches('|') {
        "" => "",
        rest => rest.strip_prefix('$').ok_or_else(|| {
            "it is about parts of a domain; expected nothing after ||example.com^".to_owned()
        })?,
    };
    let narrow = options
        .split(',')
        .find(|option| !option.is_empty() && !WHOLE.contains(option));
    if let Some(option) = narrow {
        return Err(format!(
            "its option \"{option}\" makes it narrower than a domain"
        ));
    }
    add_below(names, domain, number).map_err(|why| why.to_string())
}
