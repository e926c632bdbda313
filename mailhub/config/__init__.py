"""The configuration: one TOML file as frozen values. `settings.load` is the way in."""
