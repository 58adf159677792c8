"""genai-prices' list: rules for names, dated prices, amounts in dollars for a million tokens."""

import re
from decimal import Decimal

from rows import merged_tiers

# genai-prices' provider words, where farebox's price table has another one.
PROVIDERS = {
    "aws": "bedrock", "google": "gemini", "x-ai": "xai", "moonshotai": "moonshot", "voyageai": "voyage",
    "zhipuai": "bigmodel",
}
SKIPPED = {"cursor", "openai-decisions", "elevenlabs", "typesafe", "modal"}
FIELDS = {
    "input_mtok": "input", "output_mtok": "output", "cache_read_mtok": "cache_read", "cache_write_mtok": "cache_write_5m",
    "cache_write_1h_mtok": "cache_write_1h", "input_audio_mtok": "audio_input", "output_audio_mtok": "audio_output",
    "cache_audio_read_mtok": "cache_read_audio", "input_image_mtok": "image_input", "output_image_mtok": "image_output",
    "output_reasoning_mtok": "reasoning",
}
COUNTS = {"web_searches_kcount": "per_search", "requests_kcount": "per_request"}
VARIANTS = {
    ("processing", "batch"): "batch", ("service_tier", "flex"): "flex", ("service_tier", "priority"): "priority",
    ("service_tier", "fast"): "fast", ("speed", "fast"): "fast",
}
DATE = re.compile(r"(-\d{4}-\d\d-\d\d|-20\d{6}|@20\d{6})$")
GOOGLES = re.compile(r"^(gemini|gemma|learnlm|text-embedding|embedding|models/|veo|imagen|nano)")
PLACE = re.compile(r"^(us|eu|apac|jp|au|global|us-gov)\.")


def plain(model):
    """The name without a date at its end, or itself."""
    return DATE.sub("", model)


def placeless(model):
    """The name without a region's prefix, or itself."""
    return PLACE.sub("", model)


def names(rule):
    """Names that a rule spells out. A rule of another kind names nothing: there is no matching by part of a name."""
    if hasattr(rule, "equals"):
        return [rule.equals]
    return [name for part in getattr(rule, "or_", None) or [] for name in names(part)]


def beginnings(rule):
    """Names of which the list says that all that begin with them are this model: those with a date behind, here."""
    if hasattr(rule, "starts_with"):
        return [rule.starts_with]
    return [name for part in getattr(rule, "or_", None) or [] for name in beginnings(part)]


def amounts_of(prices):
    """Standard amounts, and amounts by threshold."""
    standard, above = {}, {}
    for name, value in vars(prices).items():
        if value is None:
            continue
        if name in COUNTS:
            standard[COUNTS[name]] = Decimal(value) / 1000
        if name not in FIELDS:
            continue
        standard[FIELDS[name]] = getattr(value, "base", value)
        for tier in getattr(value, "tiers", []):
            above.setdefault(tier.start, {})[FIELDS[name]] = tier.price
    return standard, above


def tiers_of(above, service=None):
    out = []
    for threshold, given in above.items():
        tier = {"above": threshold, "amounts": given}
        out.append({"service_tier": service, **tier} if service else tier)
    return out


def price_of(prices):
    standard, above = amounts_of(prices)
    if "input" in standard:
        standard.setdefault("output", Decimal(0))
    return {"amounts": standard, "tiers": tiers_of(above)}


def services(model):
    out = []
    for variant in model.price_variants or []:
        service = VARIANTS.get(next(iter(variant.when.items()))) if len(variant.when) == 1 else None
        if service is None or variant.constraint is not None:
            continue
        given, above = amounts_of(variant.prices)
        out += [{"service_tier": service, "amounts": given}, *tiers_of(above, service)]
    return out


def hours(constraint):
    return f"{constraint.start_time:%H:%M}-{constraint.end_time:%H:%M}"


def periods(model):
    """Rows from the oldest price to the newest."""
    listed = model.prices if isinstance(model.prices, list) else None
    if listed is None:
        return [price_of(model.prices)]
    out, windows = [], []
    for part in listed:
        priced = price_of(part.prices)
        if hasattr(part.constraint, "start_time"):
            windows.append({"hours": [hours(part.constraint)], "amounts": priced["amounts"]})
        elif part.constraint is None:
            out.append(priced)
        else:
            out.append({**priced, "from": part.constraint.start_date.isoformat()})
    # The windows that the list has are those of today.
    out[-1]["windows"] = windows
    return out


def rows(source, lite, skipped):
    """Lists of rows by (provider, model): names that are spelled out, and litellm's names where the rules match them."""
    from genai_prices.data import providers

    out = {}
    for provider in providers:
        if provider.id in SKIPPED:
            continue
        name = PROVIDERS.get(provider.id, provider.id)
        ending = ""
        if name.startswith("huggingface_"):
            name, ending = "huggingface", ":" + name.removeprefix("huggingface_")
        theirs = [model for where, model in lite if where == name]
        for model in provider.models:
            dated = periods(model)
            if "input" not in dated[-1]["amounts"]:
                skipped["of genai-prices without a price for a token"] += 1
                continue
            free = any(word.endswith(":free") for word in [model.id, *names(model.match)])
            if not any(dated[-1]["amounts"].values()) and not free:
                skipped["of genai-prices with a price of zero, which says that nobody knows it"] += 1
                continue
            dated[-1]["tiers"] = merged_tiers(dated[-1]["tiers"], services(model))
            begun = set(beginnings(model.match))
            spelled = {n for n in {model.id, *names(model.match), *begun} if re.match(r"^[^\s*]*[^\s*.:/-]$", n)}
            # The model that a name belongs to is the first whose rule matches it.
            matched = {n for n in spelled.union(theirs) if provider.find_model(n) is model}
            # Another company's models that Google serves are Vertex AI's.
            where = "vertex" if name == "gemini" and not GOOGLES.match(model.id) else name
            for spelling in sorted(matched):
                facts = {"mode": "embedding" if "embed" in model.id else "rerank" if "rerank" in model.id else "chat"}
                facts |= {"context_window": model.context_window, "source": source, "capabilities": []}
                also = ["dated"] if spelling in begun else []
                out[(where, spelling + ending)] = [
                    {"provider": where, "regions": [], "windows": [], **facts, **period, "also": also} for period in dated
                ]
    return out
