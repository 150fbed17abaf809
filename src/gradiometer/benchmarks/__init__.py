"""Benchmarks: metrics with intervals, protocols, result records, tables, and the comparisons that fill them."""
