//! All that is wrong with some settings.

use std::fmt;
use std::path::Path;

use super::Scalar;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The field or variable; empty if it is the file as a whole.
    pub field: String,
    /// What was given.
    pub given: String,
    /// What would be accepted.
    pub accepted: String,
}

impl Problem {
    pub(super) fn refused(field: &str, given: &Scalar, accepted: &str) -> Self {
        let given = match given {
            Scalar::Bool(value) => value.to_string(),
            Scalar::Int(value) => value.to_string(),
            Scalar::Float(value) => value.to_string(),
            Scalar::Text(value) => format!("{value:?}"),
            Scalar::List(_) | Scalar::Other(_) => "a list or table".to_owned(),
        };
        Self { field: field.to_owned(), given, accepted: accepted.to_owned() }
    }

    pub(super) fn unknown(field: &str, known: impl Iterator<Item = &'static str>) -> Self {
        let known: Vec<_> = known.collect();
        let accepted = match nearest(field, &known) {
            Some(name) => format!("no such field: did you mean {name}?"),
            None => format!("no such field: there are {}", known.join(", ")),
        };
        Self { field: field.to_owned(), given: "a value".to_owned(), accepted }
    }

    /// A variable that may have been meant for a field, if it nearly has the name of one.
    pub(super) fn misspelt(
        variable: &str,
        known: impl Iterator<Item = &'static str>,
    ) -> Option<Self> {
        let known: Vec<_> = known.collect();
        let name = variable.strip_prefix("LARDER_").unwrap_or(variable).to_lowercase();
        let name = nearest(&name, &known)?.to_uppercase();
        let accepted = format!("no such setting: did you mean LARDER_{name}?");
        Some(Self { field: variable.to_owned(), given: "a value".to_owned(), accepted })
    }
}

/// The name that is at most a third of its letters away from `name`.
fn nearest<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    let away = |known: &&&str| strsim::damerau_levenshtein(name, known);
    let best = known.iter().min_by_key(away)?;
    (away(&best) * 3 <= best.len().max(3)).then_some(*best)
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, given, accepted } = self;
        match (field.is_empty(), accepted.starts_with("no such")) {
            (true, _) => write!(out, "{accepted}"),
            (false, true) => write!(out, "{field}: {accepted}"),
            (false, false) => write!(out, "{field} is {given}: give {accepted}"),
        }
    }
}

/// All that is wrong with some settings, one on each line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    file: Option<String>,
    problems: Vec<Problem>,
}

impl ConfigError {
    pub(super) fn of(problems: Vec<Problem>) -> Option<Self> {
        (!problems.is_empty()).then_some(Self { file: None, problems })
    }

    pub(super) fn of_file(what: String) -> Self {
        let [field, given] = [String::new(), String::new()];
        Self { file: None, problems: vec![Problem { field, given, accepted: what }] }
    }

    pub(super) fn within(self, file: &Path) -> Self {
        Self { file: Some(file.display().to_string()), ..self }
    }

    /// Each of the things that are wrong.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.as_deref().map_or_else(String::new, |file| format!("{file}: "));
        for (number, problem) in self.problems.iter().enumerate() {
            let end = if number == 0 { "" } else { "\n" };
            write!(out, "{end}{file}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
