"""Measuring nets on folders of images."""
