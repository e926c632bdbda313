"""The configuration: one TOML file, read once, as frozen values. `settings.load` is the way in."""
