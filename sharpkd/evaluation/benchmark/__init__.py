"""SharpBench: its images, the run over them, and the report."""
