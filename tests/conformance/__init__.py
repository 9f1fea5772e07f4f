"""Small programs with inputs and expected outputs, which every host must pass. See docs/plan.md."""
