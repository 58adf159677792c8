//! What the admin API is told of the config.

use farebox_admin::{ConfigReader, v1::ConfigFault};
use farebox_config::{ConfigError, FileSource, Loaded, Origin, PlacedFault, differences};

use super::Live;
use crate::config::Config;

/// How a document is called that is not applied yet.
const DOCUMENT: &str = "document";

impl ConfigReader for Live {
    fn check(&self, document: &str) -> Result<Vec<String>, Vec<ConfigFault>> {
        self.changes(self.base.check(given(document)))
    }

    fn check_again(&self, document: &str) -> Result<Vec<String>, Vec<ConfigFault>> {
        self.changes(self.base.with(given(document)))
    }

    fn show(&self) -> (u64, String) {
        let now = self.newest.borrow().clone();
        (now.revision, now.config.show().unwrap_or_else(|error| error.to_string()))
    }
}

impl Live {
    fn changes(&self, wanted: Result<Loaded<Config>, ConfigError>) -> Result<Vec<String>, Vec<ConfigFault>> {
        let now = self.newest.borrow().clone();
        let differs = wanted.and_then(|wanted| differences(&now.config.value, &wanted.value));
        match differs {
            Ok(paths) => Ok(paths.iter().map(ToString::to_string).collect()),
            Err(error) => Err(error.faults.into_iter().map(said).collect()),
        }
    }
}

fn given(document: &str) -> FileSource {
    FileSource { name: DOCUMENT.to_owned(), text: document.to_owned() }
}

fn said(fault: PlacedFault) -> ConfigFault {
    let (line, column) = match &fault.origin {
        Origin::File { name, line, column } if name == DOCUMENT => (*line, *column),
        _ => (0, 0),
    };
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    ConfigFault {
        path: fault.path.to_string(),
        message: fault.message,
        line: number(line),
        column: number(column),
        source: fault.origin.to_string(),
    }
}
