"""Students of several distillation methods beside twins without a teacher."""
