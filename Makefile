# Shortcuts for tools/run.py, which also works without make: python tools/run.py demo
PYTHON ?= python3

.PHONY: demo serve test soak bench
demo serve test soak bench:
	@$(PYTHON) tools/run.py $@ $(ARGS)
