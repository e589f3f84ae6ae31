"""Sharpening pictures: files in, files out; no Lightning, no Hydra."""
