//! The words of calls and answers in a row, for counting tokens. Media are no words.

use super::{
    call::{Call, Content, Part},
    completion::Completion,
    embedding::{EmbedCall, EmbedInput},
    rerank::{RerankCall, RerankDocument},
};

impl Call {
    /// Everything that a model reads: messages, and tools with their schemas.
    pub fn written(&self) -> String {
        let mut out = String::new();
        for message in &self.messages {
            parts(&message.parts, &mut out);
        }
        for tool in &self.tools {
            let schema = tool.parameters.as_ref().map(|raw| raw.as_str());
            for words in [Some(tool.name.as_str()), tool.description.as_deref(), schema].into_iter().flatten() {
                line(words, &mut out);
            }
        }
        self.native_tools.iter().for_each(|tool| line(tool.raw.as_str(), &mut out));
        out
    }
}

impl Call {
    pub fn has_media(&self) -> bool {
        self.messages.iter().any(|message| carry_media(&message.parts))
    }
}

impl EmbedCall {
    pub fn has_media(&self) -> bool {
        self.inputs.iter().any(|input| matches!(input, EmbedInput::Parts(given) if carry_media(given)))
    }
}

fn carry_media(given: &[Part]) -> bool {
    given.iter().any(|part| match &part.content {
        Content::Image(_) | Content::File(_) | Content::Audio(_) => true,
        Content::ToolResult(result) => carry_media(&result.parts),
        _ => false,
    })
}

impl Completion {
    /// Everything that the model wrote, in all choices.
    pub fn written(&self) -> String {
        let mut out = String::new();
        self.choices.iter().for_each(|choice| parts(&choice.parts, &mut out));
        out
    }
}

impl EmbedCall {
    pub fn written(&self) -> String {
        let mut out = String::new();
        for input in &self.inputs {
            match input {
                EmbedInput::Text(text) => line(text, &mut out),
                // Counted already; a figure stands for a token well enough.
                EmbedInput::Tokens(ids) => ids.iter().for_each(|_| line("a", &mut out)),
                EmbedInput::Parts(given) => parts(given, &mut out),
            }
        }
        out
    }
}

impl RerankCall {
    pub fn written(&self) -> String {
        let mut out = self.query.clone();
        for document in &self.documents {
            match document {
                RerankDocument::Text(text) => line(text, &mut out),
                RerankDocument::Fields(raw) => line(raw.as_str(), &mut out),
            }
        }
        out
    }
}

fn parts(given: &[Part], out: &mut String) {
    for part in given {
        match &part.content {
            Content::Text(text) | Content::Refusal(text) => line(text, out),
            Content::ToolCall(call) => {
                line(&call.name, out);
                line(&call.arguments, out);
            }
            Content::ToolResult(result) => parts(&result.parts, out),
            Content::Reasoning(reasoning) => line(reasoning.encrypted.as_deref().unwrap_or(&reasoning.text), out),
            Content::Other { raw, .. } => line(raw.as_str(), out),
            Content::Image(_) | Content::File(_) | Content::Audio(_) => {}
        }
    }
}

fn line(words: &str, out: &mut String) {
    out.push_str(words);
    out.push('\n');
}
