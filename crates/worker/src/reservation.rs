//! The proof that an attempt is covered.

use farebox_proto::{InvalidMessage, ParseId, v1};
use farebox_types::{CallId, Money, ReservationId};

use crate::sent::Sent;

/// Covers one attempt at a provider. [`crate::upstream::Upstream::open`], the only way to a provider, takes it by value.
///
/// It cannot be copied and is made in two places only: from admitted work, and from the guard's grant of a further
/// attempt.
#[derive(Debug)]
#[must_use = "a reservation that is dropped is settled by nobody"]
pub(crate) struct Reservation {
    id: ReservationId,
    call: CallId,
    bound: Money,
    number: u32,
}

impl Reservation {
    /// What the guard granted to intake for the first attempt.
    pub(crate) fn admitted(work: &v1::Work) -> Result<Reservation, InvalidMessage> {
        let first = work.plan.first().ok_or(InvalidMessage { field: "plan" })?;
        Ok(Reservation {
            id: ReservationId::read("reservation_id", &work.reservation_id)?,
            call: CallId::read("call_id", &work.call_id)?,
            bound: v1::Money::of(&first.bound),
            number: 1,
        })
    }

    pub(crate) fn id(&self) -> ReservationId {
        self.id
    }

    /// Uses it up: from here on the attempt is open and has to be ended.
    pub(crate) fn use_up(self) -> OpenAttempt {
        OpenAttempt {
            reservation: self.id,
            call: self.call,
            bound: self.bound,
            number: self.number,
            sent: Sent::default(),
        }
    }
}

/// An attempt that may cost money, until its end is recorded.
#[derive(Debug)]
#[must_use = "an attempt must be ended, or the guard records it as lost"]
pub(crate) struct OpenAttempt {
    pub(crate) reservation: ReservationId,
    pub(crate) call: CallId,
    /// The most that it can cost.
    pub(crate) bound: Money,
    /// 1 for the first attempt of a request.
    pub(crate) number: u32,
    pub(crate) sent: Sent,
}

impl OpenAttempt {
    /// The guard ended this attempt and covers one of `offered` in its place: which one, by its order. `None`: it is none
    /// of them.
    pub(crate) fn replaced_by(self, offered: &[v1::Attempt], granted: &v1::Granted) -> Option<(usize, Reservation)> {
        let calls: Vec<CallId> =
            offered.iter().map(|attempt| attempt.call_id.parse()).collect::<Result<_, _>>().ok()?;
        let at = granted.covered(&calls)?;
        let bound = v1::Money::of(&granted.bound.or(offered[at].bound));
        Some((at, Reservation { id: self.reservation, call: calls[at], bound, number: self.number + 1 }))
    }
}
