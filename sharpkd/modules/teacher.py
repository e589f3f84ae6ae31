"""Training a teacher."""

from __future__ import annotations

from sharpkd.modules.restoration import RestorationModule


class TeacherModule(RestorationModule):
    """Trains the large net from the ground truth: pixel, perceptual and SSIM terms, no distillation.

    Its step is the shared one; the class names the role, so that a run's configuration says what it made.
    """
