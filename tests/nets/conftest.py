from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sharpkd.nets.attention_teacher import AttentionTeacher
from sharpkd.nets.aware_student import AwareStudent
from sharpkd.nets.base import RestorationNet
from sharpkd.nets.enhanced_cnn import EnhancedCNN
from sharpkd.nets.filtered_student import FilteredStudent
from sharpkd.nets.mobile_student import MobileStudent
from sharpkd.nets.nafnet import NAFNet
from sharpkd.nets.pixel_student import PixelStudent
from sharpkd.nets.wiener_student import WienerStudent

SMALL: dict[str, Callable[[], RestorationNet]] = {
    "pixel_student": lambda: PixelStudent(width=4, depth=3),
    "pixel_student_x3": lambda: PixelStudent(unshuffle=3, width=4, depth=2),
    "pixel_student_luma": lambda: PixelStudent(width=4, depth=3, luma_only=True),
    "pixel_student_rep": lambda: PixelStudent(width=4, depth=3, rep=True),
    "aware_student": lambda: AwareStudent(width=4, depth=3, hidden=8),
    "aware_student_luma_rep_enlarging": lambda: AwareStudent(
        width=4, depth=3, scale=2, luma_only=True, rep=True, condition_limits=[4, 10], hidden=8
    ),
    "wiener_student": lambda: WienerStudent(width=4, depth=3, hidden=8, taps=7),
    "wiener_student_luma_rep": lambda: WienerStudent(
        unshuffle=3,
        width=4,
        depth=3,
        luma_only=True,
        rep=True,
        hidden=8,
        candidates=2,
        taps=5,
        filter_chroma=True,
    ),
    "filtered_student": lambda: FilteredStudent(width=4, depth=3, candidates=2, taps=5),
    "mobile_student": lambda: MobileStudent(width=8, blocks=2, attention_window=16),
    "mobile_student_full_resolution": lambda: MobileStudent(unshuffle=1, width=6, blocks=1, attention=False),
    "enhanced_cnn": lambda: EnhancedCNN(width=4, blocks=2),
    "enhanced_cnn_residual": lambda: EnhancedCNN(width=4, blocks=1, global_residual=True),
    "attention_teacher": lambda: AttentionTeacher(width=4, depths=[1, 2, 1], attention_window=24),
    "attention_teacher_full_resolution": lambda: AttentionTeacher(
        width=4, depths=[1, 1], unshuffle=1, channel_attention=False
    ),
    "nafnet": lambda: NAFNet(
        width=4, encoder_blocks=[1, 2, 1], middle_blocks=1, decoder_blocks=[1, 1, 2], attention_window=24
    ),
    "pixel_student_enlarging": lambda: PixelStudent(width=4, depth=3, scale=3),
    "mobile_student_enlarging": lambda: MobileStudent(width=8, blocks=2, attention_window=16, scale=2),
    "enhanced_cnn_enlarging": lambda: EnhancedCNN(width=4, blocks=2, scale=4),
    "enhanced_cnn_residual_enlarging": lambda: EnhancedCNN(width=4, blocks=1, global_residual=True, scale=2),
    "attention_teacher_enlarging": lambda: AttentionTeacher(
        width=4, depths=[1, 2, 1], attention_window=24, scale=2
    ),
    "nafnet_enlarging": lambda: NAFNet(
        width=4,
        encoder_blocks=[1, 1, 1],
        middle_blocks=1,
        decoder_blocks=[1, 1, 1],
        attention_window=16,
        scale=3,
    ),
    "attention_teacher_single_level": lambda: AttentionTeacher(width=4, depths=[3], attention_window=None),
}


@pytest.fixture(params=SMALL)
def net(request: pytest.FixtureRequest) -> RestorationNet:
    """Each architecture, small, in evaluation mode."""
    torch.manual_seed(0)
    return SMALL[request.param]().eval()


@pytest.fixture
def image() -> Callable[..., torch.Tensor]:
    """Random RGB batches of any size."""
    generator = torch.Generator().manual_seed(0)
    return lambda height, width, batch=1: torch.rand(batch, 3, height, width, generator=generator)
