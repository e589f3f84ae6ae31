"""Fit the estimator of blur and noise, and measure it."""
