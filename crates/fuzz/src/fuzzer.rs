//! Draws inputs for a target until its time is over or a law is broken.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::{Duration, Instant},
};

use rand::{SeedableRng as _, rngs::StdRng};

use crate::{mutate, targets::Target};

/// No input may take longer: unoptimised, and on a machine that is busy with other things.
const SLOWEST: Duration = Duration::from_secs(10);
/// How long a failing input is made smaller.
const MINIMISING: Duration = Duration::from_secs(10);

/// Draws inputs from a seed.
pub struct Fuzzer {
    pub seed: u64,
    /// Where each input is kept while it is tried: some end the process, or never end.
    pub keep: PathBuf,
}

/// A law that an input breaks.
#[derive(Debug)]
pub struct Failure {
    pub input: Vec<u8>,
    pub problem: String,
}

impl Fuzzer {
    /// Every seed as it is, then inputs made from them; says how many there were.
    pub fn run(&self, target: &Target, time: Duration) -> std::io::Result<Result<usize, Failure>> {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let start = Instant::now();
        let mut drawn = 0;
        while drawn < target.seeds.len() || start.elapsed() < time {
            let input = match target.seeds.get(drawn) {
                Some(seed) => seed.bytes.clone(),
                None => mutate::draw(&target.seeds, &mut rng),
            };
            std::fs::write(&self.keep, &input)?;
            if let Err(failure) = check(target, input) {
                std::fs::write(&self.keep, &failure.input)?;
                return Ok(Err(failure));
            }
            drawn += 1;
        }
        Ok(Ok(drawn))
    }

    /// One input as it is.
    pub fn replay(target: &Target, input: &[u8]) -> Result<(), String> {
        holds(target, input)
    }
}

fn check(target: &Target, input: Vec<u8>) -> Result<(), Failure> {
    let Err(problem) = holds(target, &input) else { return Ok(()) };
    let input = minimise(target, input, &problem);
    let problem = holds(target, &input).err().unwrap_or(problem);
    Err(Failure { input, problem })
}

fn holds(target: &Target, input: &[u8]) -> Result<(), String> {
    let start = Instant::now();
    catch_unwind(AssertUnwindSafe(|| (target.check)(input))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        format!("panic: {}", text.unwrap_or_default())
    })??;
    let taken = start.elapsed();
    if taken > SLOWEST { Err(format!("slow: {} bytes took {taken:?}", input.len())) } else { Ok(()) }
}

/// Takes frames out, then bytes, in pieces of halving size, as long as the same law is broken.
fn minimise(target: &Target, mut input: Vec<u8>, problem: &str) -> Vec<u8> {
    let end = Instant::now() + MINIMISING;
    let law = |problem: &str| problem.split(':').next().map(str::to_owned);
    let fails = |input: &[u8]| holds(target, input).is_err_and(|other| law(&other) == law(problem));
    if let Some(shape) = target.seeds.first().map(|seed| seed.shape) {
        let mut frames = shape.split(&input);
        smaller(&mut frames, end, |frames| fails(&shape.join(frames)));
        let joined = shape.join(&frames);
        if fails(&joined) {
            input = joined;
        }
    }
    smaller(&mut input, end, fails);
    input
}

fn smaller<T: Clone>(items: &mut Vec<T>, end: Instant, fails: impl Fn(&[T]) -> bool) {
    let mut size = items.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < items.len() && Instant::now() < end {
            let rest = [&items[..at], &items[(at + size).min(items.len())..]].concat();
            if fails(&rest) { *items = rest } else { at += size }
        }
        size /= 2;
    }
}
