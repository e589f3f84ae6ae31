"""Lightning callbacks: pictures, curves, progress."""
