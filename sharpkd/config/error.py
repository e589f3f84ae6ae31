"""What is raised for a configuration that cannot work."""


class ConfigError(ValueError):
    """A configuration that cannot work; the message names the key, what was found and what is allowed."""
