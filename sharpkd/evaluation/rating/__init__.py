"""Asking people: blind pairs of pictures, and scores from the answers."""
