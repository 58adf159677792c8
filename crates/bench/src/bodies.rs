//! The requests that are sent: about 400 bytes each, the same for the same seed.

use bytes::Bytes;
use farebox_testkit::Dice;

use crate::emulator::Model;

/// Different bodies; callers go round.
const COUNT: usize = 64;
const TASKS: usize = 16;
const WORDS: [&str; 16] = [
    "invoice", "quarter", "tram", "harbour", "ticket", "figure", "margin", "lantern", "ledger", "pepper", "window",
    "signal", "copper", "garden", "meadow", "parcel",
];

/// Bodies for one kind of call.
#[derive(Debug)]
pub(crate) struct Bodies(Vec<Bytes>);

impl Bodies {
    /// For the provider itself.
    pub(crate) fn direct(seed: u64, model: &Model, stream: bool) -> Bodies {
        // A client that asks a provider for its usage sees the events that farebox asks for.
        let tail = if stream { ",\"stream\":true,\"stream_options\":{\"include_usage\":true}" } else { "" };
        Bodies::new(seed, model.name, |_| tail.to_owned())
    }

    /// For farebox: the same and a task, which has a budget of its own.
    pub(crate) fn farebox(seed: u64, model: &Model, stream: bool) -> Bodies {
        let tail = if stream { ",\"stream\":true,\"stream_options\":{\"include_usage\":true}" } else { "" };
        Bodies::new(seed, model.alias, |i| format!("{tail},\"farebox\":{{\"task_id\":\"bench-{}\"}}", i % TASKS))
    }

    fn new(seed: u64, model: &str, tail: impl Fn(usize) -> String) -> Bodies {
        let mut dice = Dice::new(seed);
        let body = |i: usize| {
            // The lengths differ, so that equal sums of tokens mean something.
            let length = 250 + i % 41;
            let mut prompt = String::new();
            while prompt.len() < length {
                prompt.push_str(dice.of(&WORDS));
                prompt.push(' ');
            }
            prompt.truncate(length);
            let tail = tail(i);
            Bytes::from(format!(
                "{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"system\",\"content\":\"Answer briefly.\"}},\
                 {{\"role\":\"user\",\"content\":\"{prompt}\"}}],\"max_tokens\":100,\"temperature\":0.2{tail}}}"
            ))
        };
        Bodies((0..COUNT).map(body).collect())
    }

    pub(crate) fn get(&self, index: u64) -> Bytes {
        let at = usize::try_from(index % COUNT as u64).unwrap_or(0);
        self.0.get(at).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::{MODEL, PACED};

    #[test]
    fn bodies_are_json_of_the_size_that_is_claimed_and_follow_the_seed() {
        for bodies in [Bodies::direct(7, &PACED, false), Bodies::farebox(7, &PACED, true)] {
            for i in 0..COUNT as u64 {
                let body = bodies.get(i);
                assert!((350..=560).contains(&body.len()), "{}", body.len());
                serde_json::from_slice::<serde_json::Value>(&body).unwrap();
            }
        }
        assert_eq!(Bodies::direct(7, &MODEL, false).get(3), Bodies::direct(7, &MODEL, false).get(3));
        assert_ne!(Bodies::direct(7, &MODEL, false).get(3), Bodies::direct(8, &MODEL, false).get(3));
    }

    #[test]
    fn both_roads_carry_the_same_messages() {
        let messages = |body: Bytes| serde_json::from_slice::<serde_json::Value>(&body).unwrap()["messages"].clone();
        assert_eq!(
            messages(Bodies::direct(7, &MODEL, false).get(9)),
            messages(Bodies::farebox(7, &MODEL, true).get(9))
        );
    }
}
