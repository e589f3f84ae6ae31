"""SharpKD: sharpening networks small enough for real time, trained by knowledge distillation."""

__version__ = "0.1.0"
