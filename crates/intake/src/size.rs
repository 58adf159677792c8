//! How much a request can use at one deployment, what that costs at most, and how much it is expected to use.

use farebox_dialect::{DialectName, Operation, Outline};
use farebox_pricing::{Bound, Extent, Most, Priced, bound};
use farebox_proto::v1;
use farebox_providers::Deployment;

use crate::{options::Options, request::Request};

/// A request at one deployment.
pub(crate) struct Size<'a> {
    pub(crate) options: &'a Options,
    pub(crate) request: &'a Request,
    pub(crate) deployment: &'a Deployment,
    /// What the provider is spoken to in.
    pub(crate) dialect: DialectName,
    pub(crate) priced: &'a Priced,
}

/// The most output tokens of one answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OutputLimit {
    pub(crate) tokens: u64,
    /// What the request is to say where its caller said nothing; 0: nothing.
    pub(crate) sent: u64,
}

impl Size<'_> {
    /// How long an answer can be. What neither the caller nor the model itself limits is limited by the request that
    /// is sent; so is every call in a dialect that must name a limit, as its encoder would choose another one.
    pub(crate) fn output_limit(&self) -> OutputLimit {
        if self.request.operation() != Operation::Generate {
            return OutputLimit { tokens: 0, sent: 0 };
        }
        if let Some(tokens) = self.request.outline.max_output_tokens {
            return OutputLimit { tokens, sent: 0 };
        }
        if let Some(tokens) = self.deployment.default_max_tokens {
            return OutputLimit { tokens, sent: tokens };
        }
        let assumed = self.options.assumed_max_output_tokens;
        let entry = &self.priced.entry;
        match entry.max_output.or(entry.context_window.filter(|window| *window <= assumed)) {
            Some(tokens) if self.dialect != DialectName::AnthropicMessages => OutputLimit { tokens, sent: 0 },
            known => {
                let tokens = known.unwrap_or(assumed);
                OutputLimit { tokens, sent: tokens }
            }
        }
    }

    /// The most that one attempt can cost, or why nothing says so. What costs nothing is bounded, whatever it does.
    pub(crate) fn bound(&self) -> Bound {
        let tier = self.request.outline.service_tier.as_deref().filter(|_| self.unpriced_tier().is_none());
        let most = bound(&self.priced.card, self.extent(), tier.as_slice());
        let is_free = most == Most { max_tokens: most.max_tokens, ..Most::default() } && !self.unmetered();
        match self.unbounded().filter(|_| !is_free) {
            Some(reason) => Bound::Unbounded { reason, known: most.amount() },
            None => Bound::Bounded(most),
        }
    }

    /// Whether it may be billed for something that no usage shows at a price that is known.
    pub(crate) fn unmetered(&self) -> bool {
        let Outline { unmetered, unmetered_elsewhere, .. } = self.request.outline;
        let unmetered = if self.is_own_dialect() { unmetered } else { unmetered_elsewhere };
        unmetered || (self.searches() && self.priced.card.standard().per_search == 0) || self.unpriced_tier().is_some()
    }

    /// Elsewhere, the tools that the caller's own providers would run are left out.
    fn is_own_dialect(&self) -> bool {
        v1::Dialect::from(self.dialect) == self.request.dialect
    }

    fn searches(&self) -> bool {
        self.request.outline.searches && self.is_own_dialect()
    }

    /// Tokens that it will probably take, in and out: what a caller asks for at most is what it wants.
    pub(crate) fn expected_tokens(&self) -> u64 {
        let outline = &self.request.outline;
        if self.request.operation() == Operation::CountTokens {
            return 0;
        }
        let media_bytes = outline.media_bytes.min(self.request.body.len());
        let text = tokens(self.request.body.len() - media_bytes);
        let input = text.saturating_add(tokens(media_bytes).min(self.media())).min(self.extent().input);
        let answer = match self.request.operation() {
            Operation::Generate => outline
                .max_output_tokens
                .unwrap_or_else(|| self.options.assumed_answer_tokens.min(self.output_limit().tokens)),
            _ => 0,
        };
        input.saturating_add(answer.saturating_mul(self.answers()))
    }

    fn unbounded(&self) -> Option<String> {
        let outline = &self.request.outline;
        let fetched = outline.remote_media.as_ref().map(|field| {
            format!(
                "`{field}` makes the provider fetch something whose cost has no bound: send the content itself, in base64"
            )
        });
        let other = || {
            let unbounded = if self.is_own_dialect() { &outline.unbounded } else { &outline.unbounded_elsewhere };
            unbounded.as_ref().map(|field| {
                format!(
                    "`{field}` has a cost that nothing in the request bounds: send files in base64, and run tools \
                     (searches included) yourself, as functions"
                )
            })
        };
        let tier = || {
            let tier = self.unpriced_tier()?;
            Some(format!("`service_tier` asks for `{tier}`, of which no price is known for this model: leave it out"))
        };
        fetched.or_else(other).or_else(tier)
    }

    /// The service tier that is asked for, where its price is not known.
    fn unpriced_tier(&self) -> Option<&str> {
        let asked = self.request.outline.service_tier.as_deref()?;
        self.priced.card.priced_as(asked).is_none().then_some(asked)
    }

    /// The most of everything that one attempt can use. A token is at least one byte of the body; what a provider adds to
    /// messages and tools is smaller than what JSON adds, apart from the tools' own preamble.
    fn extent(&self) -> Extent {
        let outline = &self.request.outline;
        let bytes = count(self.request.body.len());
        let per_message = 16 * count(outline.messages);
        let preambles = count(outline.designed_tools).saturating_add(u64::from(outline.has_tools));
        let tools = preambles.saturating_mul(self.options.tool_overhead_tokens);
        let input = [per_message, tools, self.media(), self.repeated()].into_iter().fold(bytes, u64::saturating_add);
        // The window is for one text: of texts to embed and documents to rank, each has its own. Where there is a price for
        // what lies beyond it, it is not the end.
        let Priced { card, entry, .. } = self.priced;
        let window = entry.context_window.filter(|window| {
            self.request.operation() == Operation::Generate && card.tiers().iter().all(|tier| tier.above < *window)
        });
        let answers = self.answers();
        let searches = match self.request.operation() {
            Operation::Rerank => self.ranked(),
            _ if self.deployment.searches || self.searches() => self.options.searches_max.saturating_mul(answers),
            _ => 0,
        };
        Extent {
            input: window.map_or(input, |window| input.min(window)),
            max_tokens: self.output_limit().tokens,
            answers,
            searches,
        }
    }

    /// The most tokens of pictures, recordings and documents beyond their bytes.
    fn media(&self) -> u64 {
        let outline = &self.request.outline;
        // What is kept under a name is as long as it is; a provider of another dialect does not get to see the name.
        let kept = if self.dialect == DialectName::OpenAiResponses { outline.named_reasoning } else { 0 };
        let documents = count(outline.inline_documents + kept).saturating_mul(self.options.document_tokens_max);
        let pictures = count(outline.inline_media.saturating_sub(outline.inline_documents));
        pictures.saturating_mul(self.options.media_tokens_max).saturating_add(documents)
    }

    /// Answers to one call: of several prompts in one body, each has answers of its own.
    fn answers(&self) -> u64 {
        let Request { dialect, outline, .. } = self.request;
        let prompts = if *dialect == v1::Dialect::OpenaiCompletions { count(outline.messages).max(1) } else { 1 };
        outline.n.unwrap_or(1).max(1).saturating_mul(prompts)
    }

    /// The most tokens of what is read again with each document.
    fn repeated(&self) -> u64 {
        let Outline { repeated, messages, .. } = &self.request.outline;
        count(repeated.saturating_mul(*messages))
    }

    /// The most search units that a ranking can cost: units of a hundred documents, and a document counts once more for
    /// each 500 tokens.
    fn ranked(&self) -> u64 {
        let bytes = count(self.request.body.len()).saturating_add(self.repeated());
        count(self.request.outline.messages).saturating_add(bytes / 500).div_ceil(100)
    }
}

fn count(things: usize) -> u64 {
    u64::try_from(things).unwrap_or(u64::MAX)
}

/// About as many as a text of this length has.
fn tokens(bytes: usize) -> u64 {
    count(bytes.div_ceil(4))
}
