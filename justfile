# `just` lists what there is. CI needs none of it: .ci/run is plain bash.

set shell := ["bash", "-euo", "pipefail", "-c"]

_list:
    @just --list --unsorted

# What CI runs
check:
    .ci/run

# All tests
test *ARGS:
    cargo test --workspace {{ ARGS }}

# Claude Code, SDKs, frameworks and command lines against `farebox up`: all of them, or those named (CLIENTS in
# tests/system/clients/mod.rs). The last line says how many checks passed
clients *NAMES:
    #!/usr/bin/env bash
    set -uo pipefail
    names="{{ NAMES }}"
    names="${names// /,}"
    counted="${CARGO_TARGET_DIR:-target}/tmp/clients.txt"
    rm -f "$counted"
    CLIENTS="${names:-all}" cargo test -p farebox --test system clients -- --nocapture
    status=$?
    cat "$counted" && echo
    exit $status

# Recorded exchanges of providers in DIR: are they decoded as their raw bytes say? The last line counts them
recordings DIR *ARGS:
    cargo run -q -p farebox-recordings -- {{ ARGS }} {{ quote(DIR) }}

# The same exchanges, played through a running farebox
recordings-played DIR:
    RECORDINGS="$(realpath {{ quote(DIR) }})" cargo test -p farebox --test system recordings -- --nocapture

# Processes killed and stopped at random under load; the same seed draws the same faults
chaos SEED="7":
    CHAOS_SEED={{ SEED }} cargo test -p farebox --test system chaos -- --nocapture

# Hard budgets on every level, hundreds of calls at once, guards and workers killed and stopped. The last line says
# `limit L billed B refused R open 0`
budget-storm SEED="1":
    cargo build --release -p farebox -p farebox-bench
    target/release/farebox-bench budget-storm --seed {{ SEED }}

# Many slow streams over HTTP at once; the last line says how large the edge grew
edge-streams COUNT="1000":
    EDGE_STREAMS={{ COUNT }} cargo test -p farebox --test system edge::streams -- --nocapture

# Requests over HTTP that no honest client sends; the last line says seed and counts
edge-malformed COUNT="10000" SEED="6":
    EDGE_MALFORMED={{ COUNT }} EDGE_SEED={{ SEED }} cargo test -p farebox --test system edge::malformed -- --nocapture

# Chaos for long, with a new seed
soak SECONDS="3600":
    SOAK_SECONDS={{ SECONDS }} cargo test -p farebox --test system chaos -- --nocapture

# Measures farebox next to direct calls; the figures are printed and kept in bench-results/
bench *ARGS:
    cargo build --release -p farebox -p farebox-bench
    target/release/farebox-bench {{ ARGS }}

# What the guard decides in a second, next to bare writes to JetStream
bench-guard *ARGS:
    cargo run --release -p farebox-bench -- guard {{ ARGS }}

# What the dialects cost by themselves
bench-dialects:
    cargo run --release -p farebox-bench -- dialects

# Mutated tapes against every decoder, parser and editor, for SECONDS in sum; the seed is the time of day unless given
fuzz SECONDS="600" SEED=`date +%s`:
    FUZZ_SECONDS={{ SECONDS }} FUZZ_SEED={{ SEED }} cargo test --release -p farebox-fuzz -- --nocapture

# Formats everything
fmt:
    cargo fmt --all

# Takes the contract as it is now as the one that may only grow: at a release
contract-lock:
    UPDATE_CONTRACT=1 cargo test -p farebox-proto --test compatibility
    git --no-pager diff --stat -- proto/contract.lock

# Licences, banned crates and sources of the dependencies (needs cargo-deny)
deny:
    #!/usr/bin/env bash
    set -euo pipefail
    if ! command -v cargo-deny > /dev/null; then
        echo "cargo-deny is not installed: cargo install --locked cargo-deny" >&2
        exit 1
    fi
    cargo deny check bans licenses sources
