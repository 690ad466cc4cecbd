"""Takes files of prompts, submits them, and shows what became of them."""
