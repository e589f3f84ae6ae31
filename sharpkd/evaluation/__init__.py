"""Measuring trained nets and showing the result."""
