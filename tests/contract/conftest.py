from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    "mailhub.store.exam", "mailhub.store.contract", "mailhub.store.name_contract", "mailhub.store.queue_contract"
)
