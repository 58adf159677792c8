//! The message bus: typed publish, call, offer, subscribe, durable store, consume, key-value, leases and
//! bodies too large for one message, all over NATS.
//!
//! Guarantees:
//! - no type of the NATS client appears here: a role knows subjects and values, never how a message travels;
//! - every wait has a named bound in [`Options`], and a call that ends by any road leaves nothing behind;
//! - a call to a subject that nobody listens to fails at once, as does one that the server forbids;
//! - a lost connection is made again; consumers and leases go on by themselves or say that they ended;
//! - who listens on a subject can be asked, and "nobody" is said only where every server said so ([`Traces`]);
//! - a write can be fenced: [`Fence`] makes the server refuse it when somebody else wrote first;
//! - what a role of the same process listens to on farebox's own subjects reaches it without the server ([`Reach`]).
//!
//! Not here: what the messages mean (`farebox-proto`), who may do what (`farebox-identity`), retries of calls.

mod bucket;
mod call;
mod caller;
mod connect;
mod consume;
mod counters;
mod delivery;
mod error;
mod headers;
mod inbox;
mod jetstream;
mod lease;
mod near;
mod objects;
mod options;
mod replay;
mod store;
mod stream;
mod subscribe;
pub mod topology;
mod trace;

pub use bucket::{Bucket, BucketSpec, Entry, Watch, Write};
pub use call::{Offer, Refusal};
pub use caller::{ANONYMOUS, Caller, UnknownCaller, caller};
pub use connect::Bus;
pub use consume::{ConsumerInfo, ConsumerSpec, Pulled, Puller};
pub use counters::Counts;
pub use delivery::{Delivery, Status};
pub use error::{
    CallError, ConnectError, ConsumeError, ObjectError, PublishError, StoreError, StreamError, SubscribeError,
};
pub use headers::{Headers, TRACEPARENT};
pub use inbox::Inbox;
pub use lease::{Lease, LeaseOptions};
pub use near::Reach;
pub use objects::ObjectRef;
pub use options::{Login, Options};
pub use replay::Replay;
pub use store::{Fence, Stored};
pub use stream::{Discard, Retention, StoredMessage, StreamInfo, StreamSpec};
pub use subscribe::Subscription;
pub use trace::{Asking, Traces};
