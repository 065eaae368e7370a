# Thin: each target is a script that does all set-up by itself and says what is missing.
.PHONY: setup demo test lint bench clean

setup:  ## the virtual environment .venv, with ROS 2, torch and the compiled messages
	@scripts/setup

demo:  ## camera, node and a printout on a sample video; writes demo/annotated.mp4 and .jpg
	@scripts/demo

test:  ## all tests; arguments for pytest in ARGS
	@scripts/test $(ARGS)

lint:  ## ruff, formatting, types, spelling
	@scripts/lint

bench:  ## the benchmarks of benchmarks/, on this machine
	@scripts/bench

clean:  ## everything that the targets above make, but not fetched models
	rm -rf .venv .venv-* build install log dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
