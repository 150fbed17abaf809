"""What the benchmark scripts share: networks, contenders, timing, memory, environment, tables."""
