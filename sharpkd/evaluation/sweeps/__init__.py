"""The jobs of a multirun, and their report."""
