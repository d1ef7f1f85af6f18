//! Docker's configuration file: what it says, and changes of single keys that leave all else as it is written.

use std::ops::Range;

use serde_json::{Map, Value};

use crate::rules::Net;

/// Why the file is not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// dockerd would not read it either.
    #[error("it is no JSON ({0}); mend it first, dockerd does not start with it")]
    NoJson(String),
    /// It is JSON, and no object.
    #[error(
        "it is no JSON object; begin it with {{ and end it with }}, dockerd does not start with it"
    )]
    NoObject,
    /// The change would not have come out as meant.
    #[error("the change would alter more than {0}; change it by hand")]
    NotAsMeant(String),
}

/// What the file says. An empty one says nothing.
///
/// # Errors
/// It is no JSON object.
pub fn parse(text: &str) -> Result<Map<String, Value>, EditError> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(EditError::NoObject),
        Err(error) => Err(EditError::NoJson(error.to_string())),
    }
}

/// The ranges that it gives to Docker; none where it cannot be read.
pub fn networks(text: &str) -> Vec<Net> {
    let object = parse(text).unwrap_or_default();
    let bip = object.get("bip").and_then(Value::as_str).and_then(around);
    bip.into_iter()
        .chain(pools(&object).into_iter().map(|(net, _)| net))
        .collect()
}

/// The entries of `default-address-pools`, each with its range.
pub fn pools(object: &Map<String, Value>) -> Vec<(Net, Value)> {
    let pools = object
        .get("default-address-pools")
        .and_then(Value::as_array);
    let pools = pools.into_iter().flatten();
    pools
        .filter_map(|pool| Some((around(pool.get("base")?.as_str()?)?, pool.clone())))
        .collect()
}

/// The range around an address with a prefix, such as `172.17.0.1/16`.
pub fn around(text: &str) -> Option<Net> {
    let (address, prefix) = text.split_once('/')?;
    Net::around(address.parse().ok()?, prefix.parse().ok()?)
}

/// The text with these keys set: what is written for them is replaced, and those that are not there are put behind the last,
/// indented as it is. All else stays as it is, to the octet.
///
/// # Errors
/// The text is no JSON object.
pub fn set(text: &str, keys: &[(String, Value)]) -> Result<String, EditError> {
    let mut wanted = parse(text)?;
    let mut edited = text.to_owned();
    if edited.trim().is_empty() {
        edited = "{}\n".to_owned();
    }
    for (key, value) in keys {
        edited = set_one(&edited, key, value).ok_or(EditError::NoObject)?;
        wanted.insert(key.clone(), value.clone());
    }
    // What is read from the result is all that dockerd will see.
    if parse(&edited).as_ref() != Ok(&wanted) {
        let keys: Vec<_> = keys.iter().map(|(key, _)| key.as_str()).collect();
        return Err(EditError::NotAsMeant(keys.join(", ")));
    }
    Ok(edited)
}

/// A member of the outermost object: its key, and where key and value stand.
struct Member {
    name: String,
    key: Range<usize>,
    value: Range<usize>,
}

fn set_one(text: &str, key: &str, value: &Value) -> Option<String> {
    let (open, members) = members(text)?;
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    // Of two of one name Go takes the last.
    if let Some(member) = members.iter().rfind(|member| member.name == key) {
        let (lead, inline) = lead(text, open, &members);
        let value = pretty(value, &lead, newline, inline);
        return Some(replaced(text, member.value.clone(), &value));
    }
    let Some(last) = members.last() else {
        let value = pretty(value, "  ", newline, false);
        let close = open + text[open..].find('}')?;
        let member = format!("{{{newline}  \"{key}\": {value}{newline}}}");
        return Some(replaced(text, open..close + 1, &member));
    };
    let (lead, inline) = lead(text, open, &members);
    let value = pretty(value, &lead, newline, inline);
    let separator = if inline {
        " ".to_owned()
    } else {
        format!("{newline}{lead}")
    };
    let member = format!(",{separator}\"{key}\": {value}");
    Some(replaced(text, last.value.end..last.value.end, &member))
}

fn replaced(text: &str, range: Range<usize>, by: &str) -> String {
    format!("{}{by}{}", &text[..range.start], &text[range.end..])
}

/// What stands before a key on its line, and whether keys stand on one line with the brace.
fn lead(text: &str, open: usize, members: &[Member]) -> (String, bool) {
    let before = members
        .first()
        .map_or("", |first| &text[open + 1..first.key.start]);
    match before.rsplit_once('\n') {
        Some((_, lead)) => (lead.to_owned(), false),
        None => (String::new(), true),
    }
}

fn pretty(value: &Value, lead: &str, newline: &str, inline: bool) -> String {
    if inline {
        return value.to_string();
    }
    // Deeper lines are indented by as much again as the keys are.
    let text = format!("{value:#}");
    let lines = text.lines().enumerate().map(|(number, line)| {
        let content = line.trim_start();
        let depth = (line.len() - content.len()) / 2;
        let indent = if number == 0 {
            String::new()
        } else {
            lead.repeat(depth + 1)
        };
        format!("{indent}{content}")
    });
    lines.collect::<Vec<_>>().join(newline)
}

