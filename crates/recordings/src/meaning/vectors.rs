//! Embeddings, whoever made them.

use serde_json::Value;

use super::{Meaning, buckets, chat, items};
use crate::{exchange::Exchange, family::Family};

pub(super) fn read(exchange: &Exchange, body: &Value, family: Family) -> Meaning {
    // Bedrock says it in a header where the model's own answer does not.
    let header =
        exchange.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-amzn-bedrock-input-token-count"));
    let header = header.and_then(|(_, count)| serde_json::from_str(count).ok()).unwrap_or(Value::Null);
    let or = |value: &'_ Value| if value.is_null() { header.clone() } else { value.clone() };
    match family {
        Family::Embeddings => {
            let mut data: Vec<&Value> = items(&body["data"]).collect();
            data.sort_by_key(|item| item["index"].as_u64());
            let (mut tokens, total) = chat::tokens(&body["usage"]);
            // There is no output; where the input is not named, it is the total.
            tokens.remove("output");
            if let (None, Some(total)) = (tokens.get("input"), total) {
                tokens.insert("input", total);
            }
            Meaning {
                vectors: data.iter().map(|item| item["embedding"].clone()).collect(),
                tokens,
                total,
                ..Meaning::default()
            }
        }
        Family::GeminiEmbed => {
            // One, several, or Vertex's predictions, which count their tokens each.
            let predicted = || items(&body["predictions"]).map(|one| &one["embeddings"]);
            let made = body.get("embedding").into_iter().chain(items(&body["embeddings"])).chain(predicted());
            let counts = predicted().filter_map(|one| one["statistics"]["token_count"].as_u64());
            let counted = predicted().next().map(|_| Value::from(counts.sum::<u64>()));
            let tokens = buckets([("input", counted.as_ref().unwrap_or(&body["usageMetadata"]["promptTokenCount"]))]);
            Meaning { vectors: made.map(|one| one["values"].clone()).collect(), tokens, ..Meaning::default() }
        }
        Family::TitanEmbed => {
            let tokens = buckets([("input", &or(&body["inputTextTokenCount"]))]);
            let by_type = body["embeddingsByType"].as_object().and_then(|by_type| by_type.values().next());
            let made = Some(&body["embedding"]).filter(|vector| vector.is_array()).or(by_type);
            Meaning { vectors: made.into_iter().cloned().collect(), tokens, ..Meaning::default() }
        }
        _ => {
            // By type (`float`, `int8`, …), of which one is asked for; or the bare list of the older form.
            let lists = match &body["embeddings"] {
                Value::Object(by_type) => {
                    by_type.values().find(|list| items(list).next().is_some()).unwrap_or(&Value::Null)
                }
                list => list,
            };
            let billed = &body["meta"]["billed_units"];
            // Older models bill images by the piece.
            let images = [&billed["image_tokens"], &billed["images"]].into_iter().find(|count| !count.is_null());
            let images = ("image_input", images.unwrap_or(&Value::Null));
            let tokens = buckets([("input", &or(&billed["input_tokens"])), images]);
            let total = billed.is_object().then(|| tokens.values().sum());
            Meaning { vectors: items(lists).cloned().collect(), tokens, total, ..Meaning::default() }
        }
    }
}
