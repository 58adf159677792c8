//! `farebox call`: one request, its answer, and what it took.

use std::{pin::pin, process::ExitCode, time::Duration};

use clap::Args;
use farebox_client::{Error, Piece};
use farebox_proto::{
    json,
    v1::{self, llm_chunk, llm_response::Result as Answer},
};
use farebox_runtime::Signals;
use farebox_types::{Fault, SystemClock};
use tokio::time::{Instant, timeout};

use super::{
    answer::{self, Printer},
    connect::{ConnectArgs, Link},
    failure::{self, Failure},
    output::Output,
    progress::{Waited, wait},
    request::{Form, Prepared, RequestArgs, Road},
};

/// How long the final answer of a call that was cancelled is waited for.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// An answer may come this much after its deadline: it says that the deadline has passed.
const GRACE: Duration = Duration::from_secs(2);

/// Asks a model and prints its answer
#[derive(Args, Clone, Debug)]
pub(crate) struct CallArgs {
    #[command(flatten)]
    request: RequestArgs,
    /// Print the answer as it comes
    #[arg(long, conflicts_with = "job")]
    stream: bool,
    /// Store the request as a job, which outlives every crash, and wait for its answer
    #[arg(long)]
    job: bool,
    /// Store the job and print only its request id
    #[arg(long, requires = "job")]
    detach: bool,
    /// Print the answer as OpenAI's JSON with a `farebox` object, one object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// One call under way.
struct Session<'a> {
    link: &'a Link,
    call: &'a Prepared,
    json: bool,
    signals: Signals,
    since: Instant,
    output: &'a mut Output,
}

impl CallArgs {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        self.run_on(&mut Output::standard()).await
    }

    async fn run_on(self, output: &mut Output) -> anyhow::Result<ExitCode> {
        let ended = Box::pin(self.attempt(output)).await;
        failure::finish(ended, output)
    }

    async fn attempt(self, output: &mut Output) -> Result<(), Failure> {
        let road = match (self.job, self.stream) {
            (true, _) => Road::Job,
            (false, true) => Road::Stream,
            (false, false) => Road::Whole,
        };
        let form = if self.json { Form::OpenAi } else { Form::Typed };
        let call = self.request.prepare(form, road, &SystemClock)?;
        let link = self.connect.connect().await?;
        let signals = Signals::listen().map_err(Failure::Output)?;
        let mut session = Session { link: &link, call: &call, json: self.json, signals, since: Instant::now(), output };
        match road {
            Road::Job => session.job(self.detach).await,
            Road::Stream => session.stream().await,
            Road::Whole => session.whole().await,
        }
    }
}

