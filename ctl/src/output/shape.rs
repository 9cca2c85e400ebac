//! What form an answer is to have, as its flags say.

use super::template::Template;
use crate::cli::{DataFormat, ListFormat, ListOutputFlag};
use crate::error::Result;

/// The form of a list.
#[derive(Debug)]
pub(crate) enum ListShape {
    /// Aligned columns.
    Table {
        /// More of them.
        wide: bool,
    },
    /// Names alone.
    Names,
    /// For programs, with the API's names.
    Data(DataFormat),
    /// With Docker's names.
    Template(Template),
}

impl ListShape {
    /// What the flags say.
    pub(crate) fn of(flags: &ListOutputFlag) -> Result<Self> {
        Ok(match (flags.format.as_deref(), flags.output) {
            (Some("table"), _) | (None, ListFormat::Table) => Self::Table { wide: false },
            (Some(template), _) => Self::Template(Template::parse(template)?),
            (None, ListFormat::Wide) => Self::Table { wide: true },
            (None, ListFormat::Name) => Self::Names,
            (None, ListFormat::Json) => Self::Data(DataFormat::Json),
            (None, ListFormat::Yaml) => Self::Data(DataFormat::Yaml),
        })
    }
}

/// The form of an answer that is one thing.
#[derive(Debug)]
pub(crate) enum Shape {
    /// What people read.
    People,
    /// For programs, with the API's names.
    Data(DataFormat),
    /// With Docker's names.
    Template(Template),
}

impl Shape {
    /// What the flags say.
    pub(crate) fn of(output: Option<DataFormat>, template: Option<&str>) -> Result<Self> {
        Ok(match (template, output) {
            (Some("table"), _) | (None, None) => Self::People,
            (Some(template), _) => Self::Template(Template::parse(template)?),
            (None, Some(format)) => Self::Data(format),
        })
    }
}
