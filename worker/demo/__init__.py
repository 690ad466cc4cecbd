"""The demo checkpoint: what it was trained on, and the script that trained it."""
