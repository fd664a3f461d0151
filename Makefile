# Two commands matter: `make demo` shows it, `make test` proves it. `make` alone lists the rest.
#
# The scripts ask cargo where it builds, so CARGO_TARGET_DIR and --target-dir settings are heeded.

PREFIX     ?= /usr/local
DESTDIR    ?=
SYSCONFDIR ?= /etc
# mount(8) looks for its helpers in /sbin alone, whatever the prefix.
SBINDIR    ?= /sbin
# Where `make install` takes the programs from.
BUILT      ?= $(shell packaging/check/target-dir.sh)/release

PROGRAMS = tuyunfs tuyun-edge tuyun-jump

.PHONY: help deps build demo demo-check test check-format check-lints check-units \
	check-supervisor check-helper check-peers gauntlet gauntlet-g1 gauntlet-g3 gauntlet-g4 gauntlet-g5 gauntlet-g6 gauntlet-g7 gauntlet-g8 gauntlet-g9 gauntlet-g12 gauntlet-edge bench bench-durability bench-edge bench-jump bench-requests deny install uninstall clean

help:
	@echo 'make demo       build, and run the whole on this machine with an emulated OneDrive'
	@echo 'make test       format, lints, all tests, and all checks below'
	@echo 'make deps       install what a Debian lacks for both, or say what is missing'
	@echo 'make gauntlet   the long runs of the reliability gates; each may be interrupted and resumed'
	@echo 'make bench      what the folder costs beside a plain one and beside rclone'
	@echo 'make bench-requests   what each action costs the drive, beside rclone'
	@echo 'make bench-durability   what the promise of a close costs, beside a plain folder'
	@echo 'make bench-edge   hits of the edge beside nginx and Varnish'
	@echo 'make bench-jump   redirects of the jump beside nginx and a Python jump'
	@echo 'make build      the three programs, as they are shipped'
	@echo 'make install    programs, units, mount helper [PREFIX=/usr/local] [DESTDIR=]'
	@echo 'make deny       licences and sources of all dependencies (needs cargo-deny)'
	@echo
	@echo 'parts of `make test`, each by itself:'
	@echo 'make check-format check-lints check-units check-supervisor check-helper check-peers demo-check'

deps:
	@packaging/check/deps.sh test

build:
	@packaging/check/deps.sh build
	cargo build --release --locked $(PROGRAMS:%=--package %)

demo:
	@packaging/check/deps.sh demo
	@packaging/demo/run.sh

demo-check:
	@packaging/check/deps.sh demo
	@packaging/demo/run.sh --check

test:
	@packaging/check/deps.sh test
	@packaging/check/all.sh

check-format:
	cargo fmt --all --check

check-lints:
	cargo clippy --workspace --all-targets --locked -- -D warnings

check-units:
	@packaging/check/units.sh

check-supervisor:
	@packaging/check/supervisor.sh

check-helper:
	@packaging/check/helper.sh

check-peers:
	@tests/emulator/peers.sh

# Rounds of the storm for each kind of drive. A round is about ten seconds of random work in which
# a third of the calls fail; a fault in the client that struck one round in a hundred would show.
G6_ROUNDS ?= 20

# Rounds of five kills each: a thousand kills.
G3_ROUNDS ?= 200

gauntlet: gauntlet-g1 gauntlet-g3 gauntlet-g4 gauntlet-g6 gauntlet-g5 gauntlet-g7 gauntlet-g8 gauntlet-g9 gauntlet-g12 gauntlet-edge

# Rounds of a hundred thousand calls each, with mappings and without.
G1_ROUNDS ?= 8

gauntlet-g1:
	@packaging/check/deps.sh test
	cargo build --workspace --bins --locked
	PATH="$$(packaging/check/tools.sh):$$PATH" GAUNTLET_ROUNDS=$(G1_ROUNDS) cargo test \
		--package tuyun-tests --test gauntlet --locked -- --nocapture g1_

gauntlet-g3:
	@packaging/check/deps.sh test
	cargo build --workspace --bins --locked
	GAUNTLET_ROUNDS=$(G3_ROUNDS) cargo test --package tuyun-tests --test gauntlet --locked \
		-- --nocapture g3

# Rounds of three power cuts each, some eight seconds long.
G4_ROUNDS ?= 200

gauntlet-g4:
	@packaging/check/deps.sh test
	cargo build --workspace --bins --locked
	GAUNTLET_ROUNDS=$(G4_ROUNDS) cargo test --package tuyun-tests --test gauntlet --locked \
		-- --nocapture --test-threads 1 g4

gauntlet-g6:
	@packaging/check/deps.sh test
	cargo build --workspace --bins --locked
	GAUNTLET_ROUNDS=$(G6_ROUNDS) cargo test --package tuyun-tests --test gauntlet --locked \
		-- --nocapture --test-threads 1 g6

# Each round meets every call of the disk with each kind of trouble, some minutes long; rounds differ in
# how threads happen to take turns.
G5_ROUNDS ?= 5

# A round cuts at every call of the disk, in eleven states of what is not synced, or is 200 cases of random
# work: one to three minutes.
G7_ROUNDS ?= 20

# A round is 300 orders, some ten seconds.
G8_ROUNDS ?= 100

