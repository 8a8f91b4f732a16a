//! Foreign JSON, borrowed from the record's bytes.
//!
//! A reader of its own, because a mapping needs what general ones drop: the text of numbers (money
//! is exact), names that occur twice (refused: which one was meant?), and a depth limit with a
//! reason of its own. Bytes that are not UTF-8 are told from bytes that are not JSON. Values are
//! read, never written.

use crate::model::reject::{Reject, RejectReason};
use std::borrow::Cow;

/// A JSON value; numbers keep their text.
#[derive(Clone, PartialEq, Debug)]
pub enum Json<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number as it was written.
    Number(&'a str),
    /// A text.
    Text(Cow<'a, str>),
    /// An array.
    Array(Vec<Json<'a>>),
    /// An object, in the order of the record; no name occurs twice.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

/// How large and how deep a record may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of a record.
    pub bytes: usize,
    /// Arrays and objects inside one another.
    pub depth: usize,
}

impl Default for Limits {
    /// Kafka's own default for a message (1 MiB) and 64 levels.
    fn default() -> Limits {
        Limits { bytes: 1 << 20, depth: 64 }
    }
}

impl<'a> Json<'a> {
    /// Reads a whole record.
    ///
    /// # Errors
    /// `TooLarge`, `InvalidUtf8`, `TooDeep`, or `MalformedJson` (with the name that occurs twice).
    pub fn parse(bytes: &'a [u8], limits: Limits) -> Result<Json<'a>, Reject> {
        if bytes.len() > limits.bytes {
            return Err(Reject::whole(RejectReason::TooLarge));
        }
        let text =
            std::str::from_utf8(bytes).map_err(|_| Reject::whole(RejectReason::InvalidUtf8))?;
        let mut parser = Parser { text, at: 0, depth_left: limits.depth };
        let value = parser.value()?;
        parser.space();
        if parser.at == text.len() { Ok(value) } else { Err(malformed()) }
    }

    /// The value of `name`, if this is an object that has it.
    pub fn get(&self, name: &str) -> Option<&Json<'a>> {
        match self {
            Json::Object(fields) => fields.iter().find(|(n, _)| n == name).map(|(_, v)| v),
            _ => None,
        }
    }
}

fn malformed() -> Reject {
    Reject::whole(RejectReason::MalformedJson)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth_left: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Result<(), Reject> {
        self.space();
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(malformed())
        }
    }

    /// Takes `byte` if it is next.
    fn takes(&mut self, byte: u8) -> bool {
        self.take(byte).is_ok()
    }

    fn word(&mut self, word: &str, value: Json<'a>) -> Result<Json<'a>, Reject> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(malformed())
        }
    }

    fn value(&mut self) -> Result<Json<'a>, Reject> {
        self.space();
        match self.peek() {
            Some(b'{') => self.nested(Parser::object),
            Some(b'[') => self.nested(Parser::array),
            Some(b'"') => self.string().map(Json::Text),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(malformed()),
        }
    }

    fn nested(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<Json<'a>, Reject>,
    ) -> Result<Json<'a>, Reject> {
        self.at += 1;
        self.depth_left =
            self.depth_left.checked_sub(1).ok_or(Reject::whole(RejectReason::TooDeep))?;
        let value = read(self)?;
        self.depth_left += 1;
        Ok(value)
    }

    fn array(&mut self) -> Result<Json<'a>, Reject> {
        let mut elements = Vec::new();
        if self.takes(b']') {
            return Ok(Json::Array(elements));
        }
        loop {
            elements.push(self.value()?);
            if !self.takes(b',') {
                self.take(b']')?;
                return Ok(Json::Array(elements));
            }
        }
    }

    fn object(&mut self) -> Result<Json<'a>, Reject> {
        let mut fields: Vec<(Cow<'a, str>, Json<'a>)> = Vec::new();
        if self.takes(b'}') {
            return Ok(Json::Object(fields));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(malformed());
            }
            let name = self.string()?;
            self.take(b':')?;
            fields.push((name, self.value()?));
            if !self.takes(b',') {
                self.take(b'}')?;
                break;
            }
        }
        let mut names: Vec<&str> = fields.iter().map(|(name, _)| name.as_ref()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Reject::field(RejectReason::MalformedJson, pair[0])),
            None => Ok(Json::Object(fields)),
        }
    }

    fn digits(&mut self) -> Result<(), Reject> {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > from { Ok(()) } else { Err(malformed()) }
    }

    fn number(&mut self) -> Result<Json<'a>, Reject> {
        let from = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let leading_zero = self.peek() == Some(b'0');
        let first = self.at;
        self.digits()?;
        if leading_zero && self.at > first + 1 {
            return Err(malformed());
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Json::Number(&self.text[from..self.at]))
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Reject> {
        self.at += 1;
        let mut owned: Option<String> = None;
        let mut from = self.at;
        loop {
            match self.peek().ok_or_else(malformed)? {
                b'"' => {
                    let rest = &self.text[from..self.at];
                    self.at += 1;
                    return Ok(match owned {
                        None => Cow::Borrowed(rest),
                        Some(mut text) => {
                            text.push_str(rest);
                            Cow::Owned(text)
                        }
                    });
                }
                b'\\' => {
                    let text = owned.get_or_insert_default();
                    text.push_str(&self.text[from..self.at]);
                    self.at += 1;
                    let unescaped = self.escape()?;
                    owned.get_or_insert_default().push(unescaped);
                    from = self.at;
                }
                0..0x20 => return Err(malformed()),
                _ => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<char, Reject> {
        let byte = self.peek().ok_or_else(malformed)?;
        self.at += 1;
        Ok(match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.hex4()?;
                if (0xd800..0xdc00).contains(&unit) {
                    if !self.text[self.at..].starts_with("\\u") {
                        return Err(malformed());
                    }
                    self.at += 2;
                    let low = self.hex4()?;
                    let units = [unit, low];
                    let mut chars = char::decode_utf16(units);
                    match (chars.next(), chars.next()) {
                        (Some(Ok(c)), None) => c,
                        _ => return Err(malformed()),
                    }
                } else {
                    char::from_u32(u32::from(unit)).ok_or_else(malformed)?
                }
            }
            _ => return Err(malformed()),
        })
    }

    fn hex4(&mut self) -> Result<u16, Reject> {
        let digits = self.text.get(self.at..self.at + 4).ok_or_else(malformed)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(malformed());
        }
        self.at += 4;
        u16::from_str_radix(digits, 16).map_err(|_| malformed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &[u8], reason: RejectReason) {
        let limits = Limits { bytes: 200, depth: 4 };
        assert_eq!(Json::parse(text, limits).map_err(|r| r.reason), Err(reason));
    }

    #[track_caller]
    fn read(text: &str, expected: &Json<'_>) {
        assert_eq!(Json::parse(text.as_bytes(), Limits::default()).as_ref(), Ok(expected));
    }

    #[test]
    fn values_keep_the_text_of_numbers() {
        read(" null ", &Json::Null);
        read("-0.10e+2", &Json::Number("-0.10e+2"));
        read(
            "[1, true,\"a\"]",
            &Json::Array(vec![Json::Number("1"), Json::Bool(true), Json::Text("a".into())]),
        );
        read("{\"a\":{}}", &Json::Object(vec![("a".into(), Json::Object(vec![]))]));
        read(r#""a\"\\\/\b\f\n\r\té😀z""#, &Json::Text("a\"\\/\u{8}\u{c}\n\r\té😀z".into()));
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_reason() {
        use RejectReason::{InvalidUtf8, MalformedJson, TooDeep, TooLarge};
        for text in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "NaN",
            "-",
            "01",
            "1.",
            "1e",
            "+1",
            "tru",
            "\"",
            "\"\\x\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "1 2",
            "{\"a\":1,\"b\":2,\"a\":3}",
            "\u{feff}1",
            "{\"a\" 1}",
            "[1 2]",
            "\"\\u+123\"",
        ] {
            refused(text.as_bytes(), MalformedJson);
        }
        refused(b"\"\xff\"", InvalidUtf8);
        refused(b"[[[[[1]]]]]", TooDeep);
        assert!(Json::parse(b"[[[[1]]]]", Limits { bytes: 9, depth: 4 }).is_ok());
        refused(&[b' '; 201], TooLarge);
        let deep = vec![b'['; 1 << 20];
        assert_eq!(Json::parse(&deep, Limits::default()).map_err(|r| r.reason), Err(TooDeep));
    }

    #[test]
    fn the_name_that_occurs_twice_is_told() {
        let reject = Json::parse(br#"{"b":1,"a":2,"b":3}"#, Limits::default()).unwrap_err();
        assert_eq!(reject.field.as_deref(), Some("b"));
    }
}
