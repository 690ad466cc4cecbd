"""What can go wrong with configuration and parameters.

ConfigError
├── InvalidParameter     correct the value: it is not what this parameter takes
└── UnknownSampler       correct the name: no such sampler
"""


class ConfigError(Exception):
    """A setting, preset or parameter is wrong; the message says what is allowed."""

    exit_code = 2


class InvalidParameter(ConfigError, ValueError):
    """Raised when a value is not one the parameter takes; the message names the value and what is allowed."""


class UnknownSampler(ConfigError, ValueError):
    """Raised when a name is no sampler's name or alias; the message suggests close ones."""
