"""One loss per file; ``combined`` weighs them."""
