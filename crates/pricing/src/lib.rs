//! What a call costs, exactly.
//!
//! **Does.** [`PriceBook`] holds dated prices by provider and model: the generated catalogue, hand-kept rows that win over
//! it, and rows from the config that win over both. [`PriceBook::card`] resolves date, region and time of day to a
//! [`RateCard`]; [`price`] turns usage, card and served tier into money, [`bound()`] is the most that a call of known size
//! can cost, and [`Bound`] says where nothing limits that.
//!
//! **Guarantees.** No float, one rounding (half away from zero, to a pico-dollar). A model without a price is `None`,
//! never free. A bucket without a price of its own costs what the bucket around it costs, never nothing. Which tier holds
//! is decided once for a whole call, by all its input tokens.
//!
//! **Does not.** It reads no clock and no file. It knows no free quota and no discount of a contract.

mod book;
mod bound;
mod card;
mod catalogue;
mod check;
mod error;
mod listed;
mod names;
mod rates;
mod row;
mod tier;
mod window;

pub use book::{PriceBook, Priced};
pub use bound::{Bound, Extent, Most, bound};
pub use card::{RateCard, TierRates, price};
pub use check::{PriceFault, read_prices};
pub use error::PriceError;
pub use rates::{Breakdown, Rates};
pub use row::{Amount, Amounts, Capability, Mode, NameForm, PriceRow, RegionRow, SearchContext, TierRow, WindowRow};
pub use tier::ServiceTier;
