#!/usr/bin/env python3
"""Prices the usage of recorded exchanges with litellm, genai-prices and farebox, and groups what they disagree on.

    env/bin/python tools/catalogue/compare.py --recordings DIR --farebox target/debug/farebox --at 2026-11-21

DIR holds one exchange a file: {"provider", "endpoint", "request": {"body"}, "response": {"status", "body"}}, the body an
object or the text of a stream. The usage is read here, apart from farebox's dialects, into farebox's buckets. env is the
one of generate.py, with litellm's dependencies.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
from collections import Counter, defaultdict
from datetime import datetime, timezone
from decimal import Decimal

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

# The recordings' provider words, where others say something else: (litellm, genai-prices).
THEIRS = {
    "alibaba": ("dashscope", None), "azure": ("azure", "azure"), "bedrock": ("bedrock", "aws"),
    "bedrock-mantle": ("bedrock_mantle", "aws"), "gemini": ("gemini", "google"), "vertex": ("vertex_ai", "google"),
    "moonshot": ("moonshot", "moonshotai"), "xai": ("xai", "x-ai"), "together": ("together_ai", "together"),
}
INPUTS = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input", "image_input", "cache_read_audio")


def objects(body):
    """The JSON objects of an answer, whole or streamed."""
    if isinstance(body, dict):
        return [body]
    if not isinstance(body, str):
        return []
    found = []
    for line in body.splitlines():
        line = line.removeprefix("data:").strip()
        if line.startswith("{"):
            try:
                found.append(json.loads(line))
            except ValueError:
                pass
    return found


def merged(found):
    """The last word on usage and model. What a stream repeats replaces what it said before."""
    usage, model, tier = {}, None, None
    for value in found:
        for part in (value, value.get("message"), value.get("response")):
            if not isinstance(part, dict):
                continue
            model = part.get("model") or part.get("modelVersion") or model
            tier = part.get("service_tier") or tier
            said = part.get("usage") or part.get("usageMetadata") or part.get("meta") or {}
            if isinstance(said, dict):
                usage |= {k: v for k, v in said.items() if v is not None}
    return usage, model, usage.get("service_tier") or tier


def count(place, *names):
    for name in names:
        place = place.get(name) if isinstance(place, dict) else None
    return int(place or 0)


def buckets(usage, endpoint):
    """farebox's disjoint buckets, or None where there is no usage."""
    if "billed_units" in usage:
        billed = usage["billed_units"]
        return {"input": count(billed, "input_tokens"), "output": count(billed, "output_tokens"), "searches": count(billed, "search_units")}
    if "inputTokens" in usage:
        return {"input": count(usage, "inputTokens"), "output": count(usage, "outputTokens"),
                "cache_read": count(usage, "cacheReadInputTokens"), "cache_write_5m": count(usage, "cacheWriteInputTokens")}
    if "promptTokenCount" in usage:
        cached, thought = count(usage, "cachedContentTokenCount"), count(usage, "thoughtsTokenCount")
        modal = {str(d.get("modality")): count(d, "tokenCount") for d in usage.get("promptTokensDetails") or []}
        audio, image = modal.get("AUDIO", 0), modal.get("IMAGE", 0)
        prompt = count(usage, "promptTokenCount") + count(usage, "toolUsePromptTokenCount")
        return {"input": max(prompt - cached - audio - image, 0), "cache_read": cached, "audio_input": audio, "image_input": image,
                "output": count(usage, "candidatesTokenCount"), "reasoning": thought}
    if endpoint.startswith(("messages", "invoke")) and "input_tokens" in usage:
        hour = count(usage, "cache_creation", "ephemeral_1h_input_tokens")
        return {"input": count(usage, "input_tokens"), "cache_read": count(usage, "cache_read_input_tokens"),
                "cache_write_5m": count(usage, "cache_creation_input_tokens") - hour, "cache_write_1h": hour,
                "output": count(usage, "output_tokens"), "searches": count(usage, "server_tool_use", "web_search_requests")}
    for head, total_in, total_out in (("prompt", "prompt_tokens", "completion_tokens"), ("input", "input_tokens", "output_tokens")):
        if total_in in usage:
            out = "completion" if head == "prompt" else "output"
            read = count(usage, f"{head}_tokens_details", "cached_tokens")
            read = read or count(usage, "cached_tokens") or count(usage, "prompt_cache_hit_tokens")
            wrote = count(usage, f"{head}_tokens_details", "cache_write_tokens")
            heard = count(usage, f"{head}_tokens_details", "audio_tokens")
            thought, spoke = (count(usage, f"{out}_tokens_details", n) for n in ("reasoning_tokens", "audio_tokens"))
            whole_out = count(usage, total_out)
            if count(usage, "total_tokens") == count(usage, total_in) + whole_out + thought and thought > 0:
                whole_out += thought
            return {"input": count(usage, total_in) - read - wrote - heard, "cache_read": read, "cache_write_5m": wrote,
                    "audio_input": heard, "output": max(whole_out - thought - spoke, 0), "reasoning": thought, "audio_output": spoke}
    return None


def model_of(exchange, said):
    """The model that was asked for: the provider's answer may name another one that served."""
    request = exchange.get("request") or {}
    body = request.get("body")
    found = re.search(r"/models?/([^/:?]+(?::\d+)?)(?:[:/]|%3A)", request.get("url", "").replace("%3A", ":"))
    if found and exchange["provider"] in ("gemini", "vertex", "bedrock"):
        return found[1]
    return (body.get("model") if isinstance(body, dict) else None) or said


