# Shortcuts for tools/run.py, which also works without make: python tools/run.py demo
PYTHON ?= python3

.PHONY: demo test bench
demo test bench:
	@$(PYTHON) tools/run.py $@ $(ARGS)
