"""Training images in tar archives: written by ``python -m sharpkd.prepare``, read by ``data=shards``."""
