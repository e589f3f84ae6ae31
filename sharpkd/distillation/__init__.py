"""One knowledge-transfer term per file; ``transfer`` sums them, ``taps`` reads features."""
