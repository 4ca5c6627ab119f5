# What CI runs, in the environment that is active. `.ci/run` does the same from a new one.
PACKAGES = core/genreg $(wildcard plugins/*/src)

.PHONY: check check-all lint types test slow bench format schema

check: lint types test

check-all: check slow bench

lint:
	ruff check .
	ruff format --check .

types:
	mypy $(PACKAGES)

test:
	pytest -n auto --dist loadfile

slow:
	pytest -m slow || test $$? -eq 5  # 5: there are none

bench:
	python benchmarks

schema:  # for editors; a test keeps it in step
	python -m genreg.registryschema > docs/registry.schema.json

format:
	ruff check --fix .
	ruff format .
