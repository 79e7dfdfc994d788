# The recipes of kindling; each is a plain command. `just` lists them.

default:
    @just --list

# Run the tests
test:
    cargo test

# Format the code
fmt:
    cargo fmt

# Look for mistakes; a warning is one
lint:
    cargo clippy --all-targets -- -D warnings

# Build the documentation of the code; a warning is a mistake
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

# Check the order of the layers and the sizes of files
layers:
    cargo test --test it layers

# Do what CI does
ci:
    .ci/run

# Run the service on the demo tree
demo:
    cargo run --release -- serve --config config/demo.yaml

# Kill the service at 200 random moments
kill-test:
    KINDLING_KILLS=200 cargo test --test it kill -- --nocapture

# Change sources at random, in the loop and on disk, for a thousand rounds
loop-test:
    KINDLING_LOOP_ROUNDS=1000 cargo test loop_random -- --nocapture
    KINDLING_LOOP_ROUNDS=1000 cargo test --lib changes_beside -- --nocapture

# Call a task webhook 10,000 times while its task is saved 100 times
hook-test:
    KINDLING_HOOK_CALLS=10000 cargo test --test it hooks::saves -- --nocapture

# Measure
bench:
    cargo bench

# Check licences and banned crates; advisories are shown and block nothing
deny:
    cargo deny check bans licenses sources
    -cargo deny check advisories

# Write the cache of checked queries anew, after a change of a query or a migration
sqlx-prepare:
    .ci/sqlx prepare

# Check that the cache of checked queries is that of this tree
sqlx-check:
    .ci/sqlx check
