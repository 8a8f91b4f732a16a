//! The effective configuration as YAML, without secrets.

use super::node::{Kind, Node, Scalar};

/// Stands for what is not shown.
const MASK: &str = "********";

/// True for keys whose values are secret, whatever they are.
fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    // `ssl.key.location` names a file and is of use; a PEM in its place is not shown.
    let words = ["password", "secret", "token", "passphrase", "credential", "sasl.jaas", "ssl_key"];
    words.iter().any(|w| key.contains(w)) && !key.ends_with("url") && !key.ends_with("location")
        || key.ends_with(".pem")
        || key == "sasl.oauthbearer.config"
}

/// Writes a tree as YAML.
pub(super) fn yaml(root: &Node) -> String {
    let mut out = String::new();
    for entry in root.entries() {
        write(&mut out, &entry.key, &entry.value, 0, false);
    }
    out
}

fn write(out: &mut String, key: &str, node: &Node, depth: usize, secret: bool) {
    let secret = secret || is_secret(key);
    let indent = "  ".repeat(depth);
    match &node.kind {
        Kind::Map(entries) if !entries.is_empty() && !secret => {
            out.push_str(&format!("{indent}{}:\n", text(key, false)));
            for entry in entries {
                write(out, &entry.key, &entry.value, depth + 1, secret);
            }
        }
        _ => {
            let value = flow(node, secret);
            out.push_str(&format!("{indent}{}: {value}\n", text(key, false)));
        }
    }
}

/// A value on one line.
pub(super) fn flow(node: &Node, secret: bool) -> String {
    match &node.kind {
        Kind::Null | Kind::Invalid => "~".into(),
        _ if secret => format!("\"{MASK}\""),
        Kind::Scalar(scalar) => self::scalar(scalar),
        Kind::List(items) => {
            let items: Vec<String> = items.iter().map(|n| flow(n, false)).collect();
            format!("[{}]", items.join(", "))
        }
        Kind::Map(entries) => {
            let pair = |e: &super::node::Entry| {
                format!("{}: {}", text(&e.key, false), flow(&e.value, is_secret(&e.key)))
            };
            let pairs: Vec<String> = entries.iter().map(pair).collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

fn scalar(scalar: &Scalar) -> String {
    if scalar.secret {
        return format!("\"{MASK}\"");
    }
    text(&without_user(&scalar.text), scalar.quoted)
}

/// An address without the password that stands in it.
fn without_user(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{MASK}{}", &rest[at..]),
        None => text.to_owned(),
    }
}

/// A text as YAML: bare if nothing can misread it.
fn text(text: &str, quoted: bool) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/'));
    let word = matches!(text, "null" | "true" | "false" | "yes" | "no" | "on" | "off");
    let number = text.parse::<f64>().is_ok();
    if starts && text.chars().all(bare) && !(quoted && (word || number)) && text != "null" {
        return text.to_owned();
    }
    super::schema::quoted(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::node::parse;
    use crate::config::problem::Problems;

    fn shown(text: &str) -> String {
        let mut problems = Problems::default();
        yaml(&parse("f", text, &mut problems).expect("parsed"))
    }

    #[test]
    fn secrets_are_masked() {
        let check = |text: &str, expected: &str| assert_eq!(shown(text), expected);
        check("password: x", "password: \"********\"\n");
        check("kafka: {sasl.password: x}", "kafka:\n  sasl.password: \"********\"\n");
        check("ssl.key.password: x", "ssl.key.password: \"********\"\n");
        check("ssl.key.pem: x", "ssl.key.pem: \"********\"\n");
        check("api_token: {a: b}", "api_token: \"********\"\n");
        check("ssl.key.location: /a/b", "ssl.key.location: /a/b\n");
        check("url: http://u:p@h:1/x", "url: \"http://********@h:1/x\"\n");
        check("url: http://h:1/x@y", "url: \"http://h:1/x@y\"\n");
        check("password: ~", "password: ~\n");
    }

    #[test]
    fn what_is_shown_reads_back_as_it_was() {
        let text = "a: [[], [b, 'c d'], {e: 5s}]\nf: 'true'\ng: \"x: #\\n\"\nh: {}\ni: '07'\n";
        let mut problems = Problems::default();
        let again = shown(&shown(text));
        assert_eq!(again, shown(text));
        let kinds = |t: &str| parse("f", t, &mut Problems::default()).expect("parsed");
        assert_eq!(shown(text), yaml(&kinds(&again)));
        assert!(parse("f", &again, &mut problems).is_some() && problems.is_empty());
    }
}
