# Shortcuts for tools/run.py, which also works without make: python tools/run.py demo
PYTHON ?= python3

.PHONY: demo serve test bench
demo serve test bench:
	@$(PYTHON) tools/run.py $@ $(ARGS)
