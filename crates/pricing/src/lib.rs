//! What a call costs, exactly.
//!
//! **Does.** [`PriceBook`] holds dated prices by provider and model: the built-in table plus rows from the config.
//! [`price`] turns usage and rates into money, [`bound`] is the most that a call of known size can cost.
//!
//! **Guarantees.** No float, one rounding (half away from zero, to a pico-dollar). A model without a price is `None`,
//! never free. A bucket without a price of its own costs what the bucket around it costs, never nothing.
//!
//! **Does not.** It reads no clock and no file. It knows standard-tier prices only, and no price that depends on the
//! length of the context.

mod book;
mod error;
mod rates;
mod row;

pub use book::{PriceBook, Priced};
pub use error::PriceError;
pub use rates::{Breakdown, Rates, bound, price};
pub use row::PriceRow;
