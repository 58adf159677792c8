//! Where requests may go: never to private, loopback or link-local addresses that the config does not list.
//!
//! Only the config names hosts; this guards against a name that leads somewhere else than its owner meant (a resolver that
//! answers with the address of a metadata service). The address of the loopback interface in `api_base` is a listing of its
//! own, as whoever writes `http://127.0.0.1:11434` means it; everything else private has to stand in `egress.allow`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;
use ipnet::IpNet;

/// `egress:` of the config.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Egress {
    /// Private networks in which providers may be, such as `10.1.0.0/16`.
    #[schemars(with = "Vec<String>")]
    pub allow: Vec<IpNet>,
}

/// What the host of a base URL is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// A name, or an address that may be called.
    Fine,
    /// An address that may not.
    Private(String),
    /// An IPv4 address that is not written as four numbers.
    Disguised,
}

impl Egress {
    /// Whether a connection to this address may be made, for a host that was given by name.
    pub fn permits(&self, address: IpAddr) -> bool {
        !is_private(address) || self.allow.iter().any(|net| net.contains(&plain(address)))
    }

    /// What the config itself writes.
    pub(crate) fn judge(&self, base: &Uri) -> Host {
        let host = base.host().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match literal {
            Ok(address) if !plain(address).is_loopback() && !self.permits(address) => {
                Host::Private(plain(address).to_string())
            }
            Err(_) if is_number(host) => Host::Disguised,
            _ => Host::Fine,
        }
    }
}

/// Whether a client that reads hosts as URLs do takes this one for an IPv4 address, such as `0x7f.1`, `2130706433` or
/// `127.0.0.1.`: <https://url.spec.whatwg.org/#ends-in-a-number-checker>. It would connect without looking a name up.
fn is_number(host: &str) -> bool {
    let last = host.strip_suffix('.').unwrap_or(host).rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// An IPv4 address that travels as an IPv6 one is the IPv4 address.
fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().or_else(|| embedded(v6)).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// NAT64 (RFC 6052) and 6to4 (RFC 3056) addresses lead to the IPv4 address inside them.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = v6.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

/// Addresses that no provider on the internet has: <https://www.iana.org/assignments/iana-ipv4-special-registry>,
/// <https://www.iana.org/assignments/iana-ipv6-special-registry>.
fn is_private(address: IpAddr) -> bool {
    match plain(address) {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_broadcast()
                || v4.is_multicast()
                || v4.is_documentation()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b))
                || (a == 198 && (18..20).contains(&b))
                || (a == 192 && b == 0 && c == 0)
        }
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || first & 0xfe00 == 0xfc00
                || first & 0xffc0 == 0xfe80
                || first & 0xffc0 == 0xfec0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(allow: &[&str]) -> Egress {
        Egress { allow: allow.iter().map(|net| net.parse().unwrap()).collect() }
    }

    #[test]
    fn private_addresses_are_refused_in_every_spelling() {
        let none = egress(&[]);
        for private in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "127.0.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "::1",
            "::",
            "fd00::1",
            "fe80::1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a00:1::",
        ] {
            assert!(!none.permits(private.parse().unwrap()), "{private}");
        }
        for public in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(none.permits(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn what_the_config_lists_is_allowed() {
        let some = egress(&["10.1.0.0/16", "fd00::/8"]);
        for (address, allowed) in
            [("10.1.2.3", true), ("10.2.0.1", false), ("::ffff:10.1.2.3", true), ("fd12::1", true), ("fe80::1", false)]
        {
            assert_eq!(some.permits(address.parse().unwrap()), allowed, "{address}");
        }
        let judged = |base: &'static str| some.judge(&Uri::from_static(base));
        assert_eq!(judged("http://127.0.0.1:11434/v1"), Host::Fine);
        assert_eq!(judged("http://[::1]:8000"), Host::Fine);
        assert_eq!(judged("http://10.1.0.9/v1"), Host::Fine);
        assert_eq!(judged("http://llm.internal/v1"), Host::Fine);
        assert_eq!(judged("http://169.254.169.254/"), Host::Private("169.254.169.254".into()));
        for disguised in [
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "http://0x7f.1/v1",
            "http://0251.0376.0251.0376/",
            "http://169.254.169.254./",
            "http://10.1/",
        ] {
            assert_eq!(judged(disguised), Host::Disguised, "{disguised}");
        }
        assert_eq!(judged("http://llm1.internal./v1"), Host::Fine);
        assert_eq!(judged("http://[::ffff:192.168.0.1]/"), Host::Private("192.168.0.1".into()));
    }
}
