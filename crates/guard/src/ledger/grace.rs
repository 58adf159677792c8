//! Reservations that were made without a guard.

use farebox_proto::v1::{self, ledger_entry::Entry};
use farebox_types::{CallId, ReservationId};

use super::Ledger;

impl Ledger {
    /// Whether it is open, or ended not long ago.
    pub(crate) fn knows(&self, id: &ReservationId) -> bool {
        self.open.contains_key(id) || self.closed.get(id).is_some()
    }

    /// Records what an intake reserved without a guard, also above the limits: the budgets gave leave. None where it is
    /// known already.
    pub(crate) fn take_over(&mut self, reserved: v1::Reserved) -> Option<(ReservationId, v1::LedgerEntry)> {
        let request = reserved.request.as_ref()?;
        let id = request.reservation_id.parse::<ReservationId>().ok()?;
        let _: CallId = request.attempt.as_ref()?.call_id.parse().ok()?;
        if self.knows(&id) {
            return None;
        }
        Some((id, self.record(Entry::Reserved(reserved))))
    }
}