def with_farebox(binary, provider, model, used, tier, at):
    words = ",".join(f"{name}={number}" for name, number in used.items() if number) or "input=0"
    line = [binary, "prices", "compare", f"{provider}/{model}", "--usage", words, "--tier", tier or "", "--at", at, "--json"]
    ran = subprocess.run(line, capture_output=True, text=True)
    if ran.returncode:
        return None
    return Decimal(json.loads(ran.stdout)["costs"][0]["cost_usd"])


def with_litellm(provider, model, used, tier):
    import litellm

    total_in = sum(used.get(name, 0) for name in INPUTS)
    total_out = sum(used.get(name, 0) for name in ("output", "reasoning", "audio_output"))
    wrote = used.get("cache_write_5m", 0) + used.get("cache_write_1h", 0)
    usage = litellm.Usage(
        prompt_tokens=total_in, completion_tokens=total_out, total_tokens=total_in + total_out,
        reasoning_tokens=used.get("reasoning", 0),
        prompt_tokens_details={
            "cached_tokens": used.get("cache_read", 0), "audio_tokens": used.get("audio_input", 0),
            "image_tokens": used.get("image_input", 0), "text_tokens": used.get("input", 0), "cache_creation_tokens": wrote,
            "cache_creation_token_details": {
                "ephemeral_5m_input_tokens": used.get("cache_write_5m", 0),
                "ephemeral_1h_input_tokens": used.get("cache_write_1h", 0),
            },
        },
        cache_read_input_tokens=used.get("cache_read", 0), cache_creation_input_tokens=wrote,
    )
    try:
        costs = litellm.cost_per_token(
            model=model, custom_llm_provider=THEIRS.get(provider, (provider,))[0], usage_object=usage, service_tier=tier,
            prompt_tokens=total_in, completion_tokens=total_out,
        )
    except Exception:
        return None
    return sum(Decimal(repr(cost)) for cost in costs)


def with_genai(provider, model, used, tier, at):
    import genai_prices

    usage = genai_prices.Usage(
        input_tokens=sum(used.get(name, 0) for name in INPUTS), cache_read_tokens=used.get("cache_read", 0),
        cache_write_tokens=used.get("cache_write_5m", 0) + used.get("cache_write_1h", 0),
        output_tokens=sum(used.get(name, 0) for name in ("output", "reasoning", "audio_output")),
        input_audio_tokens=used.get("audio_input", 0), output_audio_tokens=used.get("audio_output", 0),
    )
    try:
        name = THEIRS.get(provider, (provider, provider))[1]
        when = datetime.fromisoformat(at).replace(tzinfo=timezone.utc, hour=12)
        return genai_prices.calc_price(
            usage, model_ref=model, provider_id=name, genai_request_timestamp=when,
            price_context={"service_tier": tier} if tier else None,
        ).total_price
    except Exception:
        return None


def cause(used, tier, ours, other):
    if ours is None:
        return "farebox has no price"
    if used.get("searches"):
        return "searches, which the other counts apart"
    if other == 0:
        return "the other says 0"
    if used.get("cache_write_1h"):
        return "writes to the cache for an hour"
    if tier and tier not in ("default", "standard", "auto", "on_demand"):
        return "service tier"
    if used.get("audio_input") or used.get("audio_output") or used.get("image_input"):
        return "audio or images"
    if used.get("cache_read") or used.get("cache_write_5m"):
        return "prices, with a cache"
    return "prices"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--recordings", required=True, type=pathlib.Path)
    arguments.add_argument("--farebox", required=True)
    arguments.add_argument("--at", required=True, help="the day whose prices count, YYYY-MM-DD")
    options = arguments.parse_args()
    counts, groups, known = Counter(), defaultdict(Counter), {}
    for path in sorted(options.recordings.rglob("*.json")):
        exchange = json.loads(path.read_text())
        usage, said, tier = merged(objects(exchange["response"].get("body")))
        used = buckets(usage, exchange["endpoint"]) if exchange["response"].get("status") == 200 else None
        model = model_of(exchange, said)
        if not used or not any(used.values()) or not model:
            counts["without usage"] += 1
            continue
        counts["with usage"] += 1
        provider = exchange["provider"]
        asked = (provider, model, tuple(sorted(used.items())), tier)
        if asked not in known:
            ours = with_farebox(options.farebox, provider, model, used, tier, options.at + "T12:00:00Z")
            known[asked] = ours, with_litellm(provider, model, used, tier), with_genai(provider, model, used, tier, options.at)
        ours, *others = known[asked]
        counts["farebox has a price"] += ours is not None
        for name, other in zip(("litellm", "genai-prices"), others):
            if other is None:
                counts[f"{name} has no price"] += 1
                continue
            counts[f"{name} has a price"] += 1
            # The lists are added up in floats: what is below a billionth of the cost is their rest.
            if ours is not None and abs(ours - other) <= max(ours, other) * Decimal("1e-9"):
                counts[f"{name} agrees"] += 1
            else:
                groups[name, cause(used, tier, ours, other)][f"{provider}/{model}: {ours} against {other:f}"] += 1
        if ours is None and any(other for other in others if other):
            counts["another has a price, farebox none"] += 1
    for name, number in counts.items():
        print(f"{number}\t{name}")
    for (name, why), cases in sorted(groups.items()):
        print(f"\n{name}: {why}: {sum(cases.values())}")
        for case, number in cases.most_common(40):
            print(f"  {number} × {case}")


if __name__ == "__main__":
    main()
