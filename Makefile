# Everything a developer does here. `make` alone lists it.

.DEFAULT_GOAL := help
.PHONY: help run stop test bench bench-quick bench-growth microbench chaos mutations fuzz-api check lint fmt docs sqlx deny clean-dev

help: ## List the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-12s %s\n' "$$name" "$$text"; done

run: ## Start everything: servers, schema, simulator, api, worker (Ctrl-C stops it all)
	@scripts/run

stop: ## Stop what an earlier `make run` left behind, and the servers that were started
	@scripts/run stop
	@scripts/servers down

test: ## Run all tests, with the servers they need (ARGS='name -- --nocapture' goes to cargo test)
	@scripts/test $(ARGS)

mutations: ## Put faults into the code on purpose, and see that the tests catch each (ARGS='cancel-without-close': this one)
	@tests/mutations/run $(ARGS)

bench: ## Measure against this machine's own ceilings, about 8 minutes (ARGS='--only intake': that part)
	@scripts/bench run $(ARGS)

bench-quick: ## The same in under two minutes, once built
	@scripts/bench run --quick $(ARGS)

bench-growth: ## The same figures with millions of rows, several workers, one account, a large backlog: half an hour
	@scripts/bench growth $(ARGS)

microbench: ## What a callback costs in pure computing, in µs (ARGS=decide: this one)
	cargo bench -p shared --bench callback -- $(ARGS)

chaos: ## Kill everything at random for an hour, then balance the books (CHAOS_MINUTES, CHAOS_SEED, CHAOS_PACE)
	cargo build --profile checked -p api -p worker -p ops -p simulator -p system-tests
	@$(or $(CARGO_TARGET_DIR),target)/checked/chaos

fuzz-api: ## Send everything that the API describes, and more, at a service of its own (schemathesis)
	@scripts/fuzz-api

check: lint test docs ## All that must pass before a change is merged

lint: ## Formatting and clippy
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

fmt: ## Format the code
	cargo fmt --all

docs: ## Build the documentation of the code
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps

sqlx: ## Rebuild .sqlx after a change of the SQL or the migrations
	@scripts/sqlx

deny: ## Check the dependencies: licences, advisories, sources
	@cargo deny --version >/dev/null 2>&1 || { echo 'cargo-deny is not installed: cargo install --locked cargo-deny' >&2; exit 1; }
	cargo deny check

clean-dev: stop ## Remove what development left in .dev: data, keys, logs
	@scripts/servers clean