gauntlet-g5:
	GAUNTLET_ROUNDS=$(G5_ROUNDS) cargo test --package tuyunfs --lib --locked \
		-- --nocapture --test-threads 1 g5_

gauntlet-g7:
	GAUNTLET_ROUNDS=$(G7_ROUNDS) cargo test --package tuyunfs --lib --locked \
		-- --nocapture --test-threads 1 g7_

gauntlet-g8:
	GAUNTLET_ROUNDS=$(G8_ROUNDS) cargo test --package tuyunfs --lib --features schedules --locked \
		-- --nocapture --test-threads 1 g8_

# A round is some ten seconds.
G9_ROUNDS ?= 20

gauntlet-g9:
	@packaging/check/deps.sh test
	cargo build --workspace --bins --locked
	GAUNTLET_ROUNDS=$(G9_ROUNDS) cargo test --package tuyun-tests --test gauntlet --locked \
		-- --nocapture --test-threads 1 g9

# A round is a thousand pictures, and some minutes.
G12_ROUNDS ?= 10

gauntlet-g12:
	@packaging/check/deps.sh test
	cargo build --workspace --bins --locked
	GAUNTLET_ROUNDS=$(G12_ROUNDS) cargo test --package tuyun-tests --test gauntlet --locked \
		-- --nocapture --test-threads 1 g12

bench:
	@packaging/check/deps.sh test
	@tests/bench/files.sh

# A round is a kill while thirty pictures are being stored, about a second.
EDGE_ROUNDS ?= 1000

gauntlet-edge:
	GAUNTLET_ROUNDS=$(EDGE_ROUNDS) cargo test --package tuyun-edge --test kill --locked -- --nocapture

bench-durability:
	@packaging/check/deps.sh test
	@tests/bench/durability.sh

bench-edge:
	@packaging/check/deps.sh bench-edge
	@tests/bench/edge.sh

bench-jump:
	@packaging/check/deps.sh bench-jump
	@tests/bench/jump.sh

bench-requests:
	@packaging/check/deps.sh test
	@tests/bench/requests.sh

deny:
	@command -v cargo-deny >/dev/null || \
		{ echo 'missing: cargo-deny (cargo install --locked cargo-deny)' >&2; exit 1; }
	cargo deny --all-features check licenses bans sources

install:
	@for program in $(PROGRAMS); do [ -x '$(BUILT)'/$$program ] || \
		{ echo "$(BUILT)/$$program is not there: run \`make build\` first" >&2; exit 1; }; done
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(SBINDIR)' '$(DESTDIR)$(SYSCONFDIR)/tuyun' \
		'$(DESTDIR)$(PREFIX)/lib/systemd/system' '$(DESTDIR)$(PREFIX)/share/man/man1' \
		'$(DESTDIR)$(PREFIX)/share/doc/tuyun/settings' \
		'$(DESTDIR)$(PREFIX)/share/doc/tuyun/supervisor' \
		'$(DESTDIR)$(PREFIX)/share/doc/tuyun/php-fpm.service.d'
	install -m 0755 $(PROGRAMS:%='$(BUILT)/%') '$(DESTDIR)$(PREFIX)/bin'
	ln -sfn '$(PREFIX)/bin/tuyunfs' '$(DESTDIR)$(SBINDIR)/mount.tuyunfs'
	ln -sfn '$(PREFIX)/bin/tuyunfs' '$(DESTDIR)$(SBINDIR)/mount.fuse.tuyunfs'
	for unit in packaging/systemd/*.service; do \
		sed 's|/usr/bin/|$(PREFIX)/bin/|' "$$unit" \
			>'$(DESTDIR)$(PREFIX)/lib/systemd/system'/$${unit##*/} || exit 1; done
	'$(BUILT)/tuyunfs' man >'$(DESTDIR)$(PREFIX)/share/man/man1/tuyunfs.1'
	install -m 0644 packaging/settings/*.toml '$(DESTDIR)$(PREFIX)/share/doc/tuyun/settings'
	for profile in packaging/supervisor/*.conf; do \
		sed 's|/usr/bin/|$(PREFIX)/bin/|' "$$profile" \
			>'$(DESTDIR)$(PREFIX)/share/doc/tuyun/supervisor'/$${profile##*/} || exit 1; done
	install -m 0644 packaging/systemd/php-fpm.service.d/*.conf \
		'$(DESTDIR)$(PREFIX)/share/doc/tuyun/php-fpm.service.d'

# Settings and state stay: pictures may still be on their way.
uninstall:
	rm -f $(PROGRAMS:%='$(DESTDIR)$(PREFIX)/bin/%') \
		'$(DESTDIR)$(SBINDIR)/mount.tuyunfs' '$(DESTDIR)$(SBINDIR)/mount.fuse.tuyunfs' \
		'$(DESTDIR)$(PREFIX)/share/man/man1/tuyunfs.1'
	for unit in packaging/systemd/*.service; do \
		rm -f '$(DESTDIR)$(PREFIX)/lib/systemd/system'/$${unit##*/}; done
	rm -rf '$(DESTDIR)$(PREFIX)/share/doc/tuyun'

clean:
	cargo clean
