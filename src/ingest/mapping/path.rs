//! Where a value stands in a record.

use crate::ingest::json::Json;

/// One record as conditions and values see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'r> {
    /// The record's value.
    pub(super) event: &'r Json<'r>,
    /// Under `each`, the element.
    pub(super) item: Option<&'r Json<'r>>,
    /// The Kafka key.
    pub(super) key: Option<&'r [u8]>,
    /// The Kafka headers.
    pub(super) headers: &'r [(&'r str, &'r [u8])],
}

impl<'r> Scope<'r> {
    /// The last header of that name whose value is UTF-8.
    pub(super) fn header(&self, name: &str) -> Option<&'r str> {
        let (_, value) = self.headers.iter().rev().find(|(n, _)| *n == name)?;
        std::str::from_utf8(value).ok()
    }
}

/// What a path begins at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Root {
    Event,
    Item,
}

/// One step of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Field(String),
    Index(usize),
}

/// A compiled path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Path {
    pub(super) root: Root,
    pub(super) steps: Vec<Step>,
}

impl Path {
    /// Reads `a.b[0].c`; a name with a point or a bracket in it is written `["a.b"]`. Where there
    /// is an element (`in_each`), `item` begins a path in it.
    pub(super) fn parse(text: &str, in_each: bool) -> Result<Path, String> {
        let mut steps = Vec::new();
        let mut rest = text;
        loop {
            if let Some(inside) = rest.strip_prefix('[') {
                let (step, after) = bracket(inside).ok_or_else(|| wrong(text))?;
                steps.push(step);
                rest = after;
            } else {
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                if end == 0 {
                    return Err(wrong(text));
                }
                steps.push(Step::Field(rest[..end].to_owned()));
                rest = &rest[end..];
            }
            if rest.is_empty() {
                break;
            }
            if let Some(after) = rest.strip_prefix('.') {
                if after.starts_with('[') {
                    return Err(wrong(text));
                }
                rest = after;
            }
        }
        let root = match steps.first() {
            Some(Step::Field(name)) if in_each && name == "item" => Root::Item,
            _ => Root::Event,
        };
        if root == Root::Item {
            steps.remove(0);
        }
        Ok(Path { root, steps })
    }

    /// The value there, also if it is `null`.
    pub(super) fn find<'r>(&self, scope: &Scope<'r>) -> Option<&'r Json<'r>> {
        let start = match self.root {
            Root::Event => Some(scope.event),
            Root::Item => scope.item,
        };
        self.steps.iter().try_fold(start?, |at, step| match step {
            Step::Field(name) => at.get(name),
            Step::Index(index) => match at {
                Json::Array(elements) => elements.get(*index),
                _ => None,
            },
        })
    }
}

fn wrong(text: &str) -> String {
    format!("`{text}` is no path such as `a.b[0].c`")
}

/// Reads `0]` or `"name"]`.
fn bracket(inside: &str) -> Option<(Step, &str)> {
    if let Some(quoted) = inside.strip_prefix('"') {
        let (name, after) = quoted.split_once("\"]")?;
        return Some((Step::Field(name.to_owned()), after));
    }
    let (digits, after) = inside.split_once(']')?;
    Some((Step::Index(digits.parse().ok()?), after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::json::Limits;

    #[test]
    fn paths_lead_into_objects_and_arrays() {
        let text = br#"{"a":{"b":[1,{"c":2}]},"x.y":3,"n":null,"item":4}"#;
        let event = Json::parse(text, Limits::default()).unwrap();
        let item = Json::parse(b"{\"a\":5}", Limits::default()).unwrap();
        let scope = Scope { event: &event, item: Some(&item), key: None, headers: &[] };
        let check = |path: &str, in_each: bool, expected: Option<Json<'_>>| {
            let path = Path::parse(path, in_each).unwrap();
            assert_eq!(path.find(&scope), expected.as_ref());
        };
        check("a.b[1].c", false, Some(Json::Number("2")));
        check("a.b[0]", false, Some(Json::Number("1")));
        check("a[\"b\"][0]", false, Some(Json::Number("1")));
        check("[\"x.y\"]", false, Some(Json::Number("3")));
        check("n", false, Some(Json::Null));
        check("n.a", false, None);
        check("a.b[2]", false, None);
        check("a[0]", false, None);
        check("item", false, Some(Json::Number("4")));
        check("item.a", true, Some(Json::Number("5")));
        check("a.b[0]", true, Some(Json::Number("1")));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in ["", ".", "a.", ".a", "a..b", "a[", "a[x]", "a[-1]", "a[0", "a[\"b]", "a.[0]"] {
            assert!(Path::parse(text, false).is_err(), "{text}");
        }
    }
}
