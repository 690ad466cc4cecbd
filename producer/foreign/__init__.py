"""Images of other programs: what they say of how they were made, by our words."""