impl Session<'_> {
    async fn whole(&mut self) -> Result<(), Failure> {
        let asked = self.link.client.call(self.call.request.clone());
        let text = format!("waiting for {}", self.call.target);
        let answered = self.finally(asked, &text).await?;
        self.print(answered)
    }

    async fn job(&mut self, detach: bool) -> Result<(), Failure> {
        let receipt = match self.link.client.job(&self.call.request).await {
            Ok(receipt) => receipt,
            Err(error) => return self.print(Err(error)),
        };
        if detach {
            self.output.line(&receipt.request_id)?;
            return Ok(());
        }
        let before = if receipt.duplicate { "was stored before" } else { "is stored" };
        self.output.note(&format!("job `{}` {before}", receipt.request_id));
        let asked = self.link.client.wait(&self.call.id, self.call.within.get() + GRACE);
        let answered = self.finally(asked, "waiting for the job to end").await?;
        self.print(answered)
    }

    async fn stream(&mut self) -> Result<(), Failure> {
        let mut stream = self.link.client.stream(self.call.request.clone()).await?;
        let mut printer = Printer::default();
        let text = format!("waiting for {}", self.call.target);
        let mut begun = false;
        loop {
            let piece = {
                let mut next = pin!(stream.next());
                if begun {
                    tokio::select! {
                        biased;
                        _ = self.signals.next() => Waited::Interrupted,
                        piece = &mut next => Waited::Done(piece),
                    }
                } else {
                    wait(next, &text, self.since, &mut self.signals, self.output).await
                }
            };
            let piece = match piece {
                Waited::Done(piece) => piece,
                Waited::Interrupted => {
                    printer.end_line(self.output)?;
                    self.cancel().await?;
                    let last = async {
                        loop {
                            match stream.next().await {
                                Some(Ok(Piece::Chunk(_)) | Err(Error::Gap { .. })) => {}
                                last => break last,
                            }
                        }
                    };
                    let last = timeout(LAST_WORDS, last).await;
                    last.map_err(|_| Failure::Stopped("stopped before the final answer came".into()))?
                }
            };
            match piece {
                Some(Ok(Piece::Chunk(chunk))) => {
                    begun = true;
                    self.chunk(&chunk, &mut printer)?;
                }
                Some(Ok(Piece::Final(whole))) => return self.end_of_stream(&whole, &mut printer),
                Some(Err(gap @ Error::Gap { .. })) if self.json => self.output.note(&format!("warning: {gap}")),
                Some(Err(Error::Gap { .. })) => printer.gap(),
                Some(Err(error)) => {
                    printer.end_line(self.output)?;
                    return self.print(Err(error));
                }
                None => return Err(Failure::Stopped("the stream ended without a final answer".into())),
            }
        }
    }

    fn chunk(&mut self, chunk: &v1::LlmChunk, printer: &mut Printer) -> Result<(), Failure> {
        match &chunk.piece {
            Some(llm_chunk::Piece::Raw(raw)) if self.json => {
                self.output.json_line(&json::chunk(&chunk.request_id, chunk.seq, raw))?;
            }
            Some(llm_chunk::Piece::Delta(delta)) => printer.delta(delta, self.output)?,
            _ => {}
        }
        Ok(())
    }

    fn end_of_stream(&mut self, whole: &v1::LlmResponse, printer: &mut Printer) -> Result<(), Failure> {
        if self.json {
            self.output.json_line(&json::final_answer(whole))?;
        } else if !matches!(whole.result, Some(Answer::Stored(_))) {
            printer.finish(answer::completion(whole)?, self.output)?;
        } else {
            // Too large for one message: what was streamed is all there is here.
            printer.end_line(self.output)?;
        }
        self.report(whole);
        Ok(())
    }

    /// Waits for the final answer. Ctrl-C cancels the call on the bus, and its last words are still heard.
    async fn finally(
        &mut self,
        asked: impl Future<Output = Result<v1::LlmResponse, Error>>,
        text: &str,
    ) -> Result<Result<v1::LlmResponse, Error>, Failure> {
        let mut asked = pin!(asked);
        match wait(asked.as_mut(), text, self.since, &mut self.signals, self.output).await {
            Waited::Done(answered) => Ok(answered),
            Waited::Interrupted => {
                self.cancel().await?;
                let last = timeout(LAST_WORDS, asked).await;
                last.map_err(|_| Failure::Stopped("stopped before the final answer came".into()))
            }
        }
    }

    /// Asks farebox to stop the call; a second Ctrl-C does not wait for that.
    async fn cancel(&mut self) -> Result<(), Failure> {
        let id = &self.call.id;
        let asked = pin!(self.link.client.cancel(id));
        match wait(asked, "cancelling", self.since, &mut self.signals, self.output).await {
            Waited::Done(Ok(true)) => {
                self.output.note(&format!("cancelled `{id}`"));
                Ok(())
            }
            Waited::Done(Ok(false)) => {
                self.output.note(&format!("`{id}` was not running any more: nothing was cancelled"));
                Ok(())
            }
            Waited::Done(Err(error)) => {
                Err(Failure::Stopped(format!("`{id}` could not be cancelled ({error}): it goes on until its deadline")))
            }
            Waited::Interrupted => Err(Failure::Stopped(format!(
                "stopped while `{id}` was being cancelled: it may go on until its deadline"
            ))),
        }
    }

    fn print(&mut self, answered: Result<v1::LlmResponse, Error>) -> Result<(), Failure> {
        let response = match answered {
            Ok(response) => response,
            Err(error) => {
                let failure = Failure::from(error);
                if let (true, Failure::Refused(fault)) = (self.json, &failure) {
                    self.output.json_line(&self.refusal(fault))?;
                }
                return Err(failure);
            }
        };
        if self.json {
            self.output.json_line(&json::final_answer(&response))?;
        } else {
            let text = answer::text(answer::completion(&response)?);
            self.output.write(&text)?;
            if !text.ends_with('\n') {
                self.output.write("\n")?;
            }
        }
        self.report(&response);
        Ok(())
    }

    /// The JSON form of an error.
    fn refusal(&self, fault: &Fault) -> Vec<u8> {
        json::final_answer(&v1::LlmResponse {
            request_id: self.call.id.as_str().to_owned(),
            result: Some(Answer::Error(fault.clone().into())),
            ..v1::LlmResponse::default()
        })
    }

    fn report(&mut self, response: &v1::LlmResponse) {
        for line in answer::report(response) {
            self.output.note(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CallArgs,
    }

    fn parse(line: &[&str]) -> Result<CallArgs, String> {
        let words = std::iter::once("call").chain(line.iter().copied());
        Line::try_parse_from(words).map(|line| line.args).map_err(|error| error.to_string())
    }

    #[test]
    fn a_job_is_not_streamed_and_only_a_job_is_detached() {
        assert!(parse(&["hi", "--job", "--detach", "--json"]).is_ok_and(|args| args.job && args.detach && args.json));
        assert!(parse(&["hi", "--job", "--stream"]).unwrap_err().contains("cannot be used with"));
        assert!(parse(&["hi", "--detach"]).unwrap_err().contains("--job"));
    }

    #[tokio::test]
    async fn without_a_server_it_says_so_and_ends_with_three() {
        let (mut output, out, err) = super::super::output::captured::output();
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().display().to_string();
        let code = parse(&["hi", "--data", &data]).unwrap().run_on(&mut output).await.unwrap();
        assert_eq!(code, ExitCode::from(3));
        assert_eq!(out.text(), "");
        assert!(err.text().starts_with("error: no farebox is running here ("), "{}", err.text());
    }
}
