"""Scripts that train the bundled tiny text-to-image model and its personalised LoRA from drawn scenes."""
