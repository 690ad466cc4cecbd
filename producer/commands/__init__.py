"""The commands, by what they are about. `producer.cli` puts them together."""
