//! The one place that says what happens to a frame that is not as expected.
//!
//! | frame | what happens |
//! |---|---|
//! | understood | its events |
//! | of an unknown type | [`Event::Unknown`] with the type; the stream goes on |
//! | corrupt (no JSON, an array for an object, a field of the wrong type, a part that never began) | [`DecodeError::Corrupt`]; the stream is over |
//! | larger than the limit | [`DecodeError::Oversize`]; the stream is over |
//! | the provider's error | [`Event::Error`]; the stream is over: [`Ending::Refused`] |
//! | the provider's terminal event | the stream is over: [`Ending::Complete`] if every choice has said why it finished, else [`Truncated`] |
//! | anything after the end | ignored |
//! | cut at the end of the bytes | counts only if it is the terminal event whole but for its closing mark |
//! | no terminal event | [`Truncated`], unless the API has none and the answer has said why it finished |

use crate::{
    canonical::{Ending, Event, Refusal, Truncated},
    dialect::{DialectName, StreamDecoder},
    error::{DecodeError, FrameError},
    framing::{Frame, Framing, event_stream},
};

/// What a dialect makes of one frame.
pub(crate) enum Verdict {
    Understood,
    Unknown(String),
    Corrupt(String),
    Refused(Refusal),
    Terminal,
}

/// The meaning of a dialect's frames: all that a new streamed dialect has to write.
pub(crate) trait Wire: Send {
    const DIALECT: DialectName;
    /// The terminal event's name, for a person.
    const TERMINAL: &'static str;
    /// What says why the answer finished, for a person.
    const FINISH: &'static str;

    fn interpret(&mut self, frame: Frame<'_>, out: &mut Vec<Event>) -> Verdict;

    /// Whether this is the terminal event, without any effect.
    fn is_terminal(&self, frame: Frame<'_>) -> bool;

    /// Whether the answer is whole if the connection ends here, for APIs that have no terminal event of their own.
    fn ends_here(&self) -> bool {
        false
    }

    /// The terminal event has come: the events that were held back. `false` when an answer never said why it finished.
    fn complete(&mut self, out: &mut Vec<Event>) -> bool;
}

enum State {
    Open,
    Complete,
    Unfinished,
    Refused(Refusal),
    Failed(DecodeError),
}

/// Framing, meaning and policy of one streamed answer.
pub(crate) struct Decoder<W> {
    framing: Box<dyn Framing>,
    wire: W,
    state: State,
}

impl<W: Wire> Decoder<W> {
    pub(crate) fn new(framing: Box<dyn Framing>, wire: W) -> Decoder<W> {
        Decoder { framing, wire, state: State::Open }
    }

    fn terminal(wire: &mut W, out: &mut Vec<Event>) -> State {
        if wire.complete(out) { State::Complete } else { State::Unfinished }
    }
}

/// No dialect's frame is an array, though what serde derives would read one ([`crate::json::Strict`]). Exceptions are
/// told by their names.
fn is_array(frame: Frame<'_>) -> bool {
    let data = frame.data.trim_ascii();
    data.starts_with(b"[") && data != b"[DONE]" && event_stream::exception(&frame).is_none()
}

impl<W: Wire> StreamDecoder for Decoder<W> {
    fn watch(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<Event>,
        seen: &mut dyn FnMut(Frame<'_>),
    ) -> Result<(), DecodeError> {
        if matches!(self.state, State::Open) {
            self.framing.push(bytes);
        }
        while matches!(self.state, State::Open) {
            let frame = match self.framing.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(FrameError::Oversize(oversize)) => {
                    self.state = State::Failed(oversize.into());
                    break;
                }
                Err(FrameError::Corrupt(problem)) => {
                    let problem = problem.to_owned();
                    self.state = State::Failed(DecodeError::Corrupt { dialect: W::DIALECT, problem });
                    break;
                }
            };
            let verdict = if is_array(frame) {
                Verdict::Corrupt("an array stands where an object should".to_owned())
            } else {
                self.wire.interpret(frame, out)
            };
            if matches!(verdict, Verdict::Understood | Verdict::Unknown(_) | Verdict::Terminal) {
                seen(frame);
            }
            match verdict {
                Verdict::Understood => {}
                Verdict::Unknown(kind) => out.push(Event::Unknown(kind)),
                Verdict::Corrupt(problem) => {
                    self.state = State::Failed(DecodeError::Corrupt { dialect: W::DIALECT, problem });
                }
                Verdict::Refused(refusal) => {
                    out.push(Event::Error(refusal.clone()));
                    self.state = State::Refused(refusal);
                }
                Verdict::Terminal => self.state = Self::terminal(&mut self.wire, out),
            }
        }
        match &self.state {
            State::Failed(error) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    fn is_done(&self) -> bool {
        !matches!(self.state, State::Open)
    }

    fn watch_end(&mut self, out: &mut Vec<Event>, seen: &mut dyn FnMut(Frame<'_>)) -> Result<Ending, Truncated> {
        if matches!(self.state, State::Open) {
            let last = self.framing.finish().filter(|last| !is_array(*last) && self.wire.is_terminal(*last));
            // The terminal event may carry more than the end: usage, or why it ended.
            let terminal = last.filter(|last| matches!(self.wire.interpret(*last, out), Verdict::Terminal));
            terminal.into_iter().for_each(seen);
            if terminal.is_some() || self.wire.ends_here() {
                self.state = Self::terminal(&mut self.wire, out);
            }
        }
        match &self.state {
            State::Complete => Ok(Ending::Complete),
            State::Refused(refusal) => Ok(Ending::Refused(refusal.clone())),
            State::Unfinished => Err(Truncated { missing: W::FINISH }),
            State::Open | State::Failed(_) => Err(Truncated { missing: W::TERMINAL }),
        }
    }
}
