# Two commands matter: `make run` and `make test`. The rest is for those who work on the project.

.DEFAULT_GOAL := help
.PHONY: help run test lint fmt chaos bench lock
# What follows the command, for example: make run ARGS="--port 9000"   make test ARGS="lint fast"
ARGS ?=

help:  ## list what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run:  ## run AgentSite on this machine (ARGS="--host … --port … --data …")
	@scripts/setup run
	@exec .venv/bin/python manage.py up $(ARGS)

test:  ## check and test everything (ARGS="lint fast sandbox browser chaos postgres" picks some)
	@scripts/setup test
	@exec scripts/test $(ARGS)

lint:  ## only the static checks
	@scripts/setup lint
	@exec scripts/test lint

fmt:  ## format code and templates, fix what can be fixed
	@scripts/setup lint
	@.venv/bin/ruff check --quiet --fix . || true
	@.venv/bin/ruff format .
	@git ls-files -z '*.html' | xargs -0 -r .venv/bin/djade --target-version 5.2

chaos:  ## kill a site again and again, and count what was lost (ARGS="--kills 1000 --minutes 15 --database postgres --seed 7")
	@scripts/setup test
	@exec .venv/bin/python -m chaos $(ARGS)

bench:  ## measure, and write docs/performance.md
	@scripts/setup test
	@exec .venv/bin/python -m bench $(ARGS)

lock:  ## pin and hash the requirements anew (ARGS="--upgrade")
	@scripts/setup lint
	@for name in requirements requirements-dev requirements-sandbox; do \
	  .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --custom-compile-command "make lock" $(ARGS) --output-file $$name.txt $$name.in || exit 1; \
	done
