#!/usr/bin/env python3
"""Writes crates/pricing/data/catalogue.jsonl from the price lists of two PyPI packages.

    python3 -m venv env && env/bin/pip install genai-prices==0.2.3 && env/bin/pip install --no-deps litellm==1.109.1
    env/bin/python tools/catalogue/generate.py --date 2026-11-21 [--disagreements FILE]

docs/prices.md says what is taken from which list, and which one wins where they disagree. No float is ever made: JSON
numbers are read as decimals. What both lists have is compared, and every difference is counted and told.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import pathlib
import sys
from collections import Counter, defaultdict
from datetime import date
from decimal import Decimal

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import genai
import litellm_list
from rows import AMOUNTS, clean, finished, merged_tiers

OUT = pathlib.Path(__file__).parents[2] / "crates/pricing/data/catalogue.jsonl"


def find(package, path):
    """A data file of a package, which is not imported: litellm's own start takes seconds and reads the network."""
    spec = importlib.util.find_spec(package)
    return pathlib.Path(spec.submodule_search_locations[0]) / path


def compare(one, other):
    """The standard amounts that both have and that differ."""
    names = ["input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "per_search"]
    both = [n for n in names if n in one and n in other]
    return {n: (one[n], other[n]) for n in both if one[n] != other[n]}


def joined(lite, gen, today, report):
    """One model's rows from both lists. litellm's current price wins; genai's dates, and what litellm lacks, are added."""
    now = max(i for i, row in enumerate(gen) if row.get("from", "") <= today)
    current = gen[now]
    differs = compare(lite["amounts"], current["amounts"])
    if differs and current.get("windows"):
        # The one list's standard price is the other's price outside of a window.
        if all(not compare(lite["amounts"], window["amounts"]) for window in current["windows"]):
            differs = {}
    row = dict(lite)
    if differs:
        report.append((lite["provider"], lite["models"][0], differs))
    if set(differs) - {"per_search"}:
        return [row]
    row["source"] = lite["source"] + ", " + current["source"]
    row["amounts"] = {**{k: v for k, v in current["amounts"].items() if k not in ("input", "output")}, **lite["amounts"]}
    if "per_search" in lite["amounts"] and "per_request" not in lite["amounts"]:
        # genai has a fee for the search of every request where litellm has one for a search.
        row["amounts"].pop("per_request", None)
    if "per_request" in lite["amounts"] and "per_search" not in lite["amounts"]:
        row["amounts"].pop("per_search", None)
    row["tiers"] = merged_tiers(row["tiers"], current["tiers"])
    row["from"] = current.get("from")
    row["context_window"] = row.get("context_window") or current.get("context_window")
    row["also"] = current.get("also", [])
    facts = {k: row[k] for k in ("mode", "also", "context_window", "max_output", "capabilities")}
    return [{**r, **facts} for r in gen[:now]] + [row] + [{**r, **facts} for r in gen[now + 1 :]]


def variants(rows_by_model):
    """Which forms of a name have the price of the plain one: only where all listed names of that form have."""
    for model, rows in rows_by_model.items():
        also = set(rows[0].get("also", ()))
        dated = [m for m in rows_by_model if m != model and genai.plain(m) == model]
        if dated:
            same = all(price_of(rows_by_model[m]) == price_of(rows) for m in dated)
            also = also | {"dated"} if same else also - {"dated"}
        placed = [m for m in rows_by_model if m != model and genai.placeless(m) == model]
        if placed and all(price_of(rows_by_model[m]) == price_of(rows) for m in placed):
            also.add("placed")
        for row in rows:
            row["also"] = sorted(also)


def price_of(rows):
    parts = ("amounts", "tiers", "windows", "from", "region")
    return json.dumps([[row.get(part) for part in parts] for row in rows], sort_keys=True, default=str)


def line(row):
    """A row as it is written: names first, empty members left out."""
    amounts = {name: clean(row["amounts"][name]) for name in AMOUNTS if name in row["amounts"]}
    out = {"provider": row["provider"], "models": row["models"]}
    for name in ("mode", "from", "until", "region"):
        out[name] = row.get(name)
    out.update(amounts)
    out["search_context"] = {size: clean(cost) for size, cost in row.get("search_context", {}).items()}
    for name in ("tiers", "windows", "regions"):
        out[name] = [
            {**{k: v for k, v in part.items() if k != "amounts"},
             **{n: clean(part["amounts"][n]) for n in AMOUNTS if n in part.get("amounts", {})}}
            for part in row.get(name) or []
        ]
    for name in ("also", "context_window", "max_output", "capabilities", "deprecated", "source", "checked"):
        out[name] = row.get(name)
    return {k: v for k, v in out.items() if v not in (None, [], {}, "")}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--date", required=True, help="the day on which the lists were fetched, YYYY-MM-DD")
    arguments.add_argument("--disagreements", help="write them here, tab-separated")
    options = arguments.parse_args()
    day = date.fromisoformat(options.date)
    versions = {name: importlib.metadata.version(name) for name in ("litellm", "genai-prices")}
    path = find("litellm", "model_prices_and_context_window_backup.json")
    listed = json.loads(path.read_text(), parse_float=Decimal)
    skipped = Counter()
    lite, regional = litellm_list.rows(listed, f"litellm {versions['litellm']}", skipped)
    gen = genai.rows(f"genai-prices {versions['genai-prices']}", lite, skipped)

    disagreements, book = [], defaultdict(dict)
    both = 0
    for key in sorted(set(lite) | set(gen)):
        provider, model = key
        both_have = key in lite and key in gen
        both += both_have
        rows = joined(lite[key], gen[key], day.isoformat(), disagreements) if both_have else gen.get(key) or [lite[key]]
        rows = [{**finished(row), "models": [model], "provider": provider, "checked": day.isoformat()} for row in rows]
        for earlier, later in zip(rows, rows[1:]):
            earlier["until"] = later["from"]
        places = [{**finished(row), "checked": day.isoformat()} for row in regional.get(key, [])]
        book[provider][model] = rows + places

    groups = {}
    for provider, rows_by_model in sorted(book.items()):
        variants(rows_by_model)
        for model, rows in rows_by_model.items():
            for row in rows:
                written = line(row)
                rest = json.dumps({**written, "models": None}, sort_keys=True)
                groups.setdefault(rest, {**written, "models": []})["models"].append(model)
    with OUT.open("w") as out:
        for written in sorted(groups.values(), key=lambda w: (w["provider"], w["models"], w.get("from", ""), w.get("region", ""))):
            out.write(json.dumps(written, separators=(",", ":"), ensure_ascii=False) + "\n")

    models = sum(len(m) for m in book.values())
    print(f"{models} models of {len(book)} providers in {len(groups)} lines, {OUT.stat().st_size} bytes")
    print(f"in both lists: {both}; their prices differ on {len(disagreements)}")
    for reason, count in skipped.most_common():
        print(f"left out: {count} {reason}")
    if options.disagreements:
        with open(options.disagreements, "w") as out:
            for provider, model, differs in disagreements:
                for name, (one, other) in differs.items():
                    out.write(f"{provider}\t{model}\t{name}\t{clean(one)}\t{clean(other)}\n")


if __name__ == "__main__":
    main()
