//! The strict parser beneath: one pass over a text, nothing kept.

use crate::model::reject::{Reject, RejectReason};
use std::ops::Range;

/// How deep objects and arrays may nest.
pub(crate) const MAX_DEPTH: u32 = 64;

/// Where a string's text is: in the payload, or unescaped in the caller's scratch.
pub(crate) enum Span<'a> {
    Borrowed(&'a str),
    Scratch(Range<usize>),
}

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peek {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

/// A text and how far it has been read.
pub(crate) struct Parser<'a> {
    text: &'a str,
    at: usize,
}

fn malformed() -> Reject {
    Reject::whole(RejectReason::MalformedJson)
}

impl<'a> Parser<'a> {
    /// Checks size and UTF-8.
    pub(crate) fn new(payload: &'a [u8], max_bytes: usize) -> Result<Parser<'a>, Reject> {
        if payload.len() > max_bytes {
            return Err(Reject::whole(RejectReason::TooLarge));
        }
        let text =
            std::str::from_utf8(payload).map_err(|_| Reject::whole(RejectReason::InvalidUtf8))?;
        Ok(Parser { text, at: 0 })
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    fn byte(&self) -> Option<u8> {
        self.bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Reject> {
        if self.byte() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(malformed())
        }
    }

    /// An error unless only space is left.
    pub(crate) fn finish(&mut self) -> Result<(), Reject> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(malformed()) }
    }

    pub(crate) fn peek(&mut self) -> Result<Peek, Reject> {
        self.space();
        match self.byte() {
            Some(b'{') => Ok(Peek::Object),
            Some(b'[') => Ok(Peek::Array),
            Some(b'"') => Ok(Peek::String),
            Some(b'-' | b'0'..=b'9') => Ok(Peek::Number),
            Some(b't') => Ok(Peek::True),
            Some(b'f') => Ok(Peek::False),
            Some(b'n') => Ok(Peek::Null),
            _ => Err(malformed()),
        }
    }

    /// Enters an object or array; false if it is empty (and left again).
    pub(crate) fn open(&mut self, open: u8, close: u8) -> Result<bool, Reject> {
        self.space();
        self.expect(open)?;
        self.space();
        if self.byte() == Some(close) {
            self.at += 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// After a member or item: true if another follows; else the closing bracket has been read.
    pub(crate) fn more(&mut self, close: u8) -> Result<bool, Reject> {
        self.space();
        match self.byte() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(malformed()),
        }
    }

    pub(crate) fn colon(&mut self) -> Result<(), Reject> {
        self.space();
        self.expect(b':')
    }

    pub(crate) fn null(&mut self) -> Result<(), Reject> {
        self.word("null")
    }

    pub(crate) fn boolean(&mut self) -> Result<bool, Reject> {
        self.space();
        let value = self.byte() == Some(b't');
        self.word(if value { "true" } else { "false" })?;
        Ok(value)
    }

    fn word(&mut self, word: &str) -> Result<(), Reject> {
        self.space();
        if self.bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(())
        } else {
            Err(malformed())
        }
    }

    /// The text of a number.
    pub(crate) fn number(&mut self) -> Result<&'a str, Reject> {
        self.space();
        let start = self.at;
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        match self.byte() {
            // No leading zeros.
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(malformed()),
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.byte(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> Result<(), Reject> {
        let start = self.at;
        while matches!(self.byte(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(malformed()) }
    }

    /// A string; what has escapes is appended to `scratch`.
    pub(crate) fn string(&mut self, scratch: &mut String) -> Result<Span<'a>, Reject> {
        self.space();
        self.expect(b'"')?;
        let start = self.at;
        self.plain();
        if self.byte() == Some(b'"') {
            let text = &self.text[start..self.at];
            self.at += 1;
            return Ok(Span::Borrowed(text));
        }
        let from = scratch.len();
        scratch.push_str(&self.text[start..self.at]);
        loop {
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Span::Scratch(from..scratch.len()));
                }
                Some(b'\\') => {
                    self.at += 1;
                    scratch.push(self.escape()?);
                }
                _ => return Err(malformed()),
            }
            let start = self.at;
            self.plain();
            scratch.push_str(&self.text[start..self.at]);
        }
    }

    /// Moves to the next quote, backslash or control character, or to the end.
    fn plain(&mut self) {
        let rest = &self.bytes()[self.at..];
        let stop = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f));
        self.at += stop.unwrap_or(rest.len());
    }

    fn escape(&mut self) -> Result<char, Reject> {
        let byte = self.byte().ok_or_else(malformed)?;
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
                let first = self.hex()?;
                let code = match first {
                    0xd800..=0xdbff => {
                        self.expect(b'\\')?;
                        self.expect(b'u')?;
                        let second = self.hex()?;
                        if !(0xdc00..=0xdfff).contains(&second) {
                            return Err(malformed());
                        }
                        0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                    }
                    other => other,
                };
                // A lone low surrogate is no character.
                char::from_u32(code).ok_or_else(malformed)?
            }
            _ => return Err(malformed()),
        })
    }

    fn hex(&mut self) -> Result<u32, Reject> {
        let digits = self.bytes().get(self.at..self.at + 4).ok_or_else(malformed)?;
        let mut code = 0;
        for digit in digits {
            code = code * 16 + char::from(*digit).to_digit(16).ok_or_else(malformed)?;
        }
        self.at += 4;
        Ok(code)
    }

    /// Moves over one value that nobody needs; it must be well formed all the same.
    pub(crate) fn skip(&mut self, scratch: &mut String, depth: u32) -> Result<(), Reject> {
        if depth > MAX_DEPTH {
            return Err(Reject::whole(RejectReason::TooDeep));
        }
        match self.peek()? {
            Peek::Object => {
                let mut more = self.open(b'{', b'}')?;
                while more {
                    self.skip_string(scratch)?;
                    self.colon()?;
                    self.skip(scratch, depth + 1)?;
                    more = self.more(b'}')?;
                }
                Ok(())
            }
            Peek::Array => {
                let mut more = self.open(b'[', b']')?;
                while more {
                    self.skip(scratch, depth + 1)?;
                    more = self.more(b']')?;
                }
                Ok(())
            }
            Peek::String => self.skip_string(scratch),
            Peek::Number => self.number().map(drop),
            Peek::True | Peek::False => self.boolean().map(drop),
            Peek::Null => self.null(),
        }
    }

    fn skip_string(&mut self, scratch: &mut String) -> Result<(), Reject> {
        let before = scratch.len();
        self.string(scratch)?;
        scratch.truncate(before);
        Ok(())
    }

    /// Where reading is, to take a value's own text.
    pub(crate) fn position(&mut self) -> usize {
        self.space();
        self.at
    }

    /// The text since `from`.
    pub(crate) fn since(&self, from: usize) -> &'a str {
        &self.text[from..self.at]
    }
}
