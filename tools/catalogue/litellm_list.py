"""litellm's list: one object for each spelled-out model, amounts in dollars for one token."""

import re
from decimal import Decimal

from rows import MILLION, rounded, scaled

MODES = {"chat", "completion", "responses", "embedding", "rerank"}

# litellm's provider words, where farebox's price table has another one. Others: `_` becomes `-`.
PROVIDERS = {
    "amazon_nova": "amazon-nova", "azure_text": "azure", "bedrock_converse": "bedrock", "cohere_chat": "cohere",
    "fireworks_ai": "fireworks", "fireworks_ai-embedding-models": "fireworks",
    "text-completion-codestral": "codestral", "text-completion-inception": "inception",
    "text-completion-openai": "openai", "together_ai": "together", "vercel_ai_gateway": "vercel",
}
# Words before a model's name in litellm's keys that are not part of it.
FOLDERS = {"invoke", "converse", "claude_platform"}
REGION = re.compile(r"^([a-z]{2}(-gov)?-[a-z]+-\d|us|eu|global|global-standard|data-zone|us-gov)$")
# What counts where a request says nothing of the size of its search context.
DEFAULT_SEARCH = {"perplexity": "low"}
BY_REQUEST = {"perplexity"}
# Thresholds that belong to the higher price themselves.
INCLUSIVE = {"xai"}
FREE = {"ollama", "lemonade"}

FIELDS = {
    "input_cost_per_token": "input", "output_cost_per_token": "output", "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write_5m", "output_cost_per_reasoning_token": "reasoning",
    "cache_creation_input_token_cost_above_12hr": "cache_write_1h",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "input_cost_per_audio_token": "audio_input", "output_cost_per_audio_token": "audio_output",
    "input_cost_per_image_token": "image_input", "output_cost_per_image_token": "image_output",
    "cache_read_input_audio_token_cost": "cache_read_audio",
}
SERVICE = {"batches": "batch", "flex": "flex", "priority": "priority", "balanced": "balanced", "ultrafast": "ultrafast"}
SUFFIX = re.compile(r"^(.*?)(?:_above_(\d+)k_tokens)?(?:_(batches|flex|priority|balanced|ultrafast))?$")

CAPABILITIES = {
    "supports_function_calling": "tools", "supports_parallel_function_calling": "parallel_tools",
    "supports_vision": "vision", "supports_pdf_input": "pdf", "supports_audio_input": "audio_input",
    "supports_audio_output": "audio_output", "supports_video_input": "video", "supports_response_schema": "json_schema",
    "supports_reasoning": "reasoning", "supports_prompt_caching": "prompt_caching", "supports_web_search": "web_search",
    "supports_computer_use": "computer_use",
}


def named(key, provider):
    """The name that the provider is sent, and the region where the key has one."""
    parts = key.split("/")
    heads = {provider, provider.split("-")[0], "amazon-nova", "bedrock", "vertex_ai", "azure_ai", "openai"}
    if provider in ("cohere_chat",):
        heads.add("cohere")
    if len(parts) > 1 and parts[0] in heads and not (parts[0] == "openai" and provider != "openai"):
        parts = parts[1:]
    region = None
    while len(parts) > 1 and (parts[0] in FOLDERS or REGION.match(parts[0]) and provider != "openai"):
        region = region if parts[0] in FOLDERS else parts[0]
        parts = parts[1:]
    return "/".join(parts), None if region in ("global", "global-standard") else region


def provider_of(entry):
    word = entry["litellm_provider"]
    if word.startswith("vertex_ai"):
        return "vertex"
    return PROVIDERS.get(word, word.replace("_", "-"))


def amounts_of(entry, provider):
    """Amounts by (service tier, threshold)."""
    found = {}
    for name in sorted(entry):
        value = entry[name]
        base, above, service = SUFFIX.match(name).groups()
        # `…_above_1hr_above_200k_tokens` has the bucket's own suffix first.
        bucket = FIELDS.get(base)
        if bucket is None or value is None or isinstance(value, (dict, list, str, bool)):
            continue
        place = found.setdefault((SERVICE.get(service, ""), int(above or 0) * 1000), {})
        # The price for an hour comes after the one for twelve in this order, and replaces it.
        place[bucket] = rounded(Decimal(value) * MILLION)
    for step in entry.get("tiered_pricing") or []:
        low = int(step.get("range", [0])[0])
        place = found.setdefault(("", low), {})
        for name, bucket in FIELDS.items():
            if name in step:
                place[bucket] = rounded(Decimal(step[name]) * MILLION)
    standard = found.setdefault(("", 0), {})
    if "cache_read" not in standard and "input_cost_per_token_cache_hit" in entry:
        standard["cache_read"] = rounded(Decimal(entry["input_cost_per_token_cache_hit"]) * MILLION)
    # A cache write that costs nothing is one that nobody is billed for apart: it is plain input.
    for place in found.values():
        for bucket in ("cache_write_5m", "cache_write_1h", "cache_read"):
            if place.get(bucket) == 0 and place.get("input", 1) != 0:
                del place[bucket]
    if standard and entry["mode"] in ("embedding", "rerank"):
        standard.setdefault("output", Decimal(0))
    if "input_cost_per_request" in entry:
        standard["per_request"] = Decimal(entry["input_cost_per_request"])
    return found


