//! How much one source holds of what all share, so that one leaves something for others.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Counts what each source holds. It remembers those alone that hold something.
pub struct Shares<K>(Arc<Mutex<HashMap<K, usize>>>);

impl<K> Default for Shares<K> {
    fn default() -> Shares<K> {
        Shares(Arc::default())
    }
}

impl<K: Clone + Eq + Hash> Shares<K> {
    /// A holder for a source of which all holders together may have so much. It has nothing yet.
    pub fn of(&self, source: K, max: usize) -> Share<K> {
        Share { all: Shares(self.0.clone()), source, max, held: 0 }
    }
}

impl<K> Shares<K> {
    fn held(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        // Nothing that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one holder has of its source's share. Dropped, it gives it back.
pub struct Share<K: Eq + Hash> {
    all: Shares<K>,
    source: K,
    max: usize,
    held: usize,
}

impl<K: Clone + Eq + Hash> Share<K> {
    /// Takes so much more; nothing at all, and `false`, where its source would have too much then.
    pub fn take(&mut self, more: usize) -> bool {
        let mut all = self.all.held();
        let sum = all.get(&self.source).map_or(0, |held| *held).saturating_add(more);
        if sum > self.max {
            return false;
        }
        match all.get_mut(&self.source) {
            Some(held) => *held = sum,
            None if more == 0 => {}
            None => drop(all.insert(self.source.clone(), sum)),
        }
        self.held += more;
        true
    }
}

impl<K: Eq + Hash> Share<K> {
    pub fn source(&self) -> &K {
        &self.source
    }

    pub fn give_back(&mut self) {
        let had = std::mem::take(&mut self.held);
        let mut all = self.all.held();
        let Some(held) = all.get_mut(&self.source) else { return };
        *held -= had;
        if *held == 0 {
            all.remove(&self.source);
        }
    }
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// What counts as one address: who has one of IPv6 mostly has all that begin with the same 64 bits.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_has_no_more_than_its_share_and_others_have_theirs() {
        let shares = Shares::default();
        let (mut first, mut second, mut other) = (shares.of("a", 3), shares.of("a", 3), shares.of("b", 3));
        assert!(first.take(2) && second.take(1));
        assert!(!first.take(1) && !second.take(1) && second.take(0));
        assert!(other.take(3));
        drop(first);
        assert!(!second.take(3) && second.take(2));
        second.give_back();
        assert!(second.take(3) && !second.take(usize::MAX));
    }

    #[test]
    fn who_holds_nothing_is_not_remembered() {
        let shares = Shares::default();
        for source in 0..1000 {
            let (mut kept, mut refused, idle) = (shares.of(source, 2), shares.of(source, 2), shares.of(source, 2));
            assert!(kept.take(2) && !refused.take(1));
            drop((idle, refused));
            assert_eq!(shares.held().len(), 1);
        }
        assert!(shares.held().is_empty());
    }

    #[test]
    fn a_host_is_one_source_however_many_addresses_it_has() {
        let same = |one: &str, other: &str| network(one.parse().unwrap()) == network(other.parse().unwrap());
        assert!(same("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff") && !same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:10.0.0.1", "10.0.0.1") && !same("10.0.0.1", "10.0.0.2"));
    }
}
