use super::*;

#[test]
fn a_request_id_is_known_after_a_snapshot() {
    let mut ledger = ledger("10");
    let call = v1::ReserveRequest { body_digest: prost::bytes::Bytes::from_static(b"a"), ..request(Money::usd(1), "") };
    ledger.reserve(call.clone(), NOW);
    settle(&mut ledger, &call, Outcome::Ok, Money::usd(1));
    let mut restored = super::ledger("10");
    restored.restore(ledger.snapshot("s", 1, 1_000_000));
    assert_eq!(restored.lookup("acme", "r"), ledger.lookup("acme", "r"));
}

#[test]
fn an_ended_reservation_is_known_after_a_snapshot_and_forgotten_in_time() {
    let mut ledger = ledger("10");
    let (lost, answered) = (request(Money::usd(1), ""), request(Money::usd(1), ""));
    for call in [&lost, &answered] {
        ledger.reserve(call.clone(), NOW);
    }
    ledger.lose(lost.reservation_id.parse().unwrap(), NOW);
    settle(&mut ledger, &answered, Outcome::Ok, Money::usd(1));
    let parts = ledger.snapshot("s", 1, 100);
    let mut restored = super::ledger("10");
    restored.restore(parts.clone());
    // Who asked did not hear the answer, and asks the next guard.
    for (call, outcome) in [(&lost, v1::Outcome::Lost), (&answered, v1::Outcome::Ok)] {
        let again = restored.reserve(call.clone(), NOW);
        assert_eq!(again, ledger.reserve(call.clone(), NOW));
        let Some(v1::reserve_reply::Result::Existing(existing)) = again.reply.result else { panic!("{again:?}") };
        assert_eq!((existing.open, existing.outcome()), (false, outcome));
    }
    let kept = settle(&mut restored, &answered, Outcome::Ok, Money::usd(1));
    assert_eq!(kept.result, Some(v1::settle_reply::Result::Settled(v1::Settled {})));

    let (other, later) = (request(Money::usd(1), ""), NOW.after(retention().reservations));
    let other = v1::ReserveRequest { deadline_unix_ms: later.after(Duration::from_secs(60)).millis(), ..other };
    restored.reserve(other.clone(), later);
    restored.lose(other.reservation_id.parse().unwrap(), later);
    assert_eq!(restored.snapshot("s", 2, 100_000)[0].ended.len(), 1, "only the newest is remembered");

    // A snapshot from before they were kept.
    let mut old = super::ledger("10");
    old.restore(parts.into_iter().map(|part| v1::SnapshotPart { ended: Vec::new(), ..part }).collect());
    assert_eq!(old.status(), ledger.status());
}

#[test]
fn half_a_snapshot_is_none() {
    let mut ledger = ledger("1000");
    for task in 0..40 {
        ledger.reserve(request(Money::usd(1), &format!("t{task}")), NOW);
    }
    let old = ledger.snapshot("old", 5, 1_000_000);
    let mut half = ledger.snapshot("half", 9, 500);
    assert!(half.len() > 2);
    half.pop();
    half.extend(old);
    assert_eq!(newest(half).map(|(through, parts)| (through, parts.len())), Some((5, 1)));
}

#[test]
fn two_snapshots_up_to_the_same_sequence_are_not_mixed() {
    let mut ledger = ledger("1000");
    for task in 0..40 {
        ledger.reserve(request(Money::usd(1), &format!("t{task}")), NOW);
    }
    let (first, second) = (ledger.snapshot("first", 9, 500), ledger.snapshot("second", 9, 500));
    assert!(first.len() > 2);
    let half = first.len() / 2;
    let mixed: Vec<_> = first[..half].iter().chain(&second[half..]).cloned().collect();
    assert_eq!(newest(mixed), None);
    let with_half: Vec<_> = first[..half].iter().chain(&second).cloned().collect();
    assert_eq!(newest(with_half), Some((9, second)));
}
