//! A rule a line; comments begin with `#`. As such lists mean it, a name is that name and all below it.

use super::{Parsed, add_below, without_comment};
use crate::rules::{Subject, TextPattern};

pub(super) fn line(parsed: &mut Parsed, number: u32, line: &str) -> Result<(), String> {
    if let Some(expression) = line.strip_prefix("regex:") {
        // There, # is a character like others.
        let expression = expression.split(" #").next().unwrap_or_default().trim_end();
        let text = TextPattern::regex(expression).map_err(|error| error.to_string())?;
        parsed.texts.push((text, number));
        return Ok(());
    }
    let text = without_comment(line);
    if text.is_empty() {
        return Ok(());
    }
    if add_below(&mut parsed.names, text, number).is_ok() {
        return Ok(());
    }
    match text.parse::<Subject>().map_err(|why| why.to_string())? {
        Subject::Addresses(net) => parsed.nets.push((net, number)),
        Subject::Text(text) => parsed.texts.push((text, number)),
        // Whatever is a pattern was added above.
        Subject::Names(_) => {}
    }
    Ok(())
}
