//! The error table of docs/contract.md says what the code does.

use std::{collections::BTreeMap, fs};

use farebox_types::{Disposition, ErrorKind};

const CONTRACT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/contract.md");
const HEAD: &str = "| kind | HTTP | gRPC | job | same request later | what |";

/// Names of the codes: <https://grpc.io/docs/guides/status-codes/>.
const GRPC: [(i32, &str); 17] = [
    (0, "OK"),
    (1, "CANCELLED"),
    (2, "UNKNOWN"),
    (3, "INVALID_ARGUMENT"),
    (4, "DEADLINE_EXCEEDED"),
    (5, "NOT_FOUND"),
    (6, "ALREADY_EXISTS"),
    (7, "PERMISSION_DENIED"),
    (8, "RESOURCE_EXHAUSTED"),
    (9, "FAILED_PRECONDITION"),
    (10, "ABORTED"),
    (11, "OUT_OF_RANGE"),
    (12, "UNIMPLEMENTED"),
    (13, "INTERNAL"),
    (14, "UNAVAILABLE"),
    (15, "DATA_LOSS"),
    (16, "UNAUTHENTICATED"),
];

/// The rows of the table, by kind, without the kind and the words that explain it.
fn documented() -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(CONTRACT).expect("docs/contract.md is part of the source");
    let rows = text.lines().skip_while(|line| *line != HEAD).skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [kind, facts @ .., explained] = cells.as_slice() else { panic!("no row of the table: {row}") };
        assert!(!explained.is_empty(), "{kind} is not explained");
        (kind.trim_matches('`').to_owned(), facts.iter().map(|fact| (*fact).to_owned()).collect())
    })
    .collect()
}

#[test]
fn the_table_of_errors_is_the_one_in_the_code() {
    let coded = ErrorKind::ALL.into_iter().map(|kind| {
        let (code, name) = GRPC.into_iter().find(|(code, _)| *code == kind.grpc_code()).unwrap();
        let job = match kind.disposition() {
            Disposition::Ack => "ack",
            Disposition::Nak => "nak",
            Disposition::Term => "term",
        };
        let later = if kind.is_retryable() { "yes" } else { "no" };
        let facts = [kind.http_status().to_string(), format!("{code} {name}"), job.to_owned(), later.to_owned()];
        (kind.as_str().to_owned(), facts.to_vec())
    });
    assert_eq!(documented(), coded.collect());
}
