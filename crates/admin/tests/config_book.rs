//! The configs that were applied, over a real NATS server.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use farebox_admin::{ConfigBook, ConfigReader, ConfigRefusal, v1};
use farebox_bus::{Bus, topology};
use farebox_proto::{subjects::Tenancy, v1 as wire};
use farebox_testkit::TestNats;

/// Takes every document but those with the word `bad`; one that was in force before may hold `static`.
struct Reader;

impl ConfigReader for Reader {
    fn check(&self, document: &str) -> Result<Vec<String>, Vec<v1::ConfigFault>> {
        let wrong = ["bad", "static"].into_iter().any(|word| document.contains(word));
        let fault = || v1::ConfigFault { path: "models".to_owned(), line: 2, column: 3, ..Default::default() };
        if wrong { Err(vec![fault()]) } else { Ok(vec!["models".to_owned()]) }
    }

    fn check_again(&self, document: &str) -> Result<Vec<String>, Vec<v1::ConfigFault>> {
        self.check(&document.replace("static", ""))
    }

    fn show(&self) -> (u64, String) {
        (0, String::new())
    }
}

async fn book(nats: &TestNats) -> (ConfigBook, farebox_bus::Bucket) {
    let options = farebox_bus::Options { url: nats.url(), ..Default::default() };
    let bus = Bus::connect(&options).await.unwrap();
    let storage = topology::StorageOptions::default();
    topology::ensure_topology(&bus, Tenancy::Single, &storage).await.unwrap();
    let bucket = bus.bucket(topology::CONFIG);
    (ConfigBook::new(bucket.clone(), Arc::new(Reader), 64 * 8192), bucket)
}

fn change(request_id: &str, digest: &'static [u8]) -> wire::Change {
    wire::Change {
        by: "ann".to_owned(),
        request_id: request_id.to_owned(),
        request_digest: digest.into(),
        ..Default::default()
    }
}

async fn apply(book: &ConfigBook, document: &str, expected: u64) -> Result<v1::ConfigRevision, ConfigRefusal> {
    book.apply(document.to_owned(), change("", b""), expected).await
}

#[tokio::test]
async fn a_config_is_applied_by_who_knew_the_one_before() {
    let nats = TestNats::start().await.unwrap();
    let (book, _) = book(&nats).await;
    let first = apply(&book, "one", 0).await.unwrap();
    // Both knew the first: one of them comes too late.
    let (left, right) = tokio::join!(apply(&book, "left", first.revision), apply(&book, "right", first.revision));
    let (done, late) = match left {
        Ok(done) => (done, right),
        Err(_) => (right.unwrap(), left),
    };
    assert!(
        matches!(late, Err(ConfigRefusal::Changed { wanted, present })
        if wanted == first.revision && present == done.revision),
        "{late:?}"
    );
    let kept: Vec<String> = book.revisions().await.unwrap().into_iter().map(|kept| kept.document).collect();
    assert_eq!(kept, [done.document.as_str(), "one"]);
}

#[tokio::test]
async fn what_has_faults_or_is_too_large_is_not_written() {
    let nats = TestNats::start().await.unwrap();
    let (book, _) = book(&nats).await;
    let faults = apply(&book, "bad", 0).await;
    assert!(matches!(&faults, Err(ConfigRefusal::Faults(faults)) if faults[0].line == 2), "{faults:?}");
    let large = apply(&book, &"x".repeat(5000), 0).await;
    assert!(matches!(large, Err(ConfigRefusal::TooLarge { given: 5000, allowed: 4096 })), "{large:?}");
    assert_eq!(book.revisions().await.unwrap(), []);
}

#[tokio::test]
async fn the_same_request_again_changes_nothing() {
    let nats = TestNats::start().await.unwrap();
    let (book, _) = book(&nats).await;
    let ask = async |id: &str, digest: &'static [u8]| book.apply("one".to_owned(), change(id, digest), 0).await;
    let first = ask("r1", b"a").await.unwrap();
    apply(&book, "two", first.revision).await.unwrap();
    assert_eq!(ask("r1", b"a").await.unwrap(), first, "also when others came after it");
    assert!(matches!(ask("r1", b"b").await, Err(ConfigRefusal::OtherRequest { .. })));
    assert_eq!(book.revisions().await.unwrap().len(), 2);
    assert!(ask("r2", b"c").await.unwrap().revision > first.revision);
}

#[tokio::test]
async fn an_earlier_config_is_brought_back() {
    let nats = TestNats::start().await.unwrap();
    let (book, bucket) = book(&nats).await;
    // As an earlier farebox, with other things that cannot change, has written it.
    let old = wire::AppliedConfig { document: "static".to_owned(), ..Default::default() };
    bucket.put(topology::CONFIG_KEY, prost::Message::encode_to_vec(&old).into()).await.unwrap();
    let two = apply(&book, "two", 1).await.unwrap();
    let back = book.roll_back(1, change("", b""), two.revision).await.unwrap();
    assert_eq!((back.document.as_str(), back.restores, back.revision), ("static", 1, 3));
    assert!(matches!(book.roll_back(1, change("", b""), two.revision).await, Err(ConfigRefusal::Changed { .. })));
    assert!(matches!(book.roll_back(9, change("", b""), 0).await, Err(ConfigRefusal::Unknown { revision: 9 })));
    let none = book.roll_back(0, change("", b""), 0).await.unwrap();
    assert!(none.file_alone && none.document.is_empty());
    assert_eq!(book.revisions().await.unwrap()[0], none);
}
