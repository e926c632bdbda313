"""A password hash that costs nothing, for tests, where nobody is kept out."""

from __future__ import annotations

import argon2

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
