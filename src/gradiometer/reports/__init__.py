"""Reports: one self-contained HTML page about a benchmark, with figures as inline SVG."""
