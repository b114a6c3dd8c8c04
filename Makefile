# Greenroom: `make demo` shows the whole thing, `make test` proves it. Everything lands in .venv/ and .greenroom/.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
ROOM   := .greenroom

# Names of the tools come before whatever a person's shell has first on its path.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup check docs-check test-fast test test-exhaustive test-security demo demo-down bench-rollout bench-way-back bench-proxy bench-judge bench-scale bench-signing bench-migrations chaos lock clean

help: ## what can be asked for
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Python packages from the lock, then what the machine needs (Docker engine, registry, Chromium)
	$(BIN)/python -m deployments.machine

# Rebuilt only when the lock or the project's own metadata changes.
$(READY): requirements-dev.txt pyproject.toml
	@bash deployments/create_venv.sh $(PYTHON) $(VENV)
	@touch $(READY)

check: $(READY) ## formatting, lint, types, layers, documentation links
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory docs-check

docs-check: $(READY) ## every link in the documentation leads somewhere, every command it names exists
	$(BIN)/pytest tests/test_documentation.py

test-fast: $(READY) ## under a minute; needs neither Docker nor a server
	$(BIN)/pytest -n auto --dist worksteal --hypothesis-profile=quick -m "not docker and not prefect and not browser and not processes and not stories and not scanners and not postgresql and not prometheus"

# Without an engine the tests still run, and say by name what they left out; GREENROOM_TEST_ALL=1 makes that a failure.
test: $(READY) ## everything but what is exhaustive; says by name what it leaves out
	-$(BIN)/python -m deployments.machine --tests
	$(BIN)/pytest -m "not exhaustive"

# What must not leak, what must be refused with production untouched, and what cannot be meant.
SECURITY_TESTS := $(addprefix tests/,delivery/test_redaction.py delivery/test_audit.py delivery/test_secret_age.py delivery/test_rotation.py delivery/test_approval.py delivery/test_provenance.py \
	delivery/test_evidence.py delivery/test_image.py delivery/test_source.py blocks/test_secrets.py blocks/test_journal_secrets.py \
	blocks/test_signing.py blocks/test_kms.py blocks/test_keyless.py blocks/test_ssh.py blocks/test_registry_envelopes.py blocks/test_local.py blocks/test_notifier.py \
	blocks/test_settings.py tasks/test_shell.py tasks/test_publish.py cli/test_audit.py deployments/test_register.py flows/test_evidence.py \
	flows/test_gate.py flows/test_promote.py flows/test_trust.py flows/test_signed_approval.py flows/test_secret_age.py flows/test_rotation.py flows/test_break_glass.py flows/test_planted_secrets.py tasks/test_planted_in_images.py blocks/targets/test_docker_rotation.py \
	bad_input delivery/test_environment_rules.py flows/test_validation.py blocks/test_toml_file.py \
	tasks/test_build.py::test_a_dockerfile_or_context_that_leads_out_of_the_repository_is_refused)

test-security: $(READY) ## nothing secret is told, nobody slips past the gate, bad input does nothing
	$(BIN)/pytest $(SECURITY_TESTS)

test-exhaustive: setup ## killed before every single side effect of every verb; a second Docker engine that dies (root)
	$(BIN)/pytest -m exhaustive

demo: setup ## a commit goes to production, a bad one comes back by itself (CI=1: nobody is asked)
	$(BIN)/python -m deployments.demo

demo-down: $(READY) ## end and remove what a demo left running
	$(BIN)/python -m deployments.demo --down

bench-rollout: setup ## twenty redeployments under load; the last line is one JSON object
	$(BIN)/python -m bench.rollout --redeploys 20 --rate 200

bench-way-back: setup ## how long users of a worse release wait once the judge could know; the last line is one JSON object
	$(BIN)/python -m bench.way_back --times 5

chaos: setup ## everything is killed everywhere under load; the last line is one JSON object (CHAOS="--help" tells more)
	$(BIN)/python -m tests.chaos $(CHAOS)

bench-proxy: $(READY) ## requests lost when Traefik is killed, one instance against two; the last line is one JSON object
	$(BIN)/python -m bench.proxy_kill

bench-judge: $(READY) ## false alarms and time to detection, against other judges; the last line is one JSON object (JUDGE="--help" tells more)
	$(BIN)/python -m bench.judge $(JUDGE)

bench-signing: setup ## what signing and verifying releases costs; the last line is one JSON object
	$(BIN)/python -m bench.signing

bench-scale: $(READY) ## the delivery metrics from a journal of 100,000 events; the last line is one JSON object
	$(BIN)/python -m bench.scale --events 100000

bench-migrations: $(READY) ## what users feel of a migration, with and without short waits for locks; the last line is one JSON object
	$(BIN)/python -m bench.migrations $(MIGRATIONS)

# No index addresses in the lock: versions and hashes are enough.
lock: $(READY) ## resolve the dependencies anew and write versions and hashes
	$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header pyproject.toml --group dev -o requirements-dev.txt

clean: ## what setup, tests and demo made inside this folder
	rm -rf $(VENV) $(ROOM) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
