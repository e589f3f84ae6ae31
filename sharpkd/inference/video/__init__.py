"""Sharpening video files: decoded, restored and encoded in three stages at once, everything else copied.

Nothing here imports PyAV (``pip install 'sharpkd[video]'``) before a video is opened.
"""