/// Where the outermost object of a text that is JSON begins, and its members.
fn members(text: &str) -> Option<(usize, Vec<Member>)> {
    let bytes = text.as_bytes();
    let open = text.find('{')?;
    let mut members = Vec::new();
    let mut place = skip_space(bytes, open + 1);
    while bytes.get(place)? != &b'}' {
        let key = place..end_of_string(bytes, place)?;
        let name = serde_json::from_str(&text[key.clone()]).ok()?;
        place = skip_space(bytes, key.end);
        // Behind the colon.
        let begin = skip_space(bytes, place + 1);
        let value = begin..end_of_value(bytes, begin)?;
        place = skip_space(bytes, value.end);
        members.push(Member { name, key, value });
        if bytes.get(place)? == &b',' {
            place = skip_space(bytes, place + 1);
        }
    }
    Some((open, members))
}

fn skip_space(bytes: &[u8], from: usize) -> usize {
    let space = |byte: &&u8| matches!(**byte, b' ' | b'\t' | b'\r' | b'\n');
    from + bytes[from.min(bytes.len())..]
        .iter()
        .take_while(space)
        .count()
}

fn end_of_string(bytes: &[u8], from: usize) -> Option<usize> {
    let mut place = from + 1;
    loop {
        match bytes.get(place)? {
            b'"' => return Some(place + 1),
            b'\\' => place += 2,
            _ => place += 1,
        }
    }
}

fn end_of_value(bytes: &[u8], from: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut place = from;
    loop {
        match bytes.get(place)? {
            b'"' => {
                place = end_of_string(bytes, place)?;
                if depth == 0 {
                    return Some(place);
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return Some(place),
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(place + 1);
                }
            }
            b',' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => return Some(place),
            _ => {}
        }
        place += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn edit(text: &str) -> String {
        let keys = [
            ("bip".to_owned(), json!("10.201.0.1/24")),
            (
                "default-address-pools".to_owned(),
                json!([{"base": "10.200.0.0/16", "size": 24}]),
            ),
        ];
        set(text, &keys).unwrap()
    }

    #[test]
    fn keys_are_put_behind_the_last_as_it_is_indented() {
        let text = "{\n    \"debug\" : true,\n    \"hosts\": [ \"unix:///x\" ]\n}\n";
        assert_eq!(
            edit(text),
            "{\n    \"debug\" : true,\n    \"hosts\": [ \"unix:///x\" ],\n    \"bip\": \"10.201.0.1/24\",\n    \"default-address-pools\": [\n        {\n            \"base\": \"10.200.0.0/16\",\n            \"size\": 24\n        }\n    ]\n}\n"
        );
    }

    #[test]
    fn what_is_there_is_replaced_in_its_place() {
        let text = "{\r\n\t\"bip\":\"172.17.0.1/16\",\r\n\t\"default-address-pools\":[],\r\n\t\"x\":\"}\\\"{\" }";
        assert_eq!(
            edit(text),
            "{\r\n\t\"bip\":\"10.201.0.1/24\",\r\n\t\"default-address-pools\":[\r\n\t\t{\r\n\t\t\t\"base\": \"10.200.0.0/16\",\r\n\t\t\t\"size\": 24\r\n\t\t}\r\n\t],\r\n\t\"x\":\"}\\\"{\" }"
        );
    }

    #[test]
    fn a_file_of_one_line_stays_one() {
        assert_eq!(
            edit("{\"a\":1}"),
            "{\"a\":1, \"bip\": \"10.201.0.1/24\", \"default-address-pools\": [{\"base\":\"10.200.0.0/16\",\"size\":24}]}"
        );
    }

    #[test]
    fn an_empty_file_or_object_becomes_one() {
        for text in ["", "\n", "{}\n"] {
            let edited = edit(text);
            assert!(edited.starts_with("{\n  \"bip\": \"10.201.0.1/24\",\n  \"default"));
            assert!(edited.ends_with("]\n}\n"), "{edited}");
        }
    }

    #[test]
    fn what_dockerd_would_not_read_is_refused() {
        let refused = |text| set(text, &[]).unwrap_err().to_string();
        assert!(refused("{\"a\":1,}").starts_with("it is no JSON (trailing comma"));
        assert!(refused("[]").starts_with("it is no JSON object"));
    }

    #[test]
    fn its_networks_are_read() {
        let nets = networks(&edit("{}"));
        let nets: Vec<_> = nets.iter().map(Net::to_string).collect();
        assert_eq!(nets, ["10.201.0.0/24", "10.200.0.0/16"]);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[\\PC\"\\\\{}\\[\\],: ]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z\"\\\\ ]{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn other_keys_keep_their_values(
            map in prop::collection::btree_map("[a-z\"\\\\ ]{0,6}", value(), 0..6),
            shape in 0..3,
            new in value(),
            place in any::<prop::sample::Index>(),
        ) {
            let object: Map<_, _> = map.into_iter().collect();
            let key = match object.len() {
                0 => "new".to_owned(),
                count => object.keys().nth(place.index(count)).unwrap().clone(),
            };
            let text = match shape {
                0 => Value::Object(object.clone()).to_string(),
                1 => format!("{:#}", Value::Object(object.clone())),
                _ => format!("{:#}", Value::Object(object.clone())).replace('\n', "\r\n"),
            };
            let mut wanted = object;
            wanted.insert("fresh".to_owned(), new.clone());
            // A key with a quote in it is none of Docker's.
            let keys = [("fresh".to_owned(), new.clone()), (key.clone(), new.clone())];
            let plain = !key.contains(['"', '\\']);
            if plain {
                wanted.insert(key, new);
            }
            let edited = set(&text, if plain { &keys } else { &keys[..1] }).unwrap();
            prop_assert_eq!(parse(&edited).unwrap(), wanted);
        }
    }
}
