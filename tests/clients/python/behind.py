"""What stands behind farebox: what its provider was sent, and the rows of its ledger."""

import json
import os
import time
import urllib.request

PROVIDER = os.environ["FAREBOX_PROVIDER"]
CLICKHOUSE = os.environ["FAREBOX_CLICKHOUSE"]


def _read(url, body=None):
    with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=20) as answer:
        return answer.read().decode()


def sent(model):
    """Headers and body (a text) of the last request for this model, as the provider had it."""
    last = json.loads(_read(f"{PROVIDER}/emulator/last/{model}"))
    return last["headers"], last["body"]


def rows(count, within_s=20, **labels):
    """The rows with these labels, once there are so many."""
    labelled = " AND ".join(f"{name} = '{value}'" for name, value in labels.items())
    sql = (
        f"SELECT * FROM farebox.calls WHERE {labelled} ORDER BY started_at "
        "SETTINGS output_format_json_quote_64bit_integers = 0 FORMAT JSONEachRow"
    )
    give_up = time.monotonic() + within_s
    while True:
        found = [json.loads(row) for row in _read(CLICKHOUSE, sql.encode()).splitlines()]
        if len(found) >= count:
            return found
        assert time.monotonic() < give_up, f"{len(found)} rows of {count} with {labels}: {found}"
        time.sleep(0.05)
