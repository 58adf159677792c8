//! One input made of others.

use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};

use crate::{frames::Shape, json, targets::Seed};

/// No input grows beyond this: the laws hold for short ones or not at all.
const LONGEST: usize = 64 * 1024;

/// A seed, changed once or a few times over.
pub(crate) fn draw(seeds: &[Seed], rng: &mut StdRng) -> Vec<u8> {
    let Some(seed) = seeds.choose(rng) else { return Vec::new() };
    let mut input = seed.bytes.clone();
    for _ in 0..rng.random_range(1..=4) {
        input = match rng.random_range(0..10) {
            0 | 1 => bytes(input, seeds, rng),
            2..=4 => frames(seed.shape, &input, seeds, rng),
            _ => values(seed.shape, &input, rng),
        };
        input.truncate(LONGEST);
    }
    input
}

/// Changes that know nothing of the form.
fn bytes(mut input: Vec<u8>, seeds: &[Seed], rng: &mut StdRng) -> Vec<u8> {
    let (from, to) = range(input.len(), rng);
    match rng.random_range(0..7) {
        0 => input.truncate(from),
        1 => drop(input.drain(from..to.min(from + 20))),
        2 => input.splice(from..from, input[from..to].to_vec()).for_each(drop),
        3 => {
            let noise: Vec<u8> = (0..rng.random_range(1..12)).map(|_| rng.random()).collect();
            input.splice(from..from, noise).for_each(drop);
        }
        4 => {
            let other = seeds.choose(rng).map(|seed| seed.bytes.as_slice()).unwrap_or_default();
            let (start, end) = range(other.len(), rng);
            input.splice(from..to, other[start..end].iter().copied()).for_each(drop);
        }
        5 => {
            const TELLING: &[u8] = b"\"\\{}[],: \n\r\t0-e\x00\x7f\xff\xef\xbb\xbf";
            if let (Some(byte), Some(new)) = (input.get_mut(from), TELLING.choose(rng)) {
                *byte = *new;
            }
        }
        _ => {
            if let Some(byte) = input.get_mut(from) {
                *byte ^= 1 << rng.random_range(0..8);
            }
        }
    }
    input
}

fn range(length: usize, rng: &mut StdRng) -> (usize, usize) {
    let (a, b) = (rng.random_range(0..=length), rng.random_range(0..=length));
    (a.min(b), a.max(b))
}

/// Frames taken out, doubled, moved, or put in from elsewhere.
fn frames(shape: Shape, input: &[u8], seeds: &[Seed], rng: &mut StdRng) -> Vec<u8> {
    let mut frames = shape.split(input);
    let (from, to) = range(frames.len(), rng);
    match rng.random_range(0..6) {
        0 => frames.truncate(from),
        1 => drop(frames.drain(from..to.min(from + 2))),
        2 if from < frames.len() => {
            let again = frames[from].clone();
            let times = if rng.random_range(0..10) == 0 { 50 } else { 1 };
            frames.splice(to..to, std::iter::repeat_n(again, times)).for_each(drop);
        }
        3 if to < frames.len() => frames.swap(from, to),
        4 if from < frames.len() => frames[from..to].reverse(),
        _ => {
            let alike: Vec<&Seed> = seeds.iter().filter(|seed| seed.shape == shape).collect();
            let other = alike.choose(rng).map(|seed| shape.split(&seed.bytes)).unwrap_or_default();
            let (start, end) = range(other.len(), rng);
            frames.splice(from..to, other[start..end].iter().cloned()).for_each(drop);
        }
    }
    shape.join(&frames)
}

/// A value within one frame.
fn values(shape: Shape, input: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let mut frames = shape.split(input);
    if !frames.is_empty() {
        let at = rng.random_range(0..frames.len());
        if let Some(changed) = shape.edit(&frames[at], |text| json::change(text, rng)) {
            frames[at] = changed;
        }
    }
    shape.join(&frames)
}
