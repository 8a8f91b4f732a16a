//! Problems of a configuration: each with its place and what would be accepted instead.

use std::fmt;
use std::sync::Arc;

/// A place in a file (or in an environment variable, whose name then stands for the file).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Position {
    /// The file as it was named, or the environment variable.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Position {
    /// The first character of `file`.
    pub fn start_of(file: &str) -> Position {
        Position { file: file.into(), line: 1, column: 1 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One thing that is wrong; displayed as `file:line:column: message`, on one line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Problem {
    /// Where it is wrong.
    pub at: Position,
    /// What is wrong and what would be accepted.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.message)
    }
}

/// The problems found so far.
#[derive(Default, Debug)]
pub(super) struct Problems {
    found: Vec<Problem>,
}

impl Problems {
    pub(super) fn add(&mut self, at: &Position, message: impl Into<String>) {
        // A foreign parser's or the system's words may span lines; a problem is one line.
        let message = message.into().replace(['\n', '\r'], " ");
        self.found.push(Problem { at: at.clone(), message });
    }

    pub(super) fn take(&mut self, other: Problems) {
        self.found.extend(other.found);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All of them, by place, each once.
    pub(super) fn sorted(mut self) -> Vec<Problem> {
        self.found.sort();
        self.found.dedup();
        self.found
    }
}

/// Writes accepted words as a list, and the one that was probably meant first.
pub(super) fn accepted<'a>(given: &str, words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    let list = words.join(", ");
    match closest(given, &words) {
        Some(word) if words.len() > 1 => format!("did you mean `{word}`? accepted: {list}"),
        _ => format!("accepted: {list}"),
    }
}

/// The word nearest to `given`, if it is near enough to have been meant.
pub(super) fn closest<'a>(given: &str, words: &[&'a str]) -> Option<&'a str> {
    let near = words.iter().map(|word| (distance(given, word), *word)).min()?;
    let allowed = (given.chars().count() / 3).clamp(1, 3);
    (near.0 <= allowed).then_some(near.1)
}

/// Number of insertions, deletions, replacements and swaps of neighbours between two words.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let width = b.len() + 1;
    let mut table = vec![0; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i * width + j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = usize::from(a[i - 1] != b[j - 1]);
                let mut best = table[(i - 1) * width + j - 1] + replaced;
                best = best.min(table[(i - 1) * width + j] + 1).min(table[i * width + j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(table[(i - 2) * width + j - 2] + 1);
                }
                best
            };
        }
    }
    table[a.len() * width + b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_offered_if_it_is_near() {
        let words = ["slice", "slide", "gap"];
        let check = |given: &str, expected: Option<&str>| {
            assert_eq!(closest(given, &words), expected, "{given}");
        };
        check("slcie", Some("slice"));
        check("Slide", Some("slide"));
        check("gpa", Some("gap"));
        check("window", None);
        check("x", None);
    }

    #[test]
    fn a_problem_is_one_line() {
        let mut problems = Problems::default();
        problems.add(&Position::start_of("a.yaml"), "one\ntwo");
        problems.add(&Position::start_of("a.yaml"), "one\ntwo");
        let lines: Vec<String> = problems.sorted().iter().map(Problem::to_string).collect();
        assert_eq!(lines, ["a.yaml:1:1: one two"]);
    }
}
