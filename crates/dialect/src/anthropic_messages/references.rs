//! Tools that a search has found, by their names:
//! <https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/tool-search-tool>.
//!
//! In other dialects all tools of a call are open from the start: there a reference is a sentence.

use super::types::NAME;
use crate::canonical::{Call, Content, Part};

const REFERENCE: &str = "tool_reference";

/// Says in words what results of tools refer to.
pub(crate) fn spell_out(call: &mut Call) {
    for part in call.messages.iter_mut().flat_map(|message| &mut message.parts) {
        if let Content::ToolResult(result) = &mut part.content {
            result.parts.iter_mut().for_each(spell);
        }
    }
}

fn spell(part: &mut Part) {
    #[derive(serde::Deserialize)]
    struct Reference {
        tool_name: String,
    }
    if let Content::Other { dialect: NAME, kind, raw } = &part.content
        && kind == REFERENCE
        && let Ok(Reference { tool_name }) = serde_json::from_str(raw.as_str())
    {
        part.content = Content::Text(format!("The tool `{tool_name}` can be called now."));
    }
}
