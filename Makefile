PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# What builds and checks what is published, and nothing of engram.
TOOLS := .venv/tools/bin/python
# PyTorch for the CPU is a tenth of that for CUDA; `make demo TORCH=` takes the one of the package index.
TORCH ?= $(if $(shell command -v nvidia-smi),,https://download.pytorch.org/whl/cpu)

# Tests start hundreds of processes, which would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check soak mutate lint install docs results bench dist installs sbom clean

# Runs a first published claim and judges it.
demo: .venv/installed
	$(BIN)/engram demo

# Everything that must pass; what looks at the source alone goes beside what runs it.
test: .venv/installed-dev
	$(MAKE) --jobs 2 lint check

# glibc keeps freed arrays, instead of asking for zeroed pages again: 3 % of the time of the tests.
check soak: export MALLOC_MMAP_THRESHOLD_ := 1000000000
check soak: export MALLOC_TRIM_THRESHOLD_ := 1000000000

# LLVM compiles the kernels at its first level, to the same arithmetic, in two thirds of the time of the third, which
# users have and `make soak` tests; they are kept apart from theirs.
check: export NUMBA_OPT := 1
check: export NUMBA_CACHE_DIR := $(CURDIR)/.pytest_cache/kernels

check: .venv/installed-dev
	$(BIN)/pytest -n logical --dist worksteal

# The same tests at a larger size: about an hour on two cores. Run on a schedule.
soak: .venv/installed-dev
	$(BIN)/pytest -n logical --dist worksteal --soak

# Which changes of modules do their tests not notice? `make mutate MODULE='rules/*.py' SAMPLE=20 TESTS=tests/rules`
mutate: .venv/installed-dev
	$(PIP) 'mutmut>=3.8'
	$(BIN)/python tests/mutate.py $(MODULE) $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(TESTS),--tests $(TESTS))

lint: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --num-workers auto
	$(BIN)/lint-imports

# The development environment; to be called again after a change to pyproject.toml.
install: .venv/installed-dev

# The site, strictly: a warning is an error.
docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# Runs what the run records lack at laptop size, and writes them and all that is generated from them.
results: .venv/installed-dev
	$(BIN)/engram record $$($(BIN)/python -c "import engram; print(*engram.experiments())")
	$(BIN)/engram record --comparisons $$($(BIN)/python -c "from engram.studies.standings.kinds import KINDS; \
		print(*sorted({name for kind in KINDS.values() for name in kind.experiments}))")

# Ratios against peers and against the plain implementation; the machine should have nothing else to do.
# `make bench QUICK=--quick` takes a few sizes.
bench: .venv/installed-dev
	$(PIP) --editable '.[bench]'
	$(BIN)/python benchmarks/plasticity.py $(QUICK)
	$(BIN)/python benchmarks/layers.py
	$(BIN)/python benchmarks/environments.py $(if $(QUICK),--num-envs 256 --repetitions 3)
	$(BIN)/python benchmarks/meta.py
	$(BIN)/python benchmarks/evolution.py $(QUICK)
	$(BIN)/python benchmarks/meta_tasks.py
	$(BIN)/python benchmarks/blur.py
	$(BIN)/python benchmarks/continual_inner.py
	$(BIN)/python benchmarks/memory.py $(QUICK)
	$(BIN)/python benchmarks/hebbian_conv.py
	$(BIN)/python benchmarks/learning_to_remember.py
	$(BIN)/python benchmarks/difficulty.py $(QUICK)
	$(PYTHON) -m venv .venv/dsa-metric
	.venv/dsa-metric/bin/python -m pip install --quiet --disable-pip-version-check 'dsa-metric==2.0.2'
	$(BIN)/python benchmarks/dsa.py --peer .venv/dsa-metric/bin/python $(QUICK)
	$(PYTHON) -m venv .venv/fla-core
	.venv/fla-core/bin/python -m pip install --quiet --disable-pip-version-check 'fla-core==0.6.0' numpy torch
	$(BIN)/python benchmarks/sequence.py --peer .venv/fla-core/bin/python
	$(BIN)/python benchmarks/verify.py $(QUICK)
	$(BIN)/python benchmarks/rules.py
	$(BIN)/python benchmarks/feedback_mode.py
	$(BIN)/python benchmarks/rule_inference.py $(QUICK)
	$(BIN)/python benchmarks/continual.py
	$(BIN)/python benchmarks/forgetting.py
	$(BIN)/python benchmarks/induction.py
	$(BIN)/python benchmarks/generative_diffusion.py
	$(BIN)/python benchmarks/optim.py
	$(BIN)/python benchmarks/agents.py
	$(BIN)/python benchmarks/curiosity.py $(QUICK)
	$(BIN)/python benchmarks/spatial.py $(QUICK)
	$(BIN)/python benchmarks/generative.py $(QUICK)
	$(BIN)/python benchmarks/lab.py $(QUICK)
	$(PYTHON) -m venv .venv/judge-peers
	.venv/judge-peers/bin/python -m pip install --quiet --disable-pip-version-check 'statsmodels==0.15.0' 'rliable==1.2.0' 'pandas<3'
	$(BIN)/python benchmarks/judge.py --peer .venv/judge-peers/bin/python
	$(BIN)/python benchmarks/page.py

