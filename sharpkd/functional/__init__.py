"""Pure tensor maths and module helpers that losses, metrics and distillation share."""