def searches(entry, provider, standard):
    """What a search costs by the size of its context, where that matters."""
    if entry["mode"] == "rerank" and entry.get("input_cost_per_query"):
        standard["per_search"] = Decimal(entry["input_cost_per_query"])
        standard.setdefault("input", Decimal(0))
        standard.setdefault("output", Decimal(0))
        return {}
    sizes = {
        size: Decimal(cost)
        for size in ("low", "medium", "high")
        if (cost := (entry.get("search_context_cost_per_query") or {}).get(f"search_context_size_{size}")) is not None
    }
    if sizes:
        # Perplexity bills a request, however often it searches for it, but for its deep research.
        fee = "per_request" if provider in BY_REQUEST and "reasoning" not in standard else "per_search"
        standard[fee] = sizes.get(DEFAULT_SEARCH.get(provider, "medium"), max(sizes.values()))
    return sizes if len(set(sizes.values())) > 1 else {}


def windows_of(entry):
    rule = entry.get("off_peak_pricing")
    if not rule:
        return []
    amounts = {FIELDS[n]: rounded(Decimal(v) * MILLION) for n, v in rule.items() if n in FIELDS}
    out = []
    for window in rule["windows"]:
        hours = window["hours_utc"]
        hours = [hours] if isinstance(hours, str) else hours
        hours = ["00:00-24:00" if h == "00:00-00:00" else h.replace("-00:00", "-24:00") for h in hours]
        days = window.get("weekdays") or []
        out.append({"hours": hours, **({"weekdays": days} if days else {}), "amounts": amounts})
    return out


def regions_of(entry):
    out = []
    for place in ("us", "eu"):
        factor = entry.get(f"regional_processing_uplift_multiplier_{place}")
        factor = factor or (entry.get("provider_specific_entry") or {}).get(place)
        if factor:
            out.append({"region": place, "factor": str(factor)})
    if factor := entry.get("regional_endpoint_uplift_multiplier"):
        out += [{"region": "global", "factor": "1"}, {"region": "*", "factor": str(factor)}]
    return out


def row_of(model, entry, source):
    provider = provider_of(entry)
    found = amounts_of(entry, provider)
    standard = found[("", 0)]
    search_context = searches(entry, provider, standard)
    if "input" not in standard or "output" not in standard:
        return None
    fast = (entry.get("provider_specific_entry") or {}).get("fast")
    tiers = []
    for (service, above), given in found.items():
        if (service, above) == ("", 0):
            continue
        tier = {"amounts": given}
        if service:
            tier["service_tier"] = service
        if above:
            tier["above"] = above
            if provider in INCLUSIVE:
                tier["inclusive"] = True
        tiers.append(tier)
    if fast:
        tiers.append({"service_tier": "fast", "amounts": scaled(standard, Decimal(fast))})
    can = [word for name, word in CAPABILITIES.items() if entry.get(name) is True]
    number = lambda name: int(entry[name]) if str(entry.get(name, "")).isdigit() and int(entry[name]) > 0 else None
    return {
        "provider": provider, "models": [model], "mode": entry["mode"], "amounts": standard,
        "tiers": tiers, "search_context": search_context, "windows": windows_of(entry), "regions": regions_of(entry),
        "context_window": number("max_input_tokens") or number("max_tokens"), "max_output": number("max_output_tokens"),
        "capabilities": can, "deprecated": day(entry.get("deprecation_date")), "source": source,
    }


def day(text):
    return text if text and re.match(r"^\d{4}-\d\d-\d\d$", str(text)) else None


def rows(listed, source, skipped):
    """Rows by (provider, model). Keys that name a region become the region's own prices of the plain model."""
    out, regional = {}, []
    for key, entry in listed.items():
        if entry.get("mode") not in MODES:
            continue
        model, region = named(key, entry["litellm_provider"])
        row = row_of(model, entry, source)
        if row is None:
            skipped["of litellm without a price for a token"] += 1
            continue
        if not any(row["amounts"].values()) and row["provider"] not in FREE and not model.endswith(":free"):
            skipped["of litellm with a price of zero, which says that nobody knows it"] += 1
            continue
        if region:
            regional.append((region, row))
            continue
        known = out.get((row["provider"], model))
        if known is None or key.split("/")[0] == entry["litellm_provider"]:
            out[(row["provider"], model)] = row
    places = {}
    for region, row in sorted(regional, key=lambda r: (r[1]["provider"], r[1]["models"], r[0])):
        known = places.setdefault((row["provider"], row["models"][0]), [])
        if not any(other["region"] == region for other in known):
            known.append({**row, "region": region, "regions": []})
    for at, known in places.items():
        if at not in out:
            # No price for everywhere: of the regions' prices the dearest.
            dearest = max(known, key=lambda row: row["amounts"]["output"] + row["amounts"]["input"])
            out[at] = {k: v for k, v in dearest.items() if k != "region"}
    return out, places
