"""What both readers share: the amounts, their order, and how a tier that a list gives in part is made whole."""

from decimal import ROUND_CEILING, Decimal

MILLION = Decimal(1_000_000)

# In US dollars for a million tokens; the last two for one request or one search.
AMOUNTS = [
    "input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning", "audio_input", "audio_output",
    "image_input", "image_output", "cache_read_audio", "per_request", "per_search",
]
FOR_ONE = AMOUNTS[-2:]
# What a bucket costs that a list gives no price for.
AROUND = {
    "cache_read": "input", "cache_write_5m": "input", "cache_write_1h": "cache_write_5m", "audio_input": "input",
    "image_input": "input", "cache_read_audio": "cache_read", "reasoning": "output", "audio_output": "output",
    "image_output": "output",
}
# The smallest amount that is kept; below it are only rests of the floats that a list was made with.
FINEST = Decimal("1e-12")


def rounded(amount):
    """Without the rests of floats: twelve significant digits, and twelve decimals at most."""
    amount = Decimal(f"{amount:.11e}")
    return amount.quantize(FINEST) if amount.as_tuple().exponent < -12 else amount


def clean(amount):
    """A plain decimal without trailing zeros."""
    text = f"{rounded(amount):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def times(amount, factor):
    """Rounded up, where it must be at all."""
    exact = amount * factor
    return exact.quantize(FINEST, rounding=ROUND_CEILING) if exact.as_tuple().exponent < -12 else exact


def completed(standard, given):
    """The amounts of a tier. A bucket that has a price of its own in the standard tier, and none in this one, moves
    with the bucket around it where the tier is dearer, and keeps its price where the tier is cheaper: that errs high."""
    whole = {**{k: standard[k] for k in ("input", "output") if k in standard}, **given}
    for name in AMOUNTS:
        if name in whole or name not in standard or name in FOR_ONE:
            continue
        around = AROUND[name]
        while around not in standard:
            around = AROUND[around]
        ratio = whole[around] / standard[around] if standard[around] else Decimal(1)
        whole[name] = times(standard[name], max(ratio, Decimal(1)))
        if name == "cache_read":
            whole[name] = min(whole[name], whole["input"])
    return {k: v for k, v in whole.items() if k not in FOR_ONE or v != standard.get(k)}


def scaled(amounts, factor):
    return {k: times(v, factor) for k, v in amounts.items() if k not in FOR_ONE}


def with_long(tiers, standard):
    """A service tier without a price for long contexts has the one that the standard tier's step says."""
    longs = [t for t in tiers if not t.get("service_tier") and t.get("above")]
    out = list(tiers)
    for base in [t for t in tiers if t.get("service_tier") and not t.get("above")]:
        own = {t.get("above") for t in tiers if t.get("service_tier") == base["service_tier"]}
        for long in longs:
            if long["above"] in own:
                continue
            steps = {k: max(long["amounts"].get(k, v) / v, Decimal(1)) for k, v in standard.items() if v}
            amounts = {k: times(v, steps.get(k, Decimal(1))) for k, v in base["amounts"].items()}
            out.append({**long, "service_tier": base["service_tier"], "amounts": amounts})
    return out


def place(tier):
    return tier.get("service_tier", ""), tier.get("above", 0)


def merged_tiers(tiers, more):
    """The tiers of one list, and what only the other one has: whole tiers, and amounts of the same tier."""
    out = {place(tier): tier for tier in more}
    for tier in tiers:
        other = out.get(place(tier), {"amounts": {}})
        out[place(tier)] = {**tier, "amounts": {**other["amounts"], **tier["amounts"]}}
    return list(out.values())


def plain(amounts, standard=()):
    """Without those that say what the bucket around them says, so that they move with it."""
    return {k: v for k, v in amounts.items() if k in standard or k not in AROUND or v != amounts.get(AROUND[k])}


def finished(row):
    """A row whose tiers say all that the standard tier says."""
    standard, out = plain(row["amounts"]), []
    given = {place(tier): tier["amounts"] for tier in row["tiers"]}
    for tier in row["tiers"]:
        below = given.get((tier.get("service_tier", ""), 0), {}) if tier.get("above") else {}
        base = {k: v for k, v in below.items() if k in ("input", "output")}
        out.append({**tier, "amounts": plain(completed(standard, {**base, **tier["amounts"]}), standard)})
    out = sorted(with_long(out, standard), key=lambda tier: (place(tier)[0], -place(tier)[1]))
    return {**row, "amounts": standard, "tiers": [t for t in out if any(standard.get(k) != v for k, v in t["amounts"].items())]}
