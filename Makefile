# Two commands do everything: `make demo` runs the whole system on an emulated OneDrive,
# `make test` passes its tests. Both install what a bare Debian 12 with Rust lacks.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:

PREFIX ?= /usr/local
DESTDIR ?=

# Tests print one line each; nextest runs them side by side where it is there.
RUN_TESTS := $(shell command -v cargo-nextest >/dev/null 2>&1 && echo "cargo nextest run --no-fail-fast" || echo "cargo test --no-fail-fast")

.PHONY: help deps build test lint unit peers checks demo install clean

help: ## What there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

deps: ## Install what is missing, or say what it is
	@packaging/check/deps.sh

build: ## Build all programs
	@cargo build --workspace --bins

test: deps lint unit peers checks ## Everything that has to pass
	@echo "make test: all passed"

lint: ## Format and lints, warnings as errors
	@cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

unit: build ## All tests of the workspace
	@$(RUN_TESTS) --workspace
	cargo test --workspace --doc

peers: build ## rclone judges the emulator
	@tests/emulator/peers.sh

checks: build ## Units, Supervisor, mount helper, demo, as users run them
	@shopt -s nullglob
	for check in packaging/check/check-*.sh; do
	  echo "== $$check"
	  "$$check"
	done

demo: deps ## The whole system on an emulated OneDrive
	@packaging/demo/run.sh

install: ## Install the programs, units and examples
	@packaging/install.sh "$(DESTDIR)" "$(PREFIX)"

clean: ## Remove what was built
	@cargo clean
