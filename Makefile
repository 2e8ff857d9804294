# `make demo` and `make test` set everything up by themselves; a second run starts at once.
.PHONY: demo test test-slow test-torch onnx-models wheel wheels-aarch64 fuzz fuzz-profiles fuzz-mixtures kv-oracle kv-models export-oracle screenshots lint samples docs clean help

BIN := .venv/bin
# Processes that run tests; the tests of one file stay together.
JOBS ?= 2
# Where the environment forbids it too, what is compiled is kept: else each worker, each process that a test starts and
# each next run compiles memplan and rewrites the tests' assertions anew.
KEEPING := env -u PYTHONDONTWRITEBYTECODE

# The CPU's build of torch; the plain one brings CUDA of many GB.
TORCH ?= torch==2.13.0+cpu

help:  ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

demo:  ## plan a bundled graph, compare it with a bundled profile, show both
	@tools/setup gui
	@tools/demo

test:  ## all fast tests, with MindSpore and offscreen windows; `make test JOBS=4` on a larger machine
	@tools/setup gui,test,mindspore
	@$(KEEPING) $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile

test-slow:  ## the tests marked slow
	@tools/setup docs,gui,test,mindspore
	@$(BIN)/python -m pytest -q -m slow

# What parameter counts are held against.
TRANSFORMERS ?= transformers==5.20.2

test-torch:  ## the tests with PyTorch and transformers, in an environment of its own below build/
	@[ -x build/torch-env/bin/python ] || python3 -m venv build/torch-env
	@build/torch-env/bin/python -c 'import torch' 2>/dev/null || tools/pip_torch build/torch-env/bin/python --no-deps '$(TORCH)'
	@build/torch-env/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test,gui,torch]' '$(TRANSFORMERS)'
	@build/torch-env/bin/python -m pytest -q tests/runtime tests/test_code_blocks.py
	@build/torch-env/bin/python -m pytest -q -m 'slow or not slow' tests/models/test_reference_totals.py
	@build/torch-env/bin/python -m pytest -q -m 'slow or not slow' tests/readers/test_torch_live.py

onnx-models:  ## models that packages on the index ship, each read or refused by name
	@tools/setup gui,test
	@$(BIN)/python -m benchmarks.onnx_models

wheel:  ## build the wheel, check it, install it into an empty environment and plan the sample there
	@tools/wheel

wheels-aarch64:  ## whether every dependency has wheels for Linux on aarch64, for each Python and both numpy majors
	@tools/setup gui,test
	@$(BIN)/python tools/aarch64_wheels

fuzz:  ## 10,000 damaged graphs; `make fuzz SEED=7` for others
	@tools/setup gui,test,mindspore
	@$(BIN)/python tests/readers/fuzz_graphs.py 10000 $(or $(SEED),1)

fuzz-profiles:  ## 100,000 damaged profile files: whatever is lost must be noted; `make fuzz-profiles COUNT=5000 SEED=7`
	@tools/setup gui,test
	@$(BIN)/python -m tests.traces.lost_rows $(or $(COUNT),100000) $(or $(SEED),1)

fuzz-mixtures:  ## 5,000 folders with several profiles each; `make fuzz-mixtures COUNT=20000 SEED=7`
	@tools/setup gui,test
	@$(BIN)/python -m tests.traces.mixtures $(or $(COUNT),5000) $(or $(SEED),1)

kv-oracle:  ## 500 draws a version against vLLM's and SGLang's own planners; `make kv-oracle CONFIGS=folder DRAWS=2000 SEED=7`
	@tools/setup gui
	@for version in 0.23.0 0.33.0 sglang-0.5.23; do tools/kv_oracle/run $$version --draws $(or $(DRAWS),500) --seed $(or $(SEED),1) $(if $(CONFIGS),--configs $(CONFIGS)) || failed=1; done; exit $${failed:-0}

KV_MODELS := 0.23.0:h100 0.33.0:h100 0.33.0:b200 $(foreach chip,a2 a3 310p,vllm-ascend-0.23.0.post1:$(chip)) $(foreach chip,a2 a3 a5 310p,vllm-ascend-0.30.0rc2:$(chip))

kv-models:  ## 500 draws a version and device of models as the engines' own classes describe them; `make kv-models KV_MODELS=vllm-ascend-0.30.0rc2:a5`
	@tools/setup gui
	@for asked in $(KV_MODELS); do tools/kv_oracle/run models-$${asked%:*} --device $${asked#*:} --draws $(or $(DRAWS),500) --seed $(or $(SEED),1) $(if $(CONFIGS),--configs $(CONFIGS)) || failed=1; done; exit $${failed:-0}

EXPORT_ORACLES := vllm-0.23.0 vllm-0.33.0 sglang-0.5.23 torchtitan-0.2.2 torchtitan-0.3.0 megatron-0.16.1 mindformers-2.1.0 memcache-1.3.0 perfetto-52.0

export-oracle:  ## exports through the parsers and configurations of those who read them; `make export-oracle EXPORT_ORACLES=vllm-0.33.0`
	@tools/setup gui,mindspore
	@for consumer in $(EXPORT_ORACLES); do tools/export_oracle/run $$consumer --draws $(or $(DRAWS),20) --seed $(or $(SEED),1) || failed=1; done; exit $${failed:-0}

samples:  ## make the bundled plan and profile anew from the bundled graph
	@tools/setup gui
	@tools/make_samples

screenshots:  ## pictures of every view for docs/, and of every page in all themes, languages and sizes in build/pages
	@tools/setup gui
	@tools/screenshots

lint:  ## style, types, structure and layers
	@tools/setup gui,test,mindspore
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@tools/typecheck
	@MYPYPATH=tools $(BIN)/mypy tools/*.py
	@$(BIN)/python tools/structure.py
	@$(BIN)/python -m pytest -q tests/test_layers.py

docs:  ## the documentation as a site in build/site, which loads nothing; links that lead nowhere are errors
	@tools/setup docs
	@$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --fresh-env --conf-dir docs . build/site

clean:  ## remove what was built, but not .venv
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find memplan models traces gui -name __pycache__ -prune -exec rm -rf {} +
