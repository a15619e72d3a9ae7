# SPDX-License-Identifier: MIT
# The front door; CMake does the work. `make help` lists what there is.

BUILD   := build
PREFIX  ?= /usr/local
JOBS    ?= $(shell nproc 2>/dev/null || echo 2)
# Ninja where there is one, but a folder once configured keeps its generator.
GENERATOR = $(if $(wildcard $(BUILD)/CMakeCache.txt),,$(if $(shell command -v ninja 2>/dev/null),-G Ninja))

.PHONY: all configure tests test demo bench format check-format page install clean help
all: configure ## configure and build the release: build/libseemalloc.so, build/libseemalloc.a, build/seemalloc
	cmake --build $(BUILD) -j $(JOBS)

configure:
	@scripts/deps --check build
	@mkdir -p $(BUILD)
	@cmake --preset release $(GENERATOR) >$(BUILD)/configure.log 2>&1 || { cat $(BUILD)/configure.log; exit 1; }

demo: ## a compiler run under the allocator, then the story of the texts, then the statistics
	@scripts/deps demo
	@$(MAKE) --no-print-directory all
	@scripts/demo

tests: configure
	cmake --build $(BUILD) -j $(JOBS) --target all tests

test: ## build and run all tests
	@scripts/deps test
	@$(MAKE) --no-print-directory tests
	ctest --test-dir $(BUILD) --output-on-failure --no-tests=error -j 2

bench: ## compare with other allocators; results in build/bench
	@scripts/deps bench
	@$(MAKE) --no-print-directory all
	bench/run

format: ## format all C and C++ sources
	scripts/format

check-format: ## fail if a source is not formatted
	test/check-format

page: ## build web/heap.html and web/report.html anew of their sources; needs node and npm
	cd web && npm ci --ignore-scripts && npm run build

install: all ## install below PREFIX (default /usr/local); DESTDIR is honoured
	cmake --install $(BUILD) --prefix $(PREFIX)

clean: ## remove the build folder
	rm -rf $(BUILD)

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1\t\2/p' Makefile | expand -t 20