# What is published: a wheel and a source distribution, built anew and checked.
dist:
	rm -f .venv/built
	$(MAKE) .venv/built

# What `make dist` built, where nothing else is: three Pythons, the oldest and the newest dependencies; gigabytes of
# downloads.
installs: .venv/built
	$(TOOLS) -m pip install --quiet 'uv>=0.8'
	$(TOOLS) tests/installs.py dist/*.whl dist/*.tar.gz

# What a plain installation of what `make dist` built brings along, with licences, as CycloneDX; the wheel itself bundles
# no code of others.
sbom: .venv/built
	$(TOOLS) -m pip install --quiet 'cyclonedx-bom>=7.0' 'uv>=0.8'
	rm -rf .venv/plain
	$(TOOLS) -m uv venv --quiet .venv/plain
	$(TOOLS) -m uv pip install --quiet --python .venv/plain/bin/python "$$(ls $(CURDIR)/dist/*.whl)[lab]"
	sed "s/^dynamic = .*/version = \"$$(ls dist/*.whl | cut -d - -f 2)\"/" pyproject.toml > .venv/pyproject.toml
	mkdir -p artifacts
	.venv/tools/bin/cyclonedx-py environment --pyproject .venv/pyproject.toml --output-reproducible \
		--output-file artifacts/engram.cdx.json .venv/plain/bin/python

clean:
	rm -rf .venv dist site artifacts .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/installed: pyproject.toml constraints.txt
	@echo "Installing into .venv: 400 MB to download, 1.7 GB on disk; with CUDA, 3 GB and 6.3 GB"
	$(PYTHON) -m venv .venv
	$(if $(TORCH),-@$(PIP) --retries 1 --timeout 15 --index-url $(TORCH) torch)
	$(PIP) --editable '.[lab]'
	@touch $@

.venv/installed-docs: .venv/installed
	$(PIP) --editable '.[lab,docs]'
	@touch $@

.venv/installed-dev: .venv/installed
	$(PIP) --editable '.[dev]'
	@touch $@

# What is tested and what is published are the same files: only `make dist` builds them again.
.venv/built:
	$(PYTHON) -m venv .venv/tools
	$(TOOLS) -m pip install --quiet --disable-pip-version-check 'build>=1.2' 'twine>=6.0' 'check-wheel-contents>=0.6'
	rm -rf dist
	$(TOOLS) -m build
	$(TOOLS) -m twine check --strict dist/*
	.venv/tools/bin/check-wheel-contents dist/*.whl
	@touch $@
