"""One architecture per file: plain ``nn.Module`` with the contract of ``base.RestorationNet``."""
