//! The words every farebox crate shares: ids, money, usage, outcomes, error kinds and the clock.
//!
//! Pure values without I/O. A value of these types is already valid: names are checked where they enter
//! ([`Project::parse`], [`RequestId::parse`]), and trusted from there on.

mod clock;
mod error;
mod ids;
mod money;
mod outcome;
mod secret;
mod units;
mod usage;

pub use clock::{Clock, SystemClock, Timestamp};
pub use error::{Disposition, ErrorKind, Fault};
pub use ids::{CallId, InvalidName, Project, RequestId, ReservationId};
pub use money::{Money, MoneyError};
pub use outcome::Outcome;
pub use secret::{Secret, SecretError};
pub use units::{ByteSize, Span, UnitError};
pub use usage::Usage;
