# `make help` lists what there is.
PYTHON ?= python3
PORT ?= 8000
CHROMIUM ?= /usr/bin/chromium
BIN := .venv/bin
READY := .venv/.ready
SAMPLE := _build/sample

.DEFAULT_GOAL := help
.PHONY: help install labs book book-cold book-zh words pdf links book-zip book-audit sample serve test verify benchmark lint pins clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

serve: labs book sample  ## build everything, grade the sample class, serve the book (PORT=8000)
	@$(BIN)/python tools/serve.py --port $(PORT)

test: install  ## run every check and print a summary line
	@$(BIN)/python -m pytest $(PYTEST)

install: $(READY)  ## make .venv and install what requirements.txt pins

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "$(PYTHON): Python 3.11 or newer is needed; name another with PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "$(PYTHON) cannot make virtual environments: apt-get install python3-venv" >&2; exit 2; }
	@echo "Installing into .venv (a few minutes the first time)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

labs: install  ## regenerate labs/ from solutions/
	@$(BIN)/autograder release

book: labs  ## build the book into _build/html
	@$(BIN)/python tools/book.py

book-cold: labs  ## run every chapter again from nothing
	@$(BIN)/python tools/book.py --cold

book-zh: labs  ## build the Chinese edition too, into _build/html/zh
	@$(BIN)/python tools/book.py --language zh_CN

words: install  ## renew the catalogues of the Chinese edition and list what is not translated
	@$(BIN)/python tools/book_words.py

pdf: book  ## print the book into _build/mlsys-book.pdf (needs chromium)
	@$(BIN)/python tools/book_pdf.py --chromium $(CHROMIUM)

links: book  ## ask all addresses that the book links to (needs the network)
	@$(BIN)/python tools/book_links.py

book-zip: labs  ## pack the site for offline use: _build/mlsys-book.zip
	@$(BIN)/python tools/book.py --zip _build/mlsys-book.zip

book-audit: install  ## measure the built book against its promises (half an hour)
	@$(BIN)/python tools/book_audit.py

sample: labs  ## make the sample class and grade it
	@$(BIN)/python -m autograder.sample --class $(SAMPLE)
	@$(BIN)/autograder grade --class $(SAMPLE)
	@$(BIN)/autograder feedback --class $(SAMPLE) >$(SAMPLE)/feedback.txt

verify: install  ## the quality gate of the labs: reference, blank, wrong and alternative answers
	@$(BIN)/autograder verify

benchmark: install  ## measure the grader beside stock nbgrader (QUICK=--quick for a look)
	@$(BIN)/python benchmarks/grading.py $(QUICK)

lint: install  ## format and check the code
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix . && $(BIN)/mypy

pins: install  ## compile requirements.txt from requirements/direct.in
	@$(BIN)/python tools/pins.py

clean:  ## remove everything that is generated
	rm -rf _build .venv
