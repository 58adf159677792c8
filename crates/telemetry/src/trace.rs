//! W3C trace context, <https://www.w3.org/TR/trace-context/>.

use std::{fmt, str::FromStr};

use rand::RngCore;

/// The name of the one header that carries a trace, on the bus and over HTTP.
pub const TRACEPARENT: &str = "traceparent";

/// One span's place in a trace: what a `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

const SAMPLED: u8 = 1;

/// A `traceparent` that has to be ignored: the receiver starts a trace of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid traceparent, expected `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`, ids not all zero")]
pub struct InvalidTraceParent;

impl TraceContext {
    /// The first span of a new, sampled trace.
    pub fn root(random: &mut impl RngCore) -> TraceContext {
        TraceContext {
            trace_id: nonzero(|| u128::from(random.next_u64()) << 64 | u128::from(random.next_u64())),
            span_id: nonzero(|| random.next_u64()),
            flags: SAMPLED,
        }
    }

    /// A span below this one, in the same trace.
    pub fn child(&self, random: &mut impl RngCore) -> TraceContext {
        TraceContext { span_id: nonzero(|| random.next_u64()), ..*self }
    }

    /// A span below `parent`, or the first one of a new trace where there is none or where it is broken.
    pub fn continued(parent: Option<&str>, random: &mut impl RngCore) -> TraceContext {
        match parent.map(str::parse::<TraceContext>) {
            Some(Ok(parent)) => parent.child(random),
            _ => TraceContext::root(random),
        }
    }

    /// 32 hex digits.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// 16 hex digits.
    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span_id)
    }

    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// All zero means "none" in the standard.
fn nonzero<N: PartialEq + Default>(mut draw: impl FnMut() -> N) -> N {
    loop {
        let drawn = draw();
        if drawn != N::default() {
            return drawn;
        }
    }
}

/// As version 00 of the header.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

impl FromStr for TraceContext {
    type Err = InvalidTraceParent;

    /// Reads version 00 strictly, and the known start of later versions, as the standard asks.
    fn from_str(given: &str) -> Result<TraceContext, InvalidTraceParent> {
        let bytes = given.as_bytes();
        let hex = |from: usize, to: usize| -> Result<u128, InvalidTraceParent> {
            let digits = bytes.get(from..to).ok_or(InvalidTraceParent)?;
            digits.iter().try_fold(0, |value: u128, digit| match digit {
                b'0'..=b'9' => Ok(value << 4 | u128::from(digit - b'0')),
                b'a'..=b'f' => Ok(value << 4 | u128::from(digit - b'a' + 10)),
                _ => Err(InvalidTraceParent),
            })
        };
        let dash = |at: usize| bytes.get(at) == Some(&b'-');
        let (version, trace_id, span_id, flags) = (hex(0, 2)?, hex(3, 35)?, hex(36, 52)?, hex(53, 55)?);
        let ends_well = match version {
            0 => bytes.len() == 55,
            0xff => false,
            _ => bytes.len() == 55 || dash(55),
        };
        if !(ends_well && dash(2) && dash(35) && dash(52)) || trace_id == 0 || span_id == 0 {
            return Err(InvalidTraceParent);
        }
        Ok(TraceContext {
            trace_id,
            // Both were read from as many digits as fit.
            span_id: u64::try_from(span_id).map_err(|_| InvalidTraceParent)?,
            // Only the flag that version 00 defines is passed on.
            flags: u8::try_from(flags).map_err(|_| InvalidTraceParent)? & SAMPLED,
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn reads_and_writes() {
        let context: TraceContext = GOOD.parse().unwrap();
        assert_eq!(context.to_string(), GOOD);
        assert_eq!(context.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.span_id(), "b7ad6b7169203331");
        assert!(context.is_sampled());
        assert!(!GOOD.replace("-01", "-00").parse::<TraceContext>().unwrap().is_sampled());
        let later = format!("cc{}-what-comes", &GOOD[2..]);
        assert_eq!(later.parse::<TraceContext>().unwrap().to_string(), GOOD);
    }

    #[test]
    fn broken_ones_are_refused() {
        for bad in [
            String::new(),
            "00".into(),
            GOOD.to_uppercase(),
            format!("{GOOD}-more"),
            format!("{GOOD} "),
            format!("ff{}", &GOOD[2..]),
            format!("cc{}.more", &GOOD[2..]),
            GOOD.replace('-', "_"),
            GOOD.replace("b7ad6b7169203331", "0000000000000000"),
            GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            GOOD.replace("b7", "é"),
            GOOD.replace("b7", "g7"),
            GOOD.replace("b7", "+7"),
        ] {
            assert_eq!(bad.parse::<TraceContext>(), Err(InvalidTraceParent), "{bad}");
        }
    }

    #[test]
    fn children_stay_in_the_trace() {
        let mut random = StdRng::seed_from_u64(7);
        let parent: TraceContext = GOOD.parse().unwrap();
        let child = TraceContext::continued(Some(GOOD), &mut random);
        assert_eq!(child.trace_id(), parent.trace_id());
        assert_ne!(child.span_id(), parent.span_id());
        let other = TraceContext::continued(Some("garbage"), &mut random);
        assert_ne!(other.trace_id(), parent.trace_id());
        assert_eq!(other.to_string().parse::<TraceContext>(), Ok(other));
        assert_ne!(TraceContext::continued(None, &mut random), other);
    }
}
