//! Decodes an exchange with the dialects and compares it with what it says.

mod answer;
mod compare;
mod request;
mod stream;

use farebox_dialect::{DialectName, Hosting, provider_dialect};

use crate::{
    exchange::Exchange,
    family::{Family, Host},
    meaning::{self, Meaning},
};

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Match,
    /// What differs, a sentence each.
    Mismatch(Vec<String>),
    /// Why it is not checked.
    Unsupported(String),
    /// farebox has no decoder of this dialect.
    NotThere(DialectName),
}

/// The whole check of an exchange, request included.
pub fn check(exchange: &Exchange) -> Verdict {
    let subject = match Subject::new(exchange) {
        Ok(subject) => subject,
        Err(reason) => return Verdict::Unsupported(reason),
    };
    if !subject.is_there() {
        return Verdict::NotThere(subject.dialect);
    }
    let mut faults = subject.against(exchange);
    faults.extend(stream::laws(exchange, &subject));
    faults.extend(request::check(exchange, &subject));
    if faults.is_empty() { Verdict::Match } else { Verdict::Mismatch(faults) }
}

/// An exchange that can be checked, and what it says.
pub struct Subject {
    pub family: Family,
    pub host: Host,
    pub meaning: Meaning,
    dialect: DialectName,
}

impl Subject {
    /// `Err`: why it cannot be checked.
    pub fn new(exchange: &Exchange) -> Result<Subject, String> {
        let (family, host) = Family::of(exchange)?;
        let meaning = meaning::read(exchange, family, host)?;
        Ok(Subject { family, host, meaning, dialect: dialect(family) })
    }

    pub fn is_there(&self) -> bool {
        let Some(provider) = provider_dialect(self.dialect) else { return false };
        let counts = matches!(self.family, Family::AnthropicCount | Family::BedrockCount | Family::GeminiCount);
        !counts || provider.generate().is_some_and(|dialect| dialect.counting().is_some())
    }

    /// What farebox makes of the answer of `exchange`, where it is not what is expected.
    pub fn against(&self, exchange: &Exchange) -> Vec<String> {
        match answer::decode(exchange, self) {
            Ok(got) => compare::differences(&self.meaning, &got, exchange.status),
            Err(problem) => vec![problem],
        }
    }

    fn hosting(&self) -> Hosting {
        match self.host {
            Host::Own => Hosting::Own,
            Host::Vertex => Hosting::Vertex,
            Host::Invoke => Hosting::Bedrock,
        }
    }
}

fn dialect(family: Family) -> DialectName {
    match family {
        Family::Chat => DialectName::OpenAiChat,
        Family::Completions => DialectName::OpenAiCompletions,
        Family::Responses => DialectName::OpenAiResponses,
        Family::Embeddings => DialectName::OpenAiEmbeddings,
        Family::Anthropic | Family::AnthropicCount => DialectName::AnthropicMessages,
        Family::Gemini | Family::GeminiCount => DialectName::Gemini,
        Family::GeminiEmbed => DialectName::GeminiEmbeddings,
        Family::Converse | Family::BedrockCount => DialectName::BedrockConverse,
        Family::TitanEmbed => DialectName::TitanEmbeddings,
        Family::CohereChat => DialectName::CohereChat,
        Family::CohereEmbed => DialectName::CohereEmbed,
        Family::CohereRerank => DialectName::CohereRerank,
        Family::Ollama => DialectName::OllamaChat,
    }
}
